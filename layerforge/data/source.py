"""Sources: where samples come from. A source gives records, each a Datum, by position."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..datum import Datum
from ..errors import DataError, did_you_mean

LEVELDB = "CURRENT"  # a file that every LevelDB has
LMDB = "data.mdb"


class BadRecord(DataError):
    """A record whose bytes are damaged: the one kind of error that a loader may be asked to skip."""


class Source(ABC):
    """Records by position, 0 to len - 1. Reading is safe from several threads at once."""

    uri: str
    label_shape: tuple[int, ...] = ()  # of one record's label: () for a number
    # What to do where records become of several shapes.
    to_one_size = "write crop_size, or batch_size: 1, or make the records of one size"

    @abstractmethod
    def __len__(self) -> int:
        """The number of records, at least 1."""

    @abstractmethod
    def read(self, position: int) -> Datum:
        """The record at a position."""

    def borrow(self, position: int) -> Datum:
        """The same, but its bytes may be a view that must not be touched once the source is closed."""
        return self.read(position)

    def values(self, positions: Sequence[int]) -> list[Any] | None:
        """The bytes of records, each a Datum, on the terms of `borrow`; None where records do not lie there as such."""
        return None

    def label(self, position: int, datum: Datum) -> Any:
        """The label, or labels, of a record that was just read: what ``label_shape`` says."""
        return datum.label

    @abstractmethod
    def key(self, position: int) -> bytes:
        """The record's key."""

    def open(self) -> None:  # noqa: B027
        """Makes ready for many reads; what takes long, such as drawing sample data, happens here."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of files."""

    def describe(self, position: int) -> str:
        """How messages name a record: ``source "train_lmdb": record 5 (key "00000005_cat.jpg")``."""
        return f'source "{self.uri}": record {position} (key "{self.key(position).decode(errors="replace")}")'


def open_source(
    uri: str | os.PathLike[str],
    backend: Any = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    readahead: bool = True,
) -> Source:
    """Opens what ``data_param.source`` names: an LMDB, by its folder or its file, a LevelDB, or ``sample://...``.

    The folder's content decides, not ``backend``, whose default in Caffe is LEVELDB although nobody makes them today.
    ``readahead`` suits reading in order; switch it off for reading a large database in a random order. ``cache`` is
    where sample data goes, see `sample.cache_folder`. Raises DataError where there is nothing that can be read.
    """
    from .leveldb_source import LevelDbSource
    from .lmdb_source import LmdbSource
    from .sample_source import SCHEME, SampleSource

    uri = os.fspath(uri)
    if uri.startswith(SCHEME):
        return SampleSource(uri, cache, readahead=readahead)
    if "://" in uri:
        scheme = uri.partition("://")[0]
        hint = did_you_mean(scheme, ["sample"])
        raise DataError(f'source "{uri}": there is no kind of source "{scheme}://".{hint} Known: {SCHEME}, or a folder')
    path = Path(uri).expanduser()
    if not uri:
        raise DataError(f'no source is named. Write source: "my_lmdb", or source: "{SCHEME}shapes?split=train" to try')
    if not path.exists():
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise DataError(
            f'source "{uri}" does not exist{where}. Name a folder that holds an LMDB, '
            f'or write source: "{SCHEME}shapes?split=train" to try without one'
        )
    if path.is_dir() and not (path / LMDB).exists():
        if (path / LEVELDB).exists():
            return LevelDbSource(uri)
        raise DataError(
            f'source "{uri}" is a folder without a database: it holds neither {LMDB}, as an LMDB does, '
            f"nor {LEVELDB}, as a LevelDB does"
        )
    if path.is_file():
        _refuse_other_files(uri, path)
    return LmdbSource(uri, readahead=readahead)


def _refuse_other_files(uri: str, path: Path) -> None:
    """Says which layer reads a file that is no database."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f'source "{uri}" cannot be read: {error.strerror}') from error
    kind = ""
    if head.startswith(b"\x89HDF\r\n"):
        kind = "an HDF5 file. A layer of type HDF5Data reads such files, from a text file that lists them"
    elif head and b"\0" not in head:
        kind = "a text file. A layer of type ImageData reads lists of images, HDF5Data lists of HDF5 files"
    if kind:
        raise DataError(f'source "{uri}" is no database but {kind}')
