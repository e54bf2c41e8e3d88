"""LevelDB's files, read without LevelDB: the list of tables, the tables, and the log of what is in no table yet.

The library locks a database, writes to it when it only reads, and comes as no wheel for every Python; see
docs/decisions/006-own-leveldb.md. The format: github.com/google/leveldb, doc/table_format.md, doc/log_format.md.

All numbers are little-endian. A handle is an offset and a size, both varints. An internal key is a user's key and
8 bytes: sequence << 8 | kind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from ..native import _csrc
from ..protobytes import Damage, number_bytes, varint

MAGIC = 0xDB4775248B80FB57  # the last 8 bytes of a table
FOOTER = 48  # bytes: two handles, padded to 40, and the magic number
TRAILER = struct.Struct("<BI")  # behind each block of a table: how it is compressed, a checksum
RAW, SNAPPY = 0, 1
VALUE, DELETION = 1, 0  # kinds of a record

LOG_BLOCK = 32768
LOG_HEADER = struct.Struct("<IHB")  # checksum, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4

# The fields of a version edit, the records of a MANIFEST, by their tags.
COMPARATOR, LOG_NUMBER, NEXT_FILE, LAST_SEQUENCE, COMPACT_POINTER, DELETED_FILE, NEW_FILE, PREVIOUS_LOG = (
    1, 2, 3, 4, 5, 6, 7, 9,
)  # fmt: skip
BYTEWISE = b"leveldb.BytewiseComparator"


def checksum(*parts: Any) -> int:
    """The sum that LevelDB stores: CRC-32C, turned and moved, because sums of sums are weak."""
    crc = 0
    for part in parts:
        crc = _csrc.crc32c(part, crc)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def number(data: Any, at: int) -> tuple[int, int]:
    """A varint, and the position behind it."""
    return varint(data, at, len(data))


def counted(data: Any, at: int) -> tuple[bytes, int]:
    """Bytes with their length in front, and the position behind them."""
    length, at = number(data, at)
    if at + length > len(data):
        raise Damage(at, "a text is cut off")
    return bytes(data[at : at + length]), at + length


def counted_bytes(data: bytes) -> bytes:
    return number_bytes(len(data)) + data


# Logs


def log_records(data: Any) -> Iterator[bytearray]:
    """The records of a log. A last one that was not written to its end does not count, as in LevelDB."""
    whole = bytearray()
    at, end = 0, len(data)
    while at < end:
        left = LOG_BLOCK - at % LOG_BLOCK
        if left < LOG_HEADER.size:
            at += left
            continue
        if at + LOG_HEADER.size > end:
            return
        stored, length, kind = LOG_HEADER.unpack_from(data, at)
        begin = at + LOG_HEADER.size
        at = begin + length
        if kind == 0 and length == 0:  # the rest of the block is space that was set aside
            at = begin - LOG_HEADER.size + left
            continue
        if at > end:
            return
        if checksum(bytes([kind]), data[begin:at]) != stored:
            raise Damage(begin, f"the checksum at byte {begin - LOG_HEADER.size} is wrong")
        if kind in (FULL, FIRST):
            whole = bytearray()
        whole += data[begin:at]
        if kind in (FULL, LAST):
            yield whole
            whole = bytearray()


def log_bytes(records: Iterator[bytes]) -> bytes:
    """A log of these records."""
    out = bytearray()
    for record in records:
        done, first = 0, True
        while first or done < len(record):
            left = LOG_BLOCK - len(out) % LOG_BLOCK
            if left < LOG_HEADER.size:
                out += bytes(left)
                left = LOG_BLOCK
            piece = record[done : done + left - LOG_HEADER.size]
            done += len(piece)
            last = done == len(record)
            kind = (FULL if last else FIRST) if first else (LAST if last else MIDDLE)
            out += LOG_HEADER.pack(checksum(bytes([kind]), piece), len(piece), kind) + piece
            first = False
    return bytes(out)


def batch_records(batch: Any) -> Iterator[tuple[bytes, int, int, int, int]]:
    """The changes of a record of a log of data: key, sequence, kind, and where its value begins and ends."""
    if len(batch) < 12:
        raise Damage(0, "a batch is cut off")
    sequence, count = struct.unpack_from("<QI", batch)
    at = 12
    for change in range(count):
        if at >= len(batch):
            raise Damage(at, "a batch has fewer changes than it says")
        kind = batch[at]
        key, at = counted(batch, at + 1)
        length = 0
        if kind == VALUE:
            length, at = number(batch, at)
        elif kind != DELETION:
            raise Damage(at, f"a change is of the unknown kind {kind}")
        if at + length > len(batch):
            raise Damage(at, "a value is cut off")
        yield key, sequence + change, kind, at, at + length
        at += length


# The list of tables


@dataclass
class Version:
    """Which files are the database: tables with their sizes in bytes and first keys, and the logs from a number on."""

    comparator: bytes = BYTEWISE
    log_number: int = 0
    previous_log: int = 0
    tables: dict[int, tuple[int, bytes]] = field(default_factory=dict)


def read_manifest(data: Any) -> Version:
    """What a MANIFEST, a log of changes to the list of tables, amounts to."""
    version = Version()
    for record in log_records(data):
        at = 0
        while at < len(record):
            tag, at = number(record, at)
            if tag == COMPARATOR:
                version.comparator, at = counted(record, at)
            elif tag == LOG_NUMBER:
                version.log_number, at = number(record, at)
            elif tag == PREVIOUS_LOG:
                version.previous_log, at = number(record, at)
            elif tag in (NEXT_FILE, LAST_SEQUENCE):
                _, at = number(record, at)
            elif tag == COMPACT_POINTER:
                _, at = number(record, at)
                _, at = counted(record, at)
            elif tag == DELETED_FILE:
                _, at = number(record, at)
                table, at = number(record, at)
                version.tables.pop(table, None)
            elif tag == NEW_FILE:
                _, at = number(record, at)
                table, at = number(record, at)
                size, at = number(record, at)
                smallest, at = counted(record, at)
                _, at = counted(record, at)
                version.tables[table] = size, smallest[:-8]
            else:
                raise Damage(at, f"it has an entry of the unknown kind {tag}")
    return version


# Tables


def table_blocks(data: Any) -> Iterator[tuple[int, int]]:
    """Offset and size of each block of data in a table, in order."""
    if len(data) < FOOTER or struct.unpack_from("<Q", data, len(data) - 8)[0] != MAGIC:
        raise Damage(len(data), "it does not end like a LevelDB table")
    footer = data[len(data) - FOOTER :]
    _, at = number(footer, 0)
    _, at = number(footer, at)
    offset, at = number(footer, at)
    size, at = number(footer, at)
    index = unpacked(data, offset, size, check=True)
    for _, begin, end in block_records(index):
        handle = index[begin:end]
        offset, at = number(handle, 0)
        size, at = number(handle, at)
        if offset + size + TRAILER.size > len(data):
            raise Damage(offset, "a block lies behind its end")
        yield offset, size


def unpacked(data: Any, offset: int, size: int, check: bool = False) -> Any:
    """A block of a table: a view of it, or its bytes if they were compressed."""
    if offset + size + TRAILER.size > len(data):
        raise Damage(offset, "a block lies behind its end")
    method, stored = TRAILER.unpack_from(data, offset + size)
    block = memoryview(data)[offset : offset + size]
    if check and checksum(block, bytes([method])) != stored:
        raise Damage(offset, f"the checksum of the block at byte {offset} is wrong")
    if method == RAW:
        return block
    if method != SNAPPY:
        raise Damage(offset, f"a block is compressed in the unknown way {method}")
    cramjam = decompressor()
    try:
        return memoryview(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError:
        raise Damage(offset, f"the block at byte {offset} cannot be decompressed") from None


def decompressor() -> Any:
    """The package that decompresses what LevelDB compresses. Raises DataError where it is missing."""
    try:
        import cramjam
    except ImportError:
        raise DataError(
            "this LevelDB is compressed. To read it, type: pip install 'layerforge[leveldb]'"
            " (which installs cramjam), or make an LMDB of the images with convert-imageset"
        ) from None
    return cramjam


def block_records(block: Any) -> Iterator[tuple[bytes, int, int]]:
    """The records of a block: internal key, and where its value begins and ends."""
    if len(block) < 4:
        raise Damage(0, "a block is cut off")
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise Damage(0, "a block is cut off")
    key, at = b"", 0
    while at < end:
        shared, at = number(block, at)
        more, at = number(block, at)
        length, at = number(block, at)
        begin = at + more
        if shared > len(key) or begin + length > end:
            raise Damage(at, "a record goes beyond its block")
        key = key[:shared] + bytes(block[at:begin])
        at = begin + length
        yield key, begin, at


def only_record(data: Any, offset: int, size: int) -> tuple[bytes, int, int] | None:
    """As `block_records`, for a compressed block that holds a single record, as it does if values are images.

    None where the beginning of the block does not tell; it tells without the rest being decompressed.
    """
    if data[offset + size] != SNAPPY:
        return None
    head = bytes(data[offset : offset + min(size, 4096)])
    try:
        total, at = number(head, 0)
        kind = head[at]  # snappy: a tag, for now with bytes to copy behind it
        count, at = (kind >> 2) + 1, at + 1
        if kind & 3:
            return None
        if count > 60:
            wide = count - 60
            count, at = int.from_bytes(head[at : at + wide], "little") + 1, at + wide
        head = head[at : at + count]
        shared, at = number(head, 0)
        more, at = number(head, at)
        length, at = number(head, at)
    except (Damage, IndexError):
        return None
    begin = at + more
    if shared or begin > len(head) or begin + length + 8 != total:  # 8 bytes: one restart, and their number
        return None
    return head[at:begin], begin, begin + length
