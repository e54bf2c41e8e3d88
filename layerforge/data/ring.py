"""The ring: the batches that threads make ahead of whoever takes them.

What a batch is made of is the business of `Work`: rows, each by its running number alone. So neither the number of
threads nor their turns change what is in a batch.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, Protocol

import numpy as np

from ..errors import DataError


class Batch(NamedTuple):
    """``data`` float32 (N, C, H, W); ``labels`` float64 (N, ...), which holds every integer and every float exactly."""

    data: np.ndarray
    labels: np.ndarray


class Work(Protocol):
    """How the rows of batches are made. Everything but `open` and `reseed` is called by several threads at once."""

    batch_size: int
    label_shape: tuple[int, ...]

    @property
    def uri(self) -> str:
        """What messages call the source."""

    def open(self) -> None:
        """Makes ready, before the first batch."""

    def shape(self, index: int) -> tuple[int, int, int]:
        """(C, H, W) of row ``index``, counted from the first row of the first batch."""

    def fill(self, slot: Slot, row: int, index: int) -> None:
        """Puts row ``index`` into a row of a batch. Raises what is wrong with it."""

    def reseed(self, seed: int) -> None:
        """Takes random numbers from another seed from now on."""


class Slot:
    """One batch of the ring."""

    def __init__(self, batch_size: int, shape: tuple[int, ...], label_shape: tuple[int, ...]):
        self.data = np.empty((batch_size, *shape), np.float32)
        self.labels = np.empty((batch_size, *label_shape), np.float64)
        self.done = 0  # rows that are ready, or have failed
        self.errors: dict[int, BaseException] = {}  # by row

    def clear(self) -> None:
        self.done = 0
        self.errors.clear()


class Ring:
    """The batches that are made ahead, and the threads that make them.

    Batch ``b`` has the records from start + b * batch_size on and lies in slot b % slots. Threads claim records in
    order, up to ``slots`` batches ahead of those that were given back.
    """

    def __init__(self, work: Work, slots: int, start: int):
        self.work = work
        self.start = start
        self.taken = 0  # batches handed out
        self.freed = 0  # of those, how many came back
        self._count = slots
        self._slots: list[Slot] = []
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
            raise DataError(f'source "{self.work.uri}": its loader is closed')
        if not self._slots:
            self.work.open()
            shape = self.work.shape(self.start)
            self._slots = [Slot(self.work.batch_size, shape, self.work.label_shape) for _ in range(self._count)]

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
