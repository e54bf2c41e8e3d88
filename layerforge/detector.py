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
from .data import windows
from .data.window_file import WindowFile
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
        window itself, as by a WindowData layer. What lies outside the image is the mean.

        Raises ShapeError where the padding leaves nothing of the input to the window, or the input is no square.
        """
        name = self.inputs[0]
        shape = self.blobs[name].shape
        self.context_pad = int(context_pad or 0)
        if self.context_pad and shape[2] != shape[3]:
            raise ShapeError(
                f"context_pad: {self.context_pad} needs an input that is a square; this one is {shape[2:]}"
            )
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
        size = int(self.crop_dims[0])
        cut = windows.cut((x0, y0, x1 - 1, y1 - 1), im.shape[:2], size, context=self.context_pad)
        assert cut is not None  # some of it lies in the image
        x, y, wide, tall = cut.part
        result = self.crop_mean.copy()
        shown = io.resize_image(im[y : y + tall, x : x + wide], [max(n, 1) for n in cut.size])
        result[cut.top : cut.top + cut.size[0], cut.left : cut.left + cut.size[1]] = shown[: cut.size[0], : cut.size[1]]
        return result

    def detect_windows(self, images_windows: Iterable[tuple[Any, Any]]) -> list[dict[str, Any]]:
        """Scores of windows: for each (file of an image, its windows), a record for each window.

        A record has the ``window``, its ``prediction`` (the net's first output) and the ``filename``. Raises DataError
        for an image that cannot be read.
        """
        name = self.inputs[0]
        detections = []
        batch = self.blobs[name].shape[0]
        crops = self._inputs_of(images_windows)
        while some := list(itertools.islice(crops, batch)):
            inputs = np.stack([self.transformer.preprocess(name, crop) for _, _, crop in some])
            scores = self.forward_all(**{name: inputs})[self.outputs[0]]
            for (filename, window, _), prediction in zip(some, scores, strict=True):
                detections.append({"window": window, "prediction": prediction, "filename": filename})
        return detections

    def _inputs_of(self, images_windows: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any, np.ndarray]]:
        for filename, boxes in images_windows:
            image = io.load_image(filename)
            for window in boxes:
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
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read()
    except FileNotFoundError:
        raise DataError("there is no such file of windows", Place(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", Place(path)) from None
    if not text.startswith("#"):
        return _csv(path, text)
    listed = WindowFile(path)
    found: list[list[list[float]]] = [[] for _ in listed.paths]
    for window in listed.windows:
        x1, y1, x2, y2 = window.box
        found[window.image].append([y1, x1, y2 + 1, x2 + 1])
    return [(name, np.array(boxes).reshape(-1, 4)) for name, boxes in zip(listed.paths, found, strict=True)]


def _csv(path: str, text: str) -> list[tuple[str, np.ndarray]]:
    rows = csv.DictReader(text.splitlines())
    missing = [name for name in ("filename", *COORDINATES) if name not in (rows.fieldnames or ())]
    if missing:
        columns = ", ".join(("filename", *COORDINATES))
        raise DataError(f"the first line must name the columns {columns}; {', '.join(missing)} is missing", Place(path))
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        try:
            found.setdefault(row["filename"], []).append([float(row[name] or "") for name in COORDINATES])
        except ValueError:
            values = ", ".join(f"{name}: {row[name]!r}" for name in COORDINATES)
            raise DataError(f"a window has four numbers; this line has {values}", Place(path, rows.line_num)) from None
    return [(name, np.array(boxes)) for name, boxes in found.items()]
