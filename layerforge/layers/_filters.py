"""Learnt filters that slide over images: what Convolution and Deconvolution share."""

from __future__ import annotations

from typing import Any

from .. import engines
from ..blob import Shape
from ..errors import DefinitionError
from ..layer import Layer
from . import _windows


def read(layer: Layer, x: Shape) -> tuple[int, _windows.Windows]:
    """The channels of x, and the windows that the options ask for. Raises an error unless both fit num_output and
    group."""
    options = layer.options
    axis = layer.axis(options.axis, len(x))
    channels, outputs, group = x[axis], options.num_output, options.group
    for field, value in (("num_output", outputs), ("group", group)):
        if value < 1:
            missing = not options.HasField(field)
            message = f"{field} is missing: write {field}: 64, say" if missing else f"{field}: 0 must be at least 1"
            raise layer.error(message, *() if missing else (field,), kind=DefinitionError)
    windows = _windows.read(layer, len(x) - axis - 1)
    layer.require(channels > 0, f"{layer.describe()} has no channels on axis {options.axis}", "bottom")
    layer.require(
        channels % group == 0,
        f"group: {group} must divide the {channels} channels of {layer.describe()}",
        "group",
    )
    layer.require(outputs % group == 0, f"group: {group} must divide num_output: {outputs}", "group")
    return channels, windows


def engine(layer: Layer, geometry: engines.Geometry, block: tuple[int, int] = (1, 1)) -> Any:
    """The engine that computes such a convolution for this layer, as its options ask.

    ``block``: how x and y lie, see `layerforge.layout`.
    """
    name = type(layer.options).Engine.Name(layer.options.engine)
    return engines.convolution(layer.device.name, name, geometry, layer.dtype, block)


def channel_axis(layer: Layer, bottom_shapes: tuple[Shape, ...], channels: int, windows: _windows.Windows) -> int:
    """The axis of the channels. Raises ShapeError unless the bottoms fit each other, the tops and the weights."""
    first = bottom_shapes[0]
    layer.require(
        len(layer.param.top) == len(bottom_shapes),
        f"{len(layer.param.top)} tops for {len(bottom_shapes)} bottoms: each bottom has a top of its own",
        "top",
    )
    for i, shape in enumerate(bottom_shapes):
        message = f"{layer.describe(i)} must have the shape of {layer.describe(0)}: they share the weights"
        layer.require(shape == first, message, "bottom", i)
    axis = len(first) - len(windows.kernel) - 1
    layer.require(
        axis == layer.axis(layer.options.axis, len(first)) and first[axis] == channels,
        f"{layer.describe()} must have {channels} channels on axis {layer.options.axis} and"
        f" {len(windows.kernel)} spatial axes, as when the weights were made",
        "bottom",
    )
    return axis


def require_room(layer: Layer, spatial: Shape, windows: _windows.Windows) -> Shape:
    """How many windows fit into an image along each axis. Raises ShapeError where none does."""
    output = windows.output(spatial)
    for extent, size, pad, out in zip(windows.extent, spatial, windows.pad, output, strict=True):
        layer.require(
            out > 0,
            f"a window of {extent} is larger than the {size + 2 * pad} that {layer.describe()} has with its padding:"
            " lower kernel_size or dilation, or raise pad",
            "kernel_size",
        )
    return output
