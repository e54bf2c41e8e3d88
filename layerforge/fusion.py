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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .blob import View

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


@dataclass(frozen=True)
class Joined:
    """What a layer computes beside its own.

    ``steps``: those that follow on top 0. ``copies``: the blobs whose diffs add up to that of top 0. ``source``: who
    holds the diff of top 0, if not top 0. ``fed``: the values of bottom 0 lie in state "x", not in bottom 0. ``waits``:
    top 0 is not written, because its reader computes its values by `Layer.pending`.
    ``pending``: for which bottoms this layer does so, and of whom. ``measured``: when forward runs, state "rows" holds
    the `View.moments` of bottom 0; ``summed``: when backward runs, the `Pending.sums`. ``learns``: backward follows.
    """

    steps: tuple[Step, ...] = ()
    copies: tuple[View, ...] = ()
    source: View | None = None
    fed: bool = False
    waits: bool = False
    pending: Mapping[int, Layer] = field(default_factory=dict)
    measured: bool = False
    summed: bool = False
    learns: bool = False

    @property
    def slope(self) -> float:
        """That of the rectifier; 1 without one."""
        return next((step.slope for step in self.steps if isinstance(step, Rectify)), 1.0)

    @property
    def affine(self) -> tuple[Parameter | None, Parameter | None]:
        """Weight and bias of the scale."""
        return next(((step.weight, step.bias) for step in self.steps if isinstance(step, Affine)), (None, None))


APART = Joined()


@dataclass(frozen=True)
class Pending:
    """The values weight_c (x - mean_c) scale_c + bias_c of channel c, rectified with ``slope``, not computed yet.

    ``values``: x. weight and bias may be None. ``layout``: channels, and positions of each lane. ``sums`` (2, N C), if
    asked for: where the backward pass of who computes them leaves the sums over each channel of an image of dz and of
    dz (x - mean), with dz the gradient before the rectifier.
    """

    values: Any
    mean: Any
    scale: Any
    weight: Any
    bias: Any
    layout: tuple[int, int]
    slope: float = 1.0
    sums: Any = None

    @property
    def lanes(self) -> int:
        return int(self.values.size) // max(self.layout[1], 1)


@dataclass(frozen=True)
class Behind:
    """The gradient of the values that a normalisation reads, not computed yet: see `Pending`, whose x they are.

    ``dy``: that of its result; ``sum``, ``dot`` (C,): the sums over each channel of dz and of dz (x - mean), or None;
    ``number``: of values in a channel. Then dx = (dz - sum / number - (x - mean) scale^2 dot / number) scale weight.
    """

    of: Pending
    dy: Any
    sum: Any
    dot: Any
    number: int


