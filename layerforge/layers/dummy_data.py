"""DummyData."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import fillers
from ..blob import Shape, View
from ..errors import DefinitionError
from ..layer import Layer


class DummyData(Layer):
    """Tops from fillers, for tests and benchmarks.

    Tops: any number, at least one, with one ``shape`` for each or one for all; or, as of old, ``num``, ``channels``,
    ``height`` and ``width``, each given once or for each. One ``data_filler`` for each, or one for all, or none for
    zeros. A constant top is filled once; the others are drawn anew in every pass.
    """

    bottoms = 0
    tops = (1, None)
    differentiable = False

    def setup(self, *bottom_shapes: Shape) -> None:
        self._filled: dict[int, Any] = {}  # by top: the array that holds its constant
        self.records = all(filler.type == "constant" for filler in self.options.data_filler)  # others the host draws

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        options, tops = self.options, len(self.param.top)
        legacy = ["num", "channels", "height", "width"]
        old = [list(getattr(options, name)) for name in legacy]
        if options.shape and any(old):
            raise DefinitionError(
                f"{self.title}: shape excludes num, channels, height and width: write shape alone", self.place("shape")
            )
        self._check_number(len(options.data_filler), (0, 1, tops), "data_filler")
        if not any(old):
            self._check_number(len(options.shape), (1, tops), "shape")
            shapes = [tuple(shape.dim) for shape in options.shape]
            return shapes * tops if len(shapes) == 1 else shapes
        for name, values in zip(legacy, old, strict=True):
            self._check_number(len(values), (1, tops), name)
        columns = [values * tops if len(values) == 1 else values for values in old]
        return list(zip(*columns, strict=True))

    def _check_number(self, given: int, allowed: tuple[int, ...], field: str) -> None:
        if given in allowed:
            return
        tops = len(self.param.top)
        raise DefinitionError(
            f"{self.title}: {field} is given {given} times for {tops} top{'s' * (tops > 1)}: "
            "give it once for all, or once for each",
            self.place(field),
        )

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        given = self.options.data_filler
        for i, y in enumerate(top):
            field = ("data_filler", i if len(given) > 1 else 0)
            if not given or given[field[1]].type == "constant":
                if self._filled.get(i) is not y.data:
                    y.data[...] = given[field[1]].value if given else 0
                    self._filled[i] = y.data
            else:
                seed, stream, step = self.random_key()
                fillers.fill(y.data, given[field[1]], (seed, stream + i, step), self.place(*field, "type"))
