"""Arenas, and who lies where in them: intervals of use in, places in one arena out.

Two blobs that are never needed at the same time may lie in the same place. `plan` packs intervals greedily, the largest
first, each at the lowest place where nothing overlaps it in both time and memory: within a few percent of the peak for
the chains that networks are.
"""

from __future__ import annotations

import weakref
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 64  # elements: whole cache lines, and whole blocks of the solver's sweep


class Arena:
    """A flat array for many others, zeros at first; it is taken from the device when somebody asks for it.

    ``version`` counts the changes of what lies in it, as far as they are reported. Beside that people may hold arrays
    of it, and write to them when they like: see `hold` and `seen`.
    """

    def __init__(self, device: Any, size: int, dtype: Any):
        self.device = device
        self.size = size
        self.dtype = dtype
        self.version = 0
        self._array: Any = None
        self._held: dict[int, weakref.ref[Any]] = {}
        self._touched = 0
        self._shown = False

    def hold(self, array: Any) -> None:
        """Says that somebody holds an array of it, or a view of that array, for as long as ``array`` lives."""
        self._touched += 1
        held = weakref.ref(array, self._let_go)
        self._held[id(held)] = held

    def _let_go(self, held: weakref.ref[Any]) -> None:
        self._touched += 1
        del self._held[id(held)]

    def touch(self) -> None:
        """Says that a pass may have written to it."""
        self._touched += 1

    def show(self) -> None:
        """Says that from now on somebody may write to it unseen."""
        self._shown = True

    def seen(self) -> int | None:
        """Another number after whatever may have been written since the last call; None where nobody can tell."""
        if self._shown or self._held:
            return None
        return self.version + self._touched

    @property
    def array(self) -> Any:
        if self._array is None:
            self._array = self.device.zeros((self.size,), self.dtype)
        return self._array

    @property
    def taken(self) -> bool:
        return self._array is not None

    @property
    def bytes(self) -> int:
        """What it takes so far."""
        return self._array.nbytes if self.taken else 0


@dataclass(frozen=True)
class Interval:
    """A need for ``size`` elements from step ``first`` to step ``last``, both included, and in the spans ``again``."""

    size: int
    first: int
    last: int
    again: tuple[tuple[int, int], ...] = ()

    def meets(self, other: Interval) -> bool:
        """Whether there is a step at which both are needed."""
        return any(
            a[0] <= b[1] and b[0] <= a[1]
            for a in ((self.first, self.last), *self.again)
            for b in ((other.first, other.last), *other.again)
        )


def aligned(size: int) -> int:
    """``size`` rounded up to a whole number of blocks."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(intervals: Sequence[Interval]) -> tuple[list[int], int]:
    """The offset of every interval, and the size of the arena that holds them all.

    >>> plan([Interval(64, 0, 1), Interval(64, 1, 2), Interval(64, 2, 3)])
    ([0, 64, 0], 128)
    """
    offsets = [0] * len(intervals)
    placed: list[tuple[int, int, int]] = []  # (offset, end, number), by offset
    total = 0
    sized = [i for i, interval in enumerate(intervals) if interval.size]
    for i in sorted(sized, key=lambda i: (-intervals[i].size, intervals[i].first)):
        interval = intervals[i]
        size, at = aligned(interval.size), 0
        for begin, end, other in placed:
            if not interval.meets(intervals[other]):
                continue
            if at + size <= begin:
                break
            at = max(at, end)
        offsets[i] = at
        insort(placed, (at, at + size, i))
        total = max(total, at + size)
    return offsets, total


def sequence(sizes: Sequence[int]) -> tuple[list[int], int]:
    """The offsets of arrays that lie one behind the other, each aligned, and their total size."""
    offsets = []
    at = 0
    for size in sizes:
        offsets.append(at)
        at += aligned(size)
    return offsets, at
