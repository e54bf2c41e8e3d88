"""The ring: the batches that threads make ahead of whoever takes them.

What a batch is made of is the business of `Work`: pieces of some rows, each by its running number alone. So neither the
number of threads nor their turns change what is in a batch.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import DataError


class Batch(NamedTuple):
    """``data`` float32 (N, C, H, W); ``labels`` float64 (N, ...), which holds every integer and every float exactly."""

    data: np.ndarray
    labels: np.ndarray


def empty_batch(batch_size: int, shape: tuple[int, ...], label_shape: tuple[int, ...]) -> Batch:
    """Memory for a batch of images and their labels."""
    return Batch(np.empty((batch_size, *shape), np.float32), np.empty((batch_size, *label_shape), np.float64))


class Work(Protocol):
    """How batches are made. Everything but `open` and `reseed` is called by several threads at once."""

    batch_size: int  # rows

    @property
    def rows(self) -> int:
        """How many rows a piece has that one thread makes at once; the last one of a batch may have fewer."""

    @property
    def uri(self) -> str:
        """What messages call the source."""

    def open(self) -> None:
        """Makes ready, before the first batch."""

    def shape(self, index: int) -> tuple[int, ...]:
        """(C, H, W) of row ``index``, counted from the first row of the first batch."""

    def empty(self, shape: tuple[int, ...]) -> Any:
        """Memory for a batch of rows of this shape: `Batch`, other arrays, or what else `fill` knows."""

    def fill(self, slot: Slot, row: int, count: int, index: int) -> None:
        """Makes ``count`` rows of ``slot.batch`` from ``row`` on, the first of them number ``index`` as in `shape`.
        Raises what is wrong with the first that cannot be made."""

    def reseed(self, seed: int) -> None:
        """Takes random numbers from another seed from now on."""


class Slot:
    """One batch of the ring."""

    def __init__(self, batch: Any):
        self.batch = batch
        self.done = 0  # pieces that are ready, or have failed
        self.errors: dict[int, BaseException] = {}  # by piece

    def clear(self) -> None:
        self.done = 0
        self.errors.clear()


class Ring:
    """The batches that are made ahead, and the threads that make them.

    Batch ``b`` has the rows from start + b * batch_size on and lies in slot b % slots. Threads claim pieces in order,
    up to ``slots`` batches ahead of those that were given back.
    """

    def __init__(self, work: Work, slots: int, start: int):
        self.work = work
        self.start = start
        self.taken = 0  # batches handed out
        self.freed = 0  # of those, how many came back
        self._count = slots
        self._slots: list[Slot] = []
        self._pieces = 0  # of a batch
        self._claimed = 0  # pieces
        self._active = 0  # threads within a piece
        self._changed = threading.Condition()
        self._paused = False
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def started(self) -> bool:
        """Whether a batch was asked for."""
        return bool(self._slots)

    def make(self) -> Any:
        """The next batch, made here and now."""
        self._allocate()
        slot = self._slots[0]
        if not slot.done:
            for piece in range(self._pieces):
                self._fill(self.taken, piece)
            slot.done = self._pieces
        return slot.batch

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
            self._pieces = -(-self.work.batch_size // self.work.rows)
            self._slots = [Slot(self.work.empty(shape)) for _ in range(self._count)]

    def _fill(self, batch: int, piece: int) -> None:
        """Makes a piece of a batch, both counted from the start."""
        size, row = self.work.batch_size, piece * self.work.rows
        count = min(self.work.rows, size - row)
        self.work.fill(self._slots[batch % self._count], row, count, self.start + batch * size + row)

    def wait(self) -> Any:
        """Waits for the next batch. Raises the error of its first piece that has one."""
        slot = self._slots[self.taken % self._count]
        with self._changed:
            self._changed.wait_for(lambda: slot.done == self._pieces)
        if slot.errors:
            raise slot.errors[min(slot.errors)]
        return slot.batch

    def release(self) -> None:
        """The batch that was taken may be overwritten."""
        with self._changed:
            if self._slots:
                self._slots[self.freed % self._count].clear()
            self.freed += 1
            self._changed.notify_all()

    def restart(self, position: int, seed: int | None) -> None:
        """Forgets what was made and goes on from another row."""
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
        return not self._paused and self._claimed < (self.freed + self._count) * self._pieces

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._room())
                if self._closed:
                    return
                number = self._claimed
                self._claimed += 1
                self._active += 1
            batch, piece = divmod(number, self._pieces)
            slot = self._slots[batch % self._count]
            error: BaseException | None = None
            try:
                self._fill(batch, piece)
            except BaseException as reason:
                error = reason
            with self._changed:
                if error is not None:
                    slot.errors[piece] = error
                slot.done += 1
                self._active -= 1
                if slot.done == self._pieces or self._paused:
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
