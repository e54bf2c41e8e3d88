"""An NVIDIA GPU: CuPy's arrays and streams, our own kernels and products. The only file that imports CuPy.

CuPy allocates, copies, and does what layers do with whole arrays (``y[...] = x``). Kernels are compiled by NVRTC, one
module for each header, type and width of index, when the first of them is launched, and kept on the disk; matrix
products go to cuBLAS directly (see `layerforge.device.cublas`). Everything runs on one stream of the device's own. A
record is made on another, so that other threads go on computing meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import hashlib
import math
import os
import struct
import sys
import threading
import weakref
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import DeviceError, SnapshotError
from . import cudnn, libraries, nvrtc
from .base import Branch, Device, Number, Reading, Threads, check_gemm, homes, refuse_while_recording
from .cublas import WORKSPACE, Cublas
from .libraries import load

THREADS = 256  # in a block; csrc/grid.h promises the compiler no more, csrc/portable.h counts on it for teams
WARP = 32  # threads of a small team, of which a block has several
BRANCHES = 2  # of a thread's work, at once
SECTOR = 8  # numbers of float32 that lie in the least piece of memory that is read
WAVES = 8  # blocks for each of the GPU's places for them, at most: then threads take several elements
OPTIONS = ("--extra-device-vectorization",)
LEAST_ARCHITECTURE = 75
TF32 = 80  # the first architecture whose tensor cores take it
EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL
NO_DRIVER = (
    'device "gpu": this machine has no NVIDIA driver (libcuda.so.1 is not there); install one, or use device "cpu"'
)


def libcuda() -> ctypes.CDLL:
    """NVIDIA's driver. DeviceError without one."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise DeviceError(NO_DRIVER) from None


