"""Computes the mean image of a database.

OUT gets the mean of every pixel, as transform_param { mean_file: "OUT" } takes it. The mean of each channel, as
mean_value takes it, is printed. All images must be of one size.

examples:
  layerforge compute_image_mean train_lmdb mean.binaryproto
"""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ..errors import DataError, LayerForgeError
from . import _work, flags, machine

if TYPE_CHECKING:
    import numpy as np

    from ..data import Source

log = logging.getLogger("layerforge.cli")


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("database", metavar="DB", help="an LMDB, a LevelDB, or sample://...")
    parser.add_argument("output", nargs="?", metavar="OUT", help="the .binaryproto to write")
    parser.add_argument(
        "--backend", type=flags.one_of("lmdb", "leveldb"), help="not needed: the folder tells what it is"
    )
    parser.add_argument("--threads", type=flags.whole(1), metavar="N", help="default: one for each core")
    parser.add_argument("--cache", metavar="DIR", help="the folder for sample data; default: ~/.cache/layerforge")
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    machine.import_layers(args.imports)
    from .. import files, wire
    from ..data import open_source

    source = open_source(args.database, cache=args.cache)
    since = time.perf_counter()
    try:
        source.open()
        with _work.tidy_end(), _work.single_threaded_opencv():
            mean = mean_image(source, args.threads)
    finally:
        source.close()
    seconds = time.perf_counter() - since
    log.info(
        "Processed %d images of %s in %.1f s, %s images/s.",
        len(source), args.database, seconds, _work.rate(len(source), seconds),
    )  # fmt: skip
    if args.output:
        with files.atomic(args.output) as file:
            wire.write_blob(file, mean[None])
        log.info("Wrote the mean image, %s, to %s.", "x".join(map(str, mean.shape)), args.output)
    log.info("Number of channels: %d", len(mean))
    for channel, value in enumerate(channel_means(mean)):
        log.info("mean_value channel [%d]: %.6g", channel, value)
    return 0


def mean_image(source: Source, threads: int | None = None) -> np.ndarray:
    """The mean of all records, float32 (C, H, W): summed one after the other in float32, as Caffe does.

    Raises DataError for a record that cannot be decoded or is of another size than the first.
    """
    import numpy as np

    from ..data.decode import decode
    from ..data.in_order import in_order

    def pixels(position: int) -> np.ndarray:
        try:
            image = decode(source.borrow(position))
        except LayerForgeError as error:
            if error.message.startswith(source.describe(position)):
                raise
            raise DataError(f"{source.describe(position)}: {error.message}") from None
        return np.ascontiguousarray(image.pixels.transpose(2, 0, 1)) if image.interleaved else image.pixels

    total: np.ndarray | None = None
    read = in_order(pixels, range(len(source)), threads)
    try:
        for position, image in enumerate(_work.progress(read, len(source), "images")):
            if total is None:
                total = np.zeros(image.shape, np.float32)
            if image.shape != total.shape:
                raise DataError(
                    f"{source.describe(position)}: it is {image.shape}, the first record {total.shape}. A mean needs "
                    "images of one size: convert them with --resize-height and --resize-width"
                )
            total += image
    finally:
        read.close()
    assert total is not None  # a source has at least one record
    return total / np.float32(len(source))


def channel_means(mean: np.ndarray) -> list[float]:
    """The mean of each channel, summed one pixel after the other in float32, as Caffe does."""
    import numpy as np

    rows = mean.reshape(len(mean), -1)
    return [float(np.add.accumulate(row)[-1] / np.float32(row.size)) for row in rows]
