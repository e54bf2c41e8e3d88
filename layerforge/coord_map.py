"""Which part of one blob another one covers: the offset of a Crop between two branches of a fully convolutional net.

A layer maps coordinates of its top to its bottom's by x_bottom = a * x_top + b in each spatial dimension: a pixel's
centre to the centre of its receptive field. Maps compose along the path between two tops. Long, Shelhamer and Darrell,
"Fully convolutional networks", CVPR 2015.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DefinitionError, ShapeError
from .net_spec import Function, L, Top

#: Layers that keep every pixel where it is.
PASS_THROUGH = frozenset(
    [
        "AbsVal",
        "BatchNorm",
        "Bias",
        "BNLL",
        "Clip",
        "Dropout",
        "Eltwise",
        "ELU",
        "Exp",
        "Log",
        "LRN",
        "MVN",
        "Power",
        "PReLU",
        "ReLU",
        "Scale",
        "Sigmoid",
        "Softmax",
        "Split",
        "Swish",
        "TanH",
        "Threshold",
    ]
)

Map = tuple[int | None, Any, Any]  # (axis in front of the first spatial one or None, a, b)


class UndefinedMapError(DefinitionError):
    """The map of a layer, or of a path, is not defined."""


class AxisMismatchError(ShapeError):
    """Two maps speak of different axes."""


def _windows(fn: Function) -> tuple[int, Any, Any, Any]:
    """(axis, stride, kernel with its holes, pad) of a layer with windows; scalars or one value per dimension."""
    params = dict(fn.params)
    for field in ("convolution_param", "pooling_param"):
        params.update(params.pop(field, {}))
    axis = params.get("axis", 1)

    def values(name: str, short: str, default: int) -> Any:
        if f"{short}_h" in params or f"{short}_w" in params:
            return np.array([params.get(f"{short}_h", default), params.get(f"{short}_w", default)])
        return np.array(params.get(name, default))

    kernel = values("kernel_size", "kernel", 1)
    dilation = np.array(params.get("dilation", 1))
    return axis, values("stride", "stride", 1), dilation * (kernel - 1) + 1, values("pad", "pad", 0)


def coord_map(fn: Function) -> Map:
    """The map of one layer. Raises UndefinedMapError for a type that has none."""
    kind = fn.type_name
    if kind in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = _windows(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if kind == "Deconvolution":
        axis, stride, kernel, pad = _windows(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if kind in PASS_THROUGH:
        return None, 1, 0
    if kind == "Crop":
        params = {**fn.params, **fn.params.get("crop_param", {})}
        return params.get("axis", 2) - 1, 1, -np.array(params.get("offset", 0))
    raise UndefinedMapError(f"a {kind} layer has no coordinate map: there is no way to align a crop across it")


def compose(base: Map, next_: Map) -> Map:
    """The map of two layers one after the other. Raises AxisMismatchError where their axes differ."""
    axis1, a1, b1 = base
    axis2, a2, b2 = next_
    if axis1 is None:
        axis = axis2
    elif axis2 is None or axis1 == axis2:
        axis = axis1
    else:
        raise AxisMismatchError(f"coordinate maps of axes {axis1} and {axis2} cannot be composed")
    return axis, a1 * a2, a1 * b2 + b1


def inverse(forward: Map) -> Map:
    """The map the other way round."""
    axis, a, b = forward
    return axis, 1 / a, -b / a


def _inputs(top: Top) -> tuple[Top, ...]:
    """The tops that coordinates come from: a Crop's second bottom gives only a size."""
    return top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from one top to another, through the nearest ancestor of both.

    Raises UndefinedMapError where they have none in common, or where one of the layers between has no map.
    """
    maps: dict[int, Map] = {id(top_from): (None, 1, 0)}
    frontier = {id(top_from): top_from}
    while frontier:
        top = frontier.pop(next(iter(frontier)))
        try:
            for bottom in _inputs(top):
                maps[id(bottom)] = compose(maps[id(top)], coord_map(top.fn))
                frontier[id(bottom)] = bottom
        except UndefinedMapError:
            continue
    back: dict[int, Map] = {id(top_to): (None, 1, 0)}
    frontier = {id(top_to): top_to}
    while frontier:
        top = frontier.pop(next(iter(frontier)))
        if id(top) in maps:
            return compose(maps[id(top)], inverse(back[id(top)]))
        for bottom in _inputs(top):
            back[id(bottom)] = compose(back[id(top)], coord_map(top.fn))
            frontier[id(bottom)] = bottom
    raise UndefinedMapError("the two tops have no ancestor in common from which both could be aligned")


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop of ``top_from`` to the size of ``top_to``, at the offset that aligns them.

    Raises ShapeError where the two differ in scale, or are aligned by no whole, non-negative offset.
    """
    axis, a, b = coord_map_from_to(top_from, top_to)
    if not np.all(np.asarray(a) == 1):
        raise ShapeError(f"the two tops differ in scale, by {a}: resize one of them first")
    if not np.all(np.asarray(b) <= 0):
        raise ShapeError(f"the second top begins {b} pixels before the first: pad the first one more")
    if not np.all(np.round(b) == np.asarray(b)):
        raise ShapeError(f"the tops are aligned by an offset that is not whole: {-np.asarray(b)}")
    offset = (-np.round(b)).astype(int)
    return L.Crop(top_from, top_to, crop_param={"axis": (axis or 0) + 1, "offset": np.atleast_1d(offset).tolist()})
