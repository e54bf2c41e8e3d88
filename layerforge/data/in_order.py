"""Work for several threads whose results are wanted in order."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..kernels import get_threads

TURN = 0.02  # seconds of work that a thread takes at a time, roughly

A = TypeVar("A")
B = TypeVar("B")


def in_order(
    function: Callable[[A], B], items: Iterable[A], threads: int | None = None, at_once: int = 16
) -> Generator[B, None, None]:
    """``function`` of each item, in order, computed by threads: by default as many as `kernels.set_threads` says.

    A thread takes ``at_once`` items, or fewer where that would keep it too long, so that few results wait in memory
    where each is much work, and most likely large. No more is done ahead than keeps all threads busy. What a function
    raises is raised when its turn comes. Close the generator to end early: nothing new is begun then.
    """
    threads = threads or get_threads()
    most = 1  # items a thread takes

    def some(chunk: list[A]) -> tuple[list[B], BaseException | None]:
        nonlocal most
        results: list[B] = []
        since = time.perf_counter()
        try:
            for item in chunk:
                results.append(function(item))
        except BaseException as error:
            return results, error
        taken = time.perf_counter() - since
        most = max(1, min(at_once, int(TURN * len(chunk) / max(taken, 1e-9))))
        return results, None

    rest = iter(items)
    waiting: deque[Future[tuple[list[B], BaseException | None]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="layerforge")
    try:
        while True:
            while len(waiting) <= 2 * threads and (chunk := list(itertools.islice(rest, most))):
                waiting.append(pool.submit(some, chunk))
            if not waiting:
                return
            results, error = waiting.popleft().result()
            yield from results
            if error is not None:
                raise error
    finally:
        pool.shutdown(cancel_futures=True)
