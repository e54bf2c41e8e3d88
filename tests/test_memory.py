"""Arenas, and the plan of who lies where."""

import numpy as np
import pytest

from layerforge import memory
from layerforge.device import cpu
from layerforge.memory import Arena, Interval, aligned, plan, sequence


def overlap(a, b):
    return a.first <= b.last and b.first <= a.last


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_is_needed_at_once_overlaps(seed):
    rng = np.random.default_rng(seed)
    intervals = []
    for _ in range(int(rng.integers(1, 40))):
        first = int(rng.integers(0, 30))
        intervals.append(Interval(int(rng.integers(0, 500)), first, first + int(rng.integers(0, 6))))
    offsets, total = plan(intervals)
    for i, (at, one) in enumerate(zip(offsets, intervals, strict=True)):
        assert at % memory.ALIGNMENT == 0
        assert at + one.size <= total
        for other_at, other in list(zip(offsets, intervals, strict=True))[:i]:
            if overlap(one, other) and one.size and other.size:
                assert at + one.size <= other_at or other_at + other.size <= at
    peak = max(sum(aligned(i.size) for i in intervals if i.first <= step <= i.last) for step in range(40))
    assert peak <= total <= sum(aligned(i.size) for i in intervals)


def test_a_chain_takes_its_peak():
    sizes = [64 * n for n in (3, 9, 4, 7, 1, 8, 8, 2)]
    offsets, total = plan([Interval(size, i, i + 1) for i, size in enumerate(sizes)])
    assert total == 16 * 64
    assert len(offsets) == len(sizes)


def test_more_rounds_where_the_first_takes_too_much(monkeypatch):
    """Neither the largest first nor the longest first finds what fits; who came to lie highest then goes earlier."""
    intervals = [Interval(64 * size, first, last) for size, first, last in ((2, 1, 4), (2, 1, 1), (2, 0, 3), (3, 4, 4))]
    assert plan(intervals) == ([256, 128, 0, 0], 6 * 64)
    for rounds in (0, 1):
        monkeypatch.setattr(memory, "ROUNDS", rounds)
        assert plan(intervals)[1] == 7 * 64


def test_nothing_to_plan():
    assert plan([]) == ([], 0)
    assert plan([Interval(0, 0, 5)]) == ([0], 0)


def test_sequence():
    assert sequence([1, 64, 65, 0, 3]) == ([0, 64, 128, 256, 256], 320)
    assert sequence([]) == ([], 0)


def test_an_arena_is_taken_when_it_is_asked_for():
    arena = Arena(cpu, 128, np.float32)
    assert (arena.taken, arena.bytes, arena.version) == (False, 0, 0)
    array = arena.array
    assert array.shape == (128,) and array.dtype == np.float32 and not array.any()
    assert arena.array is array
    assert (arena.taken, arena.bytes) == (True, 512)
