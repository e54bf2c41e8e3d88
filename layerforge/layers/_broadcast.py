"""How a small array meets a large one, from an axis on: Bias and Scale."""

from ..blob import Shape
from ..layer import Layer, count


def learnt_shape(layer: Layer, x: Shape) -> Shape:
    """The shape of a parameter for ``num_axes`` axes of bottom 0 from ``axis`` on: -1 takes all, 0 makes it ()."""
    first, number = layer.axis(layer.options.axis, len(x)), layer.options.num_axes
    layer.require(
        -1 <= number <= len(x) - first,
        f"num_axes: {layer.describe()} has no {number} axes from {first} on; -1 takes all that there are",
        "num_axes",
    )
    return x[first:] if number == -1 else x[first : first + number]


def check_second(layer: Layer, x: Shape, small: Shape) -> None:
    """Requires that bottom 1 has the axes of bottom 0 from ``axis`` on."""
    first = layer.axis(layer.options.axis, len(x)) if small else 0
    message = f"{layer.describe(1)} must have the shape of {layer.describe(0)} from axis {first} on, as far as it goes"
    layer.require(x[first : first + len(small)] == small, message, "bottom", 1)


def meeting(layer: Layer, x: Shape, small: Shape) -> tuple[int, int, int]:
    """(outer, size, inner): element (o, c, i) of the large array meets element c of the small one."""
    if not small:
        outer = x[0] if x else 1
        return outer, 1, count(x, 1)
    first = layer.options.axis % len(x)
    return count(x, 0, first), count(small), count(x, first + len(small))


def meets_channels(layer: Layer, x: Shape, small: Shape) -> bool:
    """Whether the small array has one element for each channel, or for each channel of each item: then the large one
    may lie in blocks of channels, where it has the element's number all the same."""
    return bool(small) and layer.options.axis % len(x) + len(small) == 2
