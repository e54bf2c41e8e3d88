"""A new LevelDB: tables in the order of the keys, and the list of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

from ..protobytes import number_bytes
from . import leveldb_format as form
from .flusher import EVERY, Flusher
from .source import LEVELDB

BLOCK = 4096  # bytes after which a block ends; an image has one of its own
TABLE = EVERY  # bytes after which a table ends
LEVEL = 6  # the last one: its size has no limit, so LevelDB has nothing to tidy when it opens the folder


class LevelDbWriter:
    """Writes records, given in the order of their keys, into a folder. Nothing is compressed: images hardly can be.

    The folder is a database once `finish` has run.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._number = 4  # of the table at hand; LevelDB's first numbers go to logs and lists
        self._sequence = 0
        self._tables: list[tuple[int, int, bytes, bytes]] = []  # number, size, first and last internal key
        self._table: _Table | None = None
        self._flusher = Flusher()

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        if self._table is None:
            self._table = _Table(self._path())
        self._sequence += 1
        self._table.add(key + (self._sequence << 8 | form.VALUE).to_bytes(8, "little"), value)
        if self._table.size >= TABLE:
            self._end_table()

    def _path(self) -> Path:
        """The table at hand."""
        return self.folder / f"{self._number:06}.ldb"

    def _end_table(self) -> None:
        if self._table is not None:
            self._table.finish()
            self._flusher.flush(self._path())
            self._tables.append((self._number, self._table.size, self._table.first, self._table.last))
            self._number += 1
            self._table = None

    def finish(self) -> None:
        """Writes the list of tables, and everything to the disk."""
        self._end_table()
        edit = b"".join(
            (
                number_bytes(form.COMPARATOR) + form.counted_bytes(form.BYTEWISE),
                number_bytes(form.LOG_NUMBER) + number_bytes(self._number + 1),
                number_bytes(form.PREVIOUS_LOG) + number_bytes(0),
                number_bytes(form.NEXT_FILE) + number_bytes(self._number + 2),
                number_bytes(form.LAST_SEQUENCE) + number_bytes(self._sequence),
                *(
                    number_bytes(form.NEW_FILE)
                    + number_bytes(LEVEL)
                    + number_bytes(number)
                    + number_bytes(size)
                    + form.counted_bytes(first)
                    + form.counted_bytes(last)
                    for number, size, first, last in self._tables
                ),
            )
        )
        manifest = f"MANIFEST-{self._number:06}"
        self._flusher.finish()
        _write(self.folder / manifest, form.log_bytes(iter([edit])))
        _write(self.folder / LEVELDB, f"{manifest}\n".encode())

    def close(self) -> None:
        """Lets go of files. May be called again."""
        self._flusher.close()
        if self._table is not None:
            self._table.file.close()


class _Table:
    """A table in the making."""

    def __init__(self, path: Path):
        self.file: IO[bytes] = open(path, "wb")  # noqa: SIM115 (closed by finish)
        self.size = 0
        self.first = self.last = b""
        self._block = _Block()
        self._index = _Block()

    def add(self, key: bytes, value: bytes | memoryview) -> None:
        self.first = self.first or key
        self.last = key
        self._block.add(key, value)
        if self._block.size >= BLOCK:
            self._end_block()

    def _end_block(self) -> None:
        if self._block.size:
            self._index.add(self.last, self._write(self._block))
            self._block = _Block()

    def _write(self, block: _Block) -> bytes:
        """Writes a block, and returns its handle."""
        parts = block.parts()
        handle = number_bytes(self.size) + number_bytes(sum(len(part) for part in parts))
        parts.append(form.TRAILER.pack(form.RAW, form.checksum(*parts, bytes([form.RAW]))))
        for part in parts:
            self.file.write(part)
            self.size += len(part)
        return handle

    def finish(self) -> None:
        self._end_block()
        handles = self._write(_Block()) + self._write(self._index)
        footer = handles.ljust(form.FOOTER - 8, b"\0") + form.MAGIC.to_bytes(8, "little")
        self.file.write(footer)
        self.size += len(footer)
        self.file.close()


class _Block:
    """A block in the making. Every key is written whole, and so every record is one where a search may begin."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes | memoryview] = []
        self._starts: list[int] = []

    def add(self, key: bytes, value: bytes | memoryview) -> None:
        self._starts.append(self.size)
        head = b"\0" + number_bytes(len(key)) + number_bytes(len(value)) + key
        self._parts += [head, value]
        self.size += len(head) + len(value)

    def parts(self) -> list[Any]:
        starts = self._starts or [0]
        return [*self._parts, b"".join(n.to_bytes(4, "little") for n in (*starts, len(starts)))]


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
