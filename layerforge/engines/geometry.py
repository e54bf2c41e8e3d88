"""The shape of a convolution."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import KernelError
from ..native import _csrc

Axes = tuple[int, ...]


def output_shape(spatial: Sequence[int], kernel: Axes, stride: Axes, pad: Axes, dilation: Axes) -> Axes:
    """Output positions along each axis: floor((size + 2 pad - dilation (kernel - 1) - 1) / stride) + 1.

    0 or less where the kernel does not fit into the padded input: for the layer to refuse.

    >>> output_shape((227, 227), (11, 11), (4, 4), (0, 0), (1, 1))
    (55, 55)
    """
    axes = zip(spatial, kernel, stride, pad, dilation, strict=True)
    return tuple((size + 2 * p - d * (k - 1) - 1) // s + 1 for size, k, s, p, d in axes)


@dataclass(frozen=True)
class Geometry:
    """A convolution of x (batch, channels, spatial...) to y (batch, num_output, output...).

    Weights (num_output, channels / group, kernel...) and bias (num_output,). Any number of spatial axes, also none.
    ``output`` may be smaller than what `output_shape` gives: the positions behind it are left out.
    """

    batch: int
    channels: int
    num_output: int
    group: int
    spatial: Axes
    kernel: Axes
    stride: Axes
    pad: Axes
    dilation: Axes
    output: Axes

    def __hash__(self) -> int:
        return self._hash  # asked for many times in each pass

    @functools.cached_property
    def _hash(self) -> int:
        axes = (self.spatial, self.kernel, self.stride, self.pad, self.dilation, self.output)
        return hash((self.batch, self.channels, self.num_output, self.group, *axes))

    @property
    def input_shape(self) -> Axes:
        return (self.batch, self.channels, *self.spatial)

    @property
    def output_shape(self) -> Axes:
        return (self.batch, self.num_output, *self.output)

    @property
    def weight_shape(self) -> Axes:
        return (self.num_output, self.channels // self.group, *self.kernel)

    @property
    def multiplications(self) -> int:
        """Multiplications of one forward pass; backward takes as many for each of its two gradients."""
        return math.prod(self.weight_shape) * self.batch * math.prod(self.output)

    @functools.cached_property
    def shape(self) -> np.ndarray:
        """The axes as csrc/kernels/im2col.h reads them: int32, their number, then each list."""
        lists = (self.spatial, self.kernel, self.stride, self.pad, self.dilation, self.output)
        return np.array([len(self.spatial), *(number for each in lists for number in each)], np.int32)

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """All of it as csrc/cpu/convolution.h reads it: int64, the scalars, then the axes."""
        return np.array([self.batch, self.channels, self.num_output, self.group, *self.shape], np.int64)


def check_arrays(
    geometry: Geometry, least: int, scratch: np.ndarray, dtypes: Sequence[Any], **arrays: np.ndarray | None
) -> None:
    """Raises KernelError unless ``scratch`` has ``least`` elements of one of the ``dtypes``, and the others its type
    and their shapes: x, w, b and y by name, their gradients with a d before."""
    shapes = {
        "x": geometry.input_shape,
        "y": geometry.output_shape,
        "w": geometry.weight_shape,
        "b": (geometry.num_output,),
    }
    dtype = scratch.dtype
    if dtype not in dtypes or not scratch.flags.c_contiguous or not scratch.flags.writeable:
        types = " or ".join(np.dtype(one).name for one in dtypes)
        raise KernelError(f"convolution: scratch must be a flat {types} array, not {_describe(scratch)}")
    if scratch.size < least:
        raise KernelError(
            f"convolution: scratch must have {least} elements with {_csrc.get_threads()} threads, "
            f"not {scratch.size}; set the number of threads before the net is made"
        )
    for name, array in arrays.items():
        shape = shapes[name.removeprefix("d")]
        if array is None:
            continue
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
            expected = f"a C-contiguous {dtype} array of shape {shape}"
            raise KernelError(f"convolution: argument {name}: expected {expected}, received {_describe(array)}")


def _describe(array: np.ndarray) -> str:
    layout = "" if array.flags.c_contiguous else ", not C-contiguous,"
    return f"{array.dtype} array{layout} of shape {array.shape}"
