"""The source ``sample://...``: an LMDB in the cache folder, drawn when it is first read for good."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..datum import Datum
from . import sample
from .lmdb_source import LmdbSource
from .sample import SCHEME
from .source import Source

__all__ = ["SCHEME", "SampleSource"]


class SampleSource(Source):
    """Drawn data. Until `open`, single records are drawn on demand, so that a net's shapes are known at once."""

    def __init__(self, uri: str, cache: str | os.PathLike[str] | None = None, *, readahead: bool = True):
        self.uri = uri
        self._sample = sample.parse(uri)
        self._cache = cache
        self._readahead = readahead
        self._database: LmdbSource | None = None

    def open(self) -> None:
        if self._database is None:
            folder = sample.database(self.uri, self._cache)
            self._database = LmdbSource(str(folder), readahead=self._readahead)

    def __len__(self) -> int:
        return self._sample.count

    def read(self, position: int) -> Datum:
        return self._database.read(position) if self._database else self._sample.datum(position)

    def borrow(self, position: int) -> Datum:
        return self._database.borrow(position) if self._database else self._sample.datum(position)

    def values(self, positions: Sequence[int]) -> list[Any] | None:
        return self._database.values(positions) if self._database else None

    def key(self, position: int) -> bytes:
        return self._sample.key(position)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
