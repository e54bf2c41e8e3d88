"""Blobs that are computed again for the backward pass, instead of being kept for it: time for memory.

What a pooling, a normalisation across channels or a concatenation computes is large, and quickly computed again from
what the convolutions left. Such a blob lies in a shared arena from its own forward pass to the last layer that reads
it, and again from the moment when backward first needs it, when its layers' forward passes run once more, with the same
random numbers and on the same bottoms: every bit is the same.

A layer says ``recompute: true`` or false; for the others a net says ``memory: RECOMPUTE``, which means those without
products. A blob cannot be computed again where its layers' bottoms are themselves computed again, or overwritten in
place later, or inputs; where it is read from outside; or where a layer that computes others (see `layerforge.fusion`)
is involved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .blob import View
from .node import Node


@dataclass(frozen=True)
class Piece:
    """A blob, with all that share its memory, and when it is needed; passes are counted in nodes.

    ``makers``: the nodes whose forward passes make it, in order. ``reads``: the roots of what else they read and write.
    ``forward``: it lies there from the first to the last of these passes. ``backward``: the same, as (the pass before
    which it is made again, the last that reads it), indices going down; None where no backward pass reads it.
    """

    root: str
    reads: frozenset[str]
    makers: tuple[Node, ...]
    forward: tuple[int, int]
    backward: tuple[int, int] | None

    def spans(self, count: int) -> list[tuple[int, int]]:
        """The steps at which it lies in memory, of 2 * count: each node's forward pass, then the backward passes."""
        spans = [self.forward]
        if self.backward is not None:
            spans.append((2 * count - 1 - self.backward[0], 2 * count - 1 - self.backward[1]))
        return spans

    def make(self) -> None:
        """Computes it again."""
        for node in self.makers:
            node.repeat()


def is_wanted(node: Node, cheap: bool) -> bool:
    """Whether a layer's tops are to be computed again; ``cheap``: those of all layers without products."""
    layer = node.layer
    if layer.param.HasField("recompute"):
        return bool(layer.param.recompute)
    if not cheap or layer.is_pycaffe() or layer.blobs:
        return False
    return not layer.flops([view.shape for view in node.bottom], [view.shape for view in node.top])


def plan(
    nodes: Sequence[Node],
    roots: Mapping[str, str],
    kept: Collection[str],
    joined: Collection[Node],
    strange: Sequence[View],
    cheap: bool,
) -> list[Piece]:
    """The pieces, in the order of their forward passes.

    ``roots``: blob -> the blob whose memory it has. ``kept``: roots that need memory of their own. ``joined``: nodes
    that compute others, or are computed by others. ``strange``: what may hold something else by the time of the
    backward pass.
    """
    touching: dict[str, list[int]] = {}
    making: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for root in _roots((*node.bottom, *node.top), roots):
            touching.setdefault(root, []).append(i)
        for root in _roots(node.top, roots):
            making.setdefault(root, []).append(i)
    taken = {id(node) for node in joined}
    strangers = _roots(strange, roots)
    pieces: list[Piece] = []
    again: set[str] = set()
    for root, makers in making.items():
        made = [nodes[i] for i in makers]
        others = {name for node in made for name in _roots((*node.bottom, *node.top), roots)} - {root}
        if (
            root in kept
            or root in strangers
            or others & (again | strangers)
            or any(id(node) in taken or node.dynamic or not node.bottom for node in made)
            or not all(node.layer.shares_data or is_wanted(node, cheap) for node in made)
            or any(making[name][-1] > makers[0] for name in others)
        ):
            continue
        first, last = touching[root][0], touching[root][-1]
        readers = [i for i in touching[root] if nodes[i].runs_backward]
        backward = (readers[-1], readers[0]) if readers else None
        pieces.append(Piece(root, frozenset(others), tuple(made), (first, last), backward))
        again.add(root)
    return pieces


def _roots(views: Sequence[View], roots: Mapping[str, str]) -> set[str]:
    return {roots[view.name] for view in views}
