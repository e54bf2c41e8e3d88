"""Pure passes over the layers of a definition: who takes part, who reads what, who needs a gradient.

Each pass takes definitions and returns definitions; none knows what a layer computes. Caffe's rules, whose names for
splits are kept so that files saved here and there are the same.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import schema
from .errors import DefinitionError, Problems, did_you_mean

PHASES = ("TRAIN", "TEST")


@dataclass(frozen=True)
class State:
    """What the rules of a layer are matched against: phase (0 TRAIN, 1 TEST), level and stages."""

    phase: int
    level: int = 0
    stages: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [PHASES[self.phase]]
        if self.level:
            parts.append(f"level {self.level}")
        if self.stages:
            parts.append(f"stage {', '.join(self.stages)}")
        return ", ".join(parts)


def net_state(message: Any, phase: int | None = None, level: int = 0, stages: Iterable[str] = ()) -> State:
    """The state of a net: its own ``state`` field, TEST without one, and what the caller says.

    The caller's phase, and a level other than 0, take the place of the net's own; the caller's stages join them.
    """
    own = message.state
    return State(
        own.phase if phase is None else int(phase), level or own.level, tuple(dict.fromkeys((*own.stage, *stages)))
    )


def matches(rule: Any, state: State) -> bool:
    """Whether a NetStateRule holds: phase equal, level within bounds, every stage there, no not_stage there."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return all(stage in state.stages for stage in rule.stage) and not any(s in state.stages for s in rule.not_stage)


def filter_layers(layers: Sequence[schema.Definition], state: State, problems: Problems) -> list[schema.Definition]:
    """The layers that take part in a state: those whose include rules, or absence of exclude rules, say so.

    Reports a layer with both include and exclude rules.
    """
    kept = []
    for layer in layers:
        message = layer.message
        if message.include and message.exclude:
            problems.add(
                DefinitionError(
                    f'layer "{message.name}" has both include and exclude rules: keep one kind', layer.place("exclude")
                )
            )
        if message.include:
            taken = any(matches(rule, state) for rule in message.include)
        else:
            taken = not any(matches(rule, state) for rule in message.exclude)
        if taken:
            kept.append(layer)
    return kept


def works_in_place(message: Any, top: int) -> bool:
    """Whether a layer's top is the bottom of the same index."""
    return top < len(message.bottom) and message.bottom[top] == message.top[top]


def check_wiring(
    layers: Sequence[schema.Definition],
    state: State,
    left_out: Sequence[schema.Definition],
    problems: Problems,
) -> set[int]:
    """Reports every bottom that nobody writes above, every cycle, every top that is made twice, and every blob that is
    overwritten in place though others read it.

    ``left_out`` are the layers that take no part in the state. Returns the indices of layers that cannot be made.
    """
    wrong = set()
    written: dict[str, int] = {}  # blob -> the layer that made it
    latest: dict[str, tuple[int, int]] = {}  # blob -> the layer, and its top, that wrote it last
    readers: dict[str, list[int]] = {}  # blob -> who reads what is in it now
    for index, layer in enumerate(layers):
        message = layer.message
        for i, bottom in enumerate(message.bottom):
            if bottom not in written:
                problems.add(_dangling(layers, index, i, written, state, left_out))
                wrong.add(index)
            readers.setdefault(bottom, []).append(index)
        for i, top in enumerate(message.top):
            if top not in written:
                written[top] = index
                readers[top] = []
            elif not works_in_place(message, i):
                problems.add(_made_twice(layers, index, i, written[top]))
                wrong.add(index)
            else:
                overwrites = _overwrites(layers, index, i, readers[top], *latest[top])
                if overwrites:
                    problems.add(overwrites)
                    wrong.add(index)
                readers[top] = []
            latest[top] = index, i
    return wrong


def _made_twice(layers: Sequence[schema.Definition], index: int, i: int, first: int) -> DefinitionError:
    layer, other = layers[index], layers[first]
    name, top = layer.message.name, layer.message.top[i]
    if first == index:
        return DefinitionError(f'layer "{name}" writes "{top}" twice: give each top a name', layer.place("top", i))
    return DefinitionError(
        f'layer "{name}" writes "{top}", which layer "{other.message.name}" already writes ({other.place()}).'
        " Give it a name of its own, or read the same blob to work in place",
        layer.place("top", i),
    )


