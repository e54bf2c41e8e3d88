"""Rows from HDF5 files: a text file lists them, and each holds datasets whose first axis counts the samples."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, did_you_mean
from .shuffle import SALT, permutation

HELD = 1 << 30  # bytes: files up to this size are read whole when their turn comes, as Caffe does with any


class Hdf5Source:
    """The rows of all files in a list, one file behind the other, over and over.

    ``names`` are the datasets that are read, each (rows, ...) of numbers. With ``shuffle``, every epoch has a new order
    of files and of rows within each, which follows from (seed, stream). A large file is not read at once but in slices,
    or, shuffled, row by row: shuffle it before it is written, if it can be.

    A path that does not exist in the current folder is looked for beside the list. Raises DataError for a list or a
    file that is missing or empty, and for datasets that are missing, unequal or no numbers.
    """

    def __init__(self, uri: str, names: Sequence[str], *, shuffle: bool = False, seed: int = 0, stream: int = 0):
        self.uri = uri
        self.names = list(names)
        self.shuffle = shuffle
        self.seed, self.stream = seed, stream
        self.files = _listed(uri)
        self.shapes: dict[str, tuple[int, ...]] = {}  # of one row, by name
        self.rows = [self._inspect(path) for path in self.files]
        self._file: Any = None
        self._path: Path | None = None
        self._arrays: dict[str, Any] = {}  # of the file at hand: arrays, or datasets of a large one
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        if not sum(self.rows):
            held = "file holds" if len(self.files) == 1 else f"{len(self.files)} files hold"
            raise DataError(f'source "{uri}": its {held} no rows')

    def __len__(self) -> int:
        return sum(self.rows)

    def _inspect(self, path: Path) -> int:
        """The number of rows of a file, after a look at its datasets."""
        import h5py

        with self._open(path) as file:
            rows: dict[str, int] = {}
            for name in self.names:
                dataset = file.get(name)
                if not isinstance(dataset, h5py.Dataset):
                    there = [key for key, value in file.items() if isinstance(value, h5py.Dataset)]
                    raise DataError(
                        f'source "{self.uri}": {path} has no dataset "{name}".{did_you_mean(name, there)} '
                        f"It has: {', '.join(there) or 'none'}. Tops are read from the datasets of their names"
                    )
                if dataset.dtype.kind not in "fiub":
                    raise DataError(
                        f'source "{self.uri}": dataset "{name}" of {path} is of type {dataset.dtype}; '
                        "floats and integers can be read"
                    )
                if not dataset.shape:
                    raise DataError(f'source "{self.uri}": dataset "{name}" of {path} has no axis that counts samples')
                shape = self.shapes.setdefault(name, dataset.shape[1:])
                if dataset.shape[1:] != shape:
                    raise DataError(
                        f'source "{self.uri}": a row of dataset "{name}" of {path} is {dataset.shape[1:]}, '
                        f"but {shape} in {self.files[0]}"
                    )
                rows[name] = dataset.shape[0]
        first = self.names[0]
        for name in self.names:
            if rows[name] != rows[first]:
                raise DataError(
                    f'source "{self.uri}": dataset "{name}" of {path} has {rows[name]} rows, '
                    f'but "{first}" has {rows[first]}'
                )
        return rows[first]

    def _open(self, path: Path) -> Any:
        import h5py

        try:
            return h5py.File(path, "r")
        except FileNotFoundError:
            raise DataError(f'source "{self.uri}" lists {path}, which does not exist') from None
        except OSError as error:
            raise DataError(f'source "{self.uri}": {path} cannot be read as HDF5: {error}') from error

    def fill(self, position: int, out: Sequence[np.ndarray]) -> None:
        """Copies rows into arrays (count, ...), one for each name: those of running number ``position`` and after."""
        done, count = 0, len(out[0])
        while done < count:
            epoch, number, offset = self._find(position + done)
            taken = min(count - done, self.rows[number] - offset)
            self._copy(epoch, number, offset, [array[done : done + taken] for array in out])
            done += taken

    def _find(self, position: int) -> tuple[int, int, int]:
        """Epoch, file and offset in the file's order of a running number."""
        epoch, offset = divmod(position, len(self))
        for number in self._files_of(epoch):
            if offset < self.rows[number]:
                break
            offset -= self.rows[number]
        return epoch, number, offset

    def describe(self, position: int) -> str:
        """How messages name a row: ``source "files.txt": row 5 of part0.h5``."""
        epoch, number, offset = self._find(position)
        row = int(self._order(epoch, number + 1, self.rows[number])[offset]) if self.shuffle else offset
        return f'source "{self.uri}": row {row} of {self.files[number]}'

    def reseed(self, seed: int) -> None:
        """Changes the orders of all epochs to those of another seed."""
        self.seed = seed
        self._orders.clear()

    def _files_of(self, epoch: int) -> Sequence[int]:
        if not self.shuffle:
            return range(len(self.files))
        return self._order(epoch, 0, len(self.files)).tolist()

    def _order(self, epoch: int, part: int, count: int) -> np.ndarray:
        """A random order: part 0 of an epoch is that of its files, part n + 1 that of the rows in file n."""
        if (epoch, part) not in self._orders:
            self._orders = {key: order for key, order in self._orders.items() if key[0] == epoch and key[1] == 0}
            stream = (self.stream ^ SALT) & 0xFFFFFFFF
            self._orders[epoch, part] = permutation(self.seed, stream, epoch * (len(self.files) + 1) + part, count)
        return self._orders[epoch, part]

    def _copy(self, epoch: int, number: int, offset: int, out: Sequence[np.ndarray]) -> None:
        """Copies rows offset, offset + 1, ... of file ``number`` in the order of an epoch."""
        self._load(self.files[number])
        end = offset + len(out[0])
        chosen = self._order(epoch, number + 1, self.rows[number])[offset:end] if self.shuffle else None
        for name, array in zip(self.names, out, strict=True):
            stored = self._arrays[name]
            try:
                if chosen is None:
                    array[...] = stored[offset:end]
                elif isinstance(stored, np.ndarray):
                    array[...] = stored[chosen]
                else:  # HDF5 wants its rows in ascending order
                    ascending = np.argsort(chosen)
                    array[ascending] = stored[chosen[ascending]]
            except OSError as error:
                raise DataError(f'source "{self.uri}": {self._path} is damaged: {error}') from error

    def _load(self, path: Path) -> None:
        """Makes a file the one at hand."""
        if self._path == path:
            return
        self.close()
        self._file = self._open(path)
        datasets = {name: self._file[name] for name in self.names}
        size = sum(math.prod(dataset.shape) * dataset.dtype.itemsize for dataset in datasets.values())
        try:
            self._arrays = {name: dataset[()] for name, dataset in datasets.items()} if size <= HELD else datasets
        except OSError as error:
            raise DataError(f'source "{self.uri}": {path} is damaged: {error}') from error
        self._path = path

    def close(self) -> None:
        """Lets go of the file at hand."""
        self._arrays = {}
        self._path = None
        if self._file is not None:
            self._file.close()
            self._file = None


def _listed(uri: str) -> list[Path]:
    """The paths that a text file lists, one on a line."""
    if not uri:
        raise DataError('no source is named. Write source: "files.txt", a text file that lists HDF5 files')
    path = Path(uri).expanduser()
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DataError(f'source "{uri}" cannot be read: {os.strerror(error.errno or 0)}') from error
    if text.startswith(b"\x89HDF\r\n"):
        raise DataError(
            f'source "{uri}" is itself an HDF5 file. Write the name of a text file that lists it: '
            f"echo {uri} > {path.stem}.txt"
        )
    try:
        lines = [line.strip() for line in text.decode().splitlines()]
    except UnicodeDecodeError:
        raise DataError(f'source "{uri}" is no text file that lists HDF5 files') from None
    found = list(_found(path.parent, [line for line in lines if line]))
    if not found:
        raise DataError(f'source "{uri}" lists no files')
    return found


def _found(beside: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        path = Path(name).expanduser()
        yield beside / path if not path.exists() and (beside / path).exists() else path
