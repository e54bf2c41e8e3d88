"""Makes a database of the images that a list names.

Each line of LIST has a path, before which ROOT is put as it is, a space and a label, which is a whole number. The
images become records of DB in the order of the list, under the keys 00000000_path, 00000001_path and so on, as pixels
(C, H, W), blue first, or as files (--encoded). Images that cannot be read are left out, and listed at the end. The
database appears when it is whole.

examples:
  layerforge convert_imageset photos/ train.txt train_lmdb --resize-height 256 --resize-width 256 --shuffle
  layerforge convert_imageset photos/ val.txt val_lmdb --encoded
"""

from __future__ import annotations

import functools
import logging
import os
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from . import _work, flags, machine

if TYPE_CHECKING:
    from ..data.image_list import Listed

log = logging.getLogger("layerforge.cli")


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("root", metavar="ROOT", help="what is put before each path, as it is: a folder with its slash")
    parser.add_argument("list", metavar="LIST", help="a text file with a path and a label on each line")
    parser.add_argument("database", metavar="DB", help="the folder to make")
    parser.add_argument("--gray", action="store_true", help="one channel in place of three")
    parser.add_argument("--shuffle", action="store_true", help="in a random order, which --seed decides")
    parser.add_argument("--seed", type=flags.whole(0), default=1, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--backend", type=flags.one_of("lmdb", "leveldb"), default="lmdb", help="lmdb (default), leveldb"
    )
    parser.add_argument("--resize-width", type=flags.whole(0), default=0, metavar="N", help="with --resize-height")
    parser.add_argument("--resize-height", type=flags.whole(0), default=0, metavar="N", help="with --resize-width")
    parser.add_argument("--check-size", action="store_true", help="stop at an image of another size than the first")
    parser.add_argument(
        "--encoded", action="store_true", help="keep files as they are; smaller, and decoded in training"
    )
    parser.add_argument(
        "--encode-type", default="", metavar="jpg|png|...", help="encode images so; default: as the file's name ends"
    )
    parser.add_argument("--strict", action="store_true", help="make no database if an image cannot be read")
    parser.add_argument("--threads", type=flags.whole(1), metavar="N", help="default: one for each core")
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    if bool(args.resize_width) != bool(args.resize_height):
        raise flags.UsageError("give both --resize-width and --resize-height, or none of them")
    machine.import_layers(args.imports)
    from ..data.in_order import in_order
    from ..data.new_database import new_database, refuse_existing
    from ..data.shuffle import permutation

    refuse_existing(args.database)
    listed = read(args.list, args.root)
    order = permutation(args.seed, 0, 0, len(listed)) if args.shuffle else range(len(listed))
    since = time.perf_counter()
    bad: list[str] = []
    written = 0
    size: tuple[int, ...] | None = None  # of the first image, with --check-size
    with (
        _work.tidy_end(),
        _work.single_threaded_opencv(),
        new_database(args.database, args.backend) as put,
    ):
        made = in_order(functools.partial(record, listed, args), order, args.threads)
        try:
            for number, (index, value) in enumerate(
                zip(order, _work.progress(made, len(listed), "images"), strict=True)
            ):
                if isinstance(value, str):
                    bad.append(value)
                    continue
                shape, data = value
                size = size or shape
                if args.check_size and shape != size:
                    raise DataError(f"{listed.describe(index)}: it is {shape}, the first image {size}")
                put(f"{number:08}_{listed.paths[index]}".encode(errors="surrogateescape"), data)
                written += 1
        finally:
            made.close()
        if bad and (args.strict or not written):
            raise DataError("\n".join([*bad, f"{verdict(len(bad), len(listed))} No database was made"]))
    seconds = time.perf_counter() - since
    speed, space = _work.rate(len(listed), seconds), _work.amount(_work.folder_size(args.database))
    log.info("Wrote %d images to %s in %.1f s, %s images/s, %s.", written, args.database, seconds, speed, space)
    if bad:
        log.warning("%s", "\n".join([f"{verdict(len(bad), len(listed))} They were left out:", *bad]))
    return 0


def verdict(bad: int, listed: int) -> str:
    return f"{bad} of {listed} image{'s' * (listed != 1)} cannot be read."


def read(path: str, root: str) -> Listed:
    """The list, whose labels must be what a record of a database can hold."""
    import numpy as np

    from ..data.image_list import read_list

    listed = read_list(path, root)
    labels = listed.labels
    if labels.shape[1] > 1:
        raise DataError(
            f"{path}: each line has {labels.shape[1]} labels, but a record of a database has one. Read this list by a "
            "layer of type ImageData, or write HDF5"
        )
    wrong = (labels[:, 0] != np.trunc(labels[:, 0])) | (np.abs(labels[:, 0]) >= 2**31)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(
            f"{listed.place(i)}: label {labels[i, 0]:g} must be a whole number of 32 bits to go into a database. Read "
            "this list by a layer of type ImageData, or write HDF5"
        )
    return listed


def record(listed: Listed, args: Namespace, index: int) -> tuple[tuple[int, ...], bytes | memoryview] | str:
    """The shape (C, H, W) of an image and its record, or what is wrong with it."""
    import cv2

    from ..data.decode import decode
    from ..data.source import BadRecord
    from ..datum import Datum, datum_bytes, datum_to_fill

    label = int(listed.labels[index, 0])
    size = (args.resize_height, args.resize_width) if args.resize_height else None
    try:
        file = listed.read(index)
    except BadRecord as error:
        return error.message
    try:
        image = decode(Datum(data=file, encoded=True), not args.gray, size)
        if not (args.encoded or args.encode_type):
            data, planes = datum_to_fill(image.shape, label)
            cv2.split(image.pixels, list(planes))
            return image.shape, data
        wanted = args.encode_type.lower() or extension(listed.paths[index])
        if size is not None or not same_type(extension(listed.paths[index]), wanted):
            file = encode(image.pixels, wanted)
        return image.shape, datum_bytes(Datum(data=file, label=label, encoded=True))
    except BadRecord as error:
        return f"{listed.describe(index)}: {error.message}"


def extension(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


def same_type(extension: str, wanted: str) -> bool:
    return extension == wanted or {extension, wanted} == {"jpg", "jpeg"}


def encode(pixels: Any, kind: str) -> bytes:
    import cv2

    from ..data.source import BadRecord

    try:
        done, file = cv2.imencode(f".{kind}", pixels)
        if done:
            return bytes(file)
    except cv2.error:  # an unknown type it reports so
        pass
    raise BadRecord(f'it cannot be encoded as "{kind}". Choose another --encode-type: jpg or png, say')
