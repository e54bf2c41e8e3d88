"""Caffe's binary files: weights, solver state, arrays and data records, without a copy of the large parts.

protobuf's own classes would hold every float of a caffemodel a second time, and slowly. Here a scanner walks the bytes
of a mapped file and hands out arrays that lie in it; the writers send headers and arrays to the file in turn. The
bytes are those that Caffe writes.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import IO, Any

import numpy as np

from . import schema, upgrade
from .datum import Datum, datum_bytes, parse_datum
from .errors import DataError, LayerForgeError, Place, SnapshotError
from .protobytes import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Damage,
    delimited,
    fields,
    number_bytes,
    packed,
    signed,
    tag_bytes,
    unpacked,
    varint,
)

__all__ = [
    "Datum",
    "LayerWeights",
    "SolverState",
    "Weights",
    "datum_bytes",
    "parse_datum",
    "read_blob",
    "read_net",
    "read_state",
    "read_weights",
    "write_blob",
    "write_state",
    "write_weights",
]

log = logging.getLogger(__name__)

# protobuf, and so Caffe, reads no file above this.
LIMIT = 2**31 - 1

FileOrPath = str | os.PathLike[str] | IO[bytes]


@dataclass
class Weights:
    """An array of a file: ``data``, flat, of ``shape``, and its gradient if that was saved."""

    shape: tuple[int, ...]
    data: np.ndarray
    diff: np.ndarray | None = None


@dataclass
class LayerWeights:
    """The arrays of one layer. An array may be None where a format leaves it out."""

    name: str
    type: str
    blobs: list[Any] = field(default_factory=list)


@dataclass
class SolverState:
    """What a solver needs beside the weights: see SolverState in the schema."""

    iter: int = 0
    learned_net: str = ""
    current_step: int = 0
    history: list[np.ndarray] = field(default_factory=list)


# ----------------------------------------------------------------------------------------------------------------------
# Files
# ----------------------------------------------------------------------------------------------------------------------


class _Foreign(Exception):
    """A message, but not of the kind that was expected."""


class _File:
    """A mapped file, and what to say when it is not what was wanted."""

    def __init__(self, path: str | os.PathLike[str], wanted: str, error: type[LayerForgeError]):
        self.path = os.fspath(path)
        self.wanted = wanted
        self.error = error
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                self.bytes: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as reason:
            raise self.failure(f"cannot be read: {reason.strerror}; {KINDS[wanted]} is wanted.") from None
        if not size:
            raise self.failure(f"is empty; {KINDS[wanted]} is wanted.")

    def failure(self, message: str) -> LayerForgeError:
        return self.error(message, Place(self.path))

    def __enter__(self) -> _File:
        return self

    def __exit__(self, kind: Any, reason: Any, traceback: Any) -> None:
        if not isinstance(reason, (Damage, _Foreign)):
            return
        found = _what(self.bytes, self.wanted)
        if found != self.wanted and found is not None:
            raise self.failure(
                f"this is {FOUND.get(found) or KINDS[found]}; {KINDS[self.wanted]} is wanted."
                f"{HINTS.get((found, self.wanted), HINTS.get((found, ''), ''))}"
            ) from None
        if isinstance(reason, Damage):
            raise self.failure(
                f"damaged at byte {reason.offset} of {len(self.bytes)}: {reason.why}. Copy or download the file again."
            ) from None
        raise self.failure(f"this is not {KINDS[self.wanted]}.") from None


KINDS = {
    "NetParameter": "a file of weights (.caffemodel)",
    "SolverState": "a solver's state (.solverstate)",
    "BlobProto": "an array (.binaryproto)",
}
FOUND = {
    "html": "a web page",
    "lfs": "a pointer of Git LFS",
    "hdf5": "an HDF5 file",
    "text": "text",
    "npy": "an array of NumPy (.npy)",
}
HINTS = {
    ("html", ""): " Its download failed: download it again.",
    ("lfs", ""): " Run: git lfs pull",
    ("hdf5", ""): " Give it a name that ends in .h5.",
    (
        "npy",
        "BlobProto",
    ): " caffe.io.array_to_blobproto(np.load(file)[np.newaxis]) makes one.",
    ("SolverState", "NetParameter"): " Give it to --snapshot, and the .caffemodel beside it to --weights.",
    ("NetParameter", "SolverState"): " Give it to --weights, and the .solverstate beside it to --snapshot.",
}

# The kinds that the fields of each message may have on the wire; an array of numbers may be packed or not.
SHAPES: dict[str, dict[int, tuple[int, ...]]] = {
    "NetParameter": {
        1: (BYTES,), 2: (BYTES,), 3: (BYTES,), 4: (VARINT, BYTES), 5: (VARINT,), 6: (BYTES,), 7: (VARINT,), 8: (BYTES,),
        100: (BYTES,),
    },
    "SolverState": {1: (VARINT,), 2: (BYTES,), 3: (BYTES,), 4: (VARINT,)},
    "BlobProto": {
        1: (VARINT,), 2: (VARINT,), 3: (VARINT,), 4: (VARINT,), 5: (BYTES, FIXED32), 6: (BYTES, FIXED32), 7: (BYTES,),
        8: (BYTES, FIXED64), 9: (BYTES, FIXED64), 10: (VARINT,), 11: (VARINT,), 12: (BYTES,), 13: (BYTES,),
    },
}  # fmt: skip


def _what(buffer: Any, wanted: str) -> str | None:
    """What a file is that cannot be read as what was wanted; the same, if it looks like that after all."""
    head = bytes(buffer[:200])
    if head.startswith(b"\x89HDF"):
        return "hdf5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"version https://git-lfs"):
        return "lfs"
    if head.lstrip()[:1] == b"<":
        return "html"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return "text"
    try:
        found = {(number, kind) for number, kind, _, _, _ in fields(buffer, 0, len(buffer))}
    except Damage:
        return None
    for name in sorted(SHAPES, key=lambda name: name != wanted):
        if all(kind in SHAPES[name].get(number, ()) for number, kind in found):
            return name
    return None


def _check(message: str, number: int, kind: int) -> None:
    """Refuses a known field of another kind; unknown ones are a fork's."""
    kinds = SHAPES[message].get(number)
    if kinds is not None and kind not in kinds:
        raise _Foreign


