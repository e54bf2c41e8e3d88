"""Data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ..blob import Shape, View
from ..data import Loader, Transformer, open_source
from ..data.shuffle import SALT
from ..errors import DataError, DefinitionError, ShapeError
from ..layer import Layer
from ..random import philox


class Data(Layer):
    """Batches of records from a database, decoded and transformed by threads that work ahead of the net.

    Tops: data (batch_size, C, H, W), of the shape that the first record has after its crop; label (batch_size), which
    may be left out. Records come in the order of their keys, over and over; ``shuffle: true`` gives every epoch its own
    order. With ``batch_size: 1`` and no crop, the shape follows the record. ``rand_skip`` starts somewhere in the
    first so many records. ``threads`` (0: one for each core) work up to ``prefetch`` batches ahead. ``skip_bad: true``
    replaces a damaged record by the next good one, and logs it.

    Raises DataError for a source that is missing, empty or damaged, naming the record, and ShapeError where
    ``transform_param`` does not fit a record.
    """

    bottoms = 0
    tops = (1, 2)
    differentiable = False

    def setup(self, *bottom_shapes: Shape) -> None:
        options = self.options
        if not options.batch_size:
            raise DefinitionError(f"{self.title}: batch_size must be at least 1", self.place("batch_size"))
        with self._explained():
            self.source = open_source(options.source, options.backend, readahead=not options.shuffle)
        with self._explained("transform_param"):
            self._transformer = Transformer(self.param.transform_param, self.phase, self.seed, self.stream)
        if options.force_encoded_color:
            self._transformer.color = True
        self._make_loader(self._first())
        # Asked for the next shape before each pass, because every record may have its own.
        self.dynamic = options.batch_size == 1 and self._transformer.crop is None  # type: ignore[misc]

    def _first(self) -> int:
        """The record to start with: chance decides below rand_skip."""
        if not self.options.rand_skip:
            return 0
        return int(philox(self.seed, (self.stream ^ SALT) & 0xFFFFFFFF, 2**63, 1)[0]) * self.options.rand_skip >> 32

    def _make_loader(self, start: int) -> None:
        self._loader = Loader(
            self.source,
            self._transformer,
            self.options.batch_size,
            threads=self.options.threads or None,
            prefetch=self.options.prefetch,
            start=start,
            shuffle=self.options.shuffle,
            seed=self.seed,
            stream=self.stream,
            skip_bad=self.options.skip_bad,
        )

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        size = self.options.batch_size
        with self._explained():
            shape = self._loader.peek_shape() if self.dynamic else self._loader.shape
        return [(size, *shape), (size,)][: len(self.param.top)]

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        with self._explained():
            batch = self._loader.next()
        self.require(
            batch.data.shape == top[0].shape,
            f'top "{top[0].name}" is {top[0].shape}, but a batch is {batch.data.shape}: only inputs can be reshaped',
            "top",
        )
        for y, values in zip(top, batch, strict=False):
            self.device.from_numpy(y.data, values)
        self._loader.release()

    @property
    def wait_seconds(self) -> float:
        """How long the net has waited for its batches, in all."""
        return self._loader.wait_seconds

    @property
    def skipped(self) -> int:
        """How many damaged records were skipped, if that was asked for."""
        return self._loader.skipped

    def data_state(self) -> dict[str, Any]:
        return {"position": self._loader.position}

    def set_data_state(self, state: dict[str, Any]) -> None:
        self._loader.seek(state["position"], self.seed)

    def skip(self, passes: int) -> None:
        self._loader.seek(self._first() + passes * self.options.batch_size, self.seed)

    def close(self) -> None:
        self._loader.close()
        self.source.close()

    @contextlib.contextmanager
    def _explained(self, field: str = "") -> Iterator[None]:
        """Puts this layer and the line of the field in front of what a source or a transformer says."""
        try:
            yield
        except (DataError, DefinitionError, ShapeError) as error:
            told = field or ("source" if isinstance(error, DataError) else "transform_param")
            raise self.error(error.message, told, kind=type(error)) from error
