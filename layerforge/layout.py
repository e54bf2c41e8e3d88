"""Which blobs lie in blocks of channels, and how they come back to plain order.

oneDNN's convolutions compute 8 or 16 channels at a time, and want the channels of one position side by side: (N, C /
block, spatial..., block) instead of (N, C, spatial...). Turning that round for every convolution costs two passes over
memory. So a blob lies in blocks for as long as only layers touch it that understand that (`Layer.blocks`); it takes the
memory that it takes in plain order, because only blobs of whole blocks are laid so. What is read from outside, losses
and what a user looked at once, lies plain.

>>> x = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
>>> lies = x.reshape(2, 2, 2, 3).swapaxes(2, 3).copy()  # in blocks of 2
>>> to_plain(lies.reshape(-1), (2, 4, 3), 2)
>>> bool((lies.reshape(x.shape) == x).all())
True
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from .blob import Shape, View
from .node import Node


def plan(
    nodes: Sequence[Node], views: Mapping[str, View], plain: Collection[str], block: int, whole: bool = False
) -> list[set[str]]:
    """The groups of blobs that may lie in blocks of so many channels: each group together, or not at all.

    ``plain`` are the names of blobs that must not. A group is what the layers between convolutions hold together. With
    ``whole``, those that may lie with all channels of a position side by side, which are a multiple of ``block``.
    """
    if block == 1:
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
        channels = {views[name].shape[1] for name in names}
        for view, is_top in touched:
            if view.name not in parents:
                continue
            takes = node.layer.blocks and node.layer.takes_blocks(view.shape[1] if whole else block, is_top)
            if not takes or (whole and node.layer.blocks == "alike" and len(channels) > 1):
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


def to_plain(flat: np.ndarray, shape: Shape, block: int) -> None:
    """Puts the values of an array that lies in blocks into plain order, within its own memory."""
    blocked = flat.reshape(shape[0], shape[1] // block, -1, block)
    flat.reshape(*blocked.shape[:2], block, -1)[...] = blocked.swapaxes(2, 3).copy()


def state_to_plain(node: Node, block: int) -> None:
    """The same for what a layer keeps from forward to backward, where it has a blob's shape."""
    shapes: Iterable[Shape] = [view.shape for view in (*node.bottom, *node.top)]
    for name, array in node.layer.state.items():
        if array.shape in shapes and not is_flat(array.shape):
            to_plain(array.reshape(-1), array.shape, block)
            node.layer.left_blocks(name, block)