# ----------------------------------------------------------------------------------------------------------------------
# Arrays
# ----------------------------------------------------------------------------------------------------------------------

# Number of a field in BlobProto -> what it holds, of which part.
NUMBERS = {5: ("<f4", "data"), 6: ("<f4", "diff"), 8: ("<f8", "data"), 9: ("<f8", "diff")}
RAW = {12: (10, "data"), 13: (11, "diff")}
# The values of the enum Type.
RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2", 3: "<i4", 4: "<u4"}


def _blob(buffer: Any, at: int, end: int) -> Weights:
    """A BlobProto between two positions, as views of the buffer."""
    parts: dict[str, list[np.ndarray]] = {"data": [], "diff": []}
    raw: dict[int, tuple[int, int]] = {}
    numbers: dict[int, int] = {}
    dims: list[int] | None = None
    while at < end:
        for number, kind, value, start, stop in fields(buffer, at, end):
            at = stop
            if number in NUMBERS:
                dtype, part = NUMBERS[number]
                if kind == BYTES:
                    parts[part].append(packed(buffer, dtype, start, stop))
                elif kind == (FIXED32 if dtype == "<f4" else FIXED64):
                    values = unpacked(buffer, dtype, start, end)
                    parts[part].append(values)
                    # Go on behind all of them.
                    at = start - 1 + len(values) * (values.itemsize + 1)
                    break
                else:
                    raise _Foreign
            elif number == 7:
                dims = (dims or []) + _dims(buffer, start, stop)
            elif number in RAW and kind == BYTES:
                raw[number] = start, stop
            elif kind == VARINT:
                numbers[number] = value
    for number, (start, stop) in raw.items():
        type_number, part = RAW[number]
        dtype = RAW_TYPES.get(numbers.get(type_number, 0), "")
        if not dtype:
            raise Damage(start, f"raw values of an unknown type, {numbers[type_number]}")
        parts[part].append(packed(buffer, dtype, start, stop))
    data = _joined(parts["data"])
    diff = _joined(parts["diff"]) if parts["diff"] else None
    if any(number in numbers for number in (1, 2, 3, 4)):
        shape = tuple(signed(numbers.get(number, 0)) for number in (1, 2, 3, 4))
    elif dims is not None:
        shape = tuple(dims)
    else:
        shape = (data.size,) if data.size else ()
    return Weights(shape, data, diff)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _dims(buffer: Any, at: int, end: int) -> list[int]:
    """The sizes in a BlobShape, packed or not."""
    dims = []
    for number, kind, value, start, stop in fields(buffer, at, end):
        if number == 1 and kind == VARINT:
            dims.append(signed(value))
        elif number == 1 and kind == BYTES:
            while start < stop:
                value, start = varint(buffer, start, stop)
                dims.append(signed(value))
    return dims


