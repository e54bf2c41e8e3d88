"""What layers keep for backward, in memory that diffs have later.

A BatchNorm that works in place keeps what it read, and the convolution before it writes it there at once (see
`layerforge.fusion`). Once the BatchNorm's backward pass has run nobody needs that any more, and the diffs of the layers
before it, which are larger as a rule, may lie in its place. A second backward pass after the same forward pass needs it
again, and so do layers that are parted: then the convolution, of whose bottoms all are still there, makes it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .fusion import Group
from .memory import Interval
from .node import Node

KEPT = "x"  # how the layer calls it, see `Layer.state_shapes`


def plan(
    nodes: Sequence[Node], groups: Sequence[Group], roots: Mapping[str, str], strange: Collection[str]
) -> list[Group]:
    """The groups of whose first that is true.

    ``roots``: blob -> who has the memory of its data; ``strange``: roots to which somebody else may write.
    """
    index = {id(node): i for i, node in enumerate(nodes)}
    written = {roots[view.name]: i for i, node in enumerate(nodes) for view in node.top}
    barred = {roots[view.name] for node in nodes if not node.bottom for view in node.top}.union(strange)
    found = []
    for group in groups:
        reads = fed_by(group, roots)
        if group.feeder is None or not group.first.runs_backward or reads & barred:
            continue
        if all(written[root] < index[id(group.feeder)] for root in reads):
            found.append(group)
    return found


def fed_by(group: Group, roots: Mapping[str, str]) -> set[str]:
    """The roots of what the convolution reads."""
    return set() if group.feeder is None else {roots[view.name] for view in group.feeder.bottom}


def stays(groups: Sequence[Group], steps: Sequence[tuple[int, Node]], begin: int) -> list[Interval]:
    """When it is needed: from step ``begin``, in all of forward, so that parts of that may run again, to the backward
    pass of the last who reads it; ``steps``: those of backward passes."""
    step = {id(node): i for i, node in steps}
    last = [group.maker if group.leaves_gradient else group.first for group in groups]
    return [
        Interval(group.first.bottom[0].count, begin, step[id(node)]) for group, node in zip(groups, last, strict=True)
    ]


def kept(group: Group) -> Any:
    """The array."""
    return group.first.layer.state[KEPT]


def put(group: Group, flat: Any) -> None:
    """Lets it lie at the begin of a flat array."""
    view = group.first.bottom[0]
    group.first.layer.state[KEPT] = flat[: view.count].reshape(view.shape)


def let_go(group: Group) -> None:
    """Lets it lie nowhere."""
    group.first.layer.state.pop(KEPT, None)


def feed(groups: Sequence[Group]) -> None:
    """Makes it again, as it was in the last forward pass."""
    for group in groups:
        assert group.feeder is not None
        group.feeder.repeat()
