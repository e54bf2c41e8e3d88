"""The loader: threads that read, decode and transform records ahead of the net, into a ring of batches.

Decoding and transforming release the GIL, so threads are enough. Which record goes where in which batch, and how it is
cropped, follows from its running number alone: the number of threads changes nothing but the speed.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
import weakref
from typing import NamedTuple

import numpy as np

from ..datum import Datum
from ..errors import DataError, LayerForgeError, ShapeError
from .decode import Image
from .shuffle import Order
from .source import BadRecord, Source
from .transform import Transformer

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """``data`` float32 (N, C, H, W); ``labels`` float64 (N,), which holds every integer and every float exactly."""

    data: np.ndarray
    labels: np.ndarray


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Loader:
    """Batches of a source, in order, epoch after epoch.

    ``threads``: how many work ahead; 0 makes each batch when it is asked for; None takes as many as there are cores.
    ``prefetch``: the batches in the ring. ``start``: the running number of the first record, for a resumed run.
    ``shuffle``: a new order in every epoch, from (seed, stream). ``skip_bad``: a damaged record is logged, counted in
    ``skipped`` and replaced by the next good one instead of raising.

    All records of a batch have one shape; with batches of one, each may have its own. `next` raises what went wrong
    with a record of that batch: DataError, or ShapeError for one of another shape. Threads start with the first batch
    and end with `close`, or with the loader; the source is the caller's to close, after that.
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
        self.source = source
        self.batch_size = batch_size
        self.threads = cores() if threads is None else threads
        self.wait_seconds = 0.0  # how long `next` has waited, in all
        work = _Work(source, transformer, batch_size, Order(len(source), shuffle, seed, stream), skip_bad)
        self._ring = _Ring(work, max(1, prefetch) if self.threads else 1, start)
        # The threads hold the ring, not the loader: it may vanish, also at the end of the process, and ends them.
        self._end = weakref.finalize(self, self._ring.close)
        self._lent = False

    @property
    def position(self) -> int:
        """How many records `next` has handed out, over all epochs; ``start`` of a loader that is to go on here."""
        return self._ring.start + self._ring.taken * self.batch_size

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the first record becomes. Raises what is wrong with it."""
        return self._ring.work.record(self._ring.start)[2]

    @property
    def skipped(self) -> int:
        """How many damaged records were skipped so far, those of batches made ahead included."""
        return self._ring.work.skipped

    def next(self) -> Batch:
        """The next batch. Its arrays belong to the ring again after `release`, or with the next `next`."""
        self.release()
        batch = self._wait()
        self._ring.taken += 1
        self._lent = True
        return batch

    def peek_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the next batch, before it is taken; for batches of one, where it may differ."""
        if not self._ring.started:
            return self._ring.work.record(self.position)[2]
        self.release()
        channels, height, width = self._wait().data.shape[1:]
        return channels, height, width

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

    def _wait(self) -> Batch:
        begin = time.perf_counter()
        try:
            if not self.threads:
                return self._ring.make()
            self._ring.run(self.threads)
            return self._ring.wait()
        finally:
            self.wait_seconds += time.perf_counter() - begin


class _Work:
    """What it takes to make one record of a batch."""

    def __init__(self, source: Source, transformer: Transformer, batch_size: int, order: Order, skip_bad: bool):
        self.source = source
        self.transformer = transformer
        self.batch_size = batch_size
        self.order = order
        self.skip_bad = skip_bad
        self.bad: set[int] = set()
        self.skipped = 0
        self._lock = threading.Lock()

    def reseed(self, seed: int) -> None:
        self.order.reseed(seed)
        self.transformer.seed = seed

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
        raise DataError(f'source "{self.source.uri}": every one of its {len(self.source)} records is damaged')

    def fill(self, slot: _Slot, row: int, index: int) -> None:
        """Puts a record into a row of a batch."""
        position, datum, shape, image = self.record(index)
        first = slot.data.shape[1:]
        if shape != first:
            if self.batch_size > 1:
                raise ShapeError(
                    f"{self.source.describe(position)}: it becomes {shape}, the first record {first}, but "
                    "a batch needs one shape: write crop_size, or batch_size: 1, or make the records of one size"
                )
            slot.data = np.empty((1, *shape), np.float32)
        self.transformer(image, slot.data[row], index)
        slot.labels[row] = datum.label

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