def _shaped(weights: Weights, start: int) -> np.ndarray:
    if min(weights.shape, default=1) < 0 or math.prod(weights.shape) != weights.data.size:
        raise Damage(start, f"an array of shape {weights.shape} has {weights.data.size} values")
    return weights.data.reshape(weights.shape)


# ----------------------------------------------------------------------------------------------------------------------
# Reading
# ----------------------------------------------------------------------------------------------------------------------

# (number of a layer in NetParameter) -> numbers of its name, type and blobs.
LAYER, V1_LAYER, V0_LAYER = 100, 2, 1
PARTS = {LAYER: (1, 2, 7), V1_LAYER: (4, 5, 6), V0_LAYER: (1, 2, 50)}


def read_weights(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """The arrays of a caffemodel of any age, layer by layer, as views of the mapped file.

    Arrays are flat, read-only and not aligned in memory: copy them to where they are used. They are float32, or as
    saved: float64, or float16 from NVCaffe.

    Raises SnapshotError if the file cannot be read, is damaged, or is something else.
    """
    with _File(path, "NetParameter", SnapshotError) as file:
        layers = []
        for number, kind, _, start, stop in fields(file.bytes, 0, len(file.bytes)):
            _check("NetParameter", number, kind)
            if number in (LAYER, V1_LAYER):
                layers.append(_layer(file.bytes, number, start, stop))
        if not layers:
            raise _Foreign
        return layers


def _layer(buffer: Any, version: int, at: int, end: int) -> LayerWeights:
    name_number, type_number, blobs_number = PARTS[version]
    found = LayerWeights("", "")
    for number, kind, value, start, stop in fields(buffer, at, end):
        if version == V1_LAYER and number == 1:
            inner = _layer(buffer, V0_LAYER, start, stop)
            found.name, found.type = inner.name, upgrade.V0_TYPES.get(inner.type, inner.type)
            found.blobs += inner.blobs
        elif number == name_number:
            found.name = _text(buffer, kind, start, stop)
        elif number == type_number:
            found.type = _v1_type(value) if version == V1_LAYER else _text(buffer, kind, start, stop)
        elif number == blobs_number:
            if kind != BYTES:
                raise _Foreign
            found.blobs.append(_blob(buffer, start, stop))
    return found


def _text(buffer: Any, kind: int, start: int, stop: int) -> str:
    if kind != BYTES:
        raise _Foreign
    try:
        return bytes(buffer[start:stop]).decode()
    except UnicodeDecodeError:
        raise Damage(start, "a name is no text") from None


@lru_cache(maxsize=1)
def _v1_types() -> dict[int, str]:
    values = schema.message("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    return {number: upgrade.V1_TYPES[value.name] for number, value in values.items()}


def _v1_type(number: int) -> str:
    return _v1_types().get(number, str(number))


def read_net(path: str | os.PathLike[str]) -> schema.Definition:
    """The definition within a caffemodel: its NetParameter without the arrays."""
    with _File(path, "NetParameter", SnapshotError) as file:
        parts = []
        for number, kind, _, start, stop in fields(file.bytes, 0, len(file.bytes)):
            _check("NetParameter", number, kind)
            if number in (LAYER, V1_LAYER):
                body = _without_blobs(file.bytes, number, start, stop)
                parts.append(tag_bytes(number, BYTES) + number_bytes(len(body)) + body)
            else:
                parts.append(_again(file.bytes, number, kind, start, stop))
    return schema.from_bytes(b"".join(parts), "NetParameter", file.path)


def _without_blobs(buffer: Any, version: int, at: int, end: int) -> bytes:
    blobs_number = PARTS[version][2]
    parts = []
    for number, kind, _, start, stop in fields(buffer, at, end):
        if version == V1_LAYER and number == 1:
            body = _without_blobs(buffer, V0_LAYER, start, stop)
            parts.append(tag_bytes(number, BYTES) + number_bytes(len(body)) + body)
        elif number != blobs_number:
            parts.append(_again(buffer, number, kind, start, stop))
    return b"".join(parts)


def _again(buffer: Any, number: int, kind: int, start: int, stop: int) -> bytes:
    length = number_bytes(stop - start) if kind == BYTES else b""
    return tag_bytes(number, kind) + length + bytes(buffer[start:stop])


def read_state(path: str | os.PathLike[str]) -> SolverState:
    """A solverstate. Its arrays are read-only views of the mapped file.

    Raises SnapshotError if the file cannot be read, is damaged, or is something else.
    """
    with _File(path, "SolverState", SnapshotError) as file:
        state = SolverState()
        for number, kind, value, start, stop in fields(file.bytes, 0, len(file.bytes)):
            _check("SolverState", number, kind)
            if number == 1:
                state.iter = signed(value)
            elif number == 2:
                state.learned_net = _text(file.bytes, kind, start, stop)
            elif number == 3:
                state.history.append(_shaped(_blob(file.bytes, start, stop), start))
            elif number == 4:
                state.current_step = signed(value)
        return state


def read_blob(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a binaryproto, a mean image say. Read-only; raises DataError."""
    with _File(path, "BlobProto", DataError) as file:
        for number, kind, _, _, _ in fields(file.bytes, 0, len(file.bytes)):
            _check("BlobProto", number, kind)
        found = _blob(file.bytes, 0, len(file.bytes))
        if not found.data.size:
            raise _Foreign
        return _shaped(found, 0)


# ----------------------------------------------------------------------------------------------------------------------
# Writing
# ----------------------------------------------------------------------------------------------------------------------


# What is written for a message: bytes, and arrays that are not copied.
Pieces = list[bytes | np.ndarray]


def _size(pieces: Pieces) -> int:
    return sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in pieces)


def _blob_pieces(array: Any, diff: Any = None, shape: Sequence[int] | None = None) -> Pieces:
    """A BlobProto in the order of its numbers: data or double_data, diff, shape."""
    data = _little(array)
    arrays = [(8 if data.dtype.itemsize == 8 else 5, data)]
    if diff is not None:
        gradient = _little(diff)
        arrays.append((9 if gradient.dtype.itemsize == 8 else 6, gradient))
    dims = b"".join(number_bytes(int(n)) for n in (np.shape(array) if shape is None else shape))
    described = delimited(7, delimited(1, dims) if dims else b"")
    before: Pieces = []
    after: Pieces = []
    for number, values in arrays:
        if values.size:
            (before if number < 7 else after).extend([tag_bytes(number, BYTES) + number_bytes(values.nbytes), values])
    return [*before, described, *after]


def _little(array: Any) -> np.ndarray:
    """Float32 or float64, little-endian, in one piece; the array itself if it is that already."""
    array = np.asarray(array)
    dtype = "<f8" if array.dtype == np.float64 else "<f4"
    return np.ascontiguousarray(array, dtype).reshape(-1)


def _write(file: IO[bytes], pieces: Pieces) -> None:
    for piece in pieces:
        if isinstance(piece, bytes):
            file.write(piece)
        elif piece.size:
            file.write(piece.data.cast("B"))


def _layer_pieces(message: Any, blobs: Sequence[Any]) -> Pieces:
    """A LayerParameter with other blobs than its own, where field 7 belongs."""
    if message.blobs:
        bare = type(message)()
        bare.CopyFrom(message)
        bare.ClearField("blobs")
        message = bare
    raw = message.SerializeToString()
    split = len(raw)
    at = 0
    for number, _, _, _, stop in fields(raw, 0, len(raw)):
        if number > 7:
            split = at
            break
        at = stop
    middle: Pieces = []
    for blob in blobs:
        if isinstance(blob, Weights):
            pieces = _blob_pieces(blob.data, blob.diff, blob.shape)
        elif isinstance(blob, tuple):
            pieces = _blob_pieces(*blob)
        else:
            pieces = _blob_pieces(blob)
        middle += [tag_bytes(7, BYTES) + number_bytes(_size(pieces)), *pieces]
    return [raw[:split], *middle, raw[split:]]


def write_weights(target: FileOrPath, net_name: str, layers: Iterable[tuple[Any, Sequence[Any]]]) -> None:
    """Writes a caffemodel, layer by layer: nothing is held but one layer's headers.

    ``layers`` has LayerParameter messages with their arrays: an array, an array and its gradient, or `Weights`. float64
    is saved as such, all else as float32. A path is overwritten in place; hand over an open file for more safety.
    """
    with _Target(target) as file:
        total = 0
        head = delimited(1, net_name.encode()) if net_name else b""
        file.write(head)
        for message, blobs in layers:
            pieces = _layer_pieces(message, blobs)
            size = _size(pieces)
            start = tag_bytes(LAYER, BYTES) + number_bytes(size)
            file.write(start)
            _write(file, pieces)
            total += len(start) + size
        if total + len(head) > LIMIT:
            log.warning(
                "These weights have %d bytes. Caffe reads no more than %d; save as HDF5 for it.",
                total + len(head),
                LIMIT,
            )


def write_state(target: FileOrPath, state: SolverState) -> None:
    """Writes a solverstate."""
    with _Target(target) as file:
        file.write(tag_bytes(1, VARINT) + number_bytes(state.iter) + delimited(2, state.learned_net.encode()))
        for array in state.history:
            pieces = _blob_pieces(array)
            file.write(tag_bytes(3, BYTES) + number_bytes(_size(pieces)))
            _write(file, pieces)
        file.write(tag_bytes(4, VARINT) + number_bytes(state.current_step))


def write_blob(target: FileOrPath, array: np.ndarray) -> None:
    """Writes a binaryproto; one of four axes with num, channels, height and width, so that old tools read it too."""
    with _Target(target) as file:
        pieces = _blob_pieces(array)
        if np.ndim(array) == 4:
            sizes = b"".join(tag_bytes(i, VARINT) + number_bytes(n) for i, n in enumerate(np.shape(array), 1))
            pieces = [sizes, *(piece for piece in pieces if not (isinstance(piece, bytes) and piece[:1] == b"\x3a"))]
        _write(file, pieces)


class _Target:
    """A file that is open already, or one to open and close."""

    def __init__(self, target: FileOrPath):
        self.target = target
        self.opened: IO[bytes] | None = None

    def __enter__(self) -> IO[bytes]:
        if isinstance(self.target, (str, os.PathLike)):
            self.opened = open(self.target, "wb")
            return self.opened
        return self.target

    def __exit__(self, *reason: Any) -> None:
        if self.opened is not None:
            self.opened.close()
