"""Work for several threads whose results are wanted in order."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from ..kernels import get_threads

TURN = 0.02  # seconds of work that a thread takes at a time, roughly

A = TypeVar("A")
B = TypeVar("B")


class _Turn(Generic[A, B]):
    """Some items, for the thread that comes first."""

    def __init__(self, items: list[A]):
        self.items = items
        self.results: list[B] = []
        self.error: BaseException | None = None
        self.taken = threading.Lock()
        self.done = threading.Event()

    def run(self, function: Callable[[A], B]) -> float | None:
        """Computes them, unless somebody does already. Returns the seconds it took."""
        if not self.taken.acquire(blocking=False):
            return None
        since = time.perf_counter()
        try:
            for item in self.items:
                self.results.append(function(item))
        except BaseException as error:
            self.error = error
        self.done.set()
        return time.perf_counter() - since


def in_order(
    function: Callable[[A], B], items: Iterable[A], threads: int | None = None, at_once: int = 16
) -> Generator[B, None, None]:
    """``function`` of each item, in order, computed by threads: by default as many as `kernels.set_threads` says.

    The caller's thread is one of them, while it waits. A thread takes ``at_once`` items, or fewer where that would keep
    it too long, so that few results wait in memory where each is much work, and most likely large. No more is done
    ahead than keeps all threads busy. What a function raises is raised when its turn comes. Close the generator to end
    early: nothing new is begun then.
    """
    threads = threads or get_threads()
    most = 1  # items a thread takes

    def run(turn: _Turn[A, B]) -> None:
        nonlocal most
        seconds = turn.run(function)
        if seconds is not None and turn.error is None:
            most = max(1, min(at_once, int(TURN * len(turn.items) / max(seconds, 1e-9))))

    rest = iter(items)
    turns: deque[_Turn[A, B]] = deque()
    pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="layerforge") if threads > 1 else None
    try:
        while True:
            while len(turns) <= 2 * threads and (some := list(itertools.islice(rest, most))):
                turns.append(_Turn(some))
                if pool is not None:
                    pool.submit(run, turns[-1])
            if not turns:
                return
            for turn in turns:
                if not turns[0].done.is_set():
                    run(turn)
            turn = turns.popleft()
            turn.done.wait()
            yield from turn.results
            if turn.error is not None:
                raise turn.error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
