"""What layers share that take their batches from a loader."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..blob import Shape, View
from ..data import Transformer
from ..data.loader import Ahead
from ..data.raw import RawBatch, Uploads
from ..data.shuffle import SALT
from ..errors import DataError, DefinitionError, ShapeError
from ..random import philox

if TYPE_CHECKING:
    from ..layer import Layer as Base
else:
    Base = object


log = logging.getLogger(__name__)

# What data layers had before transform_param: moved there in nets of that time, which say `layers`.
OLD = ("scale", "mean_file", "crop_size", "mirror")


class Batches(Base):
    """The part of a data layer that does not depend on its source, mixed into a Layer.

    A layer makes ``loader`` in its setup, and ``source`` if it has one to close. Its tops are the batches and, if
    there is a second one, their labels.
    """

    bottoms = 0
    tops: ClassVar[Any] = (1, 2)
    differentiable = False
    records = False

    loader: Ahead[Any]
    source: Any = None
    uploads: Uploads | None = None  # of images as bytes

    def require_batch_size(self) -> None:
        if not self.options.batch_size:
            raise DefinitionError(f"{self.title}: batch_size must be at least 1", self.place("batch_size"))

    def transformer(self) -> Transformer:
        """What ``transform_param`` says."""
        for name in OLD:
            if name in self.options.DESCRIPTOR.fields_by_name and self.options.HasField(name):
                log.warning(
                    "%s: %s: %s has no effect here, as in Caffe. Write transform_param { %s: ... }",
                    self.place(name),
                    self.title,
                    name,
                    name,
                )
        with self.explained("transform_param"):
            return Transformer(self.param.transform_param, self.phase, self.seed, self.stream)

    def first(self) -> int:
        """The record to start with: chance decides below rand_skip."""
        most = getattr(self.options, "rand_skip", 0)
        if not most:
            return 0
        return int(philox(self.seed, (self.stream ^ SALT) & 0xFFFFFFFF, 2**63, 1)[0]) * most >> 32

    def top_shapes(self, *bottom_shapes: Shape) -> Sequence[Shape]:
        work = self.loader.work
        with self.explained():
            shape = self.loader.peek_shape() if self.dynamic else self.loader.shape
        return [(work.batch_size, *shape), (work.batch_size, *work.label_shape)][: len(self.param.top)]

    def forward(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        self._settle()
        with self.explained():
            batch = self.loader.next()
        raw = isinstance(batch, RawBatch)
        shape = batch.shape if raw else batch[0].shape
        self.require(
            shape == top[0].shape,
            f'top "{top[0].name}" is {top[0].shape}, but a batch is {shape}: only inputs can be reshaped',
            "top",
        )
        if raw:  # the batch is given back when it is copied, before the next one is taken
            assert self.uploads is not None
            self.uploads.send(batch, top[0].data, self.loader.work.transformer)
            for y in top[1:]:
                self.device.from_numpy(y.data, batch.labels)
            return
        for y, values in zip(top, batch, strict=False):
            self.device.from_numpy(y.data, values)
        self.loader.release()

    def send_bytes(self) -> None:
        """Lets images go to the device as bytes, and be transformed there, where that is not the host."""
        if not self.device.is_host and not self.dynamic:
            self.loader.work.pinned = self.device.pinned
            self.uploads = Uploads(self.device)

    @property
    def wait_seconds(self) -> float:
        """How long the net has waited for its batches, in all."""
        return self.loader.wait_seconds

    def data_state(self) -> dict[str, Any]:
        return {"position": self.loader.position}

    def set_data_state(self, state: dict[str, Any]) -> None:
        self._settle()
        self.loader.seek(state["position"], self.seed)

    def skip(self, passes: int) -> None:
        self._settle()
        self.loader.seek(self.first() + passes * self.loader.work.batch_size, self.seed)

    def _settle(self) -> None:
        if self.uploads is not None:
            self.uploads.settle()

    def close(self) -> None:
        self._settle()
        self.loader.close()
        if self.source is not None:
            self.source.close()

    @contextlib.contextmanager
    def explained(self, field: str = "") -> Iterator[None]:
        """Puts this layer and the line of the field in front of what a source or a transformer says."""
        try:
            yield
        except (DataError, DefinitionError, ShapeError) as error:
            told = field or ("source" if isinstance(error, DataError) else "transform_param")
            raise self.error(error.message, told, kind=type(error)) from error
