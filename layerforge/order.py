"""The orders in which the values of a blob may lie: plain, (N, C, spatial...), or in blocks of channels, (N, C / block,
spatial..., block), which with a block of all channels is (N, spatial..., C).

>>> import numpy as np
>>> x = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
>>> lying = in_blocks(x, 2)
>>> lying[0].reshape(-1).tolist()
[0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]
>>> bool((plain(lying, 2) == x).all())
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def plain(lying: Any, block: int) -> Any:
    """The values of an array that lies in blocks, in plain order: the array itself, or a copy."""
    return lying if block == 1 else _turned(lying, math.prod(lying.shape[2:]), block)


def in_blocks(values: Any, block: int) -> Any:
    """The values of a plain array as they lie in blocks."""
    return values if block == 1 else _turned(values, block, math.prod(values.shape[2:]))


def to_plain(flat: Any, shape: Sequence[int], block: int) -> None:
    """Puts the values of an array that lies in blocks into plain order, within its own memory."""
    flat[...] = plain(flat.reshape(shape), block).reshape(-1)


def _turned(array: Any, rows: int, columns: int) -> Any:
    matrices = array.size // (rows * columns)
    return array.reshape(matrices, rows, columns).swapaxes(1, 2).reshape(array.shape)
