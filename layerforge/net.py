"""The net: layers in order, blobs by name, and the two loops over them.

A net is built in three steps: the definition is upgraded, filtered and split (`graph`); every layer is made and every
shape inferred, so that all mistakes are reported before a byte is taken; memory is planned and allocated.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import device as devices
from . import fillers, graph, layer, schema, upgrade, weights
from .blob import Blob, Parameter, Shape, View, shape_of
from .errors import DataError, DefinitionError, Problems, ShapeError, did_you_mean
from .layer import TEST, Layer
from .storage import Storage

log = logging.getLogger("layerforge.net")

AUTOMATIC = "(automatic)"  # Caffe's name of a loss top that the definition does not name


class Node:
    """A layer in its place: the layer, its views, and what backward does there."""

    __slots__ = ("layer", "bottom", "top", "runs_backward", "loss_weights", "built")

    def __init__(self, made: Layer, bottom: tuple[View, ...], top: tuple[View, ...], loss_weights: list[float]):
        self.layer = made
        self.bottom = bottom
        self.top = top
        self.loss_weights = loss_weights
        self.runs_backward = False
        self.built = True


class Net:
    """A net that can run forward and backward.

    ``definition`` is a path of a prototxt, a `schema.Definition`, or a NetParameter message. ``phase`` is TRAIN or
    TEST;
    ``level`` and ``stages`` choose layers as Caffe's rules do; ``weights`` is a caffemodel or HDF5 file, or several
    separated by commas. ``seed`` decides every random number. ``reuse`` lets blobs that are no longer needed pass their
    memory on: data in TEST, diffs in TRAIN; what you look at is kept. ``share_with`` takes the parameters of another
    net instead of making its own. With ``allocate=False`` the net only knows its shapes.

    pycaffe's old order of arguments, Net(file, weights, phase), works too.
    """

    def __init__(
        self,
        definition: Any,
        phase: Any = TEST,
        level: int = 0,
        stages: Iterable[str] | None = None,
        weights: Any = None,
        *,
        device: Any = None,
        dtype: Any = np.float32,
        seed: int | None = None,
        reuse: bool = True,
        share_with: Net | None = None,
        allocate: bool = True,
    ):
        if isinstance(phase, str):  # Net(file, weights, phase)
            phase, weights, level = level, phase, 0
        self.definition = upgrade.net(as_definition(definition, "NetParameter"))
        self.name: str = self.definition.message.name
        self.phase = int(phase)
        self.dtype = np.dtype(dtype)
        self.device = device if isinstance(device, devices.Device) else devices.get(device or devices.default())
        self.seed = layer.choose_seed(seed)
        self.state = graph.net_state(self.definition.message, self.phase, level, stages or ())
        self.step = -1  # forward passes begun, less one; part of the key of every random number
        self.nodes: list[Node] = []
        self._views: dict[str, View] = {}
        self._copied: dict[str, str] = {}  # what an inserted Split makes -> the blob that it copies
        self._reuse = reuse
        self._kept: set[tuple[str, str]] = set()
        self._stale = False
        self._before: dict[str, list[Callable[[int], None]]] = {"forward": [], "backward": []}
        self._after: dict[str, list[Callable[[int], None]]] = {"forward": [], "backward": []}
        self._storage = Storage(self)
        self._build()
        self.blobs: OrderedDict[str, Blob] = OrderedDict(
            (name, Blob(name, view.shape, self._storage.access, self._mark_reshaped))
            for name, view in self._views.items()
        )
        if allocate:
            self.allocate(share_with)
            if weights is not None:
                for path in str(weights).split(","):
                    self.copy_from(path)

    # Building.

    def _build(self) -> None:
        problems = Problems()
        layers = graph.filter_layers(self.definition.children("layer"), self.state)
        for made in layers:
            _check_type(made, problems)
        unknown = graph.check_wiring(layers, problems)  # blobs whose shape a mistake keeps from being known
        self.layer_definitions = graph.insert_splits(layers)
        unread: dict[str, None] = {}
        named = {made.message.name for made in layers}
        for definition in self.layer_definitions:
            message = definition.message
            if message.type == "Split" and message.name not in named:
                self._copied.update(dict.fromkeys(message.top, message.bottom[0]))
            for bottom in message.bottom:
                unread.pop(bottom, None)
            try:
                if all(bottom in self._views and bottom not in unknown for bottom in message.bottom):
                    self.nodes.append(self._make_node(definition))
                else:
                    unknown.update(message.top)
            except (DefinitionError, ShapeError, DataError) as error:
                problems.add(error)
                unknown.update(message.top)
            else:
                if not unknown.intersection(message.top):
                    unread.update(dict.fromkeys(view.name for view in self.nodes[-1].top))
        try:
            self._bind_parameters()
        except (DefinitionError, ShapeError) as error:
            problems.add(error)
        problems.raise_any()
        self.outputs: list[str] = sorted(unread)
        self.inputs: list[str] = [v.name for node in self.nodes if node.layer.type == "Input" for v in node.top]
        self._decide_backward()

    def _make_node(self, definition: schema.Definition) -> Node:
        message = definition.message
        cls = layer.layer_class(definition)
        _check_counts(definition, cls)
        phase = message.phase if message.HasField("phase") else self.phase
        made = cls(definition, phase, self.device, self.dtype, self.seed)
        bottom = tuple(self._views[name] for name in message.bottom)
        made.bottom_shapes = tuple(view.shape for view in bottom)
        made.bottom_names = tuple(self._copied.get(name, name) for name in message.bottom)
        made.setup(*made.bottom_shapes)
        shapes = [shape_of(shape) for shape in made.top_shapes(*made.bottom_shapes)]
        tops = []
        for i, shape in enumerate(shapes):
            name = message.top[i] if i < len(message.top) else self._automatic()
            if i < len(message.bottom) and message.bottom[i] == name:
                if not cls.in_place:
                    raise DefinitionError(
                        f'{made.title} cannot work in place: give its top a name other than "{name}"',
                        definition.place("top", i),
                    )
                view = bottom[i]
                if view.shape != shape:
                    raise made.error(f"top {shape} must have the shape of {made.describe(i)} to work in place")
            else:
                view = self._views[name] = View(name, shape)
                view.resize = self._resize if cls.dynamic else None
            tops.append(view)
        given = list(message.loss_weight)
        if given and len(given) != len(tops):
            raise DefinitionError(
                f"{made.title}: loss_weight is given {len(given)} times for {len(tops)} tops: give one for each, or"
                f" none",
                definition.place("loss_weight"),
            )
        loss_weights = given or [1.0 if cls.loss and i == 0 else 0.0 for i in range(len(tops))]
        return Node(made, bottom, tuple(tops), loss_weights)

    def _automatic(self) -> str:
        name, copy = AUTOMATIC, 1
        while name in self._views:
            copy += 1
            name = f"{AUTOMATIC}_{copy}"
        return name

    def _bind_parameters(self) -> None:
        """Reads every ParamSpec: learning rates, and which parameters are one."""
        owners: dict[str, tuple[Layer, Parameter]] = {}
        self.owned: list[Parameter] = []
        for node in self.nodes:
            made = node.layer
            specs = made.param.param
            for i, parameter in enumerate(made.blobs):
                spec = specs[i] if i < len(specs) else None
                if spec is not None:
                    parameter.lr_mult, parameter.decay_mult = spec.lr_mult, spec.decay_mult
                if not made.own_learning:
                    parameter.lr_mult = parameter.decay_mult = 0.0
                name = spec.name if spec is not None else ""
                if name and name in owners:
                    self._share(made, parameter, spec, i, *owners[name])
                else:
                    self.owned.append(parameter)
                    if name:
                        owners[name] = (made, parameter)
                parameter.share_name = name

    def _share(self, made: Layer, mine: Parameter, spec: Any, i: int, holder: Layer, theirs: Parameter) -> None:
        place = made.definition.place("param", i)
        if spec.share_mode == 1:  # PERMISSIVE
            if mine.count != theirs.count:
                raise ShapeError(
                    f'{made.title}: parameter "{spec.name}" {mine.shape} has {mine.count} values, but'
                    f" {holder.title}, which"
                    f" owns it, has {theirs.count} {theirs.shape}: PERMISSIVE sharing needs equal counts",
                    place,
                )
        elif mine.shape != theirs.shape:
            raise ShapeError(
                f'{made.title}: parameter "{spec.name}" {mine.shape} must have the shape it has in {holder.title},'
                f" which owns"
                f" it: {theirs.shape}. Or write share_mode: PERMISSIVE, if equal counts are enough",
                place,
            )
        mine.owner = theirs
        owner_specs = holder.param.param
        owner_spec = owner_specs[holder.blobs.index(theirs)]
        for key in ("lr_mult", "decay_mult"):
            if not spec.HasField(key):
                setattr(mine, key, getattr(theirs, key))
            elif not owner_spec.HasField(key) and not getattr(theirs, f"_{key}_set", False):
                setattr(theirs, key, getattr(mine, key))
                setattr(theirs, f"_{key}_set", True)
            elif getattr(theirs, key) != getattr(mine, key):
                raise DefinitionError(
                    f'{made.title}: parameter "{spec.name}" has {key} {getattr(mine, key):g} here and'
                    f" {getattr(theirs, key):g} in {holder.title}, which owns it: give both the same, or one of them"
                    f" none",
                    place,
                )

    def _decide_backward(self) -> None:
        force = self.definition.message.force_backward
        links = []
        for node in self.nodes:
            made = node.layer
            down = list(made.param.propagate_down)
            if down and len(down) != len(node.bottom):
                raise DefinitionError(
                    f"{made.title}: propagate_down is given {len(down)} times for {len(node.bottom)} bottoms:"
                    " give one for each, or none",
                    made.definition.place("propagate_down"),
                )
            for parameter in made.blobs:
                parameter.needs_diff = bool(parameter.lr_mult) or (force and made.own_learning)
            links.append(
                graph.Links(
                    bottoms=[v.name for v in node.bottom],
                    tops=[v.name for v in node.top],
                    learns=any(parameter.lr_mult for parameter in made.blobs),
                    is_loss=any(node.loss_weights),
                    allows=[made.allows_diff(i) for i in range(len(node.bottom))],
                    propagate_down=down,
                    differentiable=made.differentiable is not False,
                )
            )
        flows = graph.needs_backward(links, force)
        for node, flow in zip(self.nodes, flows, strict=True):
            node.runs_backward = flow.runs
            made = node.layer
            wants = [flow.runs and want for want in flow.bottoms]
            for i, want in enumerate(wants):
                if want and not made.allows_diff(i):
                    raise DefinitionError(
                        f"{made.title} has no gradient for {made.describe(i)}, but a layer that learns depends on it."
                        " Write propagate_down: false for it, or feed it from data",
                        made.definition.place("bottom", i),
                    )
            # In place, bottom and top are one view: its diff is needed by whoever comes first.
            for view, want in zip(node.bottom, wants, strict=True):
                if not any(view is top for top in node.top):
                    view.needs_diff = want
        for node in self.nodes:
            for top, weight in zip(node.top, node.loss_weights, strict=True):
                if weight or top.name in self.outputs:
                    top.needs_diff = top.needs_diff or node.runs_backward

    # Memory.

    def allocate(self, share_with: Net | None = None) -> None:
        """Takes the memory that was planned, and fills the parameters."""
        self._storage.parameters(share_with)
        self._storage.blobs()
        if share_with is None:
            for node in self.nodes:
                for i, parameter in enumerate(node.layer.blobs):
                    if parameter.owner is None and parameter.filler is not None:
                        fillers.fill(parameter.data, parameter.filler, (self.seed, node.layer.stream + 7919 * (i + 1)))

    @property
    def arena(self) -> Storage:
        """The parameters and their diffs as flat arrays: ``arena.data``, ``arena.diff``."""
        return self._storage

    def memory_bytes(self) -> dict[str, int]:
        """Bytes by purpose: data, diff, parameters, parameter_diffs, scratch, state."""
        return self._storage.report()

    def _mark_reshaped(self) -> None:
        self._stale = True

    def reshape(self) -> None:
        """Infers every shape again, from the inputs on, and takes more memory where it is needed."""
        self._stale = False
        changed = False
        for node in self.nodes:
            if not node.bottom:
                for view in node.top:
                    asked = self.blobs[view.name].shape
                    changed = changed or asked != view.shape
                    view.shape = asked
                continue
            changed = self._infer(node) or changed
        if changed:
            self._storage.blobs()

    def _infer(self, node: Node) -> bool:
        made = node.layer
        made.bottom_shapes = tuple(view.shape for view in node.bottom)
        changed = False
        for view, shape in zip(node.top, made.top_shapes(*made.bottom_shapes), strict=True):
            shape = shape_of(shape)
            if view.shape != shape:
                view.shape = shape
                self.blobs[view.name].shape = shape
                changed = True
        return changed

    def _resize(self, view: View, shape: Shape) -> None:
        """Gives the top of a dynamic layer another shape while it runs; every layer below follows."""
        if shape == view.shape:
            return
        view.shape = self.blobs[view.name].shape = shape
        producer = next(i for i, node in enumerate(self.nodes) if any(top is view for top in node.top))
        for node in self.nodes[producer + 1 :]:
            self._infer(node)
        self._storage.blobs()

    def _dynamic(self, node: Node) -> None:
        """Lets a layer whose shapes may change say them, and the net follow, before it runs."""
        if self._infer(node):
            for after in self.nodes[self.nodes.index(node) + 1 :]:
                self._infer(after)
            self._storage.blobs()

    # Running.

    def run_forward(self, first: int = 0, last: int | None = None) -> float:
        """Runs layers first..last, and returns the weighted loss of their tops."""
        if self._stale:
            self.reshape()
        if first == 0:
            self.step += 1
        elif self._storage.reuses("data"):
            self._keep_across(first)
        return self._forward_loop(first, len(self.nodes) - 1 if last is None else last)

    def _forward_loop(self, first: int, last: int) -> float:
        before, after = self._before["forward"], self._after["forward"]
        loss = 0.0
        for i in range(first, last + 1):
            node = self.nodes[i]
            made = node.layer
            for callback in before:
                callback(i)
            made.step = self.step
            if made.dynamic:
                self._dynamic(node)
            made.forward(node.bottom, node.top)
            for view, weight in zip(node.top, node.loss_weights, strict=True):
                if weight:
                    loss += weight * float(self.device.to_numpy(view.data).sum(dtype=np.float64))
            for callback in after:
                callback(i)
        return loss

    def run_backward(self, first: int | None = None, last: int = 0) -> None:
        """Runs backward from layer ``first`` (the last one) down to ``last``."""
        self._storage.need_diffs()
        before, after = self._before["backward"], self._after["backward"]
        for i in range(len(self.nodes) - 1 if first is None else first, last - 1, -1):
            node = self.nodes[i]
            if not node.runs_backward:
                continue
            for callback in before:
                callback(i)
            node.layer.backward(node.bottom, node.top)
            for callback in after:
                callback(i)

    def forward_backward(self) -> float:
        """One pass each way; parameter diffs are added to. Returns the loss."""
        loss = self.run_forward()
        self.run_backward()
        return loss

    def forward(
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """pycaffe's forward: sets the inputs given by name, runs from layer ``start`` to ``end``, returns the outputs.

        ``blobs`` names further blobs to return. Raises ShapeError where an input does not have its blob's shape.
        """
        wanted = list(blobs or ())
        for name in wanted:
            self._blob(name)
            self._storage.keep(name, "data")
        first = self._index(start) if start is not None else 0
        last = self._index(end) if end is not None else len(self.nodes) - 1
        outputs = self.outputs if end is None else [v.name for v in self.nodes[last].top]
        for name in outputs:
            self._storage.keep(name, "data")
        if inputs:
            if set(inputs) != set(self.inputs):
                raise DefinitionError(
                    f"forward was given {', '.join(sorted(inputs))}; the inputs of this net are"
                    f" {', '.join(self.inputs)}"
                )
            for name, value in inputs.items():
                self._set(name, "data", value)
        self.run_forward(first, last)
        return OrderedDict((name, self.blobs[name].data) for name in dict.fromkeys([*outputs, *wanted]))

    def backward(
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **tops: Any
    ) -> dict[str, np.ndarray]:
        """pycaffe's backward: sets the output diffs given by name, runs from layer ``start`` down to ``end``.

        Returns the diffs of the inputs, or of the bottoms of ``end``, and those that ``diffs`` names.
        """
        wanted = list(diffs or ())
        first = self._index(start) if start is not None else len(self.nodes) - 1
        last = self._index(end) if end is not None else 0
        outputs = self.inputs if end is None else [v.name for v in self.nodes[last].bottom]
        for name in [*wanted, *outputs]:
            self._storage.keep(name, "diff")
        for name, value in tops.items():
            self._set(name, "diff", value)
        self.run_backward(first, last)
        return OrderedDict((name, self.blobs[name].diff) for name in dict.fromkeys([*outputs, *wanted]))

    def _set(self, name: str, kind: str, value: Any) -> None:
        blob = self._blob(name)
        array = np.asarray(value)
        if array.shape != blob.shape:
            raise ShapeError(f'"{name}" has shape {blob.shape}; it was given an array of shape {array.shape}')
        (blob.data if kind == "data" else blob.diff)[...] = array

    def _blob(self, name: str) -> Blob:
        if name not in self.blobs:
            raise DefinitionError(f'this net has no blob "{name}".{did_you_mean(name, self.blobs)}')
        return self.blobs[name]

    def _index(self, name: str) -> int:
        for i, node in enumerate(self.nodes):
            if node.layer.name == name:
                return i
        raise DefinitionError(f'this net has no layer "{name}".{did_you_mean(name, self._layer_names)}')

    def _keep_across(self, first: int) -> None:
        made = {view.name for node in self.nodes[:first] for view in node.top}
        for node in self.nodes[first:]:
            for view in node.bottom:
                if view.name in made:
                    self._storage.keep(view.name, "data")

    def first_not_finite(self) -> tuple[Layer, View] | None:
        """The first layer, in order, one of whose tops holds an infinity or a NaN, and that top."""
        for node in self.nodes:
            for view in node.top:
                if not np.isfinite(self.device.to_numpy(view.data)).all():
                    return node.layer, view
        return None

    # pycaffe's names.

    @property
    def layers(self) -> list[Layer]:
        return [node.layer for node in self.nodes]

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        return OrderedDict((node.layer.name, node.layer) for node in self.nodes)

    @property
    def params(self) -> OrderedDict[str, list[Parameter]]:
        """Parameters by layer, in the order of a caffemodel: ``net.params["conv1"][0]`` is its weight."""
        return OrderedDict((node.layer.name, node.layer.blobs) for node in self.nodes if node.layer.params)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.layer.name, [v.name for v in node.top]) for node in self.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.layer.name, [v.name for v in node.bottom]) for node in self.nodes)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        weights_of = OrderedDict((name, 0.0) for name in self.blobs)
        for node in self.nodes:
            for view, weight in zip(node.top, node.loss_weights, strict=True):
                if weight:
                    weights_of[view.name] = weight
        return weights_of

    @property
    def _layer_names(self) -> list[str]:
        return [node.layer.name for node in self.nodes]

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    def before_forward(self, callback: Callable[[int], None]) -> None:
        """Calls ``callback(layer index)`` before each layer's forward."""
        self._before["forward"].append(callback)

    def after_forward(self, callback: Callable[[int], None]) -> None:
        """Calls ``callback(layer index)`` after each layer's forward."""
        self._after["forward"].append(callback)

    def before_backward(self, callback: Callable[[int], None]) -> None:
        """Calls ``callback(layer index)`` before each layer's backward."""
        self._before["backward"].append(callback)

    def after_backward(self, callback: Callable[[int], None]) -> None:
        """Calls ``callback(layer index)`` after each layer's backward."""
        self._after["backward"].append(callback)

    def clear_param_diffs(self) -> None:
        """Sets the diff of every parameter to 0."""
        self._storage.clear_diffs()

    # Weights.

    def copy_from(self, path: Any, *, strict: bool = False) -> weights.LoadReport:
        """Takes the weights of a caffemodel or HDF5 file, by layer name.

        Returns what was loaded, what this net has and the file lacks, and the reverse. Raises SnapshotError for a
        damaged file, for shapes that differ and, with ``strict``, for parameters that the file lacks.
        """
        return weights.load(self, path, strict=strict)

    load_hdf5 = copy_from

    def save(self, path: Any, write_diff: bool = False) -> None:
        """Writes the weights as a caffemodel; the file appears whole or not at all."""
        weights.save(self, path, diff=write_diff)

    def save_hdf5(self, path: Any, write_diff: bool = False) -> None:
        """Writes the weights as HDF5; the file appears whole or not at all."""
        weights.save_hdf5(self, path, diff=write_diff)

    def share_with(self, other: Net) -> None:
        """Takes the parameters of another net, by layer name, as its own: one memory, two nets."""
        self._storage.share(other)

    def close(self) -> None:
        """Stops the threads of data layers and closes their files."""
        for node in self.nodes:
            node.layer.close()

    def __repr__(self) -> str:
        return f"<Net {self.name!r} {graph.PHASES[self.phase]}: {len(self.nodes)} layers, {len(self._views)} blobs>"


