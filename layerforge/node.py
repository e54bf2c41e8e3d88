"""A layer in its place in a net, and which blobs of the net are one piece of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .blob import View
from .fusion import speaks_for
from .layer import Layer


class Node:
    """A layer with the views it reads and writes, and what the net's loops do there."""

    __slots__ = ("backward", "bottom", "dynamic", "forward", "layer", "loss_weights", "losses", "runs_backward", "top")

    def __init__(self, layer: Layer, bottom: tuple[View, ...], top: tuple[View, ...], loss_weights: Sequence[float]):
        self.layer = layer
        self.bottom = bottom
        self.top = top
        self.loss_weights = list(loss_weights)
        self.losses = tuple((view, weight) for view, weight in zip(top, loss_weights, strict=True) if weight)
        self.dynamic = layer.dynamic
        self.runs_backward = False
        self.forward: Callable[[Any, Any], None] = layer.forward
        self.backward: Callable[[Any, Any], None] = layer.backward

    def in_place(self) -> list[View]:
        """The tops that are bottoms too."""
        return [view for view in self.top if any(view is bottom for bottom in self.bottom)]

    def copy_forward(self, tops: Sequence[View]) -> None:
        """Makes the forward pass of a layer whose tops share bottom 0's data copy them to these tops instead."""

        def forward(bottom: Sequence[View], top: Sequence[View]) -> None:
            for view in tops:
                view.data[...] = bottom[0].data.reshape(view.shape)

        self.forward = forward

    def repeat(self) -> None:
        """Runs forward again, with the random numbers of the last pass."""
        self.layer.repeats = True
        self.forward(self.bottom, self.top)
        self.layer.repeats = False

    def __repr__(self) -> str:
        return f"<Node {self.layer.title}>"


def share_diffs(nodes: Sequence[Node]) -> dict[str, str]:
    """Blob -> root, the blob whose diff memory it has: its own, or that of the bottom of a layer that shares diffs.

    Where the diffs of a top and of some bottoms are equal, the first of these that nobody overwrites is the top's.
    """
    roots: dict[str, str] = {}
    overwritten = {view.name for node in nodes for view in node.in_place()}
    for node in nodes:
        for k in node.layer.same_diff() if speaks_for(node.layer, "same_diff") else ():
            name = node.bottom[k].name
            if name not in overwritten and roots[name] == name and node.top[0].name not in roots:
                node.layer.passed_diffs.add(k)
                roots[node.top[0].name] = name
        for i, view in enumerate(node.top):
            shared = node.layer.shares_diff and node.bottom and i == 0
            roots.setdefault(view.name, roots[node.bottom[0].name] if shared else view.name)
    return roots


def share_data(nodes: Sequence[Node]) -> dict[str, str]:
    """Blob -> root, the blob whose data memory it has: its own, or that of the bottom of a layer that shares data.

    Where a layer further down works in place on such memory, and somebody else reads it under another name, sharing
    would change what he reads: there the values are copied.
    """
    parents = {
        view.name: node.bottom[0].name
        for node in nodes
        if node.layer.shares_data and node.bottom
        for view in node.top
        if view is not node.bottom[0]
    }
    overwritten = {view.name for node in nodes for view in node.in_place()}
    for node in nodes:
        copied = []
        for view in node.top:
            if view.name in parents and _is_disturbed(view.name, parents, nodes, overwritten):
                del parents[view.name]
                copied.append(view)
        if copied:
            node.copy_forward(copied)
    roots: dict[str, str] = {}
    for node in nodes:
        for view in node.top:
            parent = parents.get(view.name)
            roots.setdefault(view.name, roots[parent] if parent is not None else view.name)
    return roots


def _is_disturbed(name: str, parents: dict[str, str], nodes: Sequence[Node], overwritten: set[str]) -> bool:
    """Whether what works in place on this blob, or on one that shares its memory, is seen by those above or beside."""
    below = _family(name, parents)
    if below.isdisjoint(overwritten):
        return False
    ancestors = [parents[name]]
    while ancestors[-1] in parents:
        ancestors.append(parents[ancestors[-1]])
    beside = _family(ancestors[-1], parents) - below
    if not beside.issubset(view.name for node in nodes for view in node.bottom):
        return True  # an output of the net
    for node in nodes:
        for view in node.bottom:
            if view.name not in beside or (node.layer.shares_data and view is node.bottom[0]):
                continue
            if view.name in ancestors and view in node.top:
                continue  # works in place itself, before
            return True
    return False


def _family(root: str, parents: dict[str, str]) -> set[str]:
    """A blob and all that share its memory below it."""
    found = {root}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more
