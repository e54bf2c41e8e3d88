"""Pure passes over the layers of a definition: who takes part, who reads what, who needs a gradient.

Each pass takes definitions and returns definitions; none knows what a layer computes. Caffe's rules, whose names for
splits are kept so that files saved here and there are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def net_state(message: Any, phase: int, level: int = 0, stages: Iterable[str] = ()) -> State:
    """The state of a net: its own ``state`` field, over which what the caller says has precedence."""
    own = message.state if message.HasField("state") else None
    names = tuple(stages) or (tuple(own.stage) if own is not None else ())
    return State(phase, level or (own.level if own is not None else 0), names)


def matches(rule: Any, state: State) -> bool:
    """Whether a NetStateRule holds: phase equal, level within bounds, every stage there, no not_stage there."""
    if rule.HasField("phase") and rule.phase != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return all(stage in state.stages for stage in rule.stage) and not any(s in state.stages for s in rule.not_stage)


def filter_layers(layers: Sequence[schema.Definition], state: State) -> list[schema.Definition]:
    """The layers that take part in a state: those whose include rules, or absence of exclude rules, say so.

    Raises DefinitionError for a layer with both include and exclude rules.
    """
    problems = Problems()
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
    problems.raise_any()
    return kept


def check_wiring(layers: Sequence[schema.Definition], problems: Problems) -> set[str]:
    """Reports every bottom that nobody writes above, every cycle, and every top that is made twice.

    Returns the names of the last.
    """
    twice = set()
    written: dict[str, schema.Definition] = {}
    for index, layer in enumerate(layers):
        message = layer.message
        for i, bottom in enumerate(message.bottom):
            if bottom not in written:
                problems.add(_dangling(layers, index, i, written))
        for i, top in enumerate(message.top):
            in_place = i < len(message.bottom) and message.bottom[i] == top
            if top in written and not in_place:
                first = written[top]
                twice.add(top)
                problems.add(
                    DefinitionError(
                        f'layer "{message.name}" writes "{top}", which layer "{first.message.name}" already writes'
                        f" ({first.place()}). Give it a name of its own, or read the same blob to work in place",
                        layer.place("top", i),
                    )
                )
            written.setdefault(top, layer)
    return twice


def _dangling(
    layers: Sequence[schema.Definition], index: int, i: int, written: dict[str, schema.Definition]
) -> DefinitionError:
    layer = layers[index]
    name, bottom = layer.message.name, layer.message.bottom[i]
    place = layer.place("bottom", i)
    later = next((other for other in layers[index + 1 :] if bottom in other.message.top), None)
    if later is None and bottom not in layer.message.top:
        hint = did_you_mean(bottom, written)
        return DefinitionError(f'layer "{name}" reads "{bottom}", which no layer above writes.{hint}', place)
    cycle = _cycle(layers, index, bottom)
    if cycle:
        return DefinitionError(
            f'layer "{name}" reads "{bottom}", which depends on it: {" -> ".join(cycle)} is a cycle', place
        )
    assert later is not None
    return DefinitionError(
        f'layer "{name}" reads "{bottom}", which only layer "{later.message.name}" below writes ({later.place()}).'
        f' Layers run in the order of the file: move "{later.message.name}" above "{name}"',
        place,
    )


def _cycle(layers: Sequence[schema.Definition], index: int, bottom: str) -> list[str]:
    """The names along a path from a layer's tops back to its bottom, or nothing."""
    start = layers[index].message.name
    stack = [(index, [start])]
    seen = set()
    while stack:
        at, path = stack.pop()
        tops = set(layers[at].message.top)
        if bottom in tops:
            return [*path, start]
        for other, layer in enumerate(layers):
            if other not in seen and tops & set(layer.message.bottom):
                seen.add(other)
                stack.append((other, [*path, layer.message.name]))
    return []


def split_name(blob: str, layer: str, top: int) -> str:
    """Caffe's name of the layer that copies a top for its readers."""
    return f"{blob}_{layer}_{top}_split"


def insert_splits(layers: Sequence[schema.Definition]) -> list[schema.Definition]:
    """Gives every reader of a blob a copy of its own, through a Split layer, where more than one reads it.

    A loss weight on a top counts as a reader; the split's first copy then carries it.
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
        result.append(schema.Definition(message, layer.node))
        for j, top in enumerate(message.top):
            copies = readers.get((i, j), 0)
            if copies <= 1:
                continue
            name = split_name(top, message.name, j)
            split = type(layer.message)(name=name, type="Split", bottom=[top])
            split.top.extend(f"{name}_{k}" for k in range(copies))
            if (i, j) in weights:
                split.loss_weight.extend([weights[i, j]] + [0.0] * (copies - 1))
                message.loss_weight[j] = 0.0
                given[i, j] = 1
            result.append(schema.Definition(split, layer.node))
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

    A layer does when one of its bottoms needs a gradient or one of its parameters learns, and a loss depends on it.
    ``propagate_down`` decides for a bottom where it is given. With ``force``, everything that can be differentiated is.
    """
    needed: dict[str, bool] = {}
    flows = []
    for link in links:
        wants = []
        for i, bottom in enumerate(link.bottoms):
            want = needed.get(bottom, False)
            if link.propagate_down:
                want = link.propagate_down[i]
            wants.append(want)
        runs = link.learns or any(wants)
        for top in link.tops:
            needed[top] = runs
        flows.append(Flow(runs, wants))

    under_loss: set[str] = set()
    for link, flow in zip(reversed(links), reversed(flows), strict=True):
        contributes = link.differentiable and (link.is_loss or any(top in under_loss for top in link.tops))
        flow.runs = flow.runs and contributes
        for i, bottom in enumerate(link.bottoms):
            if contributes:
                if not link.propagate_down or link.propagate_down[i]:
                    under_loss.add(bottom)
            else:
                flow.bottoms[i] = False

    for link, flow in zip(links, flows, strict=True):
        if force and link.differentiable:
            flow.runs = bool(link.bottoms) or link.learns
            flow.bottoms = [flow.bottoms[i] or link.allows[i] for i in range(len(link.bottoms))]
        flow.runs = flow.runs and link.differentiable
    return flows