class _Slot:
    """One batch of the ring."""

    def __init__(self, batch_size: int, shape: tuple[int, ...]):
        self.data = np.empty((batch_size, *shape), np.float32)
        self.labels = np.empty(batch_size, np.float64)
        self.done = 0  # rows that are ready, or have failed
        self.errors: dict[int, BaseException] = {}  # by row

    def clear(self) -> None:
        self.done = 0
        self.errors.clear()


class _Ring:
    """The batches that are made ahead, and the threads that make them.

    Batch ``b`` has the records from start + b * batch_size on and lies in slot b % slots. Threads claim records in
    order, up to ``slots`` batches ahead of those that were given back.
    """

    def __init__(self, work: _Work, slots: int, start: int):
        self.work = work
        self.start = start
        self.taken = 0  # batches handed out
        self.freed = 0  # of those, how many came back
        self._count = slots
        self._slots: list[_Slot] = []
        self._claimed = 0  # records
        self._active = 0  # threads within a record
        self._changed = threading.Condition()
        self._paused = False
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def started(self) -> bool:
        """Whether a batch was asked for."""
        return bool(self._slots)

    def make(self) -> Batch:
        """The next batch, made here and now."""
        self._allocate()
        slot = self._slots[0]
        if not slot.done:
            for row in range(self.work.batch_size):
                self.work.fill(slot, row, self.start + self.taken * self.work.batch_size + row)
            slot.done = self.work.batch_size
        return Batch(slot.data, slot.labels)

    def run(self, threads: int) -> None:
        """Starts the threads, unless they run."""
        if not self._threads:
            self._allocate()
            for i in range(threads):
                # A daemon: one that hangs in a broken file system must not keep the process from ending.
                thread = threading.Thread(target=self._work, name=f"layerforge-loader-{i}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _allocate(self) -> None:
        if self._closed:
            raise DataError(f'source "{self.work.source.uri}": its loader is closed')
        if not self._slots:
            self.work.source.open()
            shape = self.work.record(self.start)[2]
            self._slots = [_Slot(self.work.batch_size, shape) for _ in range(self._count)]

    def wait(self) -> Batch:
        """Waits for the next batch. Raises the error of its first record that has one."""
        slot = self._slots[self.taken % self._count]
        with self._changed:
            self._changed.wait_for(lambda: slot.done == self.work.batch_size)
        if slot.errors:
            raise slot.errors[min(slot.errors)]
        return Batch(slot.data, slot.labels)

    def release(self) -> None:
        """The batch that was taken may be overwritten."""
        with self._changed:
            if self._slots:
                self._slots[self.freed % self._count].clear()
            self.freed += 1
            self._changed.notify_all()

    def restart(self, position: int, seed: int | None) -> None:
        """Forgets what was made and goes on from another record."""
        with self._changed:
            self._paused = True
            try:
                self._changed.wait_for(lambda: not self._active)
                for slot in self._slots:
                    slot.clear()
                if seed is not None:
                    self.work.reseed(seed)
                self.start, self.taken, self.freed, self._claimed = position, 0, 0, 0
            finally:
                self._paused = False
                self._changed.notify_all()

    def _room(self) -> bool:
        return not self._paused and self._claimed < (self.freed + self._count) * self.work.batch_size

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._room())
                if self._closed:
                    return
                number = self._claimed
                self._claimed += 1
                self._active += 1
                start = self.start
            batch, row = divmod(number, self.work.batch_size)
            slot = self._slots[batch % self._count]
            error: BaseException | None = None
            try:
                self.work.fill(slot, row, start + number)
            except BaseException as reason:
                error = reason
            with self._changed:
                if error is not None:
                    slot.errors[row] = error
                slot.done += 1
                self._active -= 1
                if slot.done == self.work.batch_size or self._paused:
                    self._changed.notify_all()

    def close(self) -> None:
        """Ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads = []
