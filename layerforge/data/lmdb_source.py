"""Records from an LMDB: a folder with data.mdb in it, or such a file itself. The value of a record is a Datum."""

from __future__ import annotations

import contextlib
import itertools
import struct
import sys
import threading
import weakref
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..datum import Datum, parse_datum
from ..errors import DataError
from .source import LMDB, BadRecord, Source

MAGIC = 0xBEEFC0DE
# A meta page: its header; magic, version, address, mapsize; two databases (pad, which in the first is the page size;
# flags, depth; branch, leaf and overflow pages, entries, root); the last page, the transaction.
META = struct.Struct("=16x II QQ" + 2 * "IHH QQQQQ" + "QQ")
NEAR = 64  # positions that the cursor walks; further ones are looked up by their key

# py-lmdb refuses to open a file twice in a process, but two nets may well read one.
_environments: weakref.WeakValueDictionary[Path, _Environment] = weakref.WeakValueDictionary()
_opening = threading.Lock()


class _Environment:
    """An open LMDB, closed when the last source that reads it is gone."""

    def __init__(self, path: Path, readahead: bool):
        import lmdb

        options: dict[str, Any] = {"subdir": path.is_dir(), "readonly": True, "readahead": readahead, "create": False}
        try:
            self.lmdb = lmdb.open(str(path), **options)
        except lmdb.Error as error:
            if "already open" in str(error):  # by a script, which may look into what a net reads
                with _unguarded():
                    self.lmdb = lmdb.open(str(path), lock=False, **options)
                return
            # The lock file cannot be written: a read-only folder, or a file system without locks.
            self.lmdb = lmdb.open(str(path), lock=False, **options)

    def __del__(self) -> None:
        if hasattr(self, "lmdb"):
            self.lmdb.close()


@contextlib.contextmanager
def _unguarded() -> Iterator[None]:
    """Keeps py-lmdb from asking whether the process has a file open already.

    It asks because two that lock would lose each other's locks; one that does not lock has none to lose.
    """
    guard: Any = sys.modules.get("lmdb._envid")
    if guard is None or not hasattr(guard, "env_keys"):  # of py-lmdb 3
        yield
        return
    asked = guard.env_keys
    guard.env_keys = lambda path, subdir: ()
    try:
        yield
    finally:
        guard.env_keys = asked


class LmdbSource(Source):
    """An LMDB, read in the order of its keys without locking out its writers.

    A reader that goes forwards moves a cursor; one that jumps about makes an index of all keys first, once (about a
    second and 50 MB for a million records). Values are views of the mapped file.
    """

    def __init__(self, uri: str, *, readahead: bool = True):
        import lmdb

        self.uri = uri
        self._failure = lmdb.Error
        self._lock = threading.Lock()
        self._index: _Keys | None = None
        self._at = -1  # the cursor's position; -1: nowhere
        path = Path(uri).expanduser().resolve()
        _check_file(uri, path / LMDB if path.is_dir() else path)
        try:
            with _opening:
                environment = _environments.get(path)
                if environment is None:
                    environment = _environments[path] = _Environment(path, readahead)
            self._environment: _Environment | None = environment
            self._transaction = environment.lmdb.begin(buffers=True)
            self._count: int = self._transaction.stat()["entries"]
            self._cursor = self._transaction.cursor()
        except lmdb.Error as error:
            raise DataError(f'source "{uri}" cannot be opened as an LMDB: {error}') from error
        if not self._count:
            raise DataError(f'source "{uri}" is an LMDB without a single record')

    def __len__(self) -> int:
        return self._count

    def read(self, position: int) -> Datum:
        return self._parse(position, bytes(self._value(position)))

    def borrow(self, position: int) -> Datum:
        return self._parse(position, self._value(position))

    def values(self, positions: Sequence[int]) -> list[Any]:
        with self._lock:
            return [self._at_position(position).value() for position in positions]

    def key(self, position: int) -> bytes:
        with self._lock:
            return bytes(self._at_position(position).key())

    def _value(self, position: int) -> Any:
        (value,) = self.values([position])
        return value

    def _parse(self, position: int, value: Any) -> Datum:
        try:
            return parse_datum(value)
        except DataError as error:
            raise BadRecord(f"{self.describe(position)}: {error.message}") from None

    def _at_position(self, position: int) -> Any:
        """The cursor, on a position. The lock is held."""
        if not 0 <= position < self._count:
            raise DataError(f'source "{self.uri}" has no record {position}: it has {self._count}')
        if self._environment is None:
            raise DataError(f'source "{self.uri}" is closed')
        try:
            self._move(position)
        except self._failure as error:
            self._at = -1
            raise DataError(f'source "{self.uri}": record {position} cannot be read: {error}') from error
        return self._cursor

    def _move(self, position: int) -> None:
        """Puts the cursor on a position."""
        cursor = self._cursor
        if position == 0:
            cursor.first()
        elif self._at >= 0 and abs(position - self._at) <= NEAR:
            step = cursor.next if position > self._at else cursor.prev
            for _ in range(abs(position - self._at)):
                step()
        elif position <= NEAR:
            cursor.first()
            for _ in range(position):
                cursor.next()
        else:
            if self._index is None:
                self._index = _Keys(cursor, self._count)
            cursor.set_key(self._index[position])
        self._at = position

    def close(self) -> None:
        with self._lock:
            if self._environment is None:
                return
            self._cursor.close()
            self._transaction.abort()
            self._environment = None


class _Keys:
    """Every key in order, in two flat arrays: 1.2 million of 30 bytes take 46 MB."""

    def __init__(self, cursor: Any, count: int):
        cursor.first()
        keys = [bytes(key) for key in cursor.iternext(keys=True, values=False)]
        self.ends = array("q", itertools.accumulate(map(len, keys)))
        self.text = b"".join(keys)

    def __getitem__(self, position: int) -> bytes:
        return self.text[self.ends[position - 1] if position else 0 : self.ends[position]]


def _check_file(uri: str, path: Path) -> None:
    """Refuses a file that is no LMDB, or only the beginning of one: reading past its end would end the process."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            head = file.read(16 + 12)
            if len(head) < 28 or struct.unpack_from("=I", head, 16)[0] != MAGIC:
                raise DataError(f'source "{uri}" is not an LMDB: {path} does not begin like one')
            file.seek(0)
            blocks = [file.read(META.size)]
            page = META.unpack(blocks[0])[4] if len(blocks[0]) == META.size else 0
            file.seek(page)
            blocks.append(file.read(META.size))
    except OSError as error:
        raise DataError(f'source "{uri}" cannot be read: {path}: {error.strerror}') from error
    needed = META.size
    metas = [META.unpack(block) for block in blocks if len(block) == META.size]
    if metas and page:
        last_page, _ = max((meta[-2:] for meta in metas), key=lambda meta: meta[1])  # they take turns: the later counts
        needed = page * max(2, last_page + 1)
    if size < needed:
        raise DataError(
            f'source "{uri}" is cut short: {path} has {size} bytes and should have at least {needed}. Copy it again'
        )
