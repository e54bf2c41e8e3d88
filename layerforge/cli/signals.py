"""Signals: what asks a training run to stop, or for a snapshot, between two iterations."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger("layerforge.cli")

CONTINUE, STOP, SNAPSHOT = EFFECTS = ("none", "stop", "snapshot")
MEANING = {STOP: "will stop after this iteration, with a snapshot", SNAPSHOT: "a snapshot follows this iteration"}


class Signals:
    """Within a ``with`` block, turns signals into requests; call it to learn, and clear, what is requested.

    SIGINT (Ctrl-C) and SIGHUP have the effects that are asked for: "stop", "snapshot" or "none". SIGTERM stops. A
    second SIGINT after one that stops raises KeyboardInterrupt at once. ``log_is_gone`` is asked each time too: nobody
    reads the log any more, so the run stops as well.

    ``stopped_by`` is the number of the signal that stopped the run, or None.
    """

    def __init__(self, sigint: str = STOP, sighup: str = SNAPSHOT, log_is_gone: Callable[[], bool] = lambda: False):
        self.effects = {signal.SIGINT: sigint, signal.SIGTERM: STOP}
        if hasattr(signal, "SIGHUP"):
            self.effects[signal.SIGHUP] = sighup
        self.log_is_gone = log_is_gone
        self.requested = CONTINUE
        self.stopped_by: int | None = None
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for number in self.effects:
                self.before[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        effect = self.effects[signal.Signals(number)]
        name = signal.Signals(number).name
        if effect == STOP:
            if number == signal.SIGINT and self.stopped_by == signal.SIGINT:
                raise KeyboardInterrupt
            self.stopped_by = number
        if effect == CONTINUE:
            return
        if self.requested != STOP:
            self.requested = effect
        again = " Ctrl-C again stops at once." if number == signal.SIGINT and effect == STOP else ""
        log.info("%s: %s.%s", name, MEANING[effect], again)

    def __call__(self) -> str:
        """What is requested since the last call."""
        if self.log_is_gone() and self.stopped_by is None:
            self.stopped_by = signal.SIGPIPE
            return STOP
        requested, self.requested = self.requested, CONTINUE
        return requested
