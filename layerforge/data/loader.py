"""The loader: threads that read, decode and transform records ahead of the net, into a ring of batches.

Decoding and transforming release the GIL, so threads are enough. Which record goes where in which batch, and how it is
cropped, follows from its running number alone: the number of threads changes nothing but the speed.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..datum import Datum
from ..errors import DataError, LayerForgeError, ShapeError
from ..kernels import get_threads
from .decode import Image
from .raw import Pinned, RawBatch
from .ring import Batch, Ring, Slot, Work, empty_batch
from .shuffle import Order
from .source import BadRecord, Source
from .transform import Transformer

__all__ = ["Ahead", "Batch", "Loader"]

log = logging.getLogger(__name__)

W = TypeVar("W", bound=Work)

RUN = 16  # raw records that one thread copies at once


class Ahead(Generic[W]):
    """Batches that threads make ahead of time.

    Of images and their labels, a `Batch`, unless the work makes other arrays.

    ``threads``: how many work; 0: each batch is made when it is asked for; None: as many as `kernels.set_threads` says.
    ``prefetch``: the batches in the ring. ``start``: the running number of the first row, for a resumed run.

    `next` raises what went wrong with that batch. Threads start with the first batch and end with `close`, or
    with this object; a source is the caller's to close, after that.
    """

    def __init__(self, work: W, *, threads: int | None = None, prefetch: int = 4, start: int = 0):
        self.work = work
        self.threads = get_threads() if threads is None else threads
        self.wait_seconds = 0.0  # how long `next` has waited, in all
        self.ahead = max(1, prefetch) if self.threads else 1  # batches
        self._ring = Ring(work, self.ahead, start)
        # The threads hold the ring, not this object: it may vanish, also at the end of the process, and ends them.
        self._end = weakref.finalize(self, self._ring.close)
        self._lent = False

    @property
    def position(self) -> int:
        """How many rows `next` has handed out, over all epochs; ``start`` of a loader that is to go on here."""
        return self._ring.start + self._ring.taken * self.work.batch_size

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of what the first record becomes. Raises what is wrong with it."""
        return self.work.shape(self._ring.start)

    def next(self) -> Any:
        """The next batch. Its arrays belong to the ring again after `release`, or with the next `next`."""
        self.release()
        batch = self._wait()
        self._ring.taken += 1
        self._lent = True
        return batch

    def peek_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the next batch, before it is taken; for batches of one, where it may differ."""
        if not self._ring.started:
            return self.work.shape(self.position)
        self.release()
        return self._wait()[0].shape[1:]

    def release(self) -> None:
        """Gives the last batch's arrays back, once they are copied, so that the threads may go on."""
        if self._lent:
            self._lent = False
            self._ring.release()

    def seek(self, position: int, seed: int | None = None) -> None:
        """Goes on from another position, and with the random numbers of another seed if one is given."""
        self._lent = False
        self._ring.restart(position, seed)

    def close(self) -> None:
        """Ends the threads. May be called again, and after an interrupt."""
        self._end()

    def _wait(self) -> Any:
        begin = time.perf_counter()
        try:
            if not self.threads:
                return self._ring.make()
            self._ring.run(self.threads)
            return self._ring.wait()
        finally:
            self.wait_seconds += time.perf_counter() - begin


class Loader(Ahead["Records"]):
    """Batches of a source, in order, epoch after epoch.

    ``shuffle``: a new order in every epoch, from (seed, stream). ``skip_bad``: a damaged record is logged, counted in
    ``skipped`` and replaced by the next good one instead of raising.

    All records of a batch have one shape; with batches of one, each may have its own. `next` raises what went wrong
    with a record of that batch: DataError, or ShapeError for one of another shape.
    """

    def __init__(
        self,
        source: Source,
        transformer: Transformer,
        batch_size: int,
        *,
        threads: int | None = None,
        prefetch: int = 4,
        start: int = 0,
        shuffle: bool = False,
        seed: int = 0,
        stream: int = 0,
        skip_bad: bool = False,
    ):
        work = Records(source, transformer, batch_size, Order(len(source), shuffle, seed, stream), skip_bad)
        super().__init__(work, threads=threads, prefetch=prefetch, start=start)

    @property
    def skipped(self) -> int:
        """How many damaged records were skipped so far, those of batches made ahead included."""
        return self.work.skipped


