"""pycaffe's Detector: scores of windows of images, each warped to the net's input, as in R-CNN.

Girshick, Donahue, Darrell and Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", CVPR 2014. A window is (ymin, xmin, ymax, xmax) in pixels: rows ymin to ymax - 1, columns xmin to
xmax - 1. Where windows come from is the caller's choice: a file, see `read_windows`, or any callable.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from . import io
from .classifier import transformer
from .errors import DataError, DefinitionError, Place, ShapeError
from .layer import TEST
from .net import Net

COORDINATES = ("ymin", "xmin", "ymax", "xmax")


class Detector(Net):
    """A net that scores windows of images, with the transformation of its first input.

    ``mean``, ``input_scale``, ``raw_scale`` and ``channel_swap`` are those of `layerforge.io.Transformer`;
    ``context_pad`` is explained at `configure_crop`. Further ``options`` are those of `Net`.
    """

    def __init__(
        self,
        model_file: Any,
        pretrained_file: Any,
        mean: Any = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
        **options: Any,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file, **options)
        self.transformer = transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Chooses how much around a window is shown: ``context_pad`` pixels of the input on each side, warped with the
        window itself. What lies outside the image is the mean.

        Raises ShapeError where the padding leaves nothing of the input to the window.
        """
        name = self.inputs[0]
        shape = self.blobs[name].shape
        self.context_pad = int(context_pad or 0)
        if not 0 <= 2 * self.context_pad < min(shape[2:]):
            raise ShapeError(f"context_pad: {self.context_pad} on each side leaves no room in an input of {shape[2:]}")
        # The image of which the transformer makes zeros, (H, W, C).
        blank = np.zeros(shape[1:], np.float32)
        self.crop_mean = np.ascontiguousarray(self.transformer.deprocess(name, blank), np.float32)
        self.crop_dims = np.array(self.crop_mean.shape)

    def crop(self, im: np.ndarray, window: Sequence[float]) -> np.ndarray:
        """A window of an image (H, W, C), as it is; with `context_pad`, in the size of the net's input.

        Raises ShapeError for a window that has no pixel of the image.
        """
        y0, x0, y1, x1 = (round(float(edge)) for edge in window)
        inside = _within(im, (y0, x0, y1, x1))
        if inside is None:
            raise ShapeError(f"window {(y0, x0, y1, x1)} has no pixel of the image, whose size is {im.shape[:2]}")
        if not self.context_pad:
            return im[inside[0] : inside[2], inside[1] : inside[3]]
        height, width = (int(n) for n in self.crop_dims[:2])
        # The window fills all but context_pad pixels on each side, so what is shown is that much larger than it.
        half_y = (y1 - y0) / 2 * height / (height - 2 * self.context_pad)
        half_x = (x1 - x0) / 2 * width / (width - 2 * self.context_pad)
        middle_y, middle_x = (y0 + y1) / 2, (x0 + x1) / 2
        top, left = round(middle_y - half_y), round(middle_x - half_x)
        bottom, right = max(round(middle_y + half_y), top + 1), max(round(middle_x + half_x), left + 1)
        shown = _within(im, (top, left, bottom, right)) or inside
        scale_y, scale_x = height / (bottom - top), width / (right - left)
        at_y, at_x = round((shown[0] - top) * scale_y), round((shown[1] - left) * scale_x)
        to_y = max(round((shown[2] - top) * scale_y), at_y + 1)
        to_x = max(round((shown[3] - left) * scale_x), at_x + 1)
        result = self.crop_mean.copy()
        piece = io.resize_image(im[shown[0] : shown[2], shown[1] : shown[3]], (to_y - at_y, to_x - at_x))
        result[at_y:to_y, at_x:to_x] = piece[: height - at_y, : width - at_x]
        return result

    def detect_windows(self, images_windows: Iterable[tuple[Any, Any]]) -> list[dict[str, Any]]:
        """Scores of windows: for each (file of an image, its windows), a record for each window.

        A record has the ``window``, its ``prediction`` (the net's first output) and the ``filename``. Raises DataError
        for an image that cannot be read.
        """
        name = self.inputs[0]
        detections = []
        batch = self.blobs[name].shape[0]
        windows = self._inputs_of(images_windows)
        while some := list(itertools.islice(windows, batch)):
            inputs = np.stack([self.transformer.preprocess(name, crop) for _, _, crop in some])
            scores = self.forward_all(**{name: inputs})[self.outputs[0]]
            for (filename, window, _), prediction in zip(some, scores, strict=True):
                detections.append({"window": window, "prediction": prediction, "filename": filename})
        return detections

    def _inputs_of(self, images_windows: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any, np.ndarray]]:
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                try:
                    yield filename, window, self.crop(image, window)
                except ShapeError as error:
                    raise DataError(f"{filename}: {error}") from None

    def detect_selective_search(
        self, image_fnames: Sequence[Any], propose: Callable[[Any], Any] | None = None
    ) -> list[dict[str, Any]]:
        """Scores of the windows that a callable proposes: ``propose(file of an image)`` gives them.

        Raises DefinitionError without one: pycaffe called a MATLAB program here, which does not come along.
        """
        if propose is None:
            raise DefinitionError(
                "selective search is a MATLAB program that does not come along. Give a callable that proposes windows:"
                " detect_selective_search(files, propose); or windows of a file: detect_windows(read_windows(file))"
            )
        return self.detect_windows((name, propose(name)) for name in image_fnames)


