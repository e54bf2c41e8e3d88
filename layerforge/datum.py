"""Records of a database: Caffe's Datum from bytes and back.

Read once per image by every loading thread, so the common fields are taken straight from the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import DataError
from .protobytes import BYTES, VARINT, Damage, fields, number_bytes, packed, signed, tag_bytes, unpacked, varint


@dataclass(slots=True)
class Datum:
    """A record: (channels, height, width) of uint8 in ``data`` or float32 in ``float_data``, or an image file."""

    channels: int = 0
    height: int = 0
    width: int = 0
    data: bytes | memoryview = b""
    label: int = 0
    encoded: bool = False
    float_data: np.ndarray | None = None


def parse_datum(raw: Any) -> Datum:
    """A record from its bytes. ``data`` is a view of them. Raises DataError if they are no Datum.

    >>> parse_datum(datum_bytes(Datum(1, 1, 2, b"ab", label=7))).label
    7
    """
    datum = Datum()
    view = memoryview(raw)
    end = len(raw)
    at = 0
    try:
        while at < end:
            first = at
            tag = raw[at]
            at += 1
            if tag == 0x22:
                length, at = varint(raw, at, end)
                if at + length > end:
                    raise Damage(first, f"its data of {length} bytes goes {at + length - end} beyond the end")
                datum.data = view[at : at + length]
                at += length
                continue
            if tag == 0x35:
                values = unpacked(raw, "<f4", at, end)
                datum.float_data = _appended(datum.float_data, values)
                if not len(values):
                    raise Damage(first, "a float is cut off")
                at = first + len(values) * 5
                continue
            if tag & 7 == VARINT and tag < 128:
                value = raw[at]
                at += 1
                if value > 127:
                    value, at = varint(raw, at - 1, end)
                number = tag >> 3
                if number == 1:
                    datum.channels = value
                elif number == 2:
                    datum.height = value
                elif number == 3:
                    datum.width = value
                elif number == 5:
                    datum.label = signed(value)
                elif number == 7:
                    datum.encoded = bool(value)
                elif number in (0, 4, 6):
                    raise Damage(first, "a field has another kind than Datum's")
                continue
            at = _other_field(datum, raw, first, end)
    except IndexError:
        raise DataError(f"this is no Datum: its {end} bytes end within a field.") from None
    except Damage as damage:
        raise DataError(f"this is no Datum: damaged at byte {damage.offset} of {end}: {damage.why}.") from None
    return datum


def _other_field(datum: Datum, raw: Any, at: int, end: int) -> int:
    """Packed floats, and fields that Datum does not have. Returns the position after the field."""
    for number, kind, _, start, stop in fields(raw, at, end):
        if number == 6 and kind == BYTES:
            datum.float_data = _appended(datum.float_data, packed(raw, "<f4", start, stop))
        elif number <= 7:
            raise Damage(at, "a field has another kind than Datum's")
        return stop
    return end


def _appended(old: np.ndarray | None, new: np.ndarray) -> np.ndarray:
    return new if old is None else np.concatenate([old, new])


def datum_to_fill(shape: tuple[int, int, int], label: int) -> tuple[memoryview, np.ndarray]:
    """The bytes of a record of pixels, and those of them in which the pixels are yet to be written, uint8 of ``shape``,
    (C, H, W).

    >>> record, pixels = datum_to_fill((1, 1, 2), 7)
    >>> pixels[...] = [[ord("a"), ord("b")]]
    >>> bytes(record) == datum_bytes(Datum(1, 1, 2, b"ab", label=7))
    True
    """
    count = math.prod(shape)
    head = b"".join([*_sizes(shape), b"\x22", number_bytes(count)])
    tail = b"\x28" + number_bytes(label) + b"\x38\x00"
    record = np.empty(len(head) + count + len(tail), np.uint8)
    record[: len(head)] = np.frombuffer(head, np.uint8)
    record[len(head) + count :] = np.frombuffer(tail, np.uint8)
    return record.data, record[len(head) : len(head) + count].reshape(shape)


def _sizes(shape: Sequence[int]) -> list[bytes]:
    return [tag_bytes(number, VARINT) + number_bytes(size) for number, size in enumerate(shape, 1)]


def datum_bytes(datum: Datum) -> bytes:
    """The bytes of a record, as Caffe writes them."""
    shape = (datum.channels, datum.height, datum.width)
    parts: list[Any] = [part for size, part in zip(shape, _sizes(shape), strict=True) if size or not datum.encoded]
    if len(datum.data):
        parts += [b"\x22", number_bytes(len(datum.data)), datum.data]
    parts.append(b"\x28" + number_bytes(datum.label))
    if datum.float_data is not None:
        values = np.ascontiguousarray(datum.float_data, "<f4").reshape(-1)
        rows = np.empty((values.size, 5), np.uint8)
        rows[:, 0] = 0x35
        rows[:, 1:] = values.view(np.uint8).reshape(-1, 4)
        parts.append(rows.tobytes())
    if datum.encoded or datum.float_data is None:
        parts.append(b"\x38\x01" if datum.encoded else b"\x38\x00")
    return b"".join(parts)
