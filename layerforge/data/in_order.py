"""Work for several threads whose results are wanted in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..kernels import get_threads

A = TypeVar("A")
B = TypeVar("B")


def in_order(
    function: Callable[[A], B], items: Iterable[A], threads: int | None = None, at_once: int = 8
) -> Generator[B, None, None]:
    """``function`` of each item, in order, computed by threads: by default as many as `kernels.set_threads` says.

    A thread takes ``at_once`` items, and no more is done ahead than keeps all threads busy. What a function raises is
    raised when its turn comes. Close the generator to end early: nothing new is begun then.
    """
    threads = threads or get_threads()

    def some(chunk: list[A]) -> list[B]:
        return [function(item) for item in chunk]

    rest = iter(items)
    waiting: deque[Future[list[B]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="layerforge")
    try:
        while True:
            while len(waiting) <= 2 * threads and (chunk := list(itertools.islice(rest, at_once))):
                waiting.append(pool.submit(some, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
