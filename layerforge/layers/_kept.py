"""What backward needs of a bottom that forward, working in place, overwrites: a copy, kept only then."""

from typing import Any

from ..blob import Shape, View
from ..layer import Layer


def kept_shapes(layer: Layer, x: Shape) -> dict[str, tuple[Shape, Any]]:
    """For `Layer.state_shapes`: a copy of bottom 0 where top 0 is the same blob."""
    return {"x": (x, layer.dtype)} if layer.param.bottom[:1] == layer.param.top[:1] else {}


def keep(layer: Layer, x: View) -> None:
    """Copies bottom 0, before forward overwrites it."""
    if "x" in layer.state:
        layer.state["x"][...] = x.data


def kept(layer: Layer, x: View) -> Any:
    """The values that bottom 0 had before forward."""
    return layer.state.get("x", x.data)
