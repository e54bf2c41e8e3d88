"""Kernels: C++ functions of an index, launched on whole arrays.

>>> K = Kernels("activation.h")
>>> x, y = np.array([-1, 2], np.float32), np.empty(2, np.float32)
>>> K.relu_forward(x, y, 0.5)
>>> y
array([-0.5,  2. ], dtype=float32)

A kernel's source is a header of ``csrc/kernels``; the build compiles all of them for float32 and float64 and for 32-bit
and 64-bit indices. This is the one place where it is decided what runs: on arrays of another device, its launch of the
kernel; on the CPU's, the hand-tuned version where there is one, and the portable loop otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import launch
from .device.base import Device, homes
from .errors import KernelError, did_you_mean
from .native import _csrc

__all__ = ["Kernels", "get_threads", "include_path", "set_threads"]


class Kernels:
    """The kernels of one header: ``Kernels("pooling.h").max_forward(x, y, mask, ...)``.

    A call takes the kernel's parameters in their order, without the index. Arrays must be C-contiguous and of exactly
    the kernel's type: T is float32 or float64, the same for all; None stands for a null pointer. The kernel runs once
    for each element of the first array that it writes, or ``count=`` times. Whatever does not fit raises KernelError.

    ``portable`` holds the same kernels without their hand-tuned versions; ``wide`` takes 64-bit indices whatever the
    sizes are.
    """

    def __init__(self, header: str, *, tuned: bool = True, wide: bool = False):
        family = header.removesuffix(".h")
        if family not in _csrc.kernels:
            known = [f"{name}.h" for name in _csrc.kernels]
            raise KernelError(f'no kernel header "{header}" was built in.{did_you_mean(header, known)}')
        self.header = f"{family}.h"
        self._family = family
        self._variant = (not tuned) + 2 * wide

    @functools.cached_property
    def portable(self) -> Kernels:
        """The same kernels, never their hand-tuned CPU versions: what tests compare those with."""
        return Kernels(self.header, tuned=False)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        known: dict[str, Any] = _csrc.kernels[self._family]
        if name not in known:
            raise KernelError(f'{self.header} has no kernel "{name}".{did_you_mean(name, known)}')
        handle = known[name][0] + self._variant
        kernel: Callable[..., None] = functools.partial(_csrc.launch, handle)
        self.__dict__[name] = kernel  # found without __getattr__ from now on
        return kernel

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *_csrc.kernels[self._family]]

    def tuned(self) -> list[str]:
        """The names of the kernels that have a hand-tuned CPU version."""
        return [name for name, (_, _, tuned) in _csrc.kernels[self._family].items() if tuned]


def set_threads(count: int) -> None:
    """Sets how many threads everything uses: kernels, matrix products, oneDNN, and each data layer for its images.

    At first: OMP_NUM_THREADS, or the cores that this process may use. Nets that are there already follow when they next
    run, loaders do not.
    """
    if count < 1:
        raise KernelError(f"the number of threads must be 1 or more, not {count}")
    _csrc.set_threads(count)


def get_threads() -> int:
    """How many threads are used."""
    return int(_csrc.get_threads())


def include_path() -> Path:
    """The folder that holds ``portable.h`` and ``kernels/``: inside the package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent
    installed = package / "csrc"
    return installed if installed.is_dir() else package.parent / "csrc"


def element_type(dtype: Any) -> np.dtype:
    """float32 or float64 as a dtype; KernelError for any other."""
    found = np.dtype(dtype)
    if found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise KernelError(f"numbers are float32 or float64, not {found}")
    return found


def _names() -> dict[int, tuple[str, str]]:
    """Handle -> header and kernel."""
    return {entry[0]: (family, name) for family, all_ in _csrc.kernels.items() for name, entry in all_.items()}


def _find_form(header: str, name: str) -> launch.Form:
    return launch.header(include_path() / "kernels" / header).launchers[name].forms["float", False, False]


Device.find_form = staticmethod(_find_form)
_csrc.set_elsewhere(homes, launch.elsewhere(_names(), include_path()), launch.describe)
