"""oneDNN, the engine for x86-64: convolutions compiled for one geometry on one processor, when the net is made.

The library comes with the wheel onednn-cpu-gomp and is opened by its path when a convolution first asks for it; without
it, and in a build without its headers, there is no such engine and im2col computes everything. It shares the OpenMP
threads of our own kernels. float32, one to three spatial axes.

What is in here says which geometries it takes. The figures are in docs/decisions/007-onednn.md.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KernelError
from ..native import _csrc
from .engine import LANES, Engine
from .geometry import Geometry
from .im2col import Im2col

log = logging.getLogger("layerforge.engines")

PACKAGE = "onednn-cpu-gomp"
LIBRARY = "libdnnl.so.3"
# How much faster kernels of several taps are where all channels lie side by side, and how much slower single taps, on
# arrays of up to so many values and on larger ones.
GAIN, LOSS_IN_CACHE, LOSS, IN_CACHE = 0.07, 0.02, 0.16, 1 << 20
MANY = 192  # channels on either side
LARGE_PLANE = 2000  # positions
FORWARD, DATA, WEIGHTS = range(3)
NO_TERM, TERM, TERM_IN_PLACE = range(3)  # what forward adds, as the C++ side counts
RELU, KEEPS_NAN = 1, 2  # and how it rectifies


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


class OneDnn(Engine):
    """Convolution on the CPU by oneDNN. The same threads give the same bits."""

    name = "MKLDNN"
    takes_blocks = True

    def __init__(self, block: tuple[int, int] = (1, 1)):
        super().__init__(block)
        self._columns = Im2col()

    def channels(self, dtype):
        return _csrc.onednn_block() if dtype == np.float32 and available() else 1

    def gain(self, g, dtype):
        # The figures are in docs/decisions/009-channels-in-blocks.md.
        if self.channels(dtype) != LANES:
            return -1.0
        if max(g.kernel) > 1:
            return g.multiplications * GAIN
        values = max(math.prod(g.input_shape), math.prod(g.output_shape))
        return -g.multiplications * (LOSS if values > IN_CACHE else LOSS_IN_CACHE)

    def supports(self, g, dtype):
        fits = is_faster(g) if self.block == (1, 1) else is_whole(g, self.block)
        return fits and dtype == np.float32 and available() and self._is_compiled(g)

    def scratch(self, g):
        own = self._made(g, True).scratch
        return own if self._has_data(g) else max(own, self._columns.scratch(g))

    def forward(self, x, w, b, y, g, scratch, kept=None, *, rectify=False):
        self._check(g, scratch, x=x, w=w, b=b, y=y)
        made = self._made(g, b is not None)
        if rectify:
            made = _made(g, self.block, b is not None, _csrc.get_threads(), False, KEEPS_NAN)
        room = kept if self._room(made, kept) else None
        made.run(FORWARD, x, w, b, y, scratch, kept=room)
        return functools.partial(made.run, FORWARD, x, w, b, y, scratch, kept=room, same=True)

    def kept(self, g):
        return int(self._made(g, True).kept)

    def rectifies(self, g, bias):
        return _rectifies(g, self.block, bias, _csrc.get_threads())

    def follows(self, g):
        return _goes_on(g, self.block, _csrc.get_threads(), NO_TERM)

    def adds(self, g):
        return self.block[1] > 1 and _goes_on(g, self.block, _csrc.get_threads(), TERM)

    def adds_in_place(self, g):
        return self.block[1] > 1 and _goes_on(g, self.block, _csrc.get_threads(), TERM_IN_PLACE)

    def forward_and_on(self, x, w, factor, shift, y, g, scratch, kept=None, *, rectify, term=None):
        self._check(g, scratch, x=x, w=w, b=shift, y=y)
        adds = NO_TERM if term is None else TERM_IN_PLACE if term is y else TERM
        if adds == TERM:
            self._check(g, scratch, y=term)
        on = (RELU if rectify else 0, adds)
        folded = _made(g, self.block, True, _csrc.get_threads(), False, *on)
        if self._room(folded, kept):
            arrays = (x, w, shift, y, scratch, factor)
            folded.run(FORWARD, *arrays, kept=kept, term=term)
            return functools.partial(folded.run, FORWARD, *arrays, kept=kept, term=term, same=True)
        made = _made(g, self.block, False, _csrc.get_threads(), True, *on)
        call = functools.partial(made.run, FORWARD, x, w, None, y, scratch, factor, shift, term=term)
        call()
        return call

    @staticmethod
    def _room(made: Any, kept: np.ndarray | None) -> bool:
        return kept is not None and 0 < made.kept <= kept.size

    def backward_data(self, dy, w, dx, g, scratch, *, rectified=None, slope=1.0):
        if not self._has_data(g):
            self._columns.backward_data(dy, w, dx, g, scratch)
            return
        self._check(g, scratch, dy=dy, w=w, dx=dx)
        self._made(g, True).run(DATA, dy, w, dx, None, scratch)

    def backward_weights(self, x, dy, dw, db, g, scratch):
        self._check(g, scratch, x=x, dy=dy, dw=dw, db=db)
        self._made(g, db is not None).run(WEIGHTS, x, dy, dw, db, scratch)

    def _has_data(self, g: Geometry) -> bool:
        """Whether oneDNN also computes the gradient of the input. It is slow at that for images of few channels; what
        lies in blocks, im2col cannot read."""
        return g.channels % 8 == 0 or self.block != (1, 1)

    def _made(self, g: Geometry, bias: bool) -> Any:
        return _made(g, self.block, bias, _csrc.get_threads())

    def _is_compiled(self, g: Geometry) -> bool:
        """Whether oneDNN has compiled code for it, and not only loops that serve as a reference."""
        try:
            forward, data, weights = self._made(g, True).implementations
        except RuntimeError:
            return False
        return _are_compiled(self._used(g, forward, data, weights))

    def _used(self, g: Geometry, forward: str, data: str, weights: str) -> Sequence[str]:
        """Those of the three that are called."""
        return (forward, data, weights) if self._has_data(g) else (forward, weights)


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


def is_whole(g: Geometry, block: tuple[int, int]) -> bool:
    """Whether each group has whole blocks of channels, where they are to lie in blocks."""
    if not 1 <= len(g.spatial) <= 3 or g.batch == 0:
        return False
    block = (min(block[0], LANES), min(block[1], LANES))
    if g.channels == g.group == g.num_output:
        return g.channels % max(block) == 0
    inputs, outputs = g.channels // g.group, g.num_output // g.group
    if g.group > 1:
        return inputs % max(block) == 0 and outputs % max(block) == 0
    return inputs % block[0] == 0 and outputs % block[1] == 0


def gains_by_turning(g: Geometry, block: tuple[int, int]) -> bool:
    """Whether forward and the gradient of the input gain, although two arrays must be put into another order for it,
    by all channels of a position side by side: where each value is in many products."""
    return block == (LANES, LANES) and max(g.kernel) > 1 and min(g.channels, g.num_output) // g.group >= MANY


def gains_by_second(g: Geometry, block: tuple[int, int], adds: int = 0) -> bool:
    """Whether single taps are faster by oneDNN's kernels for any: over large planes, the gradient of the weights, and
    forward to a term in place, where that is not in the cache."""
    single = max(g.kernel) == max(g.stride) == 1 and g.group == 1
    large = math.prod(g.output) >= LARGE_PLANE and (not adds or math.prod(g.output_shape) > IN_CACHE)
    return block == (LANES, LANES) and single and large


@functools.lru_cache(maxsize=4096)
def _made(
    geometry: Geometry,
    block: tuple[int, int],
    bias: bool,
    threads: int,
    affine: bool = False,
    relu: int = 0,
    adds: int = 0,
) -> Any:
    if not available():  # opens it
        raise KernelError(f"convolution: oneDNN cannot be used: `pip install {PACKAGE}`, or write engine: CAFFE")
    how = (gains_by_turning(geometry, block), gains_by_second(geometry, block, adds))
    return _csrc.OnednnConvolution(geometry.numbers, *block, bias, threads, affine, relu, adds, *how)


@functools.lru_cache(maxsize=4096)
def _goes_on(geometry: Geometry, block: tuple[int, int], threads: int, adds: int) -> bool:
    """Whether there is compiled code for what follows a convolution, that needs no more scratch memory than it has."""
    scratch = _made(geometry, block, True, threads).scratch
    ways = (False,) if adds == TERM_IN_PLACE else (True, False)
    try:
        made = [_made(geometry, block, not affine, threads, affine, RELU, adds) for affine in ways]
    except RuntimeError:
        return False
    if adds == TERM_IN_PLACE and not made[0].kept:
        return False
    return all(one.scratch <= scratch and _are_compiled(one.implementations) for one in made)


@functools.lru_cache(maxsize=4096)
def _rectifies(geometry: Geometry, block: tuple[int, int], bias: bool, threads: int) -> bool:
    alone, made = (_made(geometry, block, bias, threads, False, relu) for relu in (0, KEEPS_NAN))
    return made.scratch <= alone.scratch and made.implementations == alone.implementations[:1]


def _are_compiled(implementations: Sequence[str]) -> bool:
    return all(name.startswith(("jit", "brg", "brd")) for name in implementations)
