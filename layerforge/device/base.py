"""What a device can do. Layers and nets use nothing else of it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..errors import DeviceError, KernelError

#: The threads of a block: in x, in y and in z. What these mean to a reduction is said in csrc/portable.h.
Threads = tuple[int, int, int]


class Number:
    """A number in the device's memory: kernels that get it read it when they run, not when they are launched.

    So a recorded sequence of launches sees what `set` wrote since. It stands for its value wherever a number may.
    """

    def __init__(self, array: Any, write: Callable[[Any, np.ndarray], None]):
        self.array = array
        self.dtype = np.dtype(array.dtype)
        self._write = write
        self._host = np.zeros(1, self.dtype)

    @property
    def pointer(self) -> int:
        return int(self.array.data.ptr)

    def set(self, value: float) -> None:
        """Changes it for the launches that follow."""
        new = self.dtype.type(value)
        if self._host[0] != new:
            self._host[0] = new
            self._write(self.array, self._host)

    def __index__(self) -> int:
        if self.dtype.kind == "f":
            raise TypeError("a number of floating point is no integer")
        return int(self._host[0])

    def __float__(self) -> float:
        return float(self._host[0])

    def __repr__(self) -> str:
        return repr(self._host[0].item())


class Reading(ABC):
    """An array of a device that the host wants to know again and again, without keeping the device waiting."""

    array: Any

    @abstractmethod
    def start(self) -> None:
        """Copies it to the host, behind what was launched before. It may be recorded."""

    @abstractmethod
    def wait(self) -> np.ndarray:
        """Waits for the copy that was started last, and gives it. The next copy overwrites it."""


class Branch:
    """What was launched `Device.beside` other work."""

    def join(self) -> None:
        """Lets what follows wait for it."""


class Device(ABC):
    """A place for arrays, with the operations that are not kernels."""

    name: str

    #: Whether arrays lie in the host's memory: numpy reads and writes them as they are.
    is_host = False
    cache: int | None = None  # bytes of an array that it holds from one pass over them to the next; None: pay no heed

    #: Whether convolutions that may round to TF32 are quicker where blobs lie (N, spatial..., C).
    channels_last = False

    reserve = 0  # bytes that its libraries may want beside what nets take

    #: A kernel's `layerforge.launch.Form` for float32 and narrow indices, by the names of its header and its own, for
    #: what devices launch by themselves. `layerforge.kernels`, who knows them, puts it here.
    find_form: ClassVar[Callable[[str, str], Any]]

    @property
    def summary(self) -> str:
        """What it is, in a line."""
        return self.name

    @abstractmethod
    def zeros(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Any:
        """An array of zeros, aligned to cache lines; a large one lies on huge pages and all its pages are present."""

    def empty(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> Any:
        """An array with any content, aligned and present as that of `zeros`."""
        return self.zeros(shape, dtype)

    def free_memory(self) -> int:
        """Bytes that could be taken, once what nobody uses is given back; 0 where that is not known."""
        return 0

    def taken_memory(self) -> int:
        """Bytes that it has taken for arrays, those included that nobody uses; 0 where that is not known."""
        return 0

    def let_go(self) -> None:  # noqa: B027 (most keep nothing)
        """Lets go of memory that it keeps for convolutions. No record that was made before may be replayed then."""

    def versions(self) -> dict[str, str]:
        """The versions of the libraries by which it computes, by their names."""
        return {}

    @abstractmethod
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
        """out (M, N) = alpha * op(a) (M, K) @ op(b) (K, N) + beta * out, where op transposes if asked to.

        All three are 2-D, C-contiguous and of one type, float32 or float64; else KernelError. With beta = 0, ``out`` is
        not read. All threads take part; the same number of threads gives the same bits.
        """

    def gemm_batch(
        self,
        a: Any,
        b: Any,
        out: Any,
        shape: tuple[int, int, int],
        steps: Sequence[int],
        number: int,
        transpose_a: bool,
        transpose_b: bool,
    ) -> None:
        """``number`` products out = op(a) @ op(b) of (M, N, K) = ``shape``; out is overwritten.

        The matrices of the first begin where the arrays do; each next one is ``steps`` elements behind, in a, b and
        out. Nothing is checked. Only for devices other than the CPU.
        """
        raise KernelError(f"{self!r} has no products in batches")

    def math(self, mode: str) -> AbstractContextManager[None]:
        """For a while, how float32 is multiplied: "float32" or "tf32". The CPU knows one way."""
        return nullcontext()

    @abstractmethod
    def to_numpy(self, array: Any) -> np.ndarray:
        """The array's content on the host. On the CPU it is the array itself, elsewhere a copy."""

    @abstractmethod
    def from_numpy(self, out: Any, array: np.ndarray) -> None:
        """Copies a host array into ``out``, which has its shape; types are converted."""

    def pinned(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """An array of the host, with any content, from which `upload` copies without a detour."""
        return np.empty(shape, dtype)

    def upload(self, out: Any, array: np.ndarray, free: Any) -> Callable[[], None]:
        """Copies a `pinned` array into ``out`` beside whatever is computed; what is launched from now on waits for it.

        ``free`` is the `mark` behind the last use of ``out``. What is returned waits until the array may be written.
        """
        self.from_numpy(out, array)
        return lambda: None

    def mark(self) -> Any:
        """A moment between two launches, for `upload`."""
        return None

    @abstractmethod
    def synchronize(self) -> None:
        """Waits until everything that was started is done."""

    def moment(self) -> Any:
        """The moment when everything that was started so far is done, for `between`. On a GPU nobody waits for it."""
        self.synchronize()
        return time.perf_counter()

    def between(self, first: Any, second: Any) -> float:
        """Seconds between two moments; waits for the second."""
        return float(second - first)

    def reading(self, array: Any) -> Reading:
        """What copies this array to the host when it is asked to. Only for devices other than the CPU."""
        raise DeviceError(f"{self!r} has its arrays on the host")

    def beside(self) -> AbstractContextManager[Branch]:
        """For a while, launches and copies run beside those that follow it, until these `Branch.join` them.

        Neither may write what the others read or write. No products and convolutions: they all have one workspace.
        """
        return nullcontext(Branch())

    #: Whether launches can be recorded, and the record replayed. Else everything runs when it is called.
    records = False

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What ``work`` launches, to be run again and again by calling what this returns. Nothing runs meanwhile.

        Every launch has the arguments that it had; a `Number` is read anew. Whatever needs the host or new memory
        raises DeviceError, and what ``work`` raises ends the record.
        """
        raise DeviceError(f"{self!r} records no launches")

    def use(self) -> None:  # noqa: B027 (a device of which there is one has nothing to do)
        """Makes it the one on which this thread computes from now on."""

    def constant(self, values: np.ndarray) -> Any:
        """An array of the device with these values, made once. Nobody may write to it."""
        if self.is_host:
            return values
        kept: dict[Any, Any] = self.__dict__.setdefault("_constants", {})
        key = (values.dtype.str, values.shape, values.tobytes())
        if key not in kept:
            kept[key] = self.empty(values.shape, values.dtype)
            self.from_numpy(kept[key], values)
        return kept[key]

    def number(self, dtype: Any) -> Any:
        """A `Number` of that type, 0 at first; None where launches cannot be recorded, and numbers may be plain."""
        return None

    def sending(self) -> AbstractContextManager[None]:
        """For a while, a `Number` that is set waits for the others, and they go to the device together."""
        return nullcontext()

    def grid(self, count: int) -> tuple[int, Threads]:
        """How many blocks of how many threads a kernel over ``count`` elements gets."""
        raise KernelError(f"{self!r} launches no grids")

    def grid_of_teams(self, count: int, terms: int, side: int) -> tuple[int, Threads]:
        """The same for a reduction over ``count`` rows of so many terms, of which ``side`` rows lie side by side."""
        raise KernelError(f"{self!r} launches no grids")

    def launch(self, form: Any, blocks: int, threads: Threads, arguments: int) -> None:
        """Runs a kernel, a `layerforge.launch.Form`, over a grid; ``arguments``: where those lie, as CUDA wants."""
        raise KernelError(f"{self!r} launches no grids")

    def __repr__(self) -> str:
        return f'Device("{self.name}")'


def refuse_while_recording(what: str) -> NoReturn:
    """Says that the host, or memory that is taken now, can have no part in what is replayed later."""
    raise DeviceError(f"{what}: not while launches are recorded, because a replay of them does not come here")


#: The arrays of devices that are not the host: type -> the device of such an array.
homes: dict[type, Callable[[Any], Device]] = {}


def check_gemm(
    is_matrix: Callable[[Any], bool], describe: Callable[[Any], str], a: Any, b: Any, out: Any, ta: bool, tb: bool
) -> None:
    """Raises KernelError unless three matrices fit each other as `Device.gemm` says."""
    for name, matrix in (("a", a), ("b", b), ("out", out)):
        if not is_matrix(matrix) or matrix.ndim != 2 or not matrix.flags.c_contiguous:
            raise KernelError(f"gemm: argument {name}: expected a C-contiguous matrix, received {describe(matrix)}")
    if out.dtype not in (np.float32, np.float64) or not getattr(out.flags, "writeable", True):
        raise KernelError(
            f"gemm: argument out: expected a writable float32 or float64 matrix, received {describe(out)}"
        )
    for name, matrix in (("a", a), ("b", b)):
        if matrix.dtype != out.dtype:
            raise KernelError(f"gemm: argument {name}: expected {out.dtype} as out has, received {describe(matrix)}")
    rows, inner = a.shape[::-1] if ta else a.shape
    inner_b, columns = b.shape[::-1] if tb else b.shape
    if inner != inner_b or out.shape != (rows, columns):
        raise KernelError(
            f"gemm: op(a) is ({rows}, {inner}) and op(b) is ({inner_b}, {columns}); "
            f"out must be ({rows}, {columns}) and the inner sizes equal, but out is {out.shape}"
        )