def _overwrites(
    layers: Sequence[schema.Definition], index: int, i: int, readers: Sequence[int], writer: int, at: int
) -> DefinitionError | None:
    """The error for a layer that overwrites a blob in place though its old values are needed elsewhere."""
    layer = layers[index]
    name, top = layer.message.name, layer.message.top[i]
    others = [layers[reader] for reader in readers if reader != index]
    if others:
        needed = f'layer "{others[0].message.name}" needs what was there ({others[0].place()})'
    elif len(readers) > 1:
        needed = "reads it twice"
    else:
        maker = layers[writer].message
        if at >= len(maker.loss_weight) or not maker.loss_weight[at]:
            return None
        needed = f'layer "{maker.name}" gives it a loss_weight ({layers[writer].place("loss_weight", at)})'
    return DefinitionError(
        f'layer "{name}" overwrites "{top}" in place, but {needed}. Give its top a name of its own',
        layer.place("top", i),
    )


def _dangling(
    layers: Sequence[schema.Definition],
    index: int,
    i: int,
    written: Iterable[str],
    state: State,
    left_out: Sequence[schema.Definition],
) -> DefinitionError:
    layer = layers[index]
    name, bottom = layer.message.name, layer.message.bottom[i]
    reads, place = f'layer "{name}" reads "{bottom}", which', layer.place("bottom", i)
    later = next((other for other in layers[index + 1 :] if bottom in other.message.top), None)
    if later is None:
        absent = next((other for other in left_out if bottom in other.message.top), None)
        if absent is not None:
            return DefinitionError(
                f'{reads} no layer above writes: the rules of layer "{absent.message.name}" ({absent.place()}), which'
                f" does, leave it out in {state}",
                place,
            )
        return DefinitionError(f"{reads} no layer above writes.{did_you_mean(bottom, written)}", place)
    cycle = _cycle(layers, index, bottom)
    if cycle:
        return DefinitionError(f"{reads} depends on it: {' -> '.join(cycle)} is a cycle", place)
    return DefinitionError(
        f'{reads} only layer "{later.message.name}" below writes ({later.place()}).'
        f' Layers run in the order of the file: move "{later.message.name}" above "{name}"',
        place,
    )


def _cycle(layers: Sequence[schema.Definition], index: int, bottom: str) -> list[str]:
    """The names along a path from a layer's tops back to its bottom, or nothing."""
    start = layers[index].message.name
    stack = [(index, [start])]
    seen = {index}
    while stack:
        at, path = stack.pop()
        tops = set(layers[at].message.top)
        if bottom in tops and at != index:
            return [*path, start]
        for other, layer in enumerate(layers):
            if other not in seen and tops & set(layer.message.bottom):
                seen.add(other)
                stack.append((other, [*path, layer.message.name]))
    return []


LEVELS = ("", "signs", "values")  # what a layer needs or leaves of data, each more than the one before


@dataclass
class Writer:
    """A layer for `spoilt`: which blobs it writes, and which of these in place; what it needs of them for its gradient,
    if it runs backward; what it leaves of those that it overwrites."""

    tops: list[str]
    in_place: list[str]
    needs: str
    leaves: str


def spoilt(writers: Sequence[Writer]) -> list[tuple[int, int, str]]:
    """Who overwrites in place what a layer above needs for its gradient: (the one, the other, the blob)."""
    found = []
    needed: dict[str, list[tuple[int, str]]] = {}  # blob -> the layers that wrote it and need something of it
    for index, writer in enumerate(writers):
        for top in writer.tops:
            before = needed.get(top, []) if top in writer.in_place else []
            lost = [(other, needs) for other, needs in before if LEVELS.index(needs) > LEVELS.index(writer.leaves)]
            found += [(index, other, top) for other, _ in lost]
            needed[top] = [one for one in before if one not in lost] + [(index, writer.needs)] * bool(writer.needs)
    return found


def split_name(blob: str, layer: str, top: int) -> str:
    """Caffe's name of the layer that copies a top for its readers."""
    return f"{blob}_{layer}_{top}_split"


