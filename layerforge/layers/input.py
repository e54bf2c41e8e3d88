"""Input."""

from __future__ import annotations

from collections.abc import Sequence

from ..blob import Shape, View
from ..errors import DefinitionError
from ..layer import Layer


class Input(Layer):
    """The inputs of a net: their blobs are written from outside, and keep what was written.

    Tops: any number, at least one. ``input_param { shape { dim: 1 dim: 3 } }`` gives the shape of all of them, or each
    has one. Without a shape they wait, as (0,), for ``net.blobs["data"].reshape(...)``.
    """

    bottoms = 0
    tops = (1, None)
    differentiable = False

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        shapes = [tuple(shape.dim) for shape in self.options.shape]
        tops = len(self.param.top)
        if len(shapes) not in (0, 1, tops):
            raise DefinitionError(
                f"{self.title}: {len(shapes)} shapes for {tops} tops: give one shape for each, one for all, or none",
                self.place("shape"),
            )
        if not shapes:
            return [(0,)] * tops
        return shapes * tops if len(shapes) == 1 else shapes

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """The blobs hold what was written to them."""