def _within(im: np.ndarray, box: tuple[int, int, int, int]) -> tuple[int, int, int, int] | None:
    """The part of a box that lies in an image, or None."""
    y0, x0 = max(box[0], 0), max(box[1], 0)
    y1, x1 = min(box[2], im.shape[0]), min(box[3], im.shape[1])
    return (y0, x0, y1, x1) if y0 < y1 and x0 < x1 else None


def read_windows(path: str | os.PathLike[str]) -> list[tuple[str, np.ndarray]]:
    """Images and their windows (K, 4), from a file: CSV with the columns filename, ymin, xmin, ymax and xmax, or the
    window file of Caffe's WindowData layer.

    Raises DataError, with the line, for a file that is neither.
    """
    path = os.fspath(path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        raise DataError("there is no such file of windows", Place(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", Place(path)) from None
    return _window_file(path, text) if text.startswith("#") else _csv(path, text)


def _csv(path: str, text: str) -> list[tuple[str, np.ndarray]]:
    rows = csv.DictReader(text.splitlines())
    missing = [name for name in ("filename", *COORDINATES) if name not in (rows.fieldnames or ())]
    if missing:
        columns = ", ".join(("filename", *COORDINATES))
        raise DataError(f"the first line must name the columns {columns}; {', '.join(missing)} is missing", Place(path))
    windows: dict[str, list[list[float]]] = {}
    for row in rows:
        try:
            windows.setdefault(row["filename"], []).append([float(row[name] or "") for name in COORDINATES])
        except ValueError:
            values = ", ".join(f"{name}: {row[name]!r}" for name in COORDINATES)
            raise DataError(f"a window has four numbers; this line has {values}", Place(path, rows.line_num)) from None
    return [(name, np.array(found)) for name, found in windows.items()]


def _window_file(path: str, text: str) -> list[tuple[str, np.ndarray]]:
    """``# index``, path, channels, height, width, number; for each window class, overlap, x1, y1, x2, y2, with ends."""
    lines = text.splitlines()
    found = []
    at = 0

    def wrong(what: str, line: int) -> DataError:
        return DataError(f"{what}; each image has # index, path, channels, height, width, number of windows and"
                         " for each window: class overlap x1 y1 x2 y2", Place(path, line + 1))  # fmt: skip

    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        if not lines[at].startswith("#"):
            raise wrong(f'"{lines[at]}" stands where an image should begin with #', at)
        try:
            name, number = lines[at + 1].strip(), int(lines[at + 5])
        except (IndexError, ValueError):
            raise wrong("an image is not described whole", at) from None
        windows = []
        for line in range(at + 6, at + 6 + number):
            try:
                _, _, x1, y1, x2, y2 = map(float, lines[line].split())
            except (IndexError, ValueError):
                said = f'"{lines[line]}" is no window' if line < len(lines) else f"{number} windows are announced"
                raise wrong(said, min(line, len(lines) - 1)) from None
            windows.append([y1, x1, y2 + 1, x2 + 1])
        found.append((name, np.array(windows).reshape(-1, 4)))
        at += 6 + number
    return found
