"""oneDNN, the engine for x86-64: convolutions compiled for one geometry on one processor, when the net is made.

The library comes with the wheel onednn-cpu-gomp and is opened by its path when a convolution first asks for it; without
it, and in a build without its headers, there is no such engine and im2col computes everything. It shares the OpenMP
threads of our own kernels. float32, one to three spatial axes.

What is in here says which geometries it takes. The figures are in docs/decisions/007-onednn.md.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np

from .. import _csrc
from .geometry import Geometry, check_arrays
from .im2col import Im2col

log = logging.getLogger("layerforge.engines")

PACKAGE = "onednn-cpu-gomp"
LIBRARY = "libdnnl.so.3"
FORWARD, DATA, WEIGHTS = range(3)


def find() -> Path | None:
    """The library's path; None where its wheel is not installed."""
    import importlib.metadata

    try:
        files = importlib.metadata.distribution(PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == LIBRARY)
    return next((path.resolve() for path in paths if path.exists()), None)


@functools.cache
def available() -> bool:
    """Whether oneDNN can be used: it was compiled in, and the library is there and opens."""
    if not hasattr(_csrc, "onednn_load"):
        return False
    path = find()
    if path is None:
        log.info("oneDNN is not installed (`pip install %s`): convolutions are computed by im2col", PACKAGE)
        return False
    try:
        _csrc.onednn_load(str(path))
    except RuntimeError as error:
        log.warning("oneDNN cannot be used: %s; convolutions are computed by im2col", error)
        return False
    return True


class OneDnn:
    """Convolution on the CPU by oneDNN. The same threads give the same bits."""

    name = "MKLDNN"

    def __init__(self) -> None:
        self._columns = Im2col()

    def supports(self, geometry: Geometry, dtype: Any) -> bool:
        """Whether this engine computes that geometry, and not slower than im2col does."""
        return (
            dtype == np.float32 and available() and is_faster(geometry) and _is_compiled(geometry, _csrc.get_threads())
        )

    def scratch(self, geometry: Geometry) -> int:
        """Elements of scratch memory for any of the three functions, with the present number of threads."""
        own = _made(geometry, True, _csrc.get_threads()).scratch
        return own if _has_data(geometry) else max(own, self._columns.scratch(geometry))

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        """y = w * x + b; ``b`` may be None."""
        self._check(geometry, scratch, x=x, w=w, b=b, y=y)
        _made(geometry, b is not None, _csrc.get_threads()).run(FORWARD, x, w, b, y, scratch)

    def backward_data(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, scratch: np.ndarray
    ) -> None:
        """dx = the gradient of the input, overwritten."""
        if not _has_data(geometry):
            self._columns.backward_data(dy, w, dx, geometry, scratch)
            return
        self._check(geometry, scratch, dy=dy, w=w, dx=dx)
        _made(geometry, True, _csrc.get_threads()).run(DATA, dy, w, dx, None, scratch)

    def backward_weights(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray | None,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        """dw += the gradient of the weights, db += that of the bias; ``db`` may be None."""
        self._check(geometry, scratch, x=x, dy=dy, dw=dw, db=db)
        _made(geometry, db is not None, _csrc.get_threads()).run(WEIGHTS, x, dy, dw, db, scratch)

    def _check(self, geometry: Geometry, scratch: np.ndarray, **arrays: np.ndarray | None) -> None:
        check_arrays(geometry, self.scratch(geometry), scratch, (np.float32,), **arrays)


def is_faster(g: Geometry) -> bool:
    """Whether oneDNN is faster with plain arrays, which it reorders: not for 1x1 kernels, whose columns are the image.

    Its kernels compute 8 or 16 channels at a time; first layers, of up to 4 channels, have kernels of their own.
    """
    if not 1 <= len(g.spatial) <= 3 or g.batch == 0 or max(g.kernel) == 1:
        return False
    if g.channels == g.group == g.num_output:
        return g.channels % 8 == 0
    inputs, outputs = g.channels // g.group, g.num_output // g.group
    return outputs % 8 == 0 and (inputs % 8 == 0 or (g.group == 1 and inputs <= 4))


def _has_data(g: Geometry) -> bool:
    """Whether oneDNN also computes the gradient of the input, which it is slow at for images of few channels."""
    return g.channels % 8 == 0


def _is_compiled(geometry: Geometry, threads: int) -> bool:
    """Whether oneDNN has compiled code for it, and not only loops that serve as a reference."""
    try:
        forward, data, weights = _made(geometry, True, threads).implementations
    except RuntimeError:
        return False
    needed = (forward, data, weights) if _has_data(geometry) else (forward, weights)
    return all(name.startswith(("jit", "brg")) for name in needed)


@functools.lru_cache(maxsize=4096)
def _made(geometry: Geometry, bias: bool, threads: int) -> Any:
    return _csrc.OnednnConvolution(geometry.numbers, 1, 1, bias, False, threads)
