"""Which part of one blob another one covers: the offset of a Crop between two branches of a fully convolutional net.

A layer maps coordinates of its top to its bottom's by x_bottom = a * x_top + b in each spatial dimension: the centre
of a pixel to that of what it sees. A convolution of kernel k (with its holes), stride s and padding p has a = s and
b = (k - 1) / 2 - p. Maps compose along a path. Long, Shelhamer and Darrell, "Fully convolutional networks", CVPR 2015.

A map is (axis in front of the first spatial one, a, b), as in pycaffe: axis None where a layer moves nothing, a and b
numbers, or arrays with a value for each dimension.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DefinitionError, ShapeError
from .net_spec import Function, L, Top

#: Layers that keep every pixel where it is.
PASS_THROUGH = {
    *("AbsVal", "BatchNorm", "Bias", "BNLL", "Clip", "Dropout", "Eltwise", "ELU", "Exp", "Log", "LRN", "MVN", "Power"),
    *("PReLU", "ReLU", "Scale", "Sigmoid", "Softmax", "Split", "Swish", "TanH", "Threshold"),
}

Map = tuple[int | None, Any, Any]

IDENTITY: Map = (None, 1, 0)


class UndefinedMapException(DefinitionError):
    """A layer, or a path between two blobs, that has no map."""


class AxisMismatchException(ShapeError):
    """Two maps that speak of different axes."""


def coord_map(fn: Function) -> Map:
    """The map of one layer, from its top to its bottom. Raises UndefinedMapException for a type that has none."""
    if fn.type_name in PASS_THROUGH:
        return IDENTITY
    if fn.type_name in _MAPS:
        return _MAPS[fn.type_name](fn)
    raise UndefinedMapException(f"layers of type {fn.type_name} have no map: nothing can be aligned across one")


def _options(fn: Function, field: str) -> dict[str, Any]:
    """A layer's options, whether they were given one by one or as a message's."""
    return {**fn.params, **fn.params.get(field, {})}


def _windows(fn: Function) -> Map:
    """Layers with windows: a = stride, b = (kernel - 1) / 2 - pad."""
    options = _options(fn, "pooling_param" if fn.type_name == "Pooling" else "convolution_param")

    def each(name: str, default: int) -> Any:
        short = "kernel" if name == "kernel_size" else name
        sides = [options.get(f"{short}_{side}") for side in "hw"]
        if any(side is not None for side in sides):
            return np.array([default if side is None else side for side in sides])
        return np.array(options.get(name, default))

    reach = each("dilation", 1) * (each("kernel_size", 1) - 1)
    return options.get("axis", 1), each("stride", 1), reach / 2 - each("pad", 0)


def _cropped(fn: Function) -> Map:
    options = _options(fn, "crop_param")
    return options.get("axis", 2) - 1, 1, np.array(options.get("offset", 0))


_MAPS: dict[str, Callable[[Function], Map]] = {
    "Convolution": _windows,
    "Pooling": _windows,
    "Im2col": _windows,
    "Deconvolution": lambda fn: inverse(_windows(fn)),
    "Crop": _cropped,
}


def compose(base: Map, next_: Map) -> Map:
    """The map x -> base(next_(x)). Raises AxisMismatchException where both move pixels, along different axes."""
    axes = {axis for axis, _, _ in (base, next_) if axis is not None}
    if len(axes) > 1:
        raise AxisMismatchException(f"coordinate maps of axes {base[0]} and {next_[0]} cannot be composed")
    return axes.pop() if axes else None, base[1] * next_[1], base[1] * next_[2] + base[2]


def inverse(forward: Map) -> Map:
    """The map the other way round."""
    axis, a, b = forward
    return axis, 1 / a, -b / a


def _ancestors(top: Top) -> tuple[dict[int, Map], list[str]]:
    """For every blob from which a top's coordinates come, by id and from the nearest on, the map to it.

    And the reasons why the search ended elsewhere than at a source.
    """
    maps: dict[int, Map] = {id(top): IDENTITY}
    ends: list[str] = []
    queue = deque([top])
    while queue:
        here = queue.popleft()
        # Of a Crop's second bottom only the size counts.
        bottoms = here.fn.inputs[:1] if here.fn.type_name == "Crop" else here.fn.inputs
        try:
            for bottom in bottoms:
                if id(bottom) not in maps:
                    maps[id(bottom)] = compose(coord_map(here.fn), maps[id(here)])
                    queue.append(bottom)
        except UndefinedMapException as error:
            ends.append(str(error))
    return maps, ends


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from one top to another, through an ancestor that both have.

    Raises UndefinedMapException where they have none, or where a layer on the way has no map.
    """
    here, why = _ancestors(top_from)
    there, why_not = _ancestors(top_to)
    for blob, back in there.items():
        if blob in here:
            return compose(inverse(back), here[blob])
    reasons = "".join(f"; {reason}" for reason in dict.fromkeys([*why, *why_not]))
    raise UndefinedMapException(f"the two tops have no ancestor in common by which they can be aligned{reasons}")


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop of ``top_from`` to the size of ``top_to``, at the offset that aligns them.

    Raises ShapeError where the two differ in scale, or where no whole offset from 0 on aligns them.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    if not np.all(scale == np.float64(1)):
        raise ShapeError(f"the tops differ in scale, by a factor of {_said(scale)}: resize one of them first")
    offset = -np.atleast_1d(shift)
    if np.any(np.round(offset) != offset):
        raise ShapeError(f"the tops are aligned by an offset of {_said(offset)}, which is not whole: change a pad")
    if np.any(offset < 0):
        raise ShapeError(f"the tops are aligned by an offset of {_said(offset)}: pad the first one more")
    first = 2 if axis is None else axis + 1
    return L.Crop(top_from, top_to, crop_param={"axis": first, "offset": offset.astype(int).tolist()})


def _said(values: Any) -> str:
    return ", ".join(f"{value:g}" for value in np.atleast_1d(values).tolist())
