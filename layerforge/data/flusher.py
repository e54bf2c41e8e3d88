"""Writing to the disk behind the back of whoever makes more."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from queue import SimpleQueue

EVERY = 16 << 20  # bytes after which a file is worth flushing: less is left for the end, which nobody works beside


class Flusher:
    """Has files written from the system's memory to the disk by a thread, so that it is not all left to the end."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Path | None] = SimpleQueue()
        self._error: OSError | None = None
        # At once, so that a signal in the middle of it leaves nobody who would join a thread that is not there yet.
        self._thread = threading.Thread(target=self._work, name="layerforge-flusher", daemon=True)
        self._thread.start()

    def flush(self, path: Path) -> None:
        """Asks for a file to be written. Returns at once."""
        self._asked.put(path)

    def _work(self) -> None:
        while (path := self._asked.get()) is not None:
            try:
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as error:
                self._error = self._error or error

    def finish(self) -> None:
        """Waits until all that was asked for is done. Raises what the system said if it failed."""
        self.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends the thread. May be called again."""
        self._asked.put(None)
        self._thread.join()
