"""A new LMDB."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .flusher import EVERY, Flusher
from .source import LMDB

AT_ONCE = 1000  # records of a transaction, at most
BATCH = 1 << 20  # bytes of a transaction, roughly, at most: more, and LMDB takes fresh memory for them each time
FIRST_MAP = 64 << 20  # bytes: the most that the database may hold, doubled whenever it is full


class LmdbWriter:
    """Writes records into a folder; quickest in the order of their keys. It may grow as large as the disk is.

    The folder is a database once `finish` has run.
    """

    def __init__(self, folder: str | os.PathLike[str], first_map: int = FIRST_MAP):
        import lmdb

        self.folder = Path(folder)
        self._map = first_map
        self._environment: Any = lmdb.open(os.fspath(folder), map_size=first_map, sync=False, metasync=False)
        self._batch: list[tuple[bytes, bytes | memoryview]] = []
        self._bytes = 0
        self._unflushed = 0
        self._flusher = Flusher()

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        self._batch.append((key, value))
        self._bytes += len(value)
        if self._bytes >= BATCH or len(self._batch) >= AT_ONCE:
            self._commit()

    def _commit(self) -> None:
        import lmdb

        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._batch:
                        if not transaction.put(key, value, append=True):  # the key is not the greatest so far
                            transaction.put(key, value)
                break
            except lmdb.MapFullError:
                self._map *= 2
                self._environment.set_mapsize(self._map)
        self._batch.clear()
        self._unflushed += self._bytes
        self._bytes = 0
        if self._unflushed >= EVERY:
            self._flusher.flush(self.folder / LMDB)
            self._unflushed = 0

    def finish(self) -> None:
        """Writes everything to the disk."""
        self._commit()
        self._flusher.finish()
        self._environment.sync(True)
        self.close()
        (self.folder / "lock.mdb").unlink(missing_ok=True)

    def close(self) -> None:
        """Lets go of files. May be called again."""
        self._flusher.close()
        self._environment.close()


def write_lmdb(folder: str | os.PathLike[str], records: Iterable[tuple[bytes, bytes]]) -> None:
    """Makes a new LMDB of pairs of key and value. Raises OSError or lmdb.Error where it cannot be written."""
    writer = LmdbWriter(folder)
    try:
        for key, value in records:
            writer.put(key, value)
        writer.finish()
    finally:
        writer.close()
