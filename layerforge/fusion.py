"""Which layers compute what follows them in the same pass over memory, and how they are parted again.

In Caffe's nets a scale, a shift and a rectifier work in place on what a convolution, a normalisation or a sum wrote.
Each of them alone reads and writes all of memory for a few operations. So a layer says with `Layer.as_step` what it
does to every element by itself, as one of the steps below, and another says with `Layer.absorbs` how many of the steps
that follow it computes as well. That is decided once, when a net takes memory; nodes and names stay, and those whose
step was absorbed have nothing to do.

What was overwritten in place anyway cannot be missed, as long as whole passes run. For anybody who looks at the blob in
question, or runs a part of the net, the layers are parted for good, and what they keep for backward is made up for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .blob import Parameter
    from .layer import Layer
    from .node import Node


class Step:
    """What happens to each element of a blob, without regard to the others."""

    def then(self, factor: Any, shift: Any) -> None:
        """Makes factor * x + shift, for each channel, what comes of it, where that is such a thing again."""


@dataclass(frozen=True)
class Affine(Step):
    """y = weight_c x + bias_c for each channel c, both learnt (C,)."""

    weight: Parameter
    bias: Parameter | None

    def then(self, factor: Any, shift: Any) -> None:
        factor *= self.weight.data
        shift *= self.weight.data
        if self.bias is not None:
            shift += self.bias.data


@dataclass(frozen=True)
class Normalise(Step):
    """y = scale_c (x - mean_c) for each channel c, with statistics that are given: ``read`` tells mean and scale."""

    read: Any

    def then(self, factor: Any, shift: Any) -> None:
        mean, scale = self.read()
        shift -= mean
        shift *= scale
        factor *= scale


@dataclass(frozen=True)
class Rectify(Step):
    """y = x where x > 0, else slope * x; slope is at least 0, so that y tells where x was above 0."""

    slope: float


def leading(steps: Sequence[Step], *kinds: type[Step]) -> int:
    """How many of the steps are of these kinds, in their order; each may be missing.

    >>> leading([Rectify(0), Rectify(0)], Affine, Rectify)
    1
    """
    number = 0
    for kind in kinds:
        if number < len(steps) and isinstance(steps[number], kind):
            number += 1
    return number


def slope_of(steps: Sequence[Step]) -> float:
    """The slope of the rectifier among them; 1 without one."""
    return next((step.slope for step in steps if isinstance(step, Rectify)), 1.0)


def affine_of(steps: Sequence[Step]) -> tuple[Parameter | None, Parameter | None]:
    """Weight and bias of the scale among them."""
    return next(((step.weight, step.bias) for step in steps if isinstance(step, Affine)), (None, None))


@dataclass
class Group:
    """A node, and those behind it whose steps it computes. ``learns``: backward follows, with what forward keeps."""

    first: Node
    others: list[Node]
    steps: tuple[Step, ...]
    learns: bool

    @property
    def blob(self) -> str:
        """The name of the blob that they work on."""
        return self.first.top[0].name

    def join(self) -> None:
        """Lets the first compute the steps of all."""
        layer = self.first.layer
        layer.absorbed = self.steps
        for node in self.others:
            node.forward = nothing
            if layer.absorbs_backward:
                node.backward = nothing

    def part(self) -> None:
        """Lets each layer compute what is its own."""
        self.first.layer.absorbed = ()
        for node in self.others:
            node.forward, node.backward = node.layer.forward, node.layer.backward

    def make_up(self) -> None:
        """Computes what each layer, on its own, would have kept of the last forward pass; the blob stays as it is."""
        if not any(node.layer.state for node in self.others):
            return
        node = self.first
        (view,) = node.top
        values = view.data.copy()
        node.layer.restore(node.bottom)
        for node in (self.first, *self.others):
            node.layer.repeats = True
            node.forward(node.bottom, node.top)
            node.layer.repeats = False
        view.data[...] = values


def nothing(bottom: Any, top: Any) -> None:
    """The pass of a layer whose step another computes."""


def plan(nodes: Sequence[Node], roots: Sequence[Mapping[str, str]], apart: set[str], repeatable: bool) -> list[Group]:
    """The groups of a net.

    ``roots``: for data and for diffs, blob -> who has its memory. ``apart``: blobs whose layers stay apart.
    ``repeatable``: a forward pass that somebody wants to know more of can be repeated, so nothing needs to be kept.
    """
    touched: list[dict[str, list[int]]] = [{} for _ in roots]
    for i, node in enumerate(nodes):
        for names, found in zip(roots, touched, strict=True):
            for root in dict.fromkeys(names[view.name] for view in (*node.bottom, *node.top)):
                found.setdefault(root, []).append(i)
    groups: list[Group] = []
    taken: set[int] = set()
    for i, node in enumerate(nodes):
        if i in taken or len(node.top) != 1 or node.losses or node.top[0].name in apart:
            continue
        name = node.top[0].name
        nearby = sorted({j for names, found in zip(roots, touched, strict=True) for j in found[names[name]] if j > i})
        followers = list(_followers(nodes, node, nearby))
        learns = node.runs_backward and not repeatable
        steps = tuple(step for _, step in followers)
        number = node.layer.absorbs(steps, learns) if steps and _speaks_for(node.layer, "absorbs") else 0
        if number:
            others = [j for j, _ in followers[:number]]
            taken.update(others)
            groups.append(Group(node, [nodes[j] for j in others], steps[:number], learns))
    return groups


def _followers(nodes: Sequence[Node], first: Node, nearby: Sequence[int]) -> Iterator[tuple[int, Step]]:
    """The nodes that work in place on the first one's top, one behind the other, as long as they have steps."""
    (view,) = first.top
    for j in nearby:
        node = nodes[j]
        in_place = len(node.bottom) == len(node.top) == 1 and node.bottom[0] is view and node.top[0] is view
        alike = not node.losses and node.runs_backward == first.runs_backward
        step = node.layer.as_step() if in_place and alike and _speaks_for(node.layer, "as_step") else None
        if step is None:
            return
        yield j, step


def _speaks_for(layer: Layer, method: str) -> bool:
    """Whether what a layer's class says of itself is about its own passes, not those of a class it derives from."""
    line = type(layer).__mro__
    said, forward, backward = (
        next(i for i, cls in enumerate(line) if name in cls.__dict__) for name in (method, "forward", "backward")
    )
    return said <= min(forward, backward)
