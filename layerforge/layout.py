"""Which blobs lie in blocks of channels.

oneDNN's convolutions compute 8 or 16 channels at a time, and want the channels of one position side by side: (N, C /
block, spatial..., block) instead of (N, C, spatial...). Turning that round for every convolution costs two passes over
memory. So a blob lies in blocks for as long as only layers touch it that understand that (`Layer.blocks`); it takes the
memory that it takes in plain order, because only blobs of whole blocks are laid so. What is read from outside, losses
and what a user looked at once, lies plain.

cuDNN's convolutions that may round to TF32 want all channels of a position side by side, (N, spatial..., C): one block.
What a user sees of a GPU's memory is a copy, which is turned round as it is made.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from . import order
from .blob import Shape, View
from .node import Node


def plan(
    nodes: Sequence[Node], views: Mapping[str, View], plain: Collection[str], block: int, whole: bool = False
) -> list[set[str]]:
    """The groups of blobs that may lie in blocks of so many channels: each group together, or not at all.

    ``plain`` are the names of blobs that must not. A group is what the layers between convolutions hold together. With
    ``whole``, those that may lie with all channels of a position side by side, which are a multiple of ``block``.
    """
    if block == 1 and not whole:
        return []
    parents = {name: name for name, view in views.items() if not is_flat(view.shape)}
    refused = {name for name in parents if name in plain or not fits(views[name].shape, block)}
    gains: set[str] = set()

    def root(name: str) -> str:
        while parents[name] != name:
            name = parents[name]
        return name

    for node in nodes:
        touched = [(view, i >= len(node.bottom)) for i, view in enumerate((*node.bottom, *node.top))]
        names = [view.name for view, _ in touched if view.name in parents]
        for view, is_top in touched:
            if view.name not in parents:
                continue
            if not (node.layer.blocks and node.layer.takes_blocks(view.shape[1] if whole else block, is_top)):
                refused.add(view.name)
        if node.layer.blocks == "each":
            gains.update(names)
        elif names and node.layer.blocks:
            for name in names[1:]:
                parents[root(name)] = root(names[0])
    groups: dict[str, set[str]] = {}
    for name in parents:
        groups.setdefault(root(name), set()).add(name)
    return [group for group in groups.values() if not group & refused and group & gains]


def is_flat(shape: Shape) -> bool:
    """Whether both orders are one: a single position, or no axis of channels."""
    return len(shape) < 3 or math.prod(shape[2:]) == 1


def fits(shape: Shape, block: int) -> bool:
    """Whether an array of this shape consists of whole blocks."""
    return 3 <= len(shape) <= 5 and shape[1] > 0 and shape[1] % block == 0 and math.prod(shape) > 0


def state_to_plain(node: Node) -> None:
    """The same for what a layer keeps from forward to backward, where it has a blob's shape."""
    blocks = {view.shape: view.block for view in (*node.bottom, *node.top)}
    for name, array in node.layer.state.items():
        block = blocks.get(array.shape, 1)
        if block > 1:
            order.to_plain(array.reshape(-1), array.shape, block)
            node.layer.left_blocks(name, block)
