"""Windows of images that a text file lists, as R-CNN trains on them.

The file repeats, each on a line of its own::

    # image index
    path
    channels
    height
    width
    number of windows
    class overlap x1 y1 x2 y2      (as often as that number says; the corners belong to the window)
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .source import BadRecord


class Window(NamedTuple):
    """A part of an image, from (x1, y1) to (x2, y2), both of which belong to it."""

    image: int
    label: int
    overlap: float
    box: tuple[int, int, int, int]
    line: int


class WindowFile:
    """What a window file says: ``paths`` of images with ``root`` in front, their ``channels``, and ``windows``.

    Raises DataError, with the line, for what is missing or no number, and for images of different channels.
    """

    def __init__(self, uri: str, root: str = ""):
        self.uri = uri
        self.paths: list[str] = []
        self.path_lines: list[int] = []
        self.windows: list[Window] = []
        self.channels = 0
        self._lines = [(i, text.strip()) for i, text in enumerate(_read(uri), 1) if text.strip()]
        self._at = 0
        while self._at < len(self._lines):
            self._image(root)
        if not self.paths:
            raise DataError(f'source "{uri}" lists no images')

    def _image(self, root: str) -> None:
        line, text = self._next("an image")
        if not text.startswith("#"):
            raise DataError(f'{self.uri}:{line}: "{text}" is not the beginning of an image: write # and its index')
        line, path = self._next("the path of an image")
        channels = self._number("the number of channels")
        if channels not in (1, 3):
            raise DataError(f"{self._place()}: an image has {channels} channels; 1 and 3 can be read")
        if self.channels not in (0, channels):
            raise DataError(f"{self._place()}: an image has {channels} channels, those before have {self.channels}")
        self.channels = channels
        self._number("the height")
        self._number("the width")
        image = len(self.paths)
        self.paths.append(root + path)
        self.path_lines.append(line)
        count = self._number("the number of windows")
        place = self._place()
        for i in range(count):
            if self._at == len(self._lines):
                raise DataError(f"{place}: the number of windows is {count}, but the file ends after {i}")
            self.windows.append(self._window(image))

    def _window(self, image: int) -> Window:
        line, text = self._next("a window")
        words = text.split()
        try:
            label, x1, y1, x2, y2 = (int(word) for word in (words[0], *words[2:]))
            overlap = float(words[1])
        except (ValueError, IndexError):
            raise DataError(
                f'{self.uri}:{line}: "{text}" is no window: it must be class, overlap, x1, y1, x2, y2'
            ) from None
        if not math.isfinite(overlap):
            raise DataError(f"{self.uri}:{line}: the overlap is {overlap}; it must be a finite number")
        return Window(image, label, overlap, (x1, y1, x2, y2), line)

    def _next(self, what: str) -> tuple[int, str]:
        if self._at == len(self._lines):
            raise DataError(f'source "{self.uri}" ends where {what} should follow')
        self._at += 1
        return self._lines[self._at - 1]

    def _number(self, what: str) -> int:
        line, text = self._next(what)
        if not text.isdigit():
            raise DataError(f'{self.uri}:{line}: "{text}" is not {what}')
        return int(text)

    def _place(self) -> str:
        return f"{self.uri}:{self._lines[self._at - 1][0]}"

    def read_file(self, image: int) -> bytes:
        """The bytes of an image file. Raises BadRecord where it cannot be read."""
        try:
            return Path(self.paths[image]).read_bytes()
        except OSError as error:
            raise BadRecord(f"{self.describe(image)}: {error.strerror}") from None

    def describe(self, image: int) -> str:
        """How messages name an image: ``windows.txt:2: "images/cat.jpg"``."""
        return f'{self.uri}:{self.path_lines[image]}: "{self.paths[image]}"'


def _read(uri: str) -> list[str]:
    if not uri:
        raise DataError('no source is named. Write source: "windows.txt", a window file')
    try:
        data = Path(uri).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f'source "{uri}" cannot be read: {os.strerror(error.errno or 0)}') from error
    return os.fsdecode(data).split("\n")
