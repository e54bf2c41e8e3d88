"""Blobs, the arrays that flow between layers, and parameters, the arrays that are learnt.

A blob is an n-d array ``data`` with its gradient ``diff``. There are three faces of it: what a layer gets (`View`),
what a user of the net gets (`Blob`, pycaffe's), and what a layer owns (`Parameter`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DefinitionError, ShapeError, did_you_mean
from .memory import Arena

if TYPE_CHECKING:
    from .net import Net

Shape = tuple[int, ...]


def shape_of(value: Sequence[int]) -> Shape:
    """A shape as a tuple of Python integers."""
    return tuple(int(n) for n in value)


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

    Where ``block`` is more than 1, the values lie in blocks of that many channels, and only layers that understand it
    are given the blob: see `layerforge.layout`.

    ``diff`` is None until somebody needs gradients. For a bottom, ``needs_diff`` says whether backward must write its
    diff; for a top, whether anybody wrote its diff. ``moments`` (2, N C), if its reader asks for them: where the layer
    whose top it is leaves the mean of each channel of an image, and the sum of squares about it. ``behind``: where its
    reader left the diff to that layer, what makes it; see `layerforge.fusion.Behind`.
    """

    __slots__ = ("name", "shape", "data", "diff", "needs_diff", "resize", "block", "moments", "behind")

    def __init__(self, name: str, shape: Shape, data: Any = None, diff: Any = None, needs_diff: bool = False):
        self.name = name
        self.shape = shape
        self.data = data
        self.diff = diff
        self.needs_diff = needs_diff
        self.block = 1
        self.moments: Any = None
        self.behind: Any = None
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

    ``data`` and ``diff`` are numpy arrays that may be read and written, and that outlive the net. Looking at a blob
    whose memory the net has passed on ends that: see `layerforge.storage`.
    """

    __slots__ = ("_net", "name")

    def __init__(self, net: Net, name: str):
        self._net = net
        self.name = name

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self._net.views[self.name].shape

    @property
    def data(self) -> np.ndarray:
        return self._net.look(self.name, "data")

    @property
    def diff(self) -> np.ndarray:
        return self._net.look(self.name, "diff")

    @property
    def _gpu_data_ptr(self) -> int:
        """pycaffe's: the address of the data on the GPU. Raises DeviceError where they do not lie on one."""
        return self._net.gpu_pointer(self.name, "data")

    @property
    def _gpu_diff_ptr(self) -> int:
        return self._net.gpu_pointer(self.name, "diff")

    def reshape(self, *shape: int) -> None:
        """Gives the blob another shape; the net follows at its next `reshape` or `forward`."""
        self._net.reshape_blob(self.name, shape_of(shape))

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, {self.shape})"


class Blobs(Mapping[str, Blob]):
    """The blobs of a net by name, in the order in which they are made: pycaffe's ``net.blobs``."""

    def __init__(self, net: Net):
        self._net = net

    def __getitem__(self, name: str) -> Blob:
        if name not in self._net.views:
            raise UnknownBlob(f'this net has no blob "{name}".{did_you_mean(name, self._net.views)}')
        return Blob(self._net, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._net.views)

    def __len__(self) -> int:
        return len(self._net.views)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {view.shape}' for name, view in self._net.views.items())}}}"


class UnknownBlob(DefinitionError, KeyError):
    """A name that no blob of a net has; a KeyError too, as from any other dictionary."""


class Parameter(Dimensions):
    """An array that a layer learns, or keeps (the mean of a BatchNorm).

    ``lr_mult`` and ``decay_mult`` scale the solver's learning rate and weight decay; ``needs_diff`` says whether
    backward adds to its diff. Parameters of one net lie one behind the other in flat arenas, see `layerforge.arena`;
    two layers that share a parameter by name hold the same arrays, those of the ``owner``.
    """

    def __init__(self, name: str, shape: Shape, filler: Any = None):
        self.name = name
        self.shape = shape
        self.filler = filler
        self.share_name = ""
        self.lr_mult = 1.0
        self.decay_mult = 1.0
        self.needs_diff = True
        self.owner: Parameter | None = None  # whose arrays these are, when shared within the net
        self.home: tuple[Arena, int] | None = None  # where the data lie: arena and offset
        self.diff_home: tuple[Arena, int] | None = None
        self._data: Any = None
        self._diff: Any = None

    @property
    def data(self) -> Any:
        return self._data

    @data.setter
    def data(self, values: Any) -> None:
        if self._data is None:
            self._data = values
        else:  # the array stays where the net has it
            self._data[...] = values

    @property
    def diff(self) -> Any:
        if self._diff is None:
            if self.owner is not None:
                self._diff = self.owner.diff.reshape(self.shape)
            elif self.diff_home is not None:
                self._diff = self._within(*self.diff_home)
        return self._diff

    @diff.setter
    def diff(self, values: Any) -> None:
        if self._diff is None and self.diff_home is None and self.owner is None:
            self._diff = values
        else:
            self.diff[...] = values

    def _within(self, arena: Arena, offset: int) -> Any:
        return arena.array[offset : offset + self.count].reshape(self.shape)

    def move(self, arena: Arena, offset: int) -> None:
        """Lets the data be those that lie there."""
        self.home = (arena, offset)
        self._data = self._within(arena, offset)

    def follow(self, owner: Parameter) -> None:
        """Lets the data be another parameter's, in this one's shape."""
        self.home = owner.home
        self._data = owner.data.reshape(self.shape)

    def reshape(self, *shape: int) -> None:
        """Gives the parameter another shape of the same count."""
        new = shape_of(shape)
        if math.prod(new) != self.count:
            raise ShapeError(f'parameter "{self.name}" {self.shape} cannot take shape {new}: the counts differ')
        self.shape = new
        if self._data is not None:
            self._data = self._data.reshape(new)
        if self._diff is not None:
            self._diff = self._diff.reshape(new)

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.shape})"
