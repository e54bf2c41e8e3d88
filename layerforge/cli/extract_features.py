"""Writes what a net computes of each image to a database or a file.

The net of MODEL reads its images by a data layer, in phase TEST. Each of the BLOBS goes to the output in its place of
OUTPUTS: a database of records of floats, under the keys 0000000000, 0000000001 and so on (lmdb, leveldb), a dataset
named after the blob (hdf5), or an array (npy). Images come in batches, so there are BATCHES * batch_size of them.

examples:
  layerforge extract_features net.caffemodel val.prototxt fc7,prob fc7_lmdb,prob_lmdb 10 lmdb
  layerforge extract_features net.caffemodel val.prototxt fc7 fc7.npy 10 npy GPU 0
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import DataError, DefinitionError, Place, ShapeError, did_you_mean
from . import _work, flags, machine

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("layerforge.cli")
KINDS = ("lmdb", "leveldb", "hdf5", "npy")

Write = Callable[["np.ndarray"], None]  # takes the blob of a batch


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("weights", metavar="WEIGHTS", help="a caffemodel or HDF5 file; several by commas")
    parser.add_argument("model", metavar="MODEL", help="the net's prototxt")
    parser.add_argument("blobs", type=flags.names, metavar="BLOBS", help="names of blobs, separated by commas")
    parser.add_argument("outputs", type=flags.names, metavar="OUTPUTS", help="as many names to write to")
    parser.add_argument("batches", type=flags.whole(1), metavar="BATCHES", help="how many batches to run")
    parser.add_argument("kind", type=flags.one_of(*KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("mode", nargs="?", type=flags.one_of("CPU", "GPU"), metavar="CPU|GPU", help="as --device")
    parser.add_argument(
        "number", nargs="?", type=flags.whole(0), default=0, metavar="ID", help="of the GPU; default: 0"
    )
    parser.add_argument("--seed", type=flags.whole(0), metavar="N", help="the seed of whatever is random in the net")
    flags.add_state(parser)
    flags.add_machine(parser)


def run(args: Namespace, handler: Any) -> int:
    if len(args.blobs) != len(args.outputs):
        raise flags.UsageError(f"{len(args.blobs)} BLOBS need as many OUTPUTS, not {len(args.outputs)}")
    machine.import_layers(args.imports)
    if args.mode:
        args.gpu = None
        args.device = "cpu" if args.mode == "CPU" else str(args.number)
    device = machine.prepare(args)
    from .. import TEST
    from ..data.new_database import refuse_existing
    from ..net import Net

    for output in args.outputs:
        refuse_existing(output)
    net = Net(args.model, TEST, args.level, args.stage, device=device, seed=args.seed)
    try:
        check(net, args)
        for path in args.weights.split(","):
            log.info("%s", net.copy_from(path))
        since = time.perf_counter()
        images = extract(net, args)
        seconds = time.perf_counter() - since
    finally:
        net.close()
    for blob, output, count in zip(args.blobs, args.outputs, images, strict=True):
        log.info("Extracted features of %d query images for feature blob %s, into %s.", count, blob, output)
    log.info("Done in %.1f s, %s images/s.", seconds, _work.rate(images[0], seconds))
    return 0


def check(net: Any, args: Namespace) -> None:
    """Refuses blobs that the net does not have, and a net without data of its own."""
    for name in args.blobs:
        if name not in net.blobs:
            raise DefinitionError(f'this net has no blob "{name}".{did_you_mean(name, net.blobs)}', Place(args.model))
        if not net.blobs[name].shape:
            raise ShapeError(
                f'blob "{name}" is a single number; features have an axis that counts images', Place(args.model)
            )
    if net.inputs:
        raise DefinitionError(
            f'nobody writes the input "{net.inputs[0]}" of this net. Let it read its images by a data layer, of type '
            "ImageData, say",
            Place(args.model),
        )


def extract(net: Any, args: Namespace) -> list[int]:
    """Runs the net and writes the blobs. How many images of each."""
    images = [0] * len(args.blobs)
    with _work.tidy_end(), contextlib.ExitStack() as outputs:
        writers = [
            outputs.enter_context(WRITERS[args.kind](output, args.kind, blob, args.batches))
            for blob, output in zip(args.blobs, args.outputs, strict=True)
        ]
        for _ in _work.progress(range(args.batches), args.batches, "batches"):
            found = net.forward(args.blobs)
            for i, (blob, write) in enumerate(zip(args.blobs, writers, strict=True)):
                write(found[blob])
                images[i] += len(found[blob])
    return images


# Where to write. Each gives a function that takes a batch, and appears whole at the end of the block.


@contextlib.contextmanager
def to_database(output: str, kind: str, blob: str, batches: int) -> Iterator[Write]:
    """A database of Datums; of a blob of five axes or more the last ones become one."""
    from ..data.new_database import new_database
    from ..datum import Datum, datum_bytes

    with new_database(output, kind) as put:
        count = 0

        def write(batch: np.ndarray) -> None:
            nonlocal count
            channels, height = (*batch.shape[1:], 1, 1)[:2]
            width = math.prod(batch.shape[3:])
            for row in batch:
                put(b"%010d" % count, datum_bytes(Datum(channels, height, width, float_data=row)))
                count += 1

        yield write


@contextlib.contextmanager
def to_hdf5(output: str, kind: str, blob: str, batches: int) -> Iterator[Write]:
    """A dataset that layers of type HDF5Data read under the blob's name."""
    import h5py

    from ..data.new_database import new_file

    with new_file(output) as name, h5py.File(name, "w") as file:
        first: list[tuple[int, ...]] = []

        def write(batch: np.ndarray) -> None:
            if not first:
                file.create_dataset(blob, data=batch, maxshape=(None, *batch.shape[1:]), chunks=True)
                first.append(batch.shape)
                return
            same_shape(blob, batch, first[0])
            dataset = file[blob]
            dataset.resize(len(dataset) + len(batch), axis=0)
            dataset[-len(batch) :] = batch

        yield write


@contextlib.contextmanager
def to_npy(output: str, kind: str, blob: str, batches: int) -> Iterator[Write]:
    """An array (images, ...)."""
    import numpy as np

    from ..data.new_database import new_file

    with new_file(output) as name:
        arrays: list[Any] = []
        count = 0

        def write(batch: np.ndarray) -> None:
            nonlocal count
            if not arrays:
                shape = (batches * len(batch), *batch.shape[1:])
                arrays.append(np.lib.format.open_memmap(name, "w+", batch.dtype, shape))
            whole = arrays[0]
            same_shape(blob, batch, (len(whole) // batches, *whole.shape[1:]))
            whole[count : count + len(batch)] = batch
            count += len(batch)

        yield write
        for whole in arrays:
            whole.flush()
        arrays.clear()


def same_shape(blob: str, batch: np.ndarray, first: tuple[int, ...]) -> None:
    if batch.shape != first:
        raise DataError(
            f'blob "{blob}" is {batch.shape} now, and was {first} in the first batch: hdf5 and npy need one shape. '
            "Write lmdb, or resize the images"
        )


WRITERS = {"lmdb": to_database, "leveldb": to_database, "hdf5": to_hdf5, "npy": to_npy}
