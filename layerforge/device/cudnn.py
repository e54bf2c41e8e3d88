"""cuDNN's convolutions, through NVIDIA's package ``cudnn`` (nvidia-cudnn-frontend), which builds graphs of operations.

For each convolution cuDNN offers plans, the most promising first. Of those that keep the rules of the math mode some
are timed, the first time, and the quickest is kept, here and on the disk; one that may give other bits in the next run
is never taken.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import itertools
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import files
from ..errors import DeviceError, SnapshotError
from . import libraries

if TYPE_CHECKING:
    from ..engines.geometry import Geometry

log = logging.getLogger("layerforge.device")

WORKSPACE = 512 << 20  # bytes that a plan may want at most
TRIED = 16  # plans that are timed at most: cuDNN puts first what it expects to be quick

#: Notes of plans that are not taken: none whose result depends on the order of threads; for float32 as it is, none
#: that rounds on the way.
REFUSED = {
    "float32": ("NONDETERMINISTIC", "TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"),
    "tf32": ("NONDETERMINISTIC", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"),
}

#: A plan that adds the bias itself, or rectifies too, is taken unless it takes so much longer than one that does not.
FUSED = {"biased": 1.2, "rectified": 1.3}

INSTALL = "install it with `pip install 'layerforge[cudnn]'`, or `'layerforge[cudnn12]'` for a driver of CUDA 12"


@functools.cache
def module() -> Any:
    """The package. DeviceError where it, cuDNN or the second library of cuBLAS that this cuDNN was built with is
    missing: cuDNN would end the process. Or where it was built for a later CUDA than the driver's."""
    if importlib.util.find_spec("cudnn") is None:
        raise DeviceError(f"the package cudnn is missing; {INSTALL}")
    try:
        of = libraries.load("cudnn").cudnnGetCudartVersion
    except (OSError, AttributeError) as error:
        raise DeviceError(f"cuDNN cannot be loaded ({error}); {INSTALL}") from None
    of.restype = ctypes.c_size_t
    cuda = of() // 1000
    if libraries.driver is not None and cuda > libraries.driver:
        raise DeviceError(f"the driver is for CUDA {libraries.driver}, and cuDNN for {cuda}; {INSTALL}")
    try:
        libraries.load("cublasLt", cuda)
    except OSError as error:
        package = "nvidia-cublas" if cuda >= 13 else f"nvidia-cublas-cu{cuda}"
        raise DeviceError(f"cuDNN needs cuBLAS ({error}); install it with `pip install {package}`") from None
    try:
        return importlib.import_module("cudnn")
    except (OSError, ImportError) as error:
        raise DeviceError(f"cuDNN cannot be loaded ({error}); {INSTALL}") from None


@functools.cache
def available() -> bool:
    """Whether cuDNN is there; if it is not, this is logged once."""
    try:
        module()
        return True
    except DeviceError as error:
        log.info("Convolutions do without cuDNN: %s", error)
        return False


def versions() -> dict[str, str]:
    """Those of cuDNN and of the package."""
    number = int(module().backend_version())
    return {
        "cuDNN": f"{number // 10000}.{number % 10000 // 100}.{number % 100}",
        "cuDNN's package": str(module().__version__),
    }


class Operation:
    """One convolution as a graph of cuDNN's, and the plans that may compute it.

    ``way`` is "forward", "biased" (forward, plus a bias), "rectified" (and then max(0, that)), "data" or "weights".
    ``last``: whether the channels of x, and of y, lie last. Weights are plain; those of a single tap are so in either
    order, and cuDNN has more plans for this one. ``where`` is a handle, or what stands for a GPU that is not there.
    """

    def __init__(self, cudnn: Any, way: str, g: Geometry, last: tuple[bool, bool], mode: str, **where: Any):
        kind = cudnn.data_type.FLOAT
        self.way = way
        self.graph = graph = cudnn.pygraph(
            io_data_type=kind, intermediate_data_type=kind, compute_data_type=kind, **where
        )
        shapes = {"x": g.input_shape, "w": g.weight_shape, "y": g.output_shape}
        shapes["b"] = (1, g.num_output, *(1,) * len(g.output))
        lies = {"x": last[0], "y": last[1], "w": any(last) and math.prod(g.kernel) == 1, "b": False}
        steps = {name: strides(shape, lies[name]) for name, shape in shapes.items()}
        read = {"data": "yw", "weights": "xy"}.get(way, "xw" if way == "forward" else "xwb")
        written = {"data": "x", "weights": "w"}.get(way, "y")
        self.tensors = {
            name: graph.tensor(name=name, dim=list(shapes[name]), stride=steps[name], data_type=kind) for name in read
        }
        given = self.tensors
        options = {"padding": list(g.pad), "stride": list(g.stride), "dilation": list(g.dilation)}
        if way == "data":
            result = graph.conv_dgrad(loss=given["y"], filter=given["w"], **options)
        elif way == "weights":
            result = graph.conv_wgrad(image=given["x"], loss=given["y"], **options)
        else:
            result = graph.conv_fprop(image=given["x"], weight=given["w"], **options)
            if way != "forward":
                result = graph.bias(result, given["b"])
            if way == "rectified":
                result = graph.relu(result)
        result.set_output(True).set_data_type(kind)
        result.set_dim(list(shapes[written])).set_stride(steps[written])
        self.tensors["out"] = result
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_numeric_notes([getattr(cudnn.numerical_note, note) for note in REFUSED[mode]])
        graph.deselect_workspace_greater_than(WORKSPACE)

    def plans(self) -> list[int]:
        """The numbers of the plans that can be built, of the first ones."""
        all_ = range(self.graph.get_execution_plan_count())
        return list(itertools.islice((i for i in all_ if self.build(i)), TRIED))

    def build(self, index: int) -> bool:
        """Builds a plan; whether that is possible, and allowed."""
        try:
            self.graph.build_plan_at_index(index)
            return True
        except Exception:  # of the package: it has classes of its own for what is not supported
            return False


