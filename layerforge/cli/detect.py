"""Scores windows of images, as R-CNN does.

INPUT says which windows: a .csv file with the columns filename, ymin, xmin, ymax and xmax, or a window file of Caffe's
WindowData layer; with --proposals, a list of images, one a line, for which a function of yours proposes windows. OUT is
a .csv file with a line for each window, or an .h5 file with the datasets filename, window and prediction.

examples:
  layerforge detect windows.csv scores.csv --model-def deploy.prototxt --pretrained-model rcnn.caffemodel
  layerforge detect images.txt scores.h5 --proposals my_windows:propose --context-pad 16 --model deploy.prototxt \\
      --weights rcnn.caffemodel
"""

from __future__ import annotations

import csv
import importlib
import io
import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from ..errors import DataError, DefinitionError, Place
from . import _images, flags, machine

log = logging.getLogger("layerforge.cli")


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="a file of windows; with --proposals, a list of images")
    parser.add_argument("output", metavar="OUT", help="the scores: .csv or .h5")
    parser.add_argument(
        "--crop-mode",
        type=flags.one_of("list", "selective_search"),
        default="list",
        metavar="list|selective_search",
        help="where windows come from; selective_search takes --proposals",
    )
    parser.add_argument("--proposals", metavar="MODULE:FUNCTION", help="function(file) gives the windows of an image")
    parser.add_argument(
        "--context-pad",
        type=flags.whole(0),
        default=16,
        metavar="N",
        help="pixels of the input around a window that show what is around it; default: %(default)s",
    )
    _images.add_flags(parser)
    _images.add_machine(parser)


def run(args: Namespace, handler: Any) -> int:
    if os.path.splitext(args.output)[1] not in (".csv", ".h5"):
        raise flags.UsageError(f'"{args.output}" must end with .csv or .h5')
    if args.crop_mode == "selective_search" and not args.proposals:
        raise flags.UsageError(
            "selective search does not come along: give a function of your own, --proposals MODULE:FUNCTION, or a file"
            " of windows"
        )
    machine.import_layers(args.imports)
    device = machine.prepare(args)
    from ..detector import Detector, read_windows

    if args.proposals:
        propose = find_function(args.proposals)
        windows = [(name, propose(name)) for name in read_list(args.input)]
    else:
        windows = read_windows(args.input)
    net = Detector(args.model_def, args.pretrained_model, context_pad=args.context_pad, **_images.options(args, device))
    _images.swap_channels(args, net)
    since = time.perf_counter()
    found = net.detect_windows(windows)
    log.info("Processed %d windows in %.3f s.", len(found), time.perf_counter() - since)
    write(args.output, found)
    log.info("The scores are in %s.", args.output)
    return 0


def find_function(name: str) -> Callable[[str], Any]:
    """``module:function``, from here or where Python looks. Raises DefinitionError where there is none."""
    place = Place(f"--proposals {name}")
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function or " ", None)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise DefinitionError(f'there is no module "{module}" here or where Python looks', place) from None
    if not callable(found):
        raise DefinitionError(f'module "{module}" has no function "{function}". Write MODULE:FUNCTION', place)
    return found


def read_list(path: str) -> list[str]:
    """Files of images, one a line."""
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise DataError(f"no list of images can be read: {why}", Place(path)) from None


def write(path: str, found: list[dict[str, Any]]) -> None:
    """Scores as CSV or HDF5; the file appears whole or not at all."""
    import numpy as np

    from .. import files
    from ..detector import COORDINATES

    scores = np.stack([record["prediction"].reshape(-1) for record in found]) if found else np.zeros((0, 0))
    if path.endswith(".csv"):
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["filename", *COORDINATES, *(f"class{i}" for i in range(scores.shape[1]))])
        for record, row in zip(found, scores, strict=True):
            coordinates = [f"{float(edge):g}" for edge in record["window"]]
            rows.writerow([record["filename"], *coordinates, *(f"{score:.9g}" for score in row)])
        with files.atomic(path) as file:
            file.write(text.getvalue().encode())
        return
    import h5py

    with files.atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        names = [str(record["filename"]) for record in found]
        file.create_dataset("filename", data=np.array(names, dtype=h5py.string_dtype()))
        file["window"] = np.array([record["window"] for record in found], np.float64).reshape(-1, 4)
        file["prediction"] = scores
