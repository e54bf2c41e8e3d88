"""Windows that slide over the spatial axes: kernel, stride, pad and dilation, in each of Caffe's spellings.

Every option may be given once for all axes, once per axis (where its field is repeated), or for two axes as ``_h`` and
``_w``. Convolution, Deconvolution, Im2col and Pooling read theirs here.

>>> windows = Windows(kernel=(11, 11), stride=(4, 4), pad=(0, 0), dilation=(1, 1))
>>> windows.output((227, 227))
(55, 55)
>>> windows.input((55, 55))
(227, 227)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from .. import engines
from ..blob import Shape
from ..errors import DefinitionError
from ..layer import Layer, count

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """One number per spatial axis, each."""

    kernel: Axes
    stride: Axes
    pad: Axes
    dilation: Axes

    @property
    def extent(self) -> Axes:
        """How much of the input one window spans: dilation * (kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def output(self, spatial: Axes) -> Axes:
        """How many windows fit into an image: floor((size + 2 pad - extent) / stride) + 1; below 1 where none does."""
        return engines.output_shape(spatial, self.kernel, self.stride, self.pad, self.dilation)

    def input(self, windows: Axes) -> Axes:
        """The size of the smallest image that so many windows cover: stride * (windows - 1) + extent - 2 pad."""
        rows = zip(windows, self.extent, self.stride, self.pad, strict=True)
        return tuple(stride * (n - 1) + extent - 2 * pad for n, extent, stride, pad in rows)


@functools.lru_cache(maxsize=1024)
def geometry(x: Shape, axis: int, windows: Windows, num_output: int, group: int) -> engines.Geometry:
    """The convolution of x, its channels on ``axis``, as the engines want it. Axes before the channels are batch."""
    spatial = x[axis + 1 :]
    return engines.Geometry(
        batch=count(x, 0, axis),
        channels=x[axis],
        num_output=num_output,
        group=group,
        spatial=spatial,
        kernel=windows.kernel,
        stride=windows.stride,
        pad=windows.pad,
        dilation=windows.dilation,
        output=windows.output(spatial),
    )


def read(layer: Layer, axes: int) -> Windows:
    """The windows that a layer's options ask for. ``axes``: how many of bottom 0's axes are spatial.

    Raises DefinitionError for a missing kernel, for two spellings at once, for a number of values that fits neither one
    nor all axes, and for a kernel, stride or dilation of 0.
    """
    return Windows(
        kernel=per_axis(layer, "kernel_size", axes, least=1),
        stride=per_axis(layer, "stride", axes, default=1, least=1),
        pad=per_axis(layer, "pad", axes, default=0),
        dilation=per_axis(layer, _dilation(layer), axes, default=1, least=1),
    )


def _dilation(layer: Layer) -> str:
    """The field that dilation is written in: DeepLab's Caffe had it first and called it hole."""
    holes = [name for name in ("hole", *spellings("hole")) if given(layer, name)]
    if holes and given(layer, "dilation"):
        message = f"dilation and {holes[0]} are two spellings of one option: keep dilation"
        raise layer.error(message, holes[0], kind=DefinitionError)
    return "hole" if holes else "dilation"


def given(layer: Layer, field: str) -> list[int]:
    """What the options say in ``field``, which may be repeated, optional or unknown to the layer's message."""
    known = layer.options.DESCRIPTOR.fields_by_name.get(field)
    if known is None:
        return []
    value: Any = getattr(layer.options, field)
    if isinstance(value, int):
        return [value] if layer.options.HasField(field) else []
    return list(value)


def spellings(field: str) -> tuple[str, str]:
    """The fields for two axes apart: kernel_size -> kernel_h, kernel_w."""
    stem = field.removesuffix("_size")
    return f"{stem}_h", f"{stem}_w"


def per_axis(layer: Layer, field: str, axes: int, default: int | None = None, least: int = 0) -> Axes:
    """One of the four, for each of ``axes`` spatial axes; without a ``default`` it must be given."""

    def require(condition: Any, message: str, *place: Any) -> None:
        if not condition:
            raise layer.error(message, *place, kind=DefinitionError)

    together = given(layer, field)
    names = spellings(field)
    apart = [given(layer, name) for name in names]
    if any(apart):
        written = next(name for name, values in zip(names, apart, strict=True) if values)
        require(
            not together,
            f"{field} and {written} are two spellings of one option: keep {field}, or {' and '.join(names)}",
            written,
        )
        require(
            axes == 2,
            f"{written} is for 2 spatial axes, but {layer.describe()} has {axes}: write {field}, once for each axis",
            written,
        )
        for name, values in zip(names, apart, strict=True):
            require(values or default == 0, f"{written} is given without {name}: give both, or {field}", written)
        fields = [(name, values[0] if values else 0) for name, values in zip(names, apart, strict=True)]
    elif not together:
        require(default is not None or not axes, f"{field} is missing: write {field}: 3, say")
        return (default or 0,) * axes
    else:
        require(
            len(together) in (1, axes),
            f"{field} is given {len(together)} times for the {axes} spatial axes of {layer.describe()}:"
            " give it once, or once for each axis",
            field,
            axes if len(together) > axes else len(together) - 1,
        )
        fields = [(field, value) for value in together] * (axes if len(together) == 1 else 1)
    for name, value in fields:
        require(value >= least, f"{name}: {value} must be at least {least}", name)
    return tuple(value for _, value in fields)