def as_definition(source: Any, message_type: str) -> schema.Definition:
    """A definition from a path, a message, or a definition."""
    layer.load_layers()  # their options are part of the schema
    if isinstance(source, schema.Definition):
        return source.today()
    if isinstance(source, (str, os.PathLike)):
        return schema.read(os.fspath(source), message_type)
    return schema.Definition.of(source)


def _check_type(definition: schema.Definition, problems: Problems) -> None:
    try:
        layer.layer_class(definition)
    except DefinitionError as error:
        problems.add(error)


def _bounds(counts: Any) -> tuple[int, int | None]:
    return counts if isinstance(counts, tuple) else (counts, counts)


def _check_counts(definition: schema.Definition, cls: type[Layer]) -> None:
    message = definition.message
    for field, counts in (("bottom", cls.bottoms), ("top", cls.tops)):
        least, most = _bounds(counts)
        given = len(getattr(message, field))
        if field == "top" and cls.loss and given == 0:
            continue
        if given < least or (most is not None and given > most):
            expected = (
                f"{least}" if least == most else f"at least {least}" if most is None else f"from {least} to {most}"
            )
            plural = "s" if expected != "1" else ""
            raise DefinitionError(
                f'layer "{message.name}" ({message.type}) has {given} {field}{"s" if given != 1 else ""}; it takes'
                f" {expected} {field}{plural}",
                definition.place(field, max(given - 1, 0)) if given else definition.place(),
            )
