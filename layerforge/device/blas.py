"""Finds OpenBLAS, in the wheel scipy-openblas32, and hands its matrix products to the compiled part.

Loaded when a matrix product is first asked for, so that starting up does not pay for it.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

from ..errors import DeviceError
from ..native import _csrc

PACKAGE = "scipy_openblas32"


def find() -> Path:
    """The library's path; DeviceError when the package is missing."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in sorted((Path(folder) / "lib").glob("*scipy_openblas*")):
            if path.suffix in (".so", ".dylib", ".dll"):
                return path
    raise DeviceError(
        "matrix products need OpenBLAS from the package scipy-openblas32, which is not installed; "
        "install it with `pip install scipy-openblas32`"
    )


def load() -> None:
    """Loads the library and sets it to one thread: our own threads call it, each with its share of the work."""
    path = find()
    try:
        library = ctypes.CDLL(str(path))
        routines = [library[f"scipy_cblas_{name}"] for name in ("sgemm", "dgemm", "sgemv", "dgemv")]
        library.scipy_openblas_set_num_threads(1)
    except (OSError, AttributeError) as error:
        raise DeviceError(
            f"OpenBLAS cannot be used: {error}; reinstall it with `pip install --force-reinstall scipy-openblas32`"
        ) from error
    _csrc.set_blas(*(ctypes.cast(routine, ctypes.c_void_p).value for routine in routines))
