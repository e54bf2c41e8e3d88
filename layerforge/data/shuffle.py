"""The order of records: as they lie, or a new one in every epoch."""

from __future__ import annotations

import threading

import numpy as np

from ..random import philox

SALT = 0x5EED0FF5  # keeps these random numbers apart from those of the crops


def permutation(seed: int, stream: int, step: int, count: int) -> np.ndarray:
    """A random order of 0 to count - 1 that follows from the key: (count,) int64."""
    keys = philox(seed, stream, step, 2 * count).view(np.uint64)
    return np.argsort(keys, kind="stable")


class Order:
    """Maps the running number of a record, counted over all epochs, to its position in the source."""

    def __init__(self, count: int, shuffle: bool, seed: int = 0, stream: int = 0):
        self.count = count
        self.shuffle = shuffle
        self.seed, self.stream = seed, (stream ^ SALT) & 0xFFFFFFFF
        self._lock = threading.Lock()
        self._epochs: dict[int, np.ndarray] = {}

    def reseed(self, seed: int) -> None:
        """Changes the order of every epoch to that of another seed."""
        with self._lock:
            self.seed = seed
            self._epochs.clear()

    def __call__(self, index: int) -> int:
        epoch, position = divmod(index, self.count)
        if not self.shuffle:
            return position
        with self._lock:
            if epoch not in self._epochs:
                # Threads work around the end of an epoch on two of them at once, never on three.
                self._epochs = {e: order for e, order in self._epochs.items() if abs(e - epoch) == 1}
                self._epochs[epoch] = permutation(self.seed, self.stream, epoch, self.count)
            return int(self._epochs[epoch][position])
