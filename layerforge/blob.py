"""Blobs, the arrays that flow between layers, and parameters, the arrays that are learnt.

A blob is an n-d array ``data`` with its gradient ``diff``. There are three faces of it: what a layer gets (`View`),
what a user of the net gets (`Blob`, pycaffe's), and what a layer owns (`Parameter`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import ShapeError

Shape = tuple[int, ...]


def legacy_dimension(shape: Shape, axis: int) -> int:
    """Caffe's num, channels, height and width: axes 0 to 3, 1 where there is no such axis."""
    if len(shape) > 4:
        raise ShapeError(f"num, channels, height and width exist up to 4 axes; this blob has {len(shape)}: {shape}")
    return shape[axis] if axis < len(shape) else 1


class Dimensions:
    """What pycaffe's blobs can be asked about their shape."""

    __slots__ = ()
    shape: Shape

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def num(self) -> int:
        return legacy_dimension(self.shape, 0)

    @property
    def channels(self) -> int:
        return legacy_dimension(self.shape, 1)

    @property
    def height(self) -> int:
        return legacy_dimension(self.shape, 2)

    @property
    def width(self) -> int:
        return legacy_dimension(self.shape, 3)


class View(Dimensions):
    """A blob as a layer sees it: plain arrays on the layer's device, C-contiguous, in the blob's shape.

    ``diff`` is None until somebody needs gradients. For a bottom, ``needs_diff`` says whether backward must write its
    diff; for a top, whether anybody wrote its diff.
    """

    __slots__ = ("name", "shape", "data", "diff", "needs_diff", "resize")

    def __init__(self, name: str, shape: Shape, data: Any = None, diff: Any = None, needs_diff: bool = False):
        self.name = name
        self.shape = shape
        self.data = data
        self.diff = diff
        self.needs_diff = needs_diff
        self.resize: Callable[[View, Shape], None] | None = None

    def reshape(self, *shape: int) -> None:
        """Gives a top another shape, from within the forward of a layer with ``dynamic = True``; every layer below
        follows.

        ``data`` is another array afterwards. Raises ShapeError for the tops of other layers.
        """
        if self.resize is None:
            raise ShapeError(f'"{self.name}" keeps its shape {self.shape}: its layer is not dynamic')
        self.resize(self, shape_of(shape))

    def __repr__(self) -> str:
        return f"View({self.name!r}, {self.shape})"


class Blob(Dimensions):
    """A blob as a user of the net sees it, with pycaffe's attributes.

    ``data`` and ``diff`` are numpy arrays that may be read and written. On a net that reuses memory, the first look at
    a blob whose memory has passed to another one computes its values again and keeps them from then on.
    """

    __slots__ = ("name", "shape", "_access", "_reshaped")

    def __init__(self, name: str, shape: Shape, access: Callable[[str, str], np.ndarray], reshaped: Callable[[], None]):
        self.name = name
        self.shape = shape
        self._access = access
        self._reshaped = reshaped

    @property
    def data(self) -> np.ndarray:
        return self._access(self.name, "data")

    @property
    def diff(self) -> np.ndarray:
        return self._access(self.name, "diff")

    def reshape(self, *shape: int) -> None:
        """Gives the blob another shape; the net follows at its next `reshape` or `forward`."""
        self.shape = tuple(int(n) for n in shape)
        self._reshaped()

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, {self.shape})"


class Parameter(Dimensions):
    """An array that a layer learns, or keeps (the mean of a BatchNorm).

    ``lr_mult`` and ``decay_mult`` scale the solver's learning rate and weight decay; ``needs_diff`` says whether
    backward adds to its diff. Parameters of one net lie one behind the other in flat arenas; two layers that share a
    parameter by name hold the same arrays.
    """

    def __init__(self, name: str, shape: Shape, filler: Any = None):
        self.name = name
        self.shape = shape
        self.filler = filler
        self.share_name = ""
        self.permissive = False
        self.lr_mult = 1.0
        self.decay_mult = 1.0
        self.needs_diff = True
        self.owner: Parameter | None = None  # whose arrays these are, when shared
        self.data: Any = None
        self._diff: Any = None
        self.allocate_diff: Callable[[], None] | None = None

    @property
    def diff(self) -> Any:
        if self._diff is None and self.allocate_diff is not None:
            self.allocate_diff()
        return self._diff

    @diff.setter
    def diff(self, array: Any) -> None:
        self._diff = array

    def reshape(self, *shape: int) -> None:
        """Gives the parameter another shape of the same count."""
        shape = tuple(int(n) for n in shape)
        if math.prod(shape) != self.count:
            raise ShapeError(
                f"parameter {self.name!r} of shape {self.shape} cannot take shape {shape}: the counts differ"
            )
        self.shape = shape
        self.data = self.data.reshape(shape)
        if self._diff is not None:
            self._diff = self._diff.reshape(shape)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.shape})"


def shape_of(value: Sequence[int]) -> Shape:
    """A shape as a tuple of Python integers."""
    return tuple(int(n) for n in value)
