"""Labels: one number for each row of scores, which names its class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..blob import Shape, View
from ..errors import DataError
from ..kernels import Kernels
from ..layer import Layer, count

K = Kernels("labels.h")

SHARES = 1024  # into how many sums the rows are divided at most, so that all threads have work


def rows(scores: Shape, axis: int) -> tuple[int, int, int]:
    """Scores as (outer, classes, inner): a row of classes along ``axis`` for each outer and inner position."""
    return count(scores, 0, axis), scores[axis], count(scores, axis + 1)


def shares(rows: int) -> int:
    """How many sums the rows are divided into: a function of their number alone, whatever the threads."""
    return max(1, min(SHARES, rows))


def mean_size(rows: int) -> int:
    """The scratch that `mean` needs."""
    return 2 * shares(rows)


def mean(values: Any, scratch: Any, mean: Any, divisor: Any, fixed: float, told: Any = None) -> None:
    """mean = the sum of the values that count / divisor, both arrays of one; ``divisor`` is max(1, ``fixed``), or where
    that is negative, the number of values that count. ``told``: where the mean is written in double precision, too.

    The sum is formed in double precision, in an order that the number of values alone decides.
    """
    rows, parts = values.size, shares(values.size)
    if rows <= parts:
        K.mean_of_few_rows(values, mean, divisor, told, rows, fixed)
        return
    sums, counted = scratch[:parts], scratch[parts : 2 * parts]
    K.share_of_rows(values, sums, counted, rows, parts)
    K.mean_of_rows(sums, counted, mean, divisor, told, parts, fixed)


def require_shape(layer: Layer, scores: Shape, labels: Shape, axis: int) -> None:
    """Raises ShapeError unless there is a class, and one label for each row of scores."""
    outer, classes, inner = rows(scores, axis)
    layer.require(classes > 0, f"{layer.describe(0)} has no classes along axis {axis}", "bottom", 0)
    layer.require(
        count(labels) == outer * inner,
        f"{layer.describe(1)} must hold {outer * inner} labels, not {count(labels)}: one for each row of"
        f" {layer.describe(0)} along axis {axis}",
        "bottom",
        1,
    )


def require_items(layer: Layer, scores: Shape, labels: Shape) -> None:
    """Raises ShapeError unless there is an item with a class, and one label for each item; axis 0 is that of items."""
    layer.require(count(scores, 1) > 0, f"{layer.describe(0)} has no classes", "bottom", 0)
    layer.require(
        len(scores) > 0 and count(labels) == scores[0],
        f"{layer.describe(1)} must hold one label for each item of {layer.describe(0)}, along axis 0",
        "bottom",
        1,
    )


def check(layer: Layer, labels: View, classes: int, ignored: int | None = None, may_ignore: bool = True) -> None:
    """Raises DataError for the first label that is neither a class nor the one to ignore; ``may_ignore``: whether the
    layer has an option for that.

    This takes several passes over the labels. The kernels make the loss or accuracy NaN if there is such a label, so
    it is done only then: see `Layer.doubt`.
    """
    values = layer.device.to_numpy(labels.data)
    whole = np.trunc(values)
    wrong = ~((whole >= 0) & (whole < classes))
    if ignored is not None:
        wrong &= whole != ignored
    if not wrong.any():
        return
    at = tuple(int(n) for n in np.argwhere(wrong)[0])
    where = f"item {at[0]}" if at else "the only item"
    if len(at) > 1 and count(labels.shape, 1) > 1:
        where += f", at {at}"
    value = float(values[at])
    text = f"{value:.0f}" if value == np.trunc(value) and abs(value) < 1e15 else f"{value:g}"
    remedy = "score more classes, or name a label that does not count in ignore_label"
    raise layer.error(
        f"label {text} of {where} in {layer.describe(1)} must be one of the {classes} classes, 0 to {classes - 1}."
        f" Mend the data, {remedy if may_ignore else 'or score more classes'}",
        "bottom",
        1,
        kind=DataError,
    )