def insert_splits(layers: Sequence[schema.Definition], losses: Container[str] = ()) -> list[schema.Definition]:
    """Gives every reader of a blob a copy of its own, through a Split layer, where more than one reads it.

    A loss weight on a top counts as a reader; the split's first copy then carries it, and the layer's own ends. It is
    0 for the types that are ``losses`` where nothing is said.
    """
    producer: dict[str, tuple[int, int]] = {}
    source: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, bottom) -> (layer, top)
    readers: dict[tuple[int, int], int] = {}
    weights: dict[tuple[int, int], float] = {}
    for i, layer in enumerate(layers):
        for j, bottom in enumerate(layer.message.bottom):
            if bottom in producer:
                source[i, j] = producer[bottom]
                readers[producer[bottom]] = readers.get(producer[bottom], 0) + 1
        for j, top in enumerate(layer.message.top):
            producer[top] = (i, j)
        for j, weight in enumerate(layer.message.loss_weight):
            if weight and j < len(layer.message.top):
                weights[i, j] = weight
                readers[i, j] = readers.get((i, j), 0) + 1

    result = []
    given: dict[tuple[int, int], int] = {}
    for i, layer in enumerate(layers):
        message = type(layer.message)()
        message.CopyFrom(layer.message)
        for j, bottom in enumerate(message.bottom):
            made = source.get((i, j))
            if made is not None and readers[made] > 1:
                copy = given.get(made, 0)
                given[made] = copy + 1
                message.bottom[j] = f"{split_name(bottom, layers[made[0]].message.name, made[1])}_{copy}"
        result.append(layer.replace(message))
        for j, top in enumerate(message.top):
            copies = readers.get((i, j), 0)
            if copies <= 1:
                continue
            name = split_name(top, message.name, j)
            split = type(message)(name=name, type="Split", bottom=[top])
            split.top.extend(f"{name}_{k}" for k in range(copies))
            if (i, j) in weights:
                split.loss_weight.extend([weights[i, j]] + [0.0] * (copies - 1))
                message.loss_weight[j] = 0.0
                if not any(message.loss_weight) and message.type not in losses:
                    message.ClearField("loss_weight")
                given[i, j] = 1
            result.append(layer.replace(split))
    return result


@dataclass
class Links:
    """What `needs_backward` is told of one layer."""

    bottoms: Sequence[str]
    tops: Sequence[str]
    learns: bool  # has a parameter with a learning rate
    is_loss: bool  # some top has a loss weight
    allows: Sequence[bool]  # per bottom: may it get a gradient
    propagate_down: Sequence[bool] = ()
    differentiable: bool = True


@dataclass
class Flow:
    """What `needs_backward` answers for one layer: whether it runs backward, and which bottoms get a diff."""

    runs: bool = False
    bottoms: list[bool] = field(default_factory=list)


def needs_backward(links: Sequence[Links], force: bool = False) -> list[Flow]:
    """Which layers run backward, and to which of their bottoms.

    A layer does when one of its bottoms needs a gradient or one of its parameters learns, and a loss depends on it by
    way of layers that pass gradients on. ``propagate_down`` decides for a bottom where it is given. With ``force``,
    every layer that is differentiable runs, and every bottom that may get a gradient does.
    """
    needed: set[str] = set()
    flows = []
    for link in links:
        wants = [bottom in needed for bottom in link.bottoms]
        runs = link.differentiable and (link.learns or any(wants))
        if runs:
            needed.update(link.tops)
        flows.append(Flow(runs, list(link.propagate_down) or wants))

    under_loss: set[str] = set()
    skipped: set[str] = set()  # blobs to whose maker nobody passes a gradient
    for link, flow in zip(reversed(links), reversed(flows), strict=True):
        contributes = link.differentiable and (link.is_loss or not under_loss.isdisjoint(link.tops))
        if not contributes or (skipped.issuperset(link.tops) and not link.is_loss):
            flow.runs = False
            flow.bottoms = [False] * len(link.bottoms)
        if contributes:
            under_loss.update(link.bottoms)
        skipped.update(bottom for bottom, want in zip(link.bottoms, flow.bottoms, strict=True) if not want)

    for link, flow in zip(links, flows, strict=True):
        if force and link.differentiable:
            flow.runs = bool(link.bottoms) or link.learns
            flow.bottoms = [want or allowed for want, allowed in zip(flow.bottoms, link.allows, strict=True)]
    return flows
