"""Classifies images: scores of each image as an .npy array, or the best classes as text.

INPUT is an image, a folder of images or an .npy array of images (N, H, W, C), RGB from 0 to 1. Ten crops of each are
averaged: four corners and the centre, and the same mirrored. OUT gets the scores, (N, classes). With --labels the five
best classes of each image are printed, and OUT may be left out.

examples:
  layerforge classify cat.jpg scores.npy --model-def deploy.prototxt --pretrained-model net.caffemodel
  layerforge classify photos/ --ext png --labels synset_words.txt --model deploy.prototxt --weights net.caffemodel
"""

from __future__ import annotations

import itertools
import logging
import time
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from ..errors import DataError, Place, ShapeError
from . import _images, flags, machine

log = logging.getLogger("layerforge.cli")
BEST = 5


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("input", metavar="INPUT", help="an image, a folder of images, or an .npy array")
    parser.add_argument("output", nargs="?", metavar="OUT", help="the .npy file of the scores")
    parser.add_argument("--center-only", action="store_true", help="one crop, the centre, in place of ten")
    parser.add_argument(
        "--images-dim",
        type=_images.pair,
        default=(256, 256),
        metavar="H,W",
        help="the size of images before crops are taken; default: 256,256",
    )
    parser.add_argument("--ext", default="jpg", help="the extension of images in a folder; default: %(default)s")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line: prints the five best")
    _images.add_flags(parser)
    _images.add_machine(parser)


def run(args: Namespace, handler: Any) -> int:
    if not args.output and not args.labels:
        raise flags.UsageError("name a file OUT for the scores, or give --labels to print the best classes")
    machine.import_layers(args.imports)
    device = machine.prepare(args)
    import numpy as np

    from .. import files
    from ..classifier import Classifier

    names = read_labels(args.labels) if args.labels else None
    net = Classifier(args.model_def, args.pretrained_model, image_dims=args.images_dim, **_images.options(args, device))
    colour = _images.swap_channels(args, net) != 1
    titles, images = read_images(args.input, args.ext, colour)
    log.info("Classifying %d inputs.", len(titles))
    since = time.perf_counter()
    at_once = max(1, net.blobs[net.inputs[0]].shape[0] // (1 if args.center_only else 10))
    parts = []
    while some := list(itertools.islice(images, at_once)):
        parts.append(net.predict(some, not args.center_only))
    scores = np.concatenate(parts)
    log.info("Done in %.2f s.", time.perf_counter() - since)
    if names is not None:
        print("\n\n".join(best(title, row.reshape(-1), names) for title, row in zip(titles, scores, strict=True)))
    if args.output:
        with files.atomic(args.output) as file:
            np.save(file, scores)
        log.info("The scores, %s, are in %s.", "x".join(map(str, scores.shape)), args.output)
    return 0


def read_images(path: str, ext: str, colour: bool) -> tuple[list[str], Iterator[Any]]:
    """Titles of images, and the images, read when it is their turn."""
    from .. import io

    if path.endswith(".npy"):
        images = read_array(path)
        return [f"{path} {i}" for i in range(len(images))], iter(images)
    found = _images.image_files(path, ext)
    return found, (io.load_image(file, colour) for file in found)


def read_array(path: str) -> Any:
    import numpy as np

    try:
        images = np.load(path)
    except FileNotFoundError:
        raise DataError("there is no such array", Place(path)) from None
    except (OSError, ValueError):
        raise DataError("this is no array of numpy", Place(path)) from None
    if images.ndim != 4 or not len(images):
        raise DataError(f"images are (N, H, W, C); this array has shape {images.shape}", Place(path))
    return images


def read_labels(path: str) -> list[str]:
    """Names of classes, one a line."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError as error:
        raise DataError(f"no labels can be read: {error.strerror}", Place(path)) from None


def best(title: str, scores: Any, names: list[str]) -> str:
    """The best classes of an image, best first. Raises ShapeError where there are not as many names as scores."""
    if len(names) != len(scores):
        raise ShapeError(f"--labels: {len(names)} names for the {len(scores)} scores of the net")
    order = (-scores).argsort(kind="stable")[:BEST]
    return "\n".join([title, *(f"  {scores[i]:.4f}  {names[i]}" for i in order)])
