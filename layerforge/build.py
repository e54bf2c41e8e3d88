"""From the layers of a definition to nodes: every layer made, every shape inferred, every mistake reported.

Nothing here takes memory for data. A layer whose bottoms are wrong is left out, and so is what reads its tops, so that
the mistakes in the rest of the file are found too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import fillers, forks, graph, layer, schema
from .blob import Parameter, Shape, View, shape_of
from .device.cublas import MATH_MODES
from .errors import DefinitionError, LayerForgeError, Problems, ShapeError, did_you_mean, number, times
from .layer import Layer
from .node import Node

log = logging.getLogger(__name__)

AUTOMATIC = "(automatic)"  # Caffe's name of a loss that the definition does not name


class Graph:
    """The nodes of a net and their views, before there is memory.

    ``outputs``: the blobs that nobody reads, in alphabetical order, as in Caffe; ``inputs``: the tops of Input layers.
    ``refusals``: what keeps gradients from being right, should backward be asked for.
    """

    def __init__(self, definition: schema.Definition, state: graph.State, device: Any, dtype: Any, seed: int):
        self.state = state
        self.device = device
        self.dtype = dtype
        self.seed = seed
        self.force = definition.message.force_backward
        self.nodes: list[Node] = []
        self.views: dict[str, View] = {}
        self.outputs: list[str] = []
        self.inputs: list[str] = []
        self.refusals = Problems()
        problems = Problems()
        try:
            self.math_mode = math_mode(definition)
        except DefinitionError as error:
            problems.add(error)
            self.math_mode = "float32"
        self._make(definition.children("layer"), problems)
        self._bind_parameters(problems)
        problems.errors.sort(key=_order)
        problems.raise_any()
        self._decide_backward(problems)
        problems.raise_any()
        if state.phase == layer.TRAIN or self.force:
            self._warn_of_spoilt_gradients()
        options = definition.with_children("layer", ())
        forks.warn([options, *graph.filter_layers(definition.children("layer"), state, problems)])

    # Layers and shapes.

    def _make(self, everything: Sequence[schema.Definition], problems: Problems) -> None:
        layers = graph.filter_layers(everything, self.state, problems)
        taken = {id(one) for one in layers}
        left_out = [one for one in everything if id(one) not in taken]
        wrong = graph.check_wiring(layers, self.state, left_out, problems)
        wrong_nodes = {id(layers[i].node) for i in wrong}
        named = {one.message.name for one in layers}
        copied: dict[str, str] = {}  # what an inserted Split makes -> the blob that it copies
        unread: dict[str, None] = {}
        unknown: set[str] = set()  # blobs whose shape a mistake keeps from being known
        losses = {kind for kind, cls in layer.registry.items() if cls.loss}
        for definition in graph.insert_splits(layers, losses):
            message = definition.message
            if message.type == "Split" and message.name not in named:
                copied.update(dict.fromkeys(message.top, message.bottom[0]))
            for bottom in message.bottom:
                unread.pop(bottom, None)
            try:
                cls = layer.layer_class(definition)
                _check_counts(definition, cls)
                if id(definition.node) in wrong_nodes or not unknown.isdisjoint(message.bottom):
                    unknown.update(message.top)
                    continue
                self.nodes.append(self._node(definition, cls, copied))
            except LayerForgeError as error:
                problems.add(error)
                unknown.update(message.top)
                continue
            unread.update(dict.fromkeys(message.top))
        self.outputs = sorted(unread)
        self.inputs = [view.name for node in self.nodes if node.layer.type == "Input" for view in node.top]

    def _node(self, definition: schema.Definition, cls: type[Layer], copied: Mapping[str, str]) -> Node:
        message = definition.message
        if not message.HasField("phase"):
            message.phase = self.state.phase
        made = cls(definition, message.phase, self.device, self.dtype, self.seed)
        made.math_mode = mode = math_mode(definition, made.title + ": ", self.math_mode)
        if mode != "float32" and not self.device.is_host:
            for way in ("forward", "backward"):
                setattr(made, way, _in_mode(self.device, mode, getattr(made, way)))
        bottom = tuple(self.views[name] for name in message.bottom)
        made.bottom_shapes = tuple(view.shape for view in bottom)
        made.bottom_names = tuple(copied.get(name, name) for name in message.bottom)
        made.setup(*made.bottom_shapes)
        _check_parameters(made)
        shapes = [shape_of(shape) for shape in made.top_shapes(*made.bottom_shapes)]
        names = [*message.top, *(AUTOMATIC for _ in range(len(message.top), _least(cls.tops)))]
        if len(shapes) != len(names):
            raise made.error(
                f"top_shapes of its class gives {number(len(shapes), 'shape')} for {number(len(names), 'top')}"
            )
        top = tuple(
            self._top(made, i, name, shape, bottom) for i, (name, shape) in enumerate(zip(names, shapes, strict=True))
        )
        weights = list(message.loss_weight)
        if weights and len(weights) != len(top):
            raise DefinitionError(
                f"{made.title}: loss_weight is given {times(len(weights))} for {number(len(top), 'top')}: give one"
                " for each, or none",
                definition.place("loss_weight"),
            )
        if not weights:
            weights = [float(cls.loss and i == 0) for i in range(len(top))]
            if cls.loss:
                message.loss_weight.extend(weights)  # so it is saved, as Caffe's
        return Node(made, bottom, top, weights)

    def _top(self, made: Layer, i: int, name: str, shape: Shape, bottom: Sequence[View]) -> View:
        if i < len(made.param.top) and graph.works_in_place(made.param, i):
            view = bottom[i]
            if not made.in_place:
                raise DefinitionError(
                    f'{made.title} cannot work in place: give its top a name other than "{name}"',
                    made.definition.place("top", i),
                )
            if view.shape != shape:
                raise made.error(f"top {shape} must have the shape of {made.describe(i)} to work in place")
            return view
        if name == AUTOMATIC:
            made_so_far = sum(known.startswith(AUTOMATIC) for known in self.views)
            name = f"{AUTOMATIC}_{made_so_far + 1}" if made_so_far else name
        view = self.views[name] = View(name, shape)
        return view

    # Parameters.

    def _bind_parameters(self, problems: Problems) -> None:
        """Reads every ParamSpec: learning rates, and which parameters are one."""
        owners: dict[str, _Owner] = {}
        for node in self.nodes:
            made = node.layer
            specs = made.param.param
            if len(specs) > len(made.params):
                problems.add(
                    DefinitionError(
                        f"{made.title}: param is given {times(len(specs))}, but it has"
                        f" {number(len(made.params), 'parameter')}",
                        made.definition.place("param", len(made.params)),
                    )
                )
            for i, (parameter, spec) in enumerate(zip(made.blobs, specs, strict=False)):
                parameter.lr_mult, parameter.decay_mult = spec.lr_mult, spec.decay_mult
                parameter.share_name = spec.name
                if not spec.name:
                    continue
                owner = owners.setdefault(spec.name, _Owner(made, parameter, spec))
                if owner.parameter is parameter:
                    continue
                try:
                    owner.share(made, parameter, spec, i)
                except LayerForgeError as error:
                    problems.add(error)
            if not made.own_learning:
                for parameter in made.blobs:
                    parameter.lr_mult = parameter.decay_mult = 0.0
        for owner in owners.values():  # whatever a sharer said holds for all
            for parameter in owner.sharers:
                parameter.lr_mult, parameter.decay_mult = owner.parameter.lr_mult, owner.parameter.decay_mult

    # Gradients.

    def _decide_backward(self, problems: Problems) -> None:
        for node in self.nodes:
            made = node.layer
            down = made.param.propagate_down
            if down and len(down) != len(node.bottom):
                problems.add(
                    DefinitionError(
                        f"{made.title}: propagate_down is given {times(len(down))} for"
                        f" {number(len(node.bottom), 'bottom')}: give one for each, or none",
                        made.definition.place("propagate_down"),
                    )
                )
            for parameter in made.blobs:
                parameter.needs_diff = bool(parameter.lr_mult) or (self.force and made.own_learning)
        problems.raise_any()
        links = [
            graph.Links(
                bottoms=[view.name for view in node.bottom],
                tops=[view.name for view in node.top],
                learns=any(parameter.lr_mult for parameter in node.layer.blobs),
                is_loss=bool(node.losses),
                allows=[node.layer.allows_diff(i) for i in range(len(node.bottom))],
                propagate_down=list(node.layer.param.propagate_down),
                differentiable=node.layer.differentiable is not False,
            )
            for node in self.nodes
        ]
        losses: dict[str, Layer] = {}
        for node, flow in zip(self.nodes, graph.needs_backward(links, self.force), strict=True):
            # Told to pass nothing down, a layer that learns nothing has nothing to do.
            node.runs_backward = flow.runs and (any(flow.bottoms) or any(p.needs_diff for p in node.layer.blobs))
            for i, (view, asked) in enumerate(zip(node.bottom, flow.bottoms, strict=True)):
                want = asked and flow.runs
                if want:
                    self._check_gradient(node.layer, i, losses.get(view.name))
                # In place, bottom and top are one view: who reads it last says whether its diff is written.
                if not any(view is top for top in node.top):
                    view.needs_diff = want
            losses.update((view.name, node.layer) for view, _ in node.losses)
        for node in self.nodes:
            for view, weight in zip(node.top, node.loss_weights, strict=True):
                if weight or view.name in self.outputs:
                    view.needs_diff = view.needs_diff or node.runs_backward

    def _warn_of_spoilt_gradients(self) -> None:
        """Logs who works in place on what others need for their gradients, which are wrong then, as in Caffe."""
        writers = []
        for node in self.nodes:
            made, over = node.layer, [view.name for view in node.in_place()]
            needs = max(made.needs_top, made.needs_top_in_place if over else "", key=graph.LEVELS.index)
            writers.append(
                graph.Writer([view.name for view in node.top], over, needs if node.runs_backward else "", made.leaves)
            )
        for index, other, blob in graph.spoilt(writers):
            made, needy = self.nodes[index].layer, self.nodes[other].layer
            log.warning(
                '%s: %s overwrites "%s" in place, which %s (%s) needs for its gradient: that will be wrong, as in'
                " Caffe. Give its top a name of its own",
                made.definition.place("top", made.param.top[:].index(blob)),
                made.title,
                blob,
                needy.title,
                needy.definition.place(),
            )

    def _check_gradient(self, made: Layer, i: int, loss_of: Layer | None) -> None:
        """Refuses a gradient that a layer does not have, and one that would take the place of a loss weight."""
        if not made.allows_diff(i):
            self.refusals.add(
                DefinitionError(
                    f"{made.title} has no gradient for {made.describe(i)}, but a layer that learns depends on it."
                    " Write propagate_down: false for it, or feed it from data",
                    made.definition.place("bottom", i),
                )
            )
        if loss_of is not None:
            self.refusals.add(
                DefinitionError(
                    f'{made.title} passes a gradient to "{made.bottom_names[i]}", which is a loss of {loss_of.title}.'
                    " Write the loss_weight there, so that a copy is made",
                    made.definition.place("bottom", i),
                )
            )


class _Owner:
    """A parameter that is shared by name: the layer that has it first, and those that follow."""

    def __init__(self, made: Layer, parameter: Parameter, spec: Any):
        self.layer = made
        self.parameter = parameter
        self.sharers: list[Parameter] = []
        # Who said how fast it learns: the owner, or the first sharer that did.
        self.said = {key: made for key in ("lr_mult", "decay_mult") if spec.HasField(key)}

    def share(self, made: Layer, mine: Parameter, spec: Any, i: int) -> None:
        place = made.definition.place("param", i)
        theirs, title = self.parameter, f'{made.title}: parameter "{spec.name}"'
        if spec.share_mode == 1:  # PERMISSIVE
            if mine.count != theirs.count:
                raise ShapeError(
                    f"{title} {mine.shape} has {mine.count} values, but {self.layer.title}, which owns it, has"
                    f" {theirs.count} {theirs.shape}: PERMISSIVE sharing needs equal counts",
                    place,
                )
        elif mine.shape != theirs.shape:
            raise ShapeError(
                f"{title} {mine.shape} must have the shape it has in {self.layer.title}, which owns it: {theirs.shape}."
                " Or write share_mode: PERMISSIVE, if equal counts are enough",
                place,
            )
        mine.owner = theirs
        self.sharers.append(mine)
        for key in ("lr_mult", "decay_mult"):
            if not spec.HasField(key):
                continue
            said = self.said.setdefault(key, made)
            if said is made:
                setattr(theirs, key, getattr(mine, key))
            elif getattr(theirs, key) != getattr(mine, key):
                raise DefinitionError(
                    f"{title} has {key} {getattr(mine, key):g} here and {getattr(theirs, key):g} in {said.title}: give"
                    " both the same, or one of them none",
                    place,
                )


def _check_parameters(made: Layer) -> None:
    for parameter in made.blobs:
        if parameter.filler is not None:
            fillers.find(parameter.filler, made.place(f"{parameter.name}_filler", "type"))


def _check_counts(definition: schema.Definition, cls: type[Layer]) -> None:
    message = definition.message
    if message.param_bottoms:
        raise DefinitionError(
            f'layer "{message.name}" ({message.type}): param_bottoms: only a fork of Caffe reads parameters from'
            " bottoms. Take the line out, and those bottoms; a param with a name shares parameters",
            definition.place("param_bottoms"),
        )
    for field, counts in (("bottom", cls.bottoms), ("top", cls.tops)):
        least, most = counts if isinstance(counts, tuple) else (counts, counts)
        given = len(getattr(message, field))
        if field == "top" and cls.loss:
            least = 0  # anonymous ones are made
        if given < least or (most is not None and given > most):
            expected = str(least) if least == most else f"at least {least}" if most is None else f"{least} to {most}"
            raise DefinitionError(
                f'layer "{message.name}" ({message.type}) has {number(given, field)}; it takes'
                f" {expected} {field}{'' if expected == '1' else 's'}",
                definition.place(field, given - 1) if given else definition.place(),
            )


def _least(counts: Any) -> int:
    return counts[0] if isinstance(counts, tuple) else counts


def _order(error: LayerForgeError) -> tuple[int, int]:
    """Errors in the order of the lines they are about; those without one at the end."""
    place = error.place
    return (place.line or 1 << 30, place.column or 0) if place else (1 << 30, 0)


def math_mode(definition: schema.Definition, subject: str = "", default: str = "float32") -> str:
    """How a net's or a layer's products are computed on a GPU. DefinitionError for what is none of `MATH_MODES`."""
    mode = definition.message.math_mode or default
    if mode not in MATH_MODES:
        raise DefinitionError(
            f'{subject}unknown math_mode "{mode}": there are {", ".join(MATH_MODES)}.{did_you_mean(mode, MATH_MODES)}',
            definition.place("math_mode"),
        )
    return mode


def _in_mode(device: Any, mode: str, run: Callable[..., None]) -> Callable[..., None]:
    """A layer's pass, with its products in that mode."""

    def moded(bottom: Sequence[View], top: Sequence[View]) -> None:
        with device.math(mode):
            run(bottom, top)

    return moded