class Records:
    """The work of a `Loader`: a row is a record of a source, decoded and transformed."""

    def __init__(self, source: Source, transformer: Transformer, batch_size: int, order: Order, skip_bad: bool):
        self.source = source
        self.transformer = transformer
        self.batch_size = batch_size
        self.label_shape = source.label_shape
        self.order = order
        self.skip_bad = skip_bad
        self.pinned: Pinned | None = None  # where the batches are images as bytes, what gives them memory
        self.capacity = 0  # bytes of the first image, if it is one of bytes
        self.plain: tuple[int, int, int] | None = None  # its shape, if they lie in planes as those of raw records do
        self.bad: set[int] = set()
        self.skipped = 0
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        return self.source.uri

    def open(self) -> None:
        self.source.open()

    @property
    def rows(self) -> int:
        # In batches of one, each record may have other channels than the one before.
        return RUN if self.pinned is not None and self.plain and self.batch_size > 1 else 1

    def reseed(self, seed: int) -> None:
        self.order.reseed(seed)
        self.transformer.seed = seed

    def shape(self, index: int) -> tuple[int, int, int]:
        _, _, shape, image = self.record(index)
        self.capacity = image.pixels.size if image.pixels.dtype == np.uint8 else 0
        self.plain = image.shape if self.capacity and not image.interleaved else None
        return shape

    def empty(self, shape: tuple[int, ...]) -> Batch | RawBatch:
        if self.pinned is not None and self.capacity:
            return RawBatch(self.pinned, self.capacity, (self.batch_size, *shape), self.label_shape)
        return empty_batch(self.batch_size, shape, self.label_shape)

    def record(self, index: int) -> tuple[int, Datum, tuple[int, int, int], Image]:
        """Record ``index``, or the next one that is not damaged: its position, what shape it becomes, its image."""
        for further in range(len(self.source)):
            position = self.order(index + further)
            try:
                return position, *self._shaped(position)
            except BadRecord as error:
                if not self.skip_bad:
                    raise
                self._skip(position, error)
        raise DataError(f'source "{self.uri}": every one of its {len(self.source)} records is damaged')

    def fill(self, slot: Slot, row: int, count: int, index: int) -> None:
        left = range(count) if self.rows == 1 else self._copy(slot.batch, row, count, index)
        for i in left:
            self._fill(slot, row + i, index + i)

    def _copy(self, batch: RawBatch, row: int, count: int, index: int) -> Sequence[int]:
        """Copies those records of a run whose images are as the first one's was: then nothing else can be wrong with
        them. Which are left, for `_fill`."""
        try:
            values = self.source.values([self.order(index + i) for i in range(count)])
        except DataError:  # of one record, which `_fill` will meet again
            values = None
        if values is None:
            return range(count)
        assert self.plain is not None
        return batch.copy(row, values, self.plain, self.transformer, index)

    def _fill(self, slot: Slot, row: int, index: int) -> None:
        position, datum, shape, image = self.record(index)
        batch = slot.batch
        raw = isinstance(batch, RawBatch)
        first = (batch.shape if raw else batch.data.shape)[1:]
        if shape != first:
            if self.batch_size > 1:
                raise ShapeError(
                    f"{self.source.describe(position)}: it becomes {shape}, the first record {first}, but "
                    f"a batch needs one shape: {self.source.to_one_size}"
                )
            slot.batch = self.empty(shape)
        if raw:
            slot.batch.put(row, image, self.transformer, index)
        else:
            self.transformer(image, slot.batch.data[row], index)
        slot.batch.labels[row] = self.source.label(position, datum)

    def _shaped(self, position: int) -> tuple[Datum, tuple[int, int, int], Image]:
        """A record, what shape it becomes, and its image. Errors name the record."""
        datum = self.source.borrow(position)
        try:
            image = self.transformer.decode(datum)
            return datum, self.transformer.output_shape(image), image
        except LayerForgeError as error:
            raise type(error)(f"{self.source.describe(position)}: {error.message}") from None

    def _skip(self, position: int, error: LayerForgeError) -> None:
        with self._lock:
            self.skipped += 1
            new = position not in self.bad
            self.bad.add(position)
        if new:
            log.warning("Skipped: %s", error)
