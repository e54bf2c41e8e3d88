"""Images that a text file lists, each on a line of its own: a path, a space, a label."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..datum import Datum
from ..errors import DataError
from .source import BadRecord, Source

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
LOOKED_AT = 10  # lines that tell how many labels there are


@dataclass
class Listed:
    """What a list says: paths, ``labels`` float64 (images, labels of each), and the line of each, counted from 1."""

    uri: str
    root: str
    paths: list[str]
    labels: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def place(self, i: int) -> str:
        """``list.txt:3``"""
        return f"{self.uri}:{self.lines[i]}"

    def describe(self, i: int) -> str:
        """How messages name an image: ``list.txt:3: "images/cat.jpg"``."""
        return f'{self.place(i)}: "{self.root}{self.paths[i]}"'

    def read(self, i: int) -> bytes:
        """The bytes of an image file. Raises BadRecord where it cannot be read."""
        path = self.root + self.paths[i]
        try:
            with open(path, "rb", buffering=0) as file:  # the whole at once needs no buffer
                return file.readall()
        except OSError as error:
            hint = ""
            if isinstance(error, FileNotFoundError) and os.path.exists(os.path.join(self.root, self.paths[i])):
                hint = f'. Write a slash at the end of "{self.root}", which is put before each path as it is'
            raise BadRecord(f"{self.describe(i)}: {error.strerror}{hint}") from None


def read_list(uri: str, root: str = "") -> Listed:
    """Reads a list of images: on each line a path, which may have spaces in it, and a label behind the last one.

    ``root`` is put before each path. Labels may be any finite numbers. Where the first image exists only if more than
    one number at the end of its line is taken for a label, every line has so many. Empty lines do not count.

    Raises DataError, with the line, for one that has no label or another number of them.
    """
    texts = _lines(uri)
    lines = np.array([i for i, text in enumerate(texts, 1) if text], np.int64)
    texts = [text for text in texts if text]
    if not texts:
        raise DataError(f'source "{uri}" lists no images')
    count = _label_count(texts[:LOOKED_AT], root)
    paths: list[str] = []
    labels = np.empty((len(texts), count))
    for i, text in enumerate(texts):
        path, *numbers = text.rsplit(None, count)
        if len(numbers) != count:
            raise _wrong(uri, int(lines[i]), text, count)
        try:
            labels[i] = [float(number) for number in numbers]
        except ValueError:
            raise _wrong(uri, int(lines[i]), text, count) from None
        paths.append(path)
    finite = np.isfinite(labels).all(axis=1)
    if not finite.all():
        i = int(np.argmin(finite))
        value = next(value for value in labels[i].tolist() if not math.isfinite(value))
        raise DataError(f'{uri}:{lines[i]}: the label of "{paths[i]}" is {value}; it must be a finite number')
    return Listed(uri, root, paths, labels, lines)


def _lines(uri: str) -> list[str]:
    if not uri:
        raise DataError('no source is named. Write source: "list.txt": on each line of that file a path and a label')
    try:
        data = Path(uri).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f'source "{uri}" cannot be read: {os.strerror(error.errno or 0)}') from error
    if b"\0" in data[:4096]:
        raise DataError(f'source "{uri}" is no text file with a path and a label on each line')
    return [line.rstrip() for line in os.fsdecode(data).split("\n")]


def _label_count(texts: list[str], root: str) -> int:
    """How many labels each line has: the fewest with which one of these images exists, or else 1."""
    for text in texts:
        words = text.split()
        numbers = 0
        while numbers < len(words) - 1 and NUMBER.fullmatch(words[-1 - numbers]):
            numbers += 1
        for count in range(1, numbers + 1):
            if os.path.exists(root + text.rsplit(None, count)[0]):
                return count
    return 1


def _wrong(uri: str, line: int, text: str, count: int) -> DataError:
    """The error for a line that does not end with so many labels."""
    words = text.split()
    given = next((i for i, word in enumerate(reversed(words[1:])) if not NUMBER.fullmatch(word)), len(words) - 1)
    wanted = "a label" if count == 1 else f"{count} labels, as the first line has"
    found = f", but {given or 'no'} number{'s' * (given != 1)}" if count > 1 else ""
    return DataError(
        f'{uri}:{line}: "{text}" must end with {wanted}{found}. Write a path, a space and a number'
        + " for each label" * (count > 1)
    )


class ImageList(Source):
    """The images of a list, in its order. A label is a number, or a row of them if the list gives several."""

    to_one_size = "write new_height and new_width, or batch_size: 1"

    def __init__(self, uri: str, root: str = "", *, cache: bool = False):
        self.uri = uri
        self.listed = read_list(uri, root)
        several = self.listed.labels.shape[1] > 1
        self.label_shape = self.listed.labels.shape[1:] if several else ()
        self._labels = self.listed.labels if several else self.listed.labels[:, 0]
        self._files: dict[int, bytes] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.listed)

    def read(self, position: int) -> Datum:
        if self._files is None:
            return Datum(data=self.listed.read(position), encoded=True)
        data = self._files.get(position)
        if data is None:
            data = self._files[position] = self.listed.read(position)
        return Datum(data=data, encoded=True)

    def label(self, position: int, datum: Datum) -> Any:
        return self._labels[position]

    def key(self, position: int) -> bytes:
        return os.fsencode(self.listed.paths[position])

    def describe(self, position: int) -> str:
        return self.listed.describe(position)

    def close(self) -> None:
        if self._files is not None:
            self._files.clear()
