"""What commands share that work through many records: threads, a progress bar, an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeVar

from .. import logs

T = TypeVar("T")


@contextlib.contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Within the block OpenCV starts no threads of its own: ours, one for each core, are enough."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextlib.contextmanager
def tidy_end() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise SystemExit, as Ctrl-C raises KeyboardInterrupt: what was begun goes."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            before.setdefault(number, signal.signal(number, end))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def progress(items: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """The items, with a bar on a terminal: how many are done, how fast, and how long the rest will take."""
    if not logs.on_terminal(sys.stderr):
        yield from items
        return
    from tqdm import tqdm

    with tqdm(items, total=total, unit=f" {unit}", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
        yield from bar


def amount(size: float) -> str:
    """Bytes in a unit that suits them: ``38.1 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def folder_size(path: str) -> int:
    """The bytes that the files in a folder take on the disk."""
    return sum(entry.stat().st_blocks * 512 for entry in os.scandir(path) if entry.is_file())


def rate(count: int, seconds: float) -> str:
    return f"{count / max(seconds, 1e-9):,.0f}"
