"""Log lines: Caffe's (glog's) form for files, pipes and the parsers of either, and a calmer one for a terminal.

The modules of LayerForge log through Python's `logging`, below the logger ``layerforge``, and stay silent until
somebody listens. The command line does, with `start`; a script may, in either form::

    layerforge.logs.start(sys.stderr)
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from .errors import LayerForgeError

ROOT = logging.getLogger("layerforge")
#: For ``log.info(..., extra=FOR_PARSERS)``: a line that Caffe has, and that tells a person at a terminal nothing new.
FOR_PARSERS = {"for_parsers": True}

LETTERS = {logging.DEBUG: "I", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}
GLOG_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class GlogFormatter(logging.Formatter):
    """glog's form, which parsers of Caffe's logs read: ``I0210 13:39:22.381027 25210 solver.py:204] Iteration 0``.

    Severity, month and day, local time, thread, file and line. Every line of a message gets them.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = time.localtime(record.created)
        micro = int(record.created % 1 * 1e6)
        prefix = (
            f"{LETTERS.get(record.levelno, 'I')}{at.tm_mon:02}{at.tm_mday:02}"
            f" {at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}.{micro:06} {threading.get_native_id():5}"
            f" {record.filename}:{record.lineno}] "
        )
        return "\n".join(prefix + line for line in record.getMessage().split("\n"))


class CalmFormatter(logging.Formatter):
    """The time of day and the message; what follows its first line is indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        first, *rest = record.getMessage().split("\n")
        return "\n".join([f"{at}  {first}", *(f"{'':10}{line}" for line in rest)])


class Handler(logging.StreamHandler):
    """Writes log lines, above a live line where there is one.

    ``broken`` tells that whoever read the log is gone (`BrokenPipeError`). What fails here stops no training run.
    """

    def __init__(self, stream: IO[str], calm: bool):
        super().__init__(stream)
        self.setFormatter(CalmFormatter() if calm else GlogFormatter())
        self.calm = calm
        self.broken = False
        self.hide_live_line: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext

    def emit(self, record: logging.LogRecord) -> None:
        if self.calm and getattr(record, "for_parsers", False):
            return
        with self.hide_live_line():
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        import sys

        self.broken = self.broken or isinstance(sys.exc_info()[1], BrokenPipeError)


def on_terminal(stream: Any) -> bool:
    """Whether a person looks at the stream, on a terminal that can redraw a line."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty()) and os.environ.get("TERM") != "dumb"


def least_level() -> int:
    """The level below which nothing is logged: glog's ``GLOG_minloglevel``, 0 (everything) to 3."""
    value = os.environ.get("GLOG_minloglevel", "0")  # noqa: SIM112 (glog's spelling)
    return GLOG_LEVELS[min(int(value), 3)] if value.isdigit() else logging.INFO


def start(stream: IO[str], calm: bool | None = None) -> Handler:
    """Logs to a stream from now on: calmly on a terminal, in glog's form anywhere else, unless ``calm`` says which."""
    handler = Handler(stream, on_terminal(stream) if calm is None else calm)
    ROOT.addHandler(handler)
    ROOT.setLevel(least_level())
    ROOT.propagate = False
    return handler


def stop(handler: Handler) -> None:
    """Ends what `start` started."""
    ROOT.removeHandler(handler)
    ROOT.propagate = not ROOT.handlers
    if not ROOT.handlers:
        ROOT.setLevel(logging.NOTSET)


@contextlib.contextmanager
def to_folder(folder: str) -> Iterator[Handler]:
    """Logs to a new file too, ``layerforge.INFO.20260102-030405.678`` of the time and the process, within a block.

    Raises LayerForgeError where it cannot be made.
    """
    path = os.path.join(folder, f"layerforge.INFO.{time.strftime('%Y%m%d-%H%M%S')}.{os.getpid()}")
    try:
        file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise LayerForgeError(f'no log can be written to "{path}": {error.strerror}. Make the folder first') from None
    with file, to(file, calm=False) as handler:
        yield handler


@contextlib.contextmanager
def to(stream: IO[str], calm: bool | None = None) -> Iterator[Handler]:
    """Logs to a stream within a ``with`` block."""
    handler = start(stream, calm)
    try:
        yield handler
    finally:
        stop(handler)
