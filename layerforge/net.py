"""The net: layers in order, blobs by name, and the two loops over them.

A net is built in three steps: the definition is upgraded, filtered and split (`graph`); every layer is made and every
shape inferred, so that all mistakes are reported before a byte is taken (`build`); memory is planned and allocated
(`arena` for parameters, `storage` for blobs).
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from . import batches, debug_info, fillers, fitting, graph, layer, schema, upgrade, weights
from . import device as devices
from .arena import Parameters
from .blob import Blobs, Parameter, Shape, View, shape_of
from .build import Graph
from .errors import DefinitionError, DeviceError, ShapeError, did_you_mean
from .layer import TRAIN, Layer
from .mirrors import Mirrors, ShownParameter
from .node import Node
from .passes import Passes
from .storage import Storage

log = logging.getLogger("layerforge.net")

Callback = Callable[[int], None]


class Net:
    """A net that can run forward and backward.

    ``definition`` is the path of a prototxt, a `schema.Definition`, or a NetParameter message. ``phase`` is TRAIN or
    TEST, by default what the definition's ``state`` says; ``level`` and ``stages`` choose layers as Caffe's rules do;
    ``weights`` is a caffemodel or HDF5 file, or several separated by commas. ``seed`` decides every random number.
    ``reuse`` lets blobs that are no longer needed pass their memory on, data in TEST, diffs in TRAIN; what you look at
    is there all the same (see `layerforge.storage`). ``share_with`` takes the parameters of another net, by layer
    name, instead of making its own. ``fuse`` lets layers compute what follows them in place (`layerforge.fusion`), and
    ``blocks`` lets blobs lie as convolutions like it (`layerforge.layout`). With ``allocate=False`` the net only knows
    its shapes until it runs.

    pycaffe's old order of arguments, Net(file, weights, phase), works too, and so does its name of the first one,
    ``network_file``.
    """

    def __init__(
        self,
        definition: Any = None,
        phase: Any = None,
        level: int = 0,
        stages: Iterable[str] | None = None,
        weights: Any = None,
        *,
        device: Any = None,
        dtype: Any = np.float32,
        seed: int | None = None,
        reuse: bool = True,
        fuse: bool = True,
        blocks: bool = True,
        share_with: Net | None = None,
        allocate: bool = True,
        network_file: Any = None,
    ):
        if (definition is None) == (network_file is None):
            raise DefinitionError("Net takes a prototxt: its path, or a NetParameter")
        if isinstance(phase, (str, os.PathLike)):  # Net(file, weights, phase)
            phase, weights, level = level, phase, 0
        given = network_file if definition is None else definition
        self.definition = upgrade.net(as_definition(given, "NetParameter"))
        message = self.definition.message
        self.name: str = message.name
        self.state = graph.net_state(message, phase, level, stages or ())
        self.phase = self.state.phase
        self.dtype = np.dtype(dtype)
        self.device = device if isinstance(device, devices.Device) else devices.get(device or devices.default())
        self.seed = layer.choose_seed(seed)
        self.step = -1  # forward passes begun, less one; part of the key of every random number
        made = Graph(self.definition, self.state, self.device, self.dtype, self.seed)
        if self.phase == TRAIN:
            made.refusals.raise_any()
        self._refusals = made.refusals
        self.nodes: list[Node] = made.nodes
        self.views: dict[str, View] = made.views
        self.inputs: list[str] = made.inputs
        self.outputs: list[str] = made.outputs
        self.arena = Parameters([node.layer for node in self.nodes], self.device, self.dtype)
        self.mirrors = Mirrors(self.device)
        self._reuse = reuse
        self._blocks = blocks
        self._fuse = fuse and self.dtype == np.float32
        self._storage: Storage | None = None
        self._passes: Passes | None = None
        self._inferred = len(self.nodes)  # so many layers know their shapes
        self._misfits: set[Node] = set()  # layers whose bottoms did not fit together when the shapes were inferred
        self._before: dict[str, list[Callback]] = {"forward": [], "backward": []}
        self._after: dict[str, list[Callback]] = {"forward": [], "backward": []}
        self._debug: tuple[Callback, Callback] | None = None
        self._looks = False  # whether a callback may do what it likes
        self._ours = all(node.layer.is_ours for node in self.nodes)
        self.debug_info = message.debug_info
        self._let_tops_resize()
        if allocate or weights is not None:
            self.allocate(share_with)
            self._load(weights)

    def _load(self, names: Any) -> None:
        for path in weights.paths(names):
            self.copy_from(path)

    # Memory.

    def allocate(self, share_with: Net | None = None) -> None:
        """Takes the memory that was planned, and fills the parameters that are not another net's."""
        if share_with is not None:
            self.mirrors = share_with.mirrors  # what is written to a shared parameter concerns both
        self.arena.allocate(self.arena.matching(share_with.arena.layers) if share_with is not None else {})
        made = {id(parameter) for parameter in self.arena.made}
        for node in self.nodes:
            for i, parameter in enumerate(node.layer.blobs):
                if id(parameter) in made and parameter.filler is not None:
                    # Steps that no run reaches, so that no layer draws the same numbers.
                    key = (self.seed, node.layer.stream, (1 << 32) - 1 - i)
                    fillers.fill(parameter.data, parameter.filler, key, node.layer.place(f"{parameter.name}_filler"))
        self._storage = self._new_storage(self.device)
        with self._explained():
            self._storage.allocate()

    def _new_storage(self, device: devices.Device) -> Storage:
        return Storage(
            self.nodes,
            self.views,
            self.arena,
            inputs=self.inputs,
            outputs=self.outputs,
            reuse_data=self._reuse and self.phase != TRAIN and not self.definition.message.force_backward,
            reuse_diff=self._reuse,
            fuse=self._fuse and not self.debug_info,
            blocks=self._blocks,
            recompute=self._recompute(),
            device=device,
            dtype=self.dtype,
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Adds to what a device says when its memory runs out which batch would fit."""
        try:
            yield
        except DeviceError as error:
            if not error.out_of_memory:
                raise
            raise fitting.explain(self, error) from error

    def plan_memory(self, device: devices.Device, learns: bool) -> dict[str, int]:
        """What the blobs would take on a device, by purpose. The net lets go of what it has."""
        self._passes = None
        storage = self._storage = self._new_storage(device)
        for node in self.nodes:
            node.layer.state.clear()
            node.layer.scratch = None
        for view in self.views.values():
            view.data = view.diff = None
        storage.allocate()
        if learns:
            storage.need_diffs()
        return storage.bytes()

    def _recompute(self) -> bool | None:
        """Whether cheap layers compute their tops again for backward; None: not even those that are told to."""
        message = self.definition.message
        asked = message.memory == message.RECOMPUTE
        if self.phase != TRAIN:
            return None
        if not self.device.is_host:
            if asked:
                name = self.device.name.upper()
                log.warning("memory: RECOMPUTE has no effect on %s: all that backward reads is kept", name)
            return None
        return asked

    @property
    def storage(self) -> Storage:
        """The memory of the blobs."""
        if self._storage is None:
            self.allocate()
        assert self._storage is not None
        return self._storage

    @property
    def passes(self) -> Passes:
        """The passes of a net on another device than the CPU, which are recorded."""
        if self._passes is None:
            self._passes = Passes(self)
        return self._passes

    def memory_bytes(self) -> dict[str, int]:
        """Bytes by purpose: parameters (without another net's), parameter_diffs, data, diff, state, scratch."""
        parameters, diffs = self.arena.bytes()
        return {"parameters": parameters, "parameter_diffs": diffs, **self.storage.bytes()}

    # Shapes.

    def reshape(self) -> None:
        """Infers every shape again, from the sources on, and takes more memory where it is needed."""
        self._reshape(len(self.nodes))

    def _reshape(self, count: int) -> None:
        """As `reshape`, for the first layers, which are to run. Those behind follow as far as the shapes fit them.

        So do those below a layer with ``dynamic = True``, whose tops may get other shapes before they run.
        """
        stale, self._inferred = self._inferred < len(self.nodes), 0
        self._misfits.clear()
        free = next((i for i, node in enumerate(self.nodes[:count]) if node.dynamic), count)
        changed = [self._infer(node) for node in self.nodes[:free] if node.bottom]
        changed += [self._infer_if_it_fits(node) for node in self.nodes[free:count]]
        inferred = count
        for i, node in enumerate(self.nodes[count:], count):
            changed.append(self._infer_if_it_fits(node))
            inferred += inferred == i and node not in self._misfits
        if stale or any(changed):
            if self._passes is not None:
                self._passes.forget()
            self.storage.allocate()
        self._inferred = inferred

    def reshape_blob(self, name: str, shape: Shape) -> None:
        """Gives a blob another shape; the net follows when it next runs. See `Blob.reshape`."""
        if min(shape, default=0) < 0:
            raise ShapeError(f'"{name}" cannot take shape {shape}: a dimension is below 0')
        view = self.views[name]
        if view.shape != shape:
            view.shape = shape
            self._inferred = 0
            self.storage.resize(name)

    def _infer(self, node: Node) -> bool:
        """Asks a layer for the shapes of its tops; whether anything about its shapes changed."""
        made = node.layer
        shapes = tuple(view.shape for view in node.bottom)
        changed = made.bottom_shapes != shapes
        made.bottom_shapes = shapes
        for view, shape in zip(node.top, map(shape_of, made.top_shapes(*shapes)), strict=True):
            changed = changed or view.shape != shape
            view.shape = shape
        return changed

    def _infer_if_it_fits(self, node: Node) -> bool:
        """As `_infer`, for a layer whose other bottoms may still change before it runs: else it keeps its shapes.

        Then it is one of `_misfits`, which are asked again, and may raise, when it is their turn.
        """
        made = node.layer
        shapes = made.bottom_shapes
        self._misfits.discard(node)
        try:
            return bool(node.bottom) and self._infer(node)
        except Exception:  # a Python layer raises what it likes
            made.bottom_shapes = shapes
            self._misfits.add(node)
            if made.shares_data:  # its tops must fit the memory that they share
                for view in node.top:
                    view.shape = node.bottom[0].shape
            return True

    def _follow(self, node: Node) -> None:
        """Before a layer with ``dynamic = True``, or a misfit, runs: asks for its shapes; those below follow."""
        if self._infer(node):
            self._let_follow(node)
        self._misfits.discard(node)

    def _let_follow(self, node: Node) -> None:
        """Lets the layers below one follow its tops' shapes, as far as they fit: others may change before they run."""
        for after in self.nodes[self.nodes.index(node) + 1 :]:
            self._infer_if_it_fits(after)
        self.storage.allocate()

    def _let_tops_resize(self) -> None:
        """Gives the tops of dynamic layers their `View.reshape`, for use within forward."""
        net = weakref.ref(self)  # views live as long as anybody holds them

        def resizer(node: Node) -> Callable[[View, Shape], None]:
            def resize(view: View, shape: Shape) -> None:
                owner = net()
                if owner is not None and shape != view.shape:
                    view.shape = shape
                    owner._let_follow(node)

            return resize

        for node in self.nodes:
            if node.dynamic:
                for view in node.top:
                    if not any(view is bottom for bottom in node.bottom):
                        view.resize = resizer(node)

    # Running.

    def run_forward(self, first: int = 0, last: int | None = None) -> float:
        """Runs layers first..last, and returns the weighted loss of their tops."""
        return self.start_forward(first, last)()

    def start_forward(self, first: int = 0, last: int | None = None) -> Callable[[], float]:
        """Runs layers first..last; what it returns waits for the weighted loss of their tops, and gives it.

        Where arrays lie on another device, the loss is read, and mistakes in labels are raised, not before that call;
        it must come before the next forward pass. Backward may run in between.
        """
        end = len(self.nodes) - 1
        last = end if last is None else last
        self._begin_forward(first, last)
        storage, step = self.storage, max(self.step, 0)
        if not self.device.is_host:
            result = self.passes.forward(first, last, step)
            storage.end_forward()
            return result
        storage.start("data")
        before, after = self._before["forward"], self._after["forward"]
        seen = self._seen()
        loss = 0.0
        for i in range(first, last + 1):
            node = self.nodes[i]
            for callback in before:
                callback(i)
            node.layer.step = step
            node.layer.parameters_seen = seen
            if node.dynamic or node in self._misfits:
                self._follow(node)
            node.forward(node.bottom, node.top)
            for view, weight in node.losses:
                loss += weight * _sum(view.data)
            for callback in after:
                callback(i)
        storage.end_forward()
        return lambda: loss

    def _begin_forward(self, first: int, last: int) -> None:
        self.device.use()
        self.mirrors.send(inputs=True)
        if self._inferred <= last:
            self._reshape(last + 1)
        self.storage.begin_forward(whole=first == 0 and last == len(self.nodes) - 1)
        if first == 0:
            self.step += 1

    def begin_iteration(self) -> None:
        """Gets ready for a pass both ways that is launched in one go; see `layerforge.iteration`."""
        self._begin_forward(0, len(self.nodes) - 1)
        self.storage.end_forward()
        self.storage.begin_backward(whole=True)

    def _seen(self) -> int | None:
        """`Parameters.seen`, where nobody but the net can write to parameters while it runs."""
        if self.phase == TRAIN:
            self.arena.touch()
            return None
        return self.arena.seen() if self._ours and not self._looks else None

    def run_backward(self, first: int | None = None, last: int = 0) -> None:
        """Runs backward from layer ``first`` (the last one) down to ``last``. Parameter diffs are added to."""
        self._refusals.raise_any()
        self.device.use()
        self.mirrors.send(inputs=True)
        end = len(self.nodes) - 1
        first = end if first is None else first
        storage = self.storage
        with self._explained():
            storage.need_diffs()
        storage.begin_backward(whole=first == end and last == 0)
        if self.device.is_host:
            storage.start("diff")
            self._run_backward(first, last)
        else:
            self.passes.backward(first, last)
        storage.end_backward()
        if self._debug is not None:
            debug_info.after_backward_pass(self)

    def _run_backward(self, first: int, last: int) -> None:
        before, after = self._before["backward"], self._after["backward"]
        for i in range(first, last - 1, -1):
            node = self.nodes[i]
            if not node.runs_backward:
                continue
            if self.storage.pieces:
                self.storage.before_backward(i)
            for callback in before:
                callback(i)
            node.backward(node.bottom, node.top)
            for callback in after:
                callback(i)

    def forward_backward(self) -> float:
        """One pass each way; parameter diffs are added to. Returns the loss."""
        loss = self.run_forward()
        self.run_backward()
        return loss

    def clear_param_diffs(self) -> None:
        """Sets the diff of every parameter to 0."""
        self.mirrors.send()
        self.arena.clear_diffs()

    def first_not_finite(self) -> tuple[Layer, View] | None:
        """The first layer, in order, one of whose tops holds an infinity or a NaN, and that top."""
        for node in self.nodes:
            for view in node.top:
                if not np.isfinite(self.device.to_numpy(view.data)).all():
                    return node.layer, view
        return None

    # Running as in pycaffe.

    def forward(
        self, blobs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **inputs: Any
    ) -> dict[str, np.ndarray]:
        """pycaffe's forward: sets the inputs given by name, runs from layer ``start`` to ``end``, returns the outputs.

        ``blobs`` names further blobs to return; with ``end``, the tops of that layer stand for the outputs. Raises
        ShapeError where an input does not fit its blob, DefinitionError for names that the net does not have.
        """
        first = self._index(start) if start is not None else 0
        last = self._index(end) if end is not None else len(self.nodes) - 1
        outputs = self.outputs if end is None else [view.name for view in self.nodes[last].top]
        names = self._names(outputs, blobs)
        if inputs:
            self._require_names("forward", "inputs", inputs, self.inputs)
            for name, value in inputs.items():
                self._set(name, "data", value)
        if first == 0 and end is None:
            for name in names:
                self.storage.want(name, "data")
        self.run_forward(first, last)
        return OrderedDict((name, self.look(name, "data")) for name in names)

    def backward(
        self, diffs: Iterable[str] | None = None, start: str | None = None, end: str | None = None, **tops: Any
    ) -> dict[str, np.ndarray]:
        """pycaffe's backward: sets the output diffs given by name, runs from layer ``start`` down to ``end``.

        Returns the diffs of the inputs (with ``end``, of that layer's bottoms), and of the blobs that ``diffs`` names.
        Raises as `forward` does.
        """
        first = self._index(start) if start is not None else len(self.nodes) - 1
        last = self._index(end) if end is not None else 0
        outputs = self.inputs if end is None else [view.name for view in self.nodes[last].bottom]
        names = self._names(outputs, diffs)
        if tops:
            self._require_names("backward", "outputs", tops, self.outputs)
            for name, value in tops.items():
                self._set(name, "diff", value)
        if start is None and last == 0:
            for name in names:
                self.storage.want(name, "diff")
        self.run_backward(first, last)
        return OrderedDict((name, self.look(name, "diff")) for name in names)

    def forward_all(self, blobs: Iterable[str] | None = None, **inputs: Any) -> dict[str, np.ndarray]:
        """Runs all items of the inputs through the net, batch by batch, and returns what `forward` does for each."""
        return batches.forward_all(self, list(blobs or ()), inputs)

    def forward_backward_all(
        self, blobs: Iterable[str] | None = None, diffs: Iterable[str] | None = None, **inputs: Any
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """As `forward_all`, forward and backward: inputs and output diffs by name. Returns outputs, and diffs."""
        return batches.forward_backward_all(self, list(blobs or ()), list(diffs or ()), inputs)

    def set_input_arrays(self, data: Any, labels: Any = None) -> None:
        """Hands arrays to the net's MemoryData layer, without a copy: data (N, C, H, W), and N labels.

        Raises DefinitionError for a net without such a layer, ShapeError and DataError for arrays that do not fit.
        """
        for node in self.nodes:
            if hasattr(node.layer, "set_input_arrays"):
                node.layer.set_input_arrays(data, labels)
                return
        raise DefinitionError("this net has no MemoryData layer, so it takes no input arrays. Set its input blobs")

    def _names(self, outputs: Iterable[str], wanted: Iterable[str] | None) -> list[str]:
        names = list(dict.fromkeys([*outputs, *(wanted or ())]))
        for name in names:
            self.blobs[name]
        return names

    def _require_names(self, what: str, kind: str, given: Iterable[str], known: Iterable[str]) -> None:
        if set(given) != set(known):
            raise DefinitionError(
                f"{what} was given {', '.join(sorted(given))}; the {kind} of this net are"
                f" {', '.join(known) if known else 'none'}"
            )

    def _set(self, name: str, kind: str, value: Any) -> None:
        array, shape = np.asarray(value), self.views[name].shape
        try:
            if array.shape[:1] == shape[:1]:
                self.look(name, kind)[...] = array
                return
        except ValueError:
            pass
        raise ShapeError(f'"{name}" has shape {shape}; it was given an array of shape {array.shape}')

    def _index(self, name: str) -> int:
        for i, node in enumerate(self.nodes):
            if node.layer.name == name:
                return i
        raise DefinitionError(f'this net has no layer "{name}".{did_you_mean(name, self._layer_names)}')

    # Callbacks.

    def before_forward(self, callback: Callback, *, looks: bool = True) -> None:
        """Calls ``callback(layer index)`` before each layer's forward.

        A callback that looks at blobs needs all of them there: without ``looks=False``, no memory is reused any more,
        and weights are compared in each pass with those that the last one used.
        """
        self._call("forward", self._before, callback, looks)

    def after_forward(self, callback: Callback, *, looks: bool = True) -> None:
        """Calls ``callback(layer index)`` after each layer's forward; see `before_forward`."""
        self._call("forward", self._after, callback, looks)

    def before_backward(self, callback: Callback, *, looks: bool = True) -> None:
        """Calls ``callback(layer index)`` before each layer's backward; see `before_forward`."""
        self._call("backward", self._before, callback, looks)

    def after_backward(self, callback: Callback, *, looks: bool = True) -> None:
        """Calls ``callback(layer index)`` after each layer's backward; see `before_forward`."""
        self._call("backward", self._after, callback, looks)

    def _call(self, way: str, when: dict[str, list[Callback]], callback: Callback, looks: bool) -> None:
        if looks:
            self._looks = True
            self.storage.keep_all("data")
            self.storage.keep_all("diff")
        when[way].append(callback)

    @property
    def debug_info(self) -> bool:
        """Whether each pass logs the mean absolute values of blobs and parameters, as Caffe's `debug_info`."""
        return self._debug is not None

    @debug_info.setter
    def debug_info(self, wanted: bool) -> None:
        if wanted == self.debug_info:
            return
        if self._debug is not None:
            self._after["forward"].remove(self._debug[0])
            self._after["backward"].remove(self._debug[1])
            self._debug = None
            return
        if self._storage is not None:
            self._storage.part()
        net = weakref.proxy(self)
        self._debug = (lambda i: debug_info.after_forward(net, i), lambda i: debug_info.after_backward(net, i))
        self._after["forward"].append(self._debug[0])
        self._after["backward"].append(self._debug[1])

    # pycaffe's names.

    def look(self, name: str, kind: str) -> np.ndarray:
        """A blob's ``data`` or ``diff``, to read and to write; on another device than the CPU, see `mirrors`."""
        array = self.storage.look(name, kind)
        if self.device.is_host:
            return array
        view = self.views[name]
        is_input = kind == "data" and name in self.inputs and not self.storage.is_overwritten(name)
        key = (id(self), name, kind)
        if is_input:
            return self.mirrors.show_input(key, lambda: getattr(view, kind))
        return self.mirrors.show(key, lambda: getattr(view, kind), lambda: view.block)

    def gpu_pointer(self, name: str, kind: str) -> int:
        """Where a blob's ``data`` or ``diff`` lies in the memory of a GPU. Raises DeviceError on another device."""
        if not self.device.name.startswith("gpu"):
            raise DeviceError(f'blob "{name}" lies on device "{self.device.name}": it has no address on a GPU')
        self.look(name, kind)
        self.mirrors.send(inputs=True)
        self.storage.lay_plain(name)
        return int(getattr(self.views[name], kind).data.ptr)

    @property
    def fused(self) -> dict[str, str]:
        """The layers that are computed by another in its own pass: name -> the other's name."""
        return {other.layer.name: group.first.layer.name for group in self.storage.fused for other in group.others}

    @property
    def fused_in_part(self) -> dict[str, str]:
        """The layers of which others compute a part in their own pass: name -> the others' names."""
        parts = {group.first.layer.name: group.sharing for group in self.storage.fused if group.sharing}
        parts |= {below.node.layer.name: [below.reader] for below in self.storage.below}
        return {name: " and ".join(node.layer.name for node in nodes) for name, nodes in parts.items()}

    @property
    def blobs(self) -> Blobs:
        """Blobs by name, in the order in which they are made: ``net.blobs["conv1"].data``."""
        return Blobs(self)

    @property
    def layers(self) -> list[Layer]:
        """The layers in their order; of a Python layer, as in pycaffe, the object of the user's class."""
        self.arena.show()
        return [node.layer.shown for node in self.nodes]

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        return OrderedDict((made.name, made) for made in self.layers)

    @property
    def owned(self) -> list[Parameter]:
        """Every parameter once, at the layer that owns it."""
        self.arena.show()
        return self.arena.owned

    @property
    def params(self) -> OrderedDict[str, list[Any]]:
        """Parameters by layer, in the order of a caffemodel: ``net.params["conv1"][0]`` is its weight."""
        layers = [node.layer for node in self.nodes if node.layer.params]
        return OrderedDict((layer.name, [ShownParameter(p, self.mirrors) for p in layer.blobs]) for layer in layers)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.layer.name, [view.name for view in node.top]) for node in self.nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        return OrderedDict((node.layer.name, [view.name for view in node.bottom]) for node in self.nodes)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """The loss weight of every blob; 0 for those that are no loss."""
        found = OrderedDict((name, 0.0) for name in self.views)
        found.update((view.name, weight) for node in self.nodes for view, weight in node.losses)
        return found

    @property
    def _layer_names(self) -> list[str]:
        return [node.layer.name for node in self.nodes]

    @property
    def _blob_names(self) -> list[str]:
        return list(self.views)

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    # What pycaffe's own methods in Python call of those in C++, and scripts sometimes do.

    @property
    def _blobs(self) -> list[Any]:
        return list(self.blobs.values())

    def _forward(self, first: int, last: int) -> float:
        return self.run_forward(first, last)

    def _backward(self, first: int, last: int) -> None:
        self.run_backward(first, last)

    def _bottom_ids(self, index: int) -> list[int]:
        return [self._blob_names.index(view.name) for view in self.nodes[index].bottom]

    def _top_ids(self, index: int) -> list[int]:
        return [self._blob_names.index(view.name) for view in self.nodes[index].top]

    # Weights.

    def copy_from(self, path: Any, *, strict: bool = False) -> weights.LoadReport:
        """Takes the weights of a caffemodel or HDF5 file, by layer name.

        Returns what was loaded, what this net has and the file lacks, and the reverse. Raises SnapshotError for a
        damaged file, for shapes that differ and, with ``strict``, for parameters that the file lacks.
        """
        self.mirrors.send()
        return weights.load(self, path, strict=strict)

    def load_hdf5(self, path: Any) -> weights.LoadReport:
        """pycaffe's name of `copy_from` for HDF5 files."""
        return self.copy_from(path)

    def save(self, path: Any, write_diff: bool = False) -> None:
        """Writes the weights as a caffemodel; the file appears whole or not at all."""
        self.mirrors.send()
        weights.save(self, path, diff=write_diff)

    def save_hdf5(self, path: Any, write_diff: bool = False) -> None:
        """Writes the weights as HDF5; the file appears whole or not at all."""
        self.mirrors.send()
        weights.save_hdf5(self, path, diff=write_diff)

    def share_with(self, other: Net) -> None:
        """Takes the parameters of another net, by layer name, as its own: one memory, two nets."""
        self.mirrors.send()
        self.mirrors = other.mirrors  # what is written to a shared parameter concerns both
        self.arena.share(self.arena.matching(other.arena.layers))

    def close(self) -> None:
        """Stops the threads of data layers and closes their files."""
        for node in self.nodes:
            node.layer.close()

    def __repr__(self) -> str:
        return f"<Net {self.name!r} {graph.PHASES[self.phase]}: {len(self.nodes)} layers, {len(self.views)} blobs>"


def _sum(array: np.ndarray) -> float:
    return array.item() if array.size == 1 else float(array.sum(dtype=np.float64))


def as_definition(source: Any, message_type: str) -> schema.Definition:
    """A definition from a path, a message, or a definition."""
    layer.load_layers()  # their options are part of the schema
    if isinstance(source, schema.Definition):
        return source.today()
    if isinstance(source, (str, bytes, os.PathLike)):
        return schema.read(os.fsdecode(source), message_type)
    return schema.Definition.of(source)