def strides(shape: Sequence[int], last: bool = False) -> list[int]:
    """Of an array in C order, in elements; or with axis 1, the channels, behind all others.

    >>> strides((2, 3, 4, 5)), strides((2, 3, 4, 5), last=True)
    ([60, 20, 5, 1], [60, 1, 15, 3])
    """
    if last:
        items, *spatial, channels = strides((shape[0], *shape[2:], shape[1]))
        return [items, channels, *spatial]
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


class Plan:
    """The plan that was chosen for a convolution."""

    def __init__(self, operation: Operation, index: int, seconds: float = math.inf):
        self.operation = operation
        self.index = index
        self.seconds = seconds  # that it takes
        self.workspace = int(operation.graph.get_workspace_size_plan_at_index(index))

    @property
    def name(self) -> str:
        return str(self.operation.graph.get_plan_name_at_index(self.index))


class Cudnn:
    """cuDNN on a device.

    ``title``: what the GPU is; ``allocate(bytes)`` gives memory; ``time(run)`` seconds that a
    launch takes there; ``kept``: the file that remembers choices.
    """

    def __init__(
        self,
        cudnn: Any,
        title: str,
        allocate: Callable[[int], Any],
        time: Callable[[Callable[[], None]], float],
        kept: Path,
    ):
        self.cudnn = cudnn
        self.handle = cudnn.create_handle()
        self._stream: int | None = None
        self._where = f"cuDNN {cudnn.backend_version()}, {title}"
        self._allocate = allocate
        self._time = time
        self._kept = kept
        self._plans: dict[Any, Plan | None] = {}
        self._workspaces: list[Any] = []  # all that there were: records may use old ones

    def let_go(self) -> None:
        """Frees the workspaces. No record that was made before may be replayed then."""
        self._workspaces.clear()

    def on(self, stream: int) -> None:
        """Chooses the stream, by its address, on which it computes."""
        if stream != self._stream:
            self.cudnn.set_stream(handle=self.handle, stream=stream)
            self._stream = stream

    def run(self, way: str, g: Geometry, last: tuple[bool, bool], mode: str, **pointers: int) -> bool:
        """Computes it on arrays at these addresses, ``out`` among them; False where cuDNN has no plan for it."""
        plan = self.plan(way, g, last, mode, pointers)
        if plan is None:
            return False
        self._execute(plan, pointers)
        return True

    def plan(self, way: str, g: Geometry, last: tuple[bool, bool], mode: str, pointers: dict[str, int]) -> Plan | None:
        """The plan for it; None where there is none, or none that is worth it."""
        key = (way, g, last, mode)
        if key not in self._plans:
            found = self._choose(way, g, last, mode, pointers)
            if way in FUSED and found is not None:
                plain = self.plan("forward", g, last, mode, pointers)
                if plain is not None and found.seconds > FUSED[way] * plain.seconds:
                    found = None
            self._plans[key] = found
        return self._plans[key]

    def _execute(self, plan: Plan, pointers: dict[str, int]) -> None:
        tensors = plan.operation.tensors
        addresses = {tensors[name]: pointers[name] for name in tensors}
        plan.operation.graph.execute_plan_at_index(
            addresses, self._workspace(plan.workspace), plan.index, handle=self.handle
        )

    def _workspace(self, size: int) -> int:
        if not self._workspaces or self._workspaces[-1].nbytes < size:
            self._workspaces.append(self._allocate(max(size, 1)))
        return int(self._workspaces[-1].data.ptr)

    def _choose(
        self, way: str, g: Geometry, last: tuple[bool, bool], mode: str, pointers: dict[str, int]
    ) -> Plan | None:
        try:
            operation = Operation(self.cudnn, way, g, last, mode, handle=self.handle)
        except Exception as error:  # of the package
            log.info("cuDNN does not compute %s of %s: %s", way, g, error)
            return None
        lying = "".join(f", {name} with channels last" for name, lies in zip("xy", last, strict=True) if lies)
        where, name = self._where, f"{way}, {mode}, {g}{lying}"
        remembered = self._read().get(where, {}).get(name)
        if remembered is not None and operation.build(remembered["index"]):
            plan = Plan(operation, remembered["index"], remembered["seconds"])
            if plan.name == remembered["plan"]:
                return plan
        best: Plan | None = None
        kept = len(self._workspaces)
        for index in operation.plans():
            plan = Plan(operation, index)

            def once(plan: Plan = plan) -> None:
                self._execute(plan, pointers)

            try:
                plan.seconds = self._time(once)
            except RuntimeError as error:
                log.info("cuDNN: plan %s fails: %s", plan.name, error)
                continue
            except DeviceError as error:
                if not error.out_of_memory:
                    raise
                log.info("cuDNN: plan %s is left out: %s", plan.name, error)
                continue
            if best is None or plan.seconds < best.seconds:
                best = plan
        del self._workspaces[kept:]  # of plans that were tried: no record has them, and the best takes its own
        if best is not None:
            self._remember(where, name, {"index": best.index, "plan": best.name, "seconds": best.seconds})
        return best

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._kept.read_text(encoding="utf-8"))
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def _remember(self, where: str, name: str, choice: dict[str, Any]) -> None:
        all_ = self._read()
        all_.setdefault(where, {})[name] = choice
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic(self._kept) as target:
                target.write(json.dumps(all_, indent=1, sort_keys=True).encode())
        except (OSError, SnapshotError):
            pass  # it is timed again next time
