"""Arenas, and who lies where in them: intervals of use in, places in one arena out.

Two blobs that are never needed at the same time may lie in the same place. `plan` packs intervals greedily, each at
the lowest place where nothing overlaps it in both time and memory: first the largest first; then, where that takes more
than is ever needed at once, the longest first, and in some more rounds those earlier that came to lie highest (Joslin &
Clements, Squeaky wheel optimization, JAIR 1999). The best of all is within a few percent of the peak for the nets that
we know.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ALIGNMENT = 64  # elements: whole cache lines, and whole blocks of the solver's sweep
ROUNDS = 24  # of packing, each some milliseconds for the largest nets


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

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """All spans of steps."""
        return ((self.first, self.last), *self.again)

    @property
    def steps(self) -> int:
        """How many steps that are."""
        return sum(last - first + 1 for first, last in self.spans)


def aligned(size: int) -> int:
    """``size`` rounded up to a whole number of blocks."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan(intervals: Sequence[Interval]) -> tuple[list[int], int]:
    """The offset of every interval, and the size of the arena that holds them all.

    >>> plan([Interval(64, 0, 1), Interval(64, 1, 2), Interval(64, 2, 3)])
    ([0, 64, 0], 128)
    """
    sized = [i for i, interval in enumerate(intervals) if interval.size]
    best = _pack(intervals, sorted(sized, key=lambda i: (-intervals[i].size, intervals[i].first)))
    order = sorted(sized, key=lambda i: (-intervals[i].steps.bit_length(), -intervals[i].size, intervals[i].first))
    least = _peak([intervals[i] for i in sized])
    for _ in range(ROUNDS):
        if best[1] == least:
            break
        offsets, total = _pack(intervals, order)
        if total < best[1]:
            best = offsets, total
        for at, i in enumerate(order):  # who reaches highest goes earlier next time
            if offsets[i] + aligned(intervals[i].size) == total:
                order.insert(at // 2, order.pop(at))
    return best


def _pack(intervals: Sequence[Interval], order: Sequence[int]) -> tuple[list[int], int]:
    """Puts one after the other to the lowest place where nothing overlaps it; as `plan`."""
    offsets = [0] * len(intervals)
    number = sum(len(interval.spans) for interval in intervals)
    begins, ends, firsts, lasts = np.empty((4, number), np.int64)  # of the spans that are placed: where, and when
    placed = total = 0
    for i in order:
        size, spans = aligned(intervals[i].size), intervals[i].spans
        meets = np.zeros(placed, bool)
        for first, last in spans:
            meets |= (firsts[:placed] <= last) & (lasts[:placed] >= first)
        at = _lowest(begins[:placed][meets], ends[:placed][meets], size)
        offsets[i] = at
        for first, last in spans:
            begins[placed], ends[placed], firsts[placed], lasts[placed] = at, at + size, first, last
            placed += 1
        total = max(total, at + size)
    return offsets, total


def _peak(intervals: Sequence[Interval]) -> int:
    """What is needed at one step at most: no arena is smaller."""
    change: dict[int, int] = {}
    for interval in intervals:
        for first, last in interval.spans:
            change[first] = change.get(first, 0) + aligned(interval.size)
            change[last + 1] = change.get(last + 1, 0) - aligned(interval.size)
    return max(itertools.accumulate(change[step] for step in sorted(change)), default=0)


def _lowest(begins: np.ndarray, ends: np.ndarray, size: int) -> int:
    """The lowest place for so many elements between pieces that are taken."""
    order = np.argsort(begins)
    free = np.maximum.accumulate(np.concatenate(([0], ends[order])))  # from there on, up to the next piece
    room = np.flatnonzero(begins[order] - free[:-1] >= size)
    return int(free[room[0]] if room.size else free[-1])


def sequence(sizes: Sequence[int]) -> tuple[list[int], int]:
    """The offsets of arrays that lie one behind the other, each aligned, and their total size."""
    offsets = []
    at = 0
    for size in sizes:
        offsets.append(at)
        at += aligned(size)
    return offsets, at
