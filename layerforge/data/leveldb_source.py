"""Records from a LevelDB: a folder with a file CURRENT in it. The value of a record is a Datum."""

from __future__ import annotations

import mmap
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datum import Datum, parse_datum
from ..errors import DataError
from ..protobytes import Damage
from . import leveldb_format as form
from .source import LEVELDB, BadRecord, Source

MAPPED = 64  # files that are mapped into memory at a time: there may be more than a process may open
UNPACKED = 32  # blocks that are kept as they were decompressed; small records share one


class LevelDbSource(Source):
    """A LevelDB, read in the order of its keys. Nothing is locked and nothing is written: others may read it too.

    A LevelDB does not know how many records it has. So all its tables are looked through when it is opened: one or two
    seconds for 100,000 images. Values are views of the mapped file unless they were compressed, which the extra
    ``layerforge[leveldb]`` is for.
    """

    def __init__(self, uri: str):
        self.uri = uri
        self.path = Path(uri).expanduser()
        self._files: list[Path] = []
        self._logs: dict[int, bytes] = {}  # by the number in _files: the values within a log, in one piece
        self._mapped = _Recent(MAPPED)
        self._unpacked = _Recent(UNPACKED)
        self._closed = False
        _refuse_rocksdb(uri, self.path)
        manifest = self._current()
        version = self._read(manifest, form.read_manifest)
        if version.comparator != form.BYTEWISE:
            raise DataError(
                f'source "{uri}" orders its keys by {version.comparator.decode(errors="replace")}; '
                f"a LevelDB of Caffe does so by {form.BYTEWISE.decode()}"
            )
        self._records = _Records()
        for number, (size, _) in sorted(version.tables.items(), key=lambda item: item[1][1]):
            self._add_table(self._table(number, size, manifest))
        for path in sorted(self.path.glob("*.log")):
            if path.stem.isdigit() and (int(path.stem) >= version.log_number or int(path.stem) == version.previous_log):
                self._add_log(path)
        self._records.settle()
        if not len(self._records):
            raise DataError(f'source "{uri}" is a LevelDB without a single record')

    def __len__(self) -> int:
        return len(self._records)

    def read(self, position: int) -> Datum:
        return self._parse(position, bytes(self._value(position)))

    def borrow(self, position: int) -> Datum:
        return self._parse(position, self._value(position))

    def values(self, positions: Sequence[int]) -> list[Any]:
        return [self._value(position) for position in positions]

    def key(self, position: int) -> bytes:
        return self._records.key(self._require(position))

    def close(self) -> None:
        self._closed = True
        self._mapped.clear()
        self._unpacked.clear()

    def _require(self, position: int) -> int:
        if not 0 <= position < len(self._records):
            raise DataError(f'source "{self.uri}" has no record {position}: it has {len(self._records)}')
        if self._closed:
            raise DataError(f'source "{self.uri}" is closed')
        return position

    def _value(self, position: int) -> Any:
        file, begin, end, block, size = self._records.where(self._require(position))
        try:
            if file in self._logs:
                return memoryview(self._logs[file])[begin:end]
            data = self._map(file)
            if block >= 0:
                data = self._unpacked.get((file, block), lambda: form.unpacked(data, block, size))
            return memoryview(data)[begin:end]
        except Damage as damage:
            raise BadRecord(f"{self.describe(position)}: {self._files[file].name}: {damage}") from None

    def _parse(self, position: int, value: Any) -> Datum:
        try:
            return parse_datum(value)
        except DataError as error:
            raise BadRecord(f"{self.describe(position)}: {error.message}") from None

    # Opening.

    def _current(self) -> Path:
        """The list of tables that counts."""
        try:
            name = (self.path / LEVELDB).read_bytes().decode(errors="replace").rstrip("\n")
        except OSError as error:
            raise DataError(f'source "{self.uri}" cannot be read: {self.path / LEVELDB}: {error.strerror}') from error
        if not name.startswith("MANIFEST-") or "/" in name:
            raise DataError(f'source "{self.uri}" is not a LevelDB: its file {LEVELDB} names no MANIFEST')
        if not (self.path / name).is_file():
            raise DataError(f'source "{self.uri}" lacks its {name}. Copy it again')
        return self.path / name

    def _table(self, number: int, size: int, manifest: Path) -> Path:
        for path in (self.path / f"{number:06}.ldb", self.path / f"{number:06}.sst"):
            if path.is_file():
                found = path.stat().st_size
                if found < size:
                    raise DataError(
                        f'source "{self.uri}" is cut short: {path} has {found} bytes and should have {size}. '
                        "Copy it again"
                    )
                return path
        raise DataError(f'source "{self.uri}" lacks {number:06}.ldb, which its {manifest.name} lists. Copy it again')

    def _read(self, path: Path, reader: Callable[[Any], Any]) -> Any:
        """What a reader makes of a file. Errors name it."""
        try:
            return reader(_map_file(path))
        except OSError as error:
            raise DataError(f'source "{self.uri}" cannot be read: {path}: {error.strerror}') from error
        except Damage as damage:
            raise DataError(f'source "{self.uri}" is damaged: {path}: {damage}') from None
        except DataError as error:
            raise DataError(f'source "{self.uri}": {error.message}') from error

    def _map(self, file: int) -> Any:
        path = self._files[file]
        try:
            return self._mapped.get(file, lambda: _map_file(path))
        except OSError as error:
            raise DataError(f'source "{self.uri}" cannot be read: {path}: {error.strerror}') from error

    def _add_table(self, path: Path) -> None:
        file = len(self._files)
        self._files.append(path)

        def read(data: Any) -> None:
            for offset, size in form.table_blocks(data):
                only = form.only_record(data, offset, size)
                if only is not None:
                    form.decompressor()  # it is wanted soon: better say now that it is missing
                    self._records.add(*only, file, offset, size)
                    continue
                block = form.unpacked(data, offset, size)
                raw = data[offset + size] == form.RAW
                for key, begin, end in form.block_records(block):
                    if raw:
                        self._records.add(key, offset + begin, offset + end, file)
                    else:
                        self._records.add(key, begin, end, file, offset, size)

        self._read(path, read)

    def _add_log(self, path: Path) -> None:
        file = len(self._files)
        self._files.append(path)
        values = bytearray()

        def read(data: Any) -> None:
            for batch in form.log_records(data):
                for key, sequence, kind, begin, end in form.batch_records(batch):
                    place = len(values) + begin, len(values) + end
                    self._records.add(key + (sequence << 8 | kind).to_bytes(8, "little"), *place, file)
                values.extend(batch)

        self._read(path, read)
        self._logs[file] = bytes(values)