@dataclass(eq=False)
class Group:
    """A node, and those behind it whose steps it computes.

    ``learns``: backward follows, with what forward keeps. ``copier``: the Split behind them, the sum of whose gradients
    the node computes as well. ``source``, ``index``: the node further down whose bottom of that index the blob is, and
    whose top's gradient is the blob's: it is read there, and not copied. ``maker``: the node that writes what the first
    reads, and leaves its moments. ``feeder``: the node that makes the blob, and lets it lie where the first keeps it.
    ``readers``: the nodes that read the blob. ``reader``: the group that computes the values of the first's top as it
    reads them; ``pending``: the groups whose values this one's first computes, by its bottoms.
    """

    first: Node
    others: list[Node]
    steps: tuple[Step, ...]
    learns: bool
    copier: Node | None = None
    source: Node | None = None
    index: int = 0
    maker: Node | None = None
    feeder: Node | None = None
    readers: list[Node] = field(default_factory=list)
    reader: Group | None = None
    waited: bool = False
    pending: dict[int, Group] = field(default_factory=dict)

    @property
    def blob(self) -> str:
        """The name of the blob that they work on."""
        return self.first.top[0].name

    @property
    def result(self) -> View:
        """The blob that holds what they compute: another one, where the first of the others does not work in place."""
        return self.others[0].top[0] if self.others else self.first.top[0]

    @property
    def moves(self) -> bool:
        """Whether it is another one, so that the first's top is not computed."""
        return self.result is not self.first.top[0]

    def nodes(self) -> list[Node]:
        """All that have to do with it."""
        return [
            n for n in (self.first, *self.others, self.copier, self.source, self.maker, self.feeder) if n is not None
        ]

    @property
    def seen(self) -> set[str]:
        """The blobs that show whether they are computed together, to those who read and write them."""
        names = {self.blob} if self.reader is None else {self.blob, self.reader.blob}
        own = self.first.layer.absorbs_backward and self.first.layer.in_place  # backward reads the bottom again
        return names | {view.name for view in self.first.bottom} if own else names

    @property
    def sharing(self) -> list[Node]:
        """Those who compute a part of what the first does."""
        reader = None if self.reader is None else self.reader.first
        return [node for node in (self.maker, reader) if node is not None]

    @property
    def strange(self) -> list[View]:
        """The blobs that may hold something else than they would by layers apart."""
        around = self.moves or self.pending or any((self.source, self.maker, self.feeder, self.reader))
        if not (around or self.first.layer.absorbs_backward):
            return []
        return [view for node in self.nodes() for view in (*node.bottom, *node.top)]

    @property
    def leaves_gradient(self) -> bool:
        """Whether the maker, in its backward pass, may compute the gradient of what it made."""
        return self.maker is not None and self.maker.runs_backward and self.first.bottom[0].needs_diff

    @property
    def blocked(self) -> set[str]:
        """The blobs that have to lie in blocks of channels for it: those of who computes or counts beside its own."""
        reader = None if self.reader is None else self.reader.first
        nodes = [node for node in (self.first, self.maker, reader) if node is not None and node.layer.blocks == "each"]
        if not self.learns:
            return set()
        return {view.name for node in nodes for view in (*node.bottom, *node.top)}

    @property
    def reads(self) -> list[View]:
        """Of which further blobs the first reads diffs."""
        views = [] if self.copier is None else list(self.copier.top)
        return views if self.source is None else [*views, self.source.top[0]]

    @property
    def maker_reads(self) -> list[View]:
        """And the maker."""
        return [self.first.top[0], *self.reads] if self.leaves_gradient else []

    def join(self) -> None:
        """Lets the first compute the steps of all."""
        layer = self.first.layer
        if self.moves:
            self.first.forward = self.move
        copies: tuple[View, ...] = ()
        for node in self.others:
            node.forward = nothing
            if layer.absorbs_backward:
                node.backward = nothing
        if self.copier is not None:
            copies = tuple(view for view in self.copier.top if view.needs_diff)
            self.copier.backward = nothing
        if self.source is not None:
            self.source.layer.passed_diffs.add(self.index)
        if self.feeder is not None:
            self.feeder.forward = self.feed
        elif self.maker is not None:
            self.maker.forward = self.measure
        source = None if self.source is None else self.source.top[0]
        pending = {index: group.first.layer for index, group in self.pending.items()}
        fed, waits = self.feeder is not None, self.reader is not None
        measured = self.maker is not None
        summed = self.reader is not None and self.reader.first.layer.leaves_sums()
        layer.joined = Joined(self.steps, copies, source, fed, waits, pending, measured, summed, self.learns)

    def part(self) -> None:
        """Lets each layer compute what is its own."""
        self.waited = self.first.layer.joined.waits
        self.first.layer.joined = APART
        self.first.forward = self.first.layer.forward
        self.leave_reader()
        for node in self.others:
            node.forward, node.backward = node.layer.forward, node.layer.backward
        if self.copier is not None:
            self.copier.backward = self.copier.layer.backward
        if self.source is not None:
            self.source.layer.passed_diffs.remove(self.index)
        for before in (self.maker, self.feeder):
            if before is not None:
                before.forward = before.layer.forward

    def leave_reader(self) -> None:
        """Ends that the reader computes the values of the first's top."""
        if self.reader is not None:
            del self.reader.pending[self.index]
            self.reader.join()
            self.reader = None

    def move(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """The forward pass of the first, into another blob than its own."""
        self.first.layer.forward(bottom, (self.result,))

    def feed(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """The forward pass of the feeder."""
        assert self.feeder is not None
        (view,) = top
        kept = View(view.name, view.shape, self.first.layer.state["x"])
        kept.block = view.block
        if self.maker is not None:
            kept.moments = self.first.layer.state["rows"]
        self.feeder.layer.forward(bottom, (kept,))

    def measure(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """The forward pass of the maker."""
        assert self.maker is not None
        (view,) = top
        view.moments = self.first.layer.state["rows"]
        try:
            self.maker.layer.forward(bottom, top)
        finally:
            view.moments = None

    def make_up(self) -> None:
        """Computes what each layer, on its own, would have kept of the last forward pass; the blob stays as it is."""
        if not (self.waited or self.moves or any(node.layer.state for node in self.others)):
            return
        layer, (view,) = self.first.layer, self.first.top
        values = view.data.copy()
        known = not self.waited or layer.compute_pending(view, values)
        if not self.waited:
            layer.restore(self.first.bottom)
        for node in (self.first, *self.others):
            node.repeat()
        if known and not self.moves:
            view.data[...] = values


@dataclass(frozen=True)
class Below:
    """A rectifier in place, and the node that reads what it made, whose backward pass is that of both."""

    node: Node
    reader: Node
    index: int
    slope: float

    def join(self) -> None:
        self.node.backward = nothing
        self.reader.layer.slopes_below[self.index] = self.slope

    def part(self) -> None:
        self.node.backward = self.node.layer.backward
        self.reader.layer.slopes_below.pop(self.index, None)

    @property
    def blocked(self) -> set[str]:
        """The blobs that have to lie in blocks of channels for it."""
        if self.reader.layer.blocks == "alike":
            return set()
        return {view.name for view in (*self.reader.bottom, *self.reader.top)}


def nothing(bottom: Any, top: Any) -> None:
    """The pass of a layer whose step another computes."""


def plan(
    nodes: Sequence[Node], roots: Sequence[Mapping[str, str]], apart: set[str], repeatable: bool, wait: bool
) -> list[Group]:
    """The groups of a net.

    ``roots``: for data and for diffs, blob -> who has its memory. ``apart``: blobs whose layers stay apart.
    ``repeatable``: a forward pass that somebody wants to know more of can be repeated, so nothing needs to be kept.
    ``wait``: values may be left to the reader.
    """
    touching = _touching(nodes, roots)
    groups: list[Group] = []
    taken: set[int] = set()
    for i, node in enumerate(nodes):
        if i in taken or len(node.top) != 1 or node.losses or node.top[0].name in apart:
            continue
        after = [j for j in touching[node.top[0].name] if j > i]
        moves = repeatable and _moves_on(nodes, node, after)
        if moves:
            after += [j for j in touching[nodes[after[0]].top[0].name] if j > after[0]]
        followers = list(_followers(nodes, node, after, moves))
        steps = tuple(step for _, step in followers)
        learns = node.runs_backward and not repeatable
        own = speaks_for(node.layer, "absorbs")
        number = node.layer.absorbs(steps, learns) if steps and own else 0
        others = [nodes[j] for j in after[:number]]
        group = Group(node, others, steps[:number], learns)
        group.readers = readers = [
            nodes[j] for j in after[number:] if any(view is group.result for view in nodes[j].bottom)
        ]
        if learns and own and node.layer.absorbs_copies and len(readers) == 1 and _adds_two(readers[0], node):
            group.copier = readers[0]
        if number or group.copier is not None:
            if learns and node.layer.measures and speaks_for(node.layer, "measures"):
                group.maker = _maker(node, [nodes[j] for j in touching[node.bottom[0].name] if j < i])
            if learns and node.layer.in_place and node.bottom[0] is node.top[0] and node.layer.absorbs_backward:
                _connect(group, readers, [nodes[j] for j in touching[group.blob] if j < i])
            taken.update(after[:number])
            groups.append(group)
    if wait or repeatable:
        _let_wait(groups, repeatable)
    return groups


def plan_below(nodes: Sequence[Node], roots: Sequence[Mapping[str, str]], groups: Sequence[Group]) -> list[Below]:
    """The rectifiers whose backward passes their readers compute, but for those of the ``groups``."""
    touching = _touching(nodes, roots)
    absorbed = {id(node) for group in groups if group.first.layer.absorbs_backward for node in group.others}
    found = []
    for i, node in enumerate(nodes):
        if not (node.runs_backward and len(node.bottom) == len(node.top) == 1 and node.bottom[0] is node.top[0]):
            continue
        step = node.layer.as_step() if speaks_for(node.layer, "as_step") else None
        after = [nodes[j] for j in touching[node.top[0].name] if j > i]
        if not isinstance(step, Rectify) or id(node) in absorbed or node.losses or len(after) != 1:
            continue
        (reader,) = after
        places = [k for k, view in enumerate(reader.bottom) if view is node.top[0]]
        if len(places) != 1 or node.top[0] in reader.top or not reader.runs_backward:
            continue
        if speaks_for(reader.layer, "differentiates") and reader.layer.differentiates(step, places[0]):
            found.append(Below(node, reader, places[0], step.slope))
    return found


def _let_wait(groups: list[Group], repeatable: bool) -> None:
    """Leaves values to the one who reads them. To a sum: those of a BatchNorm where it keeps what is normalised, and
    where nothing needs to be kept, those of the last convolution. To a convolution: those of a BatchNorm."""
    by_first = {id(group.first): group for group in groups}
    for group in groups[::-1]:
        places: list[int] = []
        source = group.source
        if repeatable and len(group.readers) == 1 and not group.first.layer.in_place:
            (source,) = group.readers
            places = [i for i, view in enumerate(source.bottom) if view is group.result]
        elif source is None and _is_read_on(group):
            (source,) = group.readers
        if source is None or not source.layer.takes_pending(group.steps, group.learns):
            continue
        if not group.first.layer.may_wait(group.steps):
            continue
        reader = by_first.get(id(source))
        if reader is None and not repeatable and speaks_for(source.layer, "takes_pending"):
            reader = by_first[id(source)] = Group(source, [], (), learns=True)
            groups.append(reader)
        if reader is None:
            continue
        if repeatable:
            if len(places) != 1 or reader.pending:
                continue
            (group.index,) = places
        group.reader, group.feeder = reader, None
        reader.pending[group.index] = group


def _is_read_on(group: Group) -> bool:
    """Whether what the first computes is read once, by somebody whose backward pass follows."""
    if not group.learns or len(group.readers) != 1:
        return False
    (reader,) = group.readers
    return reader.runs_backward and len(reader.bottom) == 1 and reader.top[0] is not reader.bottom[0]


def _maker(node: Node, before: Sequence[Node]) -> Node | None:
    """The last of the nodes ``before``, if it writes what the node reads and leaves its moments."""
    made = before[-1] if before else None
    if made is None or len(made.top) != 1 or made.top[0] is not node.bottom[0] or made.losses:
        return None
    return made if speaks_for(made.layer, "leaves_moments") and made.layer.leaves_moments() else None


def _touching(nodes: Sequence[Node], roots: Sequence[Mapping[str, str]]) -> dict[str, list[int]]:
    """Blob -> the indices of the nodes that touch its data or its diff, under whatever name."""
    found: list[dict[str, set[int]]] = [{} for _ in roots]
    for i, node in enumerate(nodes):
        for names, of in zip(roots, found, strict=True):
            for view in (*node.bottom, *node.top):
                of.setdefault(names[view.name], set()).add(i)
    names = roots[0]
    return {
        name: sorted(set().union(*(of[roots[name]] for roots, of in zip(roots, found, strict=True)))) for name in names
    }


def _followers(nodes: Sequence[Node], first: Node, after: Sequence[int], moves: bool) -> Iterator[tuple[int, Step]]:
    """The nodes that work on the first one's top, one behind the other, as long as they have steps: in place, but for
    the first of them if that ``moves`` on, see `_moves_on`."""
    (view,) = first.top
    for n, j in enumerate(after):
        node, read = nodes[j], view
        if moves and n == 0:
            (view,) = node.top
        in_place = len(node.bottom) == len(node.top) == 1 and node.bottom[0] is read and node.top[0] is view
        alike = not node.losses and node.runs_backward == first.runs_backward
        step = node.layer.as_step() if in_place and alike and speaks_for(node.layer, "as_step") else None
        if step is None:
            return
        yield j, step


def _moves_on(nodes: Sequence[Node], first: Node, after: Sequence[int]) -> bool:
    """Whether somebody computes another blob of the first one's top, which nobody else reads."""
    if len(after) != 1 or len(first.top) != 1 or not (first.layer.overwrites and speaks_for(first.layer, "overwrites")):
        return False
    node = nodes[after[0]]
    alone = (
        len(node.bottom) == len(node.top) == 1 and node.bottom[0] is first.top[0] and node.top[0] is not first.top[0]
    )
    return alone and node.bottom[0].shape == node.top[0].shape and not node.layer.shares_data and not node.dynamic


def _adds_two(node: Node, first: Node) -> bool:
    """Whether a node copies the first one's top, so that its backward pass is the sum of two gradients."""
    is_copier = node.layer.adds_diffs and node.layer.shares_data and speaks_for(node.layer, "adds_diffs")
    reads = node.bottom[0] is first.top[0] and node.runs_backward
    return is_copier and reads and sum(view.needs_diff for view in node.top) == 2


def _connect(group: Group, readers: Sequence[Node], writers: Sequence[Node]) -> None:
    """Lets the first node of a group, which works in place, read and keep things where they already lie."""
    (view,) = group.first.top
    if len(readers) == 1 and readers[0].runs_backward and speaks_for(readers[0].layer, "same_diff"):
        (reader,) = readers
        places = [i for i, bottom in enumerate(reader.bottom) if bottom is view]
        if len(places) == 1 and places[0] in reader.layer.same_diff() and view not in reader.top:
            group.source, group.index = reader, places[0]
    if writers and writers[-1].layer.overwrites and speaks_for(writers[-1].layer, "overwrites"):
        made = writers[-1]
        if len(made.top) == 1 and made.top[0] is view and view not in made.bottom and not made.losses:
            group.feeder = made


def speaks_for(layer: Layer, method: str) -> bool:
    """Whether what a layer's class says of itself is about its own passes, not those of a class it derives from."""
    line = type(layer).__mro__
    said, forward, backward = (
        next(i for i, cls in enumerate(line) if name in cls.__dict__) for name in (method, "forward", "backward")
    )
    return said <= min(forward, backward)
