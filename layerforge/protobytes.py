"""The bytes of protobuf: tags, numbers and runs of values. What `wire` and `datum` are made of.

A field is a tag (number * 8 + kind) and a value; the kinds are VARINT, FIXED64, BYTES (a length, then so many bytes)
and FIXED32. See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Damage(Exception):
    """Bytes that are no message, and where."""

    def __init__(self, offset: int, why: str):
        super().__init__(why)
        self.offset = offset
        self.why = why


def varint(buffer: Any, at: int, end: int) -> tuple[int, int]:
    """A number, and the position after it."""
    start, value, shift = at, 0, 0
    while at < end:
        byte = buffer[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            break
    raise Damage(start, "a number does not end")


def signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def fields(buffer: Any, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, kind, value, start, stop) of each field: the value of a VARINT, else the position of its bytes."""
    while at < end:
        first = at
        tag, at = varint(buffer, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == BYTES:
            length, at = varint(buffer, at, end)
            stop, value = at + length, 0
        elif kind == VARINT:
            value, stop = varint(buffer, at, end)
        elif kind == FIXED32:
            value, stop = 0, at + 4
        elif kind == FIXED64:
            value, stop = 0, at + 8
        else:
            raise Damage(first, f"{tag} starts no field")
        if number == 0:
            raise Damage(first, "a field has the number 0")
        if stop > end:
            raise Damage(first, f"a field of {stop - at} bytes goes {stop - end} beyond the end")
        yield number, kind, value, at, stop
        at = stop


def packed(buffer: Any, dtype: str, start: int, stop: int) -> np.ndarray:
    size = np.dtype(dtype).itemsize
    if (stop - start) % size:
        raise Damage(start, f"{stop - start} bytes are no whole number of {size}-byte values")
    return np.frombuffer(buffer, dtype, (stop - start) // size, start)


def unpacked(buffer: Any, dtype: str, start: int, end: int) -> np.ndarray:
    """Values that were not packed, each behind its tag: all in a row from the one that lies at ``start``."""
    size = np.dtype(dtype).itemsize
    raw = np.frombuffer(buffer, np.uint8, end - start + 1, start - 1)
    rows = raw[: len(raw) // (size + 1) * (size + 1)].reshape(-1, size + 1)
    same = rows[:, 0] == raw[0]
    count = len(same) if same.all() else int(same.argmin())
    return rows[:count, 1:].copy().view(dtype).reshape(-1)


def number_bytes(value: int) -> bytes:
    """A varint; negative numbers take ten bytes, as in protobuf.

    >>> number_bytes(300)
    b'\\xac\\x02'
    """
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag_bytes(number: int, kind: int) -> bytes:
    return number_bytes(number << 3 | kind)


def delimited(number: int, raw: bytes) -> bytes:
    return tag_bytes(number, BYTES) + number_bytes(len(raw)) + raw
