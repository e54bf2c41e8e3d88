"""Fillers: how a parameter starts. Each is a function of an array, a FillerParameter and a key of the random numbers.

A filler of one's own takes part after

    @filler("checkerboard")
    def checkerboard(array, options, key):
        array[...] = options.value * (np.indices(array.shape).sum(axis=0) % 2)

and is then named in a prototxt: ``weight_filler { type: "checkerboard" value: 0.1 }``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device as devices
from .errors import DefinitionError, Place, ShapeError, did_you_mean
from .kernels import Kernels

K = Kernels("random.h")

Key = tuple[int, int, int]  # seed, stream, step: see random.py
Filler = Callable[[Any, Any, Key], None]

registry: dict[str, Filler] = {}


def filler(name: str) -> Callable[[Filler], Filler]:
    """Registers a function as the filler of that name."""

    def register(function: Filler) -> Filler:
        registry[name] = function
        return function

    return register


def fill(array: Any, options: Any, key: tuple[int, ...], place: Place | None = None) -> None:
    """Fills a C-contiguous float32 or float64 array as a FillerParameter says, the same on every device.

    ``key`` is (seed, stream) or (seed, stream, step); the same key gives the same numbers. Raises DefinitionError, at
    ``place``, for an unknown type, and ShapeError for a shape that the filler cannot fill.
    """
    seed, stream, *step = key
    device = devices.of(array)
    values = array if device.is_host else np.empty(array.shape, array.dtype)
    try:
        find(options, place)(values, options, (seed, stream & 0xFFFFFFFF, int(step[0]) if step else 0))
    except ShapeError as error:
        raise ShapeError(error.message, error.place or place) from None
    if values is not array:
        device.from_numpy(array, values)


def find(options: Any, place: Place | None = None) -> Filler:
    """The filler that a FillerParameter names. Raises DefinitionError for an unknown type."""
    if options.type not in registry:
        raise DefinitionError(
            f'unknown filler type "{options.type}".{did_you_mean(options.type, registry)}'
            f" Known: {', '.join(sorted(registry))}",
            place,
        )
    return registry[options.type]


def fan(shape: tuple[int, ...], variance_norm: int) -> float:
    """How many inputs an output has (FAN_IN, 0), how many outputs an input has (FAN_OUT, 1), or the mean (AVERAGE, 2).

    For weights (outputs, inputs, ...): count / shape[0] and count / shape[1].
    """
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    return (fan_in, fan_out, (fan_in + fan_out) / 2)[variance_norm]


@filler("constant")
def constant(array: Any, options: Any, key: Key) -> None:
    """x = value"""
    array[...] = options.value


@filler("uniform")
def uniform(array: Any, options: Any, key: Key) -> None:
    """x ~ U[min, max)"""
    K.fill_uniform(array, options.min, options.max, *key)


@filler("gaussian")
def gaussian(array: Any, options: Any, key: Key) -> None:
    """x ~ N(mean, std^2); with ``sparse``, all but about that many inputs of each output are 0."""
    if options.sparse < 0:
        K.fill_gaussian(array, options.mean, options.std, *key)
        return
    mask = np.empty(array.shape, array.dtype)
    # Caffe's: the chance is sparse / shape[0], which it takes for the number of outputs.
    outputs = array.shape[0] if array.ndim else 1
    seed, stream, step = key
    K.fill_bernoulli(mask, min(1.0, options.sparse / outputs), seed, stream ^ 0x5BA75E, step)
    K.fill_gaussian(array, options.mean, options.std, *key)
    array *= mask


@filler("positive_unitball")
def positive_unitball(array: Any, options: Any, key: Key) -> None:
    """x ~ U[0, 1), then divided by the sum over each output, array[i], so that those sums are 1."""
    K.fill_uniform(array, 0.0, 1.0, *key)
    rows = array.reshape(array.shape[0] if array.ndim else 1, -1)
    rows /= rows.sum(axis=1, keepdims=True)


@filler("xavier")
def xavier(array: Any, options: Any, key: Key) -> None:
    """x ~ U[-a, a), a = sqrt(3 / n), n the fan that variance_norm names. Glorot & Bengio, AISTATS 2010, for AVERAGE."""
    bound = math.sqrt(3 / fan(array.shape, options.variance_norm))
    K.fill_uniform(array, -bound, bound, *key)


@filler("msra")
def msra(array: Any, options: Any, key: Key) -> None:
    """x ~ N(0, 2 / n), n the fan that variance_norm names. He et al., ICCV 2015."""
    K.fill_gaussian(array, 0.0, math.sqrt(2 / fan(array.shape, options.variance_norm)), *key)


@filler("bilinear")
def bilinear(array: Any, options: Any, key: Key) -> None:
    """The weights of bilinear interpolation by the factor f = ceil(side / 2), for a Deconvolution that enlarges.

    x[.., h, w] = (1 - |h / f - c|) (1 - |w / f - c|), c = (side - 1) / (2 f): alike from both ends. Raises
    ShapeError unless the array is (outputs, inputs, side, side).
    """
    if array.ndim != 4 or array.shape[2] != array.shape[3]:
        raise ShapeError(f'the filler "bilinear" needs weights (outputs, inputs, side, side), not {tuple(array.shape)}')
    side = array.shape[3]
    f = math.ceil(side / 2)
    centre = (side - 1) / (2 * f)
    ramp = 1 - np.abs(np.arange(side) / f - centre)
    array[...] = np.outer(ramp, ramp)
