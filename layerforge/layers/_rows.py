"""Rows of an array that are named by number: BatchReindex and Embed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..blob import Shape, View
from ..errors import DataError
from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("lookup.h")
R = Kernels("results.h")


def state_shapes(index: Shape) -> dict[str, tuple[Shape, Any]]:
    """For `Layer.state_shapes`: the rows as integers, and the chains of items that name one row."""
    each = ((count(index),), np.int32)
    return {"index": each, "next": each, "first": each, "worst": ((1,), np.float32)}


def read(layer: Layer, bottom: int, numbers: View, rows: int) -> Any:
    """The numbers of a bottom as integers; fractions are cut off. Raises DataError for one that is no row.

    ``rows``: how many rows there are.
    """
    index, worst = layer.state["index"], layer.state["worst"]
    K.read_rows(numbers.data, index, rows)
    R.no_row(index, worst, index.size)
    layer.doubt(worst, lambda: check(layer, bottom, numbers, rows))
    return index


def check(layer: Layer, bottom: int, numbers: View, rows: int) -> None:
    """Raises DataError for the first number of a bottom that is no row."""
    values, index = layer.device.to_numpy(numbers.data), layer.device.to_numpy(layer.state["index"])
    at = tuple(int(n) for n in np.argwhere(index.reshape(numbers.shape) < 0)[0])
    where = f"item {at[0]}" if len(at) == 1 else f"item {at[0]}, at {at}," if at else "the only item"
    raise layer.error(
        f"index {float(values[at]):g} of {where} in {layer.describe(bottom)} must be"
        f" {f'one of 0 to {rows - 1}' if rows else 'a row, but there are none'}",
        "bottom",
        bottom,
        kind=DataError,
    )


def add(layer: Layer, dy: Any, dw: Any, inner: int) -> None:
    """Adds each row of dy to the row of dw that `read` said, in the order of dy; ``inner`` is the length of a row."""
    index, following, first = (layer.state[name] for name in ("index", "next", "first"))
    K.chain_items(index, following, first, index.size)
    K.add_rows(index, following, first, dy, dw, inner, count=index.size * inner)