class _Records:
    """Where every record is, in flat arrays: 1.2 million take 100 MB."""

    def __init__(self) -> None:
        self._keys = bytearray()  # one behind the other
        self._ends = array("q")
        self._versions = array("Q")  # sequence << 8 | kind
        self._place = [array("q") for _ in range(5)]  # file, begin, end, block, size of the block
        self._last = b""
        self._in_order = True

    def add(self, key: bytes, begin: int, end: int, file: int, block: int = -1, size: int = 0) -> None:
        """Adds a record by its internal key."""
        user = key[:-8]
        version = int.from_bytes(key[-8:], "little")
        if (user <= self._last and self._ends) or version & 255 != form.VALUE:
            self._in_order = False
        self._last = user
        self._keys += user
        self._ends.append(len(self._keys))
        self._versions.append(version)
        for column, value in zip(self._place, (file, begin, end, block, size), strict=True):
            column.append(value)

    def settle(self) -> None:
        """Puts the records in order; of those with one key the latest counts, unless it says that the key is gone."""
        if self._in_order:
            return
        order = sorted(range(len(self._ends)), key=lambda i: (self.key(i), -self._versions[i]))
        kept, last = [], None
        for i in order:
            key = self.key(i)
            if key != last and self._versions[i] & 255 == form.VALUE:
                kept.append(i)
            last = key
        keys = [self.key(i) for i in kept]
        self._keys = bytearray(b"".join(keys))
        self._ends = array("q", np.cumsum([len(key) for key in keys], dtype=np.int64).tobytes())
        self._place = [array("q", (column[i] for i in kept)) for column in self._place]

    def __len__(self) -> int:
        return len(self._ends)

    def key(self, i: int) -> bytes:
        return bytes(self._keys[self._ends[i - 1] if i else 0 : self._ends[i]])

    def where(self, i: int) -> tuple[int, ...]:
        return tuple(column[i] for column in self._place)


class _Recent:
    """What was made last, by its key. Safe from several threads at once."""

    def __init__(self, most: int):
        self._most = most
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        made = make()
        with self._lock:
            self._made[key] = made
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return made

    def clear(self) -> None:
        with self._lock:
            self._made.clear()


def _map_file(path: Path) -> Any:
    """A file's bytes, mapped into memory."""
    with open(path, "rb") as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # it is empty
            return b""


def _refuse_rocksdb(uri: str, path: Path) -> None:
    if (path / "IDENTITY").exists() or any(path.glob("OPTIONS-*")):
        raise DataError(f'source "{uri}" is a RocksDB, which cannot be read here. Make an LMDB of the images')