def driver_version() -> tuple[int, int]:
    """The newest CUDA that the driver can run. DeviceError without a driver."""
    version = ctypes.c_int()
    libcuda().cuDriverGetVersion(ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def load_cupy(driver: tuple[int, int]) -> Any:
    """CuPy, if it is there and fits the driver; else DeviceError."""
    wanted = f"pip install 'layerforge[cuda{13 if driver[0] >= 13 else 12}x]'"
    try:
        import cupy
    except ImportError as error:
        if error.name == "cupy":
            raise DeviceError(f'device "gpu": the package CuPy is missing; install it with `{wanted}`') from None
        raise DeviceError(
            f'device "gpu": CuPy cannot be loaded ({error}). The driver is for CUDA {driver[0]}.{driver[1]}; install'
            f" what fits it with `{wanted}`"
        ) from error
    runtime = cupy.cuda.runtime.runtimeGetVersion()
    if runtime // 1000 > driver[0]:
        raise DeviceError(
            f'device "gpu": the driver is too old: it is for CUDA {driver[0]}.{driver[1]}, and CuPy for'
            f" {runtime // 1000}.{runtime % 1000 // 10}. Update the driver, or install what fits it with `{wanted}`"
        )
    return cupy


GPUS: dict[int, Cuda] = {}  # those that were asked for, by number
MAKING = threading.Lock()  # held while one is made, so that two threads get the same
RECORDING = threading.RLock()  # held while a record is made


def get(number: int) -> Cuda:
    """The GPU of that number. DeviceError, which says what is missing: the driver, CuPy, or that GPU."""
    with MAKING:
        if number not in GPUS:
            GPUS[number] = make(number)
        return GPUS[number]


def make(number: int) -> Cuda:
    """What `get` does for a GPU that nobody asked for before."""
    driver = driver_version()
    libraries.driver = driver[0]
    nvrtc.library.cache_clear()  # it may be one that does not fit
    cupy = load_cupy(driver)
    runtime = cupy.cuda.runtime
    try:
        there = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceError(f'device "gpu": the driver finds no GPU ({error})') from error
    if number >= there:
        known = ("there is no GPU", "there is one GPU, number 0", f"there are {there} GPUs, 0 to {there - 1}")
        raise DeviceError(f'device "gpu:{number}": {known[min(there, 2)]}')
    return Cuda(cupy, number)


class Local(threading.local):
    """What each thread has of its own."""

    recording: Any = None  # the stream on which it makes a record
    branches: Any = ()  # beside that stream, or the device's own
    numbers: list[tuple[Any, Any]] | None = None  # those that wait for others
    beside: Any = None  # the one to which its work goes


class Cuda(Device):
    """One GPU."""

    records = True

    def __init__(self, cupy: Any, number: int):
        self.cupy = cupy
        self.ordinal = number
        self.name = f"gpu:{number}" if number else "gpu"
        self._device = cupy.cuda.Device(number)
        self.architecture = int(self._device.compute_capability)
        if self.architecture < LEAST_ARCHITECTURE:
            raise DeviceError(
                f'device "{self.name}": a GPU of architecture sm_{LEAST_ARCHITECTURE} (Turing) or later is needed, this'
                f" one is sm_{self.architecture}"
            )
        with self._device:
            self.stream = cupy.cuda.Stream(non_blocking=True)
            self.copies = cupy.cuda.Stream(non_blocking=True)
            self._staging = [Staging(cupy) for _ in range(4)]
            self._numbers = Numbers(self)
        attributes = self._device.attributes
        self._places = attributes["MultiProcessorCount"] * (attributes["MaxThreadsPerMultiProcessor"] // THREADS)
        self._turn = 0
        self._sent: deque[np.ndarray] = deque(maxlen=8)  # pinned memory that copies may still be reading
        self._local = Local()
        self._staged = threading.Lock()
        self._products = threading.RLock()  # held while a library's one handle is on the stream of a thread
        self._functions: dict[str, int] = {}
        self._modules: list[Any] = []
        homes[cupy.ndarray] = lambda array: GPUS.get(array.device.id) or get(array.device.id)
        self.use()

    def use(self) -> None:
        """Makes CuPy work on this device and its stream from now on, in this thread."""
        self._device.use()
        self.current.use()

    @property
    def current(self) -> Any:
        """The stream to which this thread's work goes."""
        local = self._local
        return local.beside.stream if local.beside else local.recording or self.stream

    @property
    def reserve(self) -> int:  # type: ignore[override]
        return WORKSPACE + (cudnn.WORKSPACE if cudnn.available() else 0)

    @property
    def channels_last(self) -> bool:  # type: ignore[override]
        return self.architecture >= TF32 and cudnn.available()

    @property
    def title(self) -> str:
        """What it is: ``NVIDIA H200``."""
        return self.cupy.cuda.runtime.getDeviceProperties(self.ordinal)["name"].decode()

    @property
    def summary(self) -> str:
        """``NVIDIA H200, sm_90, 132 multiprocessors, 140.4 GiB``."""
        facts = self.cupy.cuda.runtime.getDeviceProperties(self.ordinal)
        number, size = facts["multiProcessorCount"], facts["totalGlobalMem"] / 2**30
        return f"{self.title}, sm_{self.architecture}, {number} multiprocessors, {size:.1f} GiB"

    def versions(self) -> dict[str, str]:
        runtime = self.cupy.cuda.runtime.runtimeGetVersion()
        found = {
            "CUDA of the driver": ".".join(map(str, driver_version())),
            "CUDA runtime": f"{runtime // 1000}.{runtime % 1000 // 10}",
            "CuPy": self.cupy.__version__,
            "NVRTC": ".".join(map(str, nvrtc.version())),
            "cuBLAS": self.cublas.version,
        }
        if cudnn.available():
            found |= cudnn.versions()
        return found

    # Memory.

    def zeros(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Any:
        return self._allocate(self.cupy.zeros, shape, dtype)

    def empty(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Any:
        return self._allocate(self.cupy.empty, shape, dtype)

    def _allocate(self, make: Any, shape: Sequence[int] | int, dtype: Any) -> Any:
        self._refuse("new memory")
        self.use()
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = np.dtype(dtype)
        try:
            return make(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            free, total = self.cupy.cuda.runtime.memGetInfo()
            failure = DeviceError(
                f"not enough memory on {self.name} for {math.prod(shape) * dtype.itemsize / 2**20:,.0f} MiB: an array"
                f" {shape} of {dtype}; {free / 2**20:,.0f} of its {total / 2**20:,.0f} MiB are free. Lower batch_size"
            )
            failure.out_of_memory = True
            raise failure from error

    def free_memory(self) -> int:
        self.cupy.get_default_memory_pool().free_all_blocks()
        return int(self.cupy.cuda.runtime.memGetInfo()[0])

    def taken_memory(self) -> int:
        return int(self.cupy.get_default_memory_pool().total_bytes())

    def let_go(self) -> None:
        self.synchronize()
        if "cudnn" in self.__dict__:
            self.cudnn.let_go()

    def to_numpy(self, array: Any) -> np.ndarray:
        self._refuse("to_numpy")
        self.use()
        return array.get(stream=self.stream)

    def reading(self, array: Any) -> Copy:
        self._refuse("memory for a copy")
        self.use()
        return Copy(self, array)

    def from_numpy(self, out: Any, array: np.ndarray) -> None:
        self._refuse("from_numpy")
        if out.shape != np.shape(array):
            raise DeviceError(f"from_numpy: an array {np.shape(array)} does not fit one of shape {out.shape}")
        if not out.size:
            return
        self.use()
        with self._staged:
            staging = self._staging[self._turn]
            self._turn = (self._turn + 1) % len(self._staging)
            staging.send(array, out, self.stream)

    def pinned(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        self.use()
        size, dtype = math.prod(shape), np.dtype(dtype)
        memory = self.cupy.cuda.alloc_pinned_memory(max(1, size * dtype.itemsize))
        return np.frombuffer(memory, dtype, size).reshape(shape)

    def upload(self, out: Any, array: np.ndarray, free: Any) -> Callable[[], None]:
        self._refuse("upload")
        self.use()
        runtime = self.cupy.cuda.runtime
        self.copies.wait_event(free)
        runtime.memcpyAsync(
            out.data.ptr, array.ctypes.data, array.nbytes, runtime.memcpyHostToDevice, self.copies.ptr
        )  # fmt: skip
        copied = self.cupy.cuda.Event(disable_timing=True)
        copied.record(self.copies)
        self.stream.wait_event(copied)
        self._sent.append(array)
        return copied.synchronize

    def mark(self) -> Any:
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(self.stream)
        return event

    def record_event(self, event: Any) -> None:
        """Lets an event say when the stream has come here; while a record is made, in each of its replays."""
        if not self._local.recording:
            event.record(self.current)
            return
        # CuPy has no such call. The flag means that the host may wait for it, and is not allowed elsewhere.
        error = libcuda().cuEventRecordWithFlags(
            ctypes.c_void_p(event.ptr), ctypes.c_void_p(self.current.ptr), EXTERNAL
        )  # fmt: skip
        if error:
            raise DeviceError(f"the driver records no event that the host can wait for (error {error})")

    def synchronize(self) -> None:
        self._refuse("synchronize")
        self._join_all()
        self.stream.synchronize()

    def moment(self) -> Any:
        self._refuse("timing")
        event = self.cupy.cuda.Event()
        event.record(self.stream)
        return event

    def between(self, first: Any, second: Any) -> float:
        second.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(first, second)) / 1e3

    # Branches and records.

    @contextlib.contextmanager
    def beside(self) -> Iterator[Branch]:
        local = self._local
        if not local.branches:
            local.branches = self._new_branches()
        free = next((branch for branch in local.branches if not branch.busy), None)
        if free is None:  # then in its order
            yield Branch()
            return
        free.begin(self.current)
        local.beside = free
        self.use()
        try:
            yield free
        finally:
            local.beside = None
            free.end()
            self.use()

    def _new_branches(self) -> list[Fork]:
        return [Fork(self) for _ in range(BRANCHES)]

    def _join_all(self) -> None:
        for branch in self._local.branches:
            branch.join()

    def _refuse(self, what: str) -> None:
        """Raises DeviceError while a record is made, before CUDA would and would end the record."""
        if self._local.recording:
            refuse_while_recording(what)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self._refuse("another record")
        self.use()
        cuda = self.cupy.cuda

        def allocate(size: int) -> Any:
            refuse_while_recording("new memory")  # a replay would write to it when it is somebody else's

        self._join_all()
        local, stream, outside = self._local, cuda.Stream(non_blocking=True), self._local.branches
        branches = self._new_branches()
        with RECORDING, garbage_kept():
            # Only this thread is held to CUDA's rules for records: the others go on.
            stream.begin_capture(cuda.runtime.streamCaptureModeThreadLocal)
            local.recording, local.branches = stream, branches
            self.use()
            try:
                with cuda.using_allocator(allocate):
                    work()
                    self._join_all()
            except BaseException:
                with contextlib.suppress(cuda.runtime.CUDARuntimeError):
                    stream.end_capture()  # which fails where the record is broken already
                raise
            finally:
                local.recording, local.branches = None, outside
                self.use()
            graph = stream.end_capture()
        graph.upload(self.stream)

        def replay() -> None:
            self._join_all()
            graph.launch(self.stream)

        return replay

    def number(self, dtype: Any) -> Number:
        return Number(self.zeros(1, dtype), self._write)

    def _write(self, array: Any, value: np.ndarray) -> None:
        """Writes a number to the device's memory."""
        self._refuse("a new number")
        number = (array, value[0])
        if self._local.numbers is None:
            self._send([number])
        else:
            self._local.numbers.append(number)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        numbers: list[tuple[Any, Any]] = []
        self._local.numbers = numbers
        try:
            yield
        finally:
            self._local.numbers = None
            self._send(numbers)

    def _send(self, numbers: list[tuple[Any, Any]]) -> None:
        with self._staged:
            self._numbers.send(numbers)

    # Products.

    @functools.cached_property
    def cublas(self) -> Cublas:
        try:
            load("cublasLt")  # which cuBLAS would not find beside it
            library = load("cublas")
        except OSError as error:
            raise DeviceError(
                f'device "{self.name}": matrix products need cuBLAS ({error}); install it with'
                " `pip install nvidia-cublas`, or `pip install nvidia-cublas-cu12` for a driver of CUDA 12"
            ) from None
        self.use()
        self._workspace = self.empty(WORKSPACE, np.uint8)
        return Cublas(library, self._workspace.data.ptr)

    def gemm(
        self,
        a: Any,
        b: Any,
        out: Any,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        check_gemm(lambda value: isinstance(value, self.cupy.ndarray), _describe, a, b, out, transpose_a, transpose_b)
        with self._products:
            self.cublas.on(self.current.ptr)
            self.cublas.gemm(a, b, out, transpose_a, transpose_b, alpha, beta)

    def math(self, mode: str) -> AbstractContextManager[None]:
        return self.cublas.math(mode)

    def gemm_batch(self, *arguments: Any) -> None:
        with self._products:
            self.cublas.on(self.current.ptr)
            self.cublas.gemm_batch(*arguments)

    # Convolutions.

    @functools.cached_property
    def cudnn(self) -> cudnn.Cudnn:
        """cuDNN on this GPU; `layerforge.device.cudnn.available` says whether there is one."""
        self.use()
        return cudnn.Cudnn(
            cudnn.module(), self.title, lambda size: self.empty(size, np.uint8), self._seconds,
            cache_folder().parent / "cudnn.json",
        )  # fmt: skip

    def convolve(self, way: str, geometry: Any, last: tuple[bool, bool], **pointers: int) -> bool:
        """Lets cuDNN compute a convolution on arrays at these addresses; False where it has no plan for it. ``last``:
        whether x, and whether y, has its channels last."""
        self.use()
        with self._products:
            self.cudnn.on(self.current.ptr)
            return self.cudnn.run(way, geometry, last, self.cublas.mode, **pointers)

    def _seconds(self, run: Callable[[], None]) -> float:
        """How long it takes, the best of some."""
        self._refuse("timing")
        run()  # warms up
        found = []
        for _ in range(3):
            begin = self.moment()
            run()
            found.append(self.between(begin, self.moment()))
        return min(found)

    # Kernels.

    def grid(self, count: int) -> tuple[int, Threads]:
        return min(self._places * WAVES, -(-count // THREADS)), (THREADS, 1, 1)

    def grid_of_teams(self, count: int, terms: int, side: int) -> tuple[int, Threads]:
        """Warps where threads have few terms, or teams are so many that warps fill the GPU: they wait for nobody.

        A team has up to 32 rows that lie side by side, or 8, which it reads in whole sectors too, where rows are few.
        """
        rows = math.gcd(side, count, WARP)
        if rows > SECTOR and count < rows * self._places:
            rows = SECTOR
        each, teams = terms * rows // WARP, count // rows
        warps = each <= 4 or (each <= 64 and teams >= 2 * self._places)
        team = WARP if warps else THREADS
        return min(self._places * WAVES, -(-teams * team // THREADS)), (rows, team // rows, THREADS // team)

    def launch(self, form: Any, blocks: int, threads: Threads, arguments: int) -> None:
        function = self._functions.get(form.key)
        if function is None:
            function = self._build(form)
        self.cupy.cuda.driver.launchKernel(
            function, blocks, 1, 1, *threads, 0, self.current.ptr, arguments, 0
        )  # fmt: skip

    def _build(self, form: Any) -> int:
        """Loads a kernel, and all others of its header."""
        self.use()
        program = compiled(form, best_architecture(self.architecture, nvrtc.architectures()))
        module = self.cupy.cuda.function.Module()
        module.load(program.cubin)
        self._modules.append(module)
        for key, name in form.siblings().items():
            self._functions[key] = module.get_function(program.names[name]).ptr
        return self._functions[form.key]


class Fork(Branch):
    """A stream for work beside another's, which begins at a moment of that one, and for which that one waits later."""

    def __init__(self, gpu: Cuda):
        cuda = gpu.cupy.cuda
        self.gpu = weakref.proxy(gpu)
        self.stream = cuda.Stream(non_blocking=True)
        self.begun, self.ended = (cuda.Event(disable_timing=True) for _ in range(2))
        self.busy = False

    def begin(self, stream: Any) -> None:
        self.begun.record(stream)
        self.stream.wait_event(self.begun)

    def end(self) -> None:
        self.ended.record(self.stream)
        self.busy = True

    def join(self) -> None:
        if self.busy:
            self.gpu.current.wait_event(self.ended)
            self.busy = False


class Copy(Reading):
    """An array's copy in pinned memory. In a record, an event of its own says when it is there, while the rest runs."""

    def __init__(self, gpu: Cuda, array: Any):
        self.gpu = gpu
        self.array = array
        self.memory = gpu.cupy.cuda.alloc_pinned_memory(array.nbytes)
        self.values = np.frombuffer(self.memory, array.dtype, array.size).reshape(array.shape)
        self.event = gpu.cupy.cuda.Event(disable_timing=True)

    def start(self) -> None:
        gpu, runtime = self.gpu, self.gpu.cupy.cuda.runtime
        runtime.memcpyAsync(
            self.memory.ptr, self.array.data.ptr, self.array.nbytes, runtime.memcpyDeviceToHost, gpu.current.ptr
        )  # fmt: skip
        gpu.record_event(self.event)

    def wait(self) -> np.ndarray:
        self.event.synchronize()
        return self.values

    def __del__(self) -> None:
        """The memory goes to somebody else, who must not find this copy in it."""
        if hasattr(self, "event") and not sys.is_finalizing():
            self.event.synchronize()


class Numbers:
    """Sends numbers to the device as arguments of a kernel: no copy has to be waited for."""

    TYPES = ("u8", "f8", "f4", "f4")  # that go together
    LAYOUT = struct.Struct("=i12x" + "Q8x" * 4 + "Q8xd8xf12xf12x")  # of the arguments of set_numbers, see `launch.SLOT`

    def __init__(self, gpu: Cuda):
        self.gpu = weakref.proxy(gpu)
        self.memory = ctypes.create_string_buffer(self.LAYOUT.size)
        base = ctypes.addressof(self.memory)
        self.arguments = (ctypes.c_void_p * 9)(*range(base, base + self.LAYOUT.size, self.LAYOUT.size // 9))

    def send(self, numbers: list[tuple[Any, Any]]) -> None:
        """Of each, an array of one and what it becomes."""
        while numbers:
            places, values = [0] * 4, [0] * 4
            for n, kind in enumerate(self.TYPES):
                found = next((k for k, (array, _) in enumerate(numbers) if array.dtype == kind), None)
                if found is not None:
                    array, values[n] = numbers.pop(found)
                    places[n] = array.data.ptr
            self.LAYOUT.pack_into(self.memory, 0, 1, *places, *values)
            form = self.gpu.find_form("results.h", "set_numbers")
            self.gpu.launch(form, *self.gpu.grid(1), ctypes.addressof(self.arguments))


class Staging:
    """A piece of pinned memory, through which a copy to the device goes without anybody waiting for it."""

    def __init__(self, cupy: Any):
        self.cupy = cupy
        self.event = cupy.cuda.Event(disable_timing=True)
        self.memory: Any = None
        self.size = 0

    def send(self, array: np.ndarray, out: Any, stream: Any) -> None:
        """Starts a copy into ``out``, in its type. What the last copy from here reads stays until it is done."""
        self.event.synchronize()
        if self.size < out.nbytes:
            self.memory = self.cupy.cuda.alloc_pinned_memory(out.nbytes)
            self.size = out.nbytes
        staged = np.frombuffer(self.memory, out.dtype, out.size).reshape(out.shape)
        staged[...] = array
        if out.flags.c_contiguous:
            out.set(staged, stream=stream)
        else:
            out[...] = self.cupy.asarray(staged)
        self.event.record(stream)


@contextlib.contextmanager
def garbage_kept() -> Iterator[None]:
    """No garbage is collected meanwhile: an old record that ends while a new one is made would break it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def best_architecture(wanted: int, known: Sequence[int]) -> int:
    """The architecture to compile for: the GPU's own, or the latest before it of its generation, which it runs too."""
    fit = [each for each in known if each // 10 == wanted // 10 and each <= wanted]
    if not fit:
        version, all_ = ".".join(map(str, nvrtc.version())), ", ".join(f"sm_{each}" for each in known)
        raise DeviceError(
            f"the GPU is of architecture sm_{wanted}, for which the compiler NVRTC {version} makes no code; it knows"
            f" {all_}. Install another nvidia-cuda-nvrtc"
        )
    return max(fit)


def compiled(form: Any, architecture: int) -> nvrtc.Program:
    """The kernels of a header, from the disk if they were compiled before."""
    headers = sorted([*form.include.glob("*.h"), form.include / "kernels" / f"{form.family}.h"])
    names = list(form.siblings().values())
    parts = [form.source, *names, f"sm_{architecture}", str(nvrtc.version()), *OPTIONS]
    parts += [path.read_text(encoding="utf-8") for path in headers]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = cache_folder() / f"{form.family}_sm{architecture}_{key}.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as kept:
            return nvrtc.Program(kept["cubin"].tobytes(), dict(kept["names"].tolist()), "")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there, or damaged
    program = nvrtc.compile(
        form.source, names, architecture, include=[form.include], options=OPTIONS, title=f"{form.family}.h"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as target:
            np.savez(
                target, cubin=np.frombuffer(program.cubin, np.uint8), names=np.array(list(program.names.items()))
            )  # fmt: skip
    except (OSError, SnapshotError):
        pass  # it is compiled again next time
    return program


def cache_folder() -> Path:
    """Where compiled kernels are kept: under LAYERFORGE_CACHE, or ~/.cache/layerforge."""
    return Path(os.environ.get("LAYERFORGE_CACHE") or "~/.cache/layerforge").expanduser() / "kernels"


def _describe(value: Any) -> str:
    if not hasattr(value, "flags"):
        return type(value).__name__
    layout = "" if value.flags.c_contiguous else ", not C-contiguous,"
    return f"{value.dtype} array{layout} of shape {value.shape}"
