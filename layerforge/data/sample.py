"""``sample://`` sources: data sets that LayerForge draws itself, once, into the user's cache folder.

``sample://shapes?split=train`` names an LMDB of JPEG-encoded records, ``sample://digits?split=test`` one of raw grey
records. They stand in for a real data set, so that nothing has to be downloaded. The query may also hold ``count``, the
number of records, ``size``, the side of the images in pixels, and ``seed``; the same query gives the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from ..datum import Datum, datum_bytes
from ..errors import DataError, did_you_mean
from ..kernels import get_threads
from . import sample_digits, sample_shapes
from .lmdb_writer import write_lmdb

SCHEME = "sample://"
SETS: dict[str, ModuleType] = {"shapes": sample_shapes, "digits": sample_digits}
SPLITS = {"train": 0, "test": 1}
AT_ONCE = 64  # images handed to a thread at a time


@dataclass(frozen=True)
class Sample:
    """What a ``sample://`` source asks for."""

    name: str
    split: str
    count: int
    size: int
    seed: int = 0

    @property
    def folder(self) -> str:
        """The name of its database in the cache: everything that its bytes depend on."""
        version = SETS[self.name].VERSION
        return f"{self.name}-v{version}-{self.split}-{self.count}x{self.size}-seed{self.seed}"

    def random(self, index: int) -> np.random.Generator:
        """The random numbers of one image, whichever thread draws it."""
        return np.random.Generator(np.random.PCG64([self.seed, SPLITS[self.split], index]))

    def label(self, index: int) -> int:
        """Classes come mixed but balanced: every run of as many records as there are classes holds each once."""
        classes = len(SETS[self.name].NAMES)
        deck = np.random.Generator(np.random.PCG64([self.seed, SPLITS[self.split], index // classes, 1]))
        return int(np.argsort(deck.random(classes))[index % classes])

    def datum(self, index: int) -> Datum:
        """One record, drawn."""
        import cv2

        label = self.label(index)
        image = SETS[self.name].draw(self.random(index), label, self.size)
        if image.ndim == 2:
            return Datum(1, self.size, self.size, image.tobytes(), label)
        _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, sample_shapes.QUALITY])
        return Datum(3, self.size, self.size, jpeg.tobytes(), label, encoded=True)

    def key(self, index: int) -> bytes:
        """Number and class of a record: ``00000007_star``."""
        return f"{index:08d}_{SETS[self.name].NAMES[self.label(index)]}".encode()


def parse(uri: str) -> Sample:
    """``sample://shapes?split=train&count=200&size=64`` as a `Sample`. Raises DataError for what it does not know."""
    parts = urlsplit(uri)
    name = parts.netloc
    if name not in SETS:
        raise DataError(
            f'source "{uri}": there is no sample data "{name}".{did_you_mean(name, SETS)} Known: {", ".join(SETS)}'
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key in query:
        if key not in ("split", "count", "size", "seed"):
            hint = did_you_mean(key, ["split", "count", "size", "seed"])
            raise DataError(f'source "{uri}": unknown word "{key}".{hint} Known: split, count, size, seed')
    split = query.get("split", "")
    if split not in SPLITS:
        said = f'split is "{split}"' if "split" in query else "it names no split"
        raise DataError(f'source "{uri}": {said}. Write {SCHEME}{name}?split=train or {SCHEME}{name}?split=test')
    defaults = {"count": (SETS[name].COUNT[split], 1), "size": (SETS[name].SIZE, 16), "seed": (0, 0)}
    numbers = {}
    for key, (default, least) in defaults.items():
        text = query.get(key, str(default))
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise DataError(f'source "{uri}": {key} must be a whole number of at least {least}, not "{text}"')
        numbers[key] = int(text)
    return Sample(name, split, numbers["count"], numbers["size"], numbers["seed"])


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Where drawn data is kept: the argument, else the environment's LAYERFORGE_CACHE, else ~/.cache/layerforge."""
    if cache:
        return Path(cache).expanduser()
    if os.environ.get("LAYERFORGE_CACHE"):
        return Path(os.environ["LAYERFORGE_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "layerforge"


def database(uri: str, cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the LMDB that a ``sample://`` source names, drawn now if this is the first time.

    Of several processes that want it at once, one draws and the others wait. An interrupted one leaves nothing behind
    that the next would take for whole. Raises DataError where the cache cannot be written.
    """
    sample = parse(uri)
    folder = cache_folder(cache)
    target = folder / sample.folder
    if target.is_dir():
        return target
    import lmdb

    part = folder / f"{sample.folder}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder / f"{sample.folder}.lock"):
            if not target.is_dir():
                shutil.rmtree(part, ignore_errors=True)  # what a killed process left
                try:
                    write(sample, uri, part, target)
                    os.replace(part, target)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except (OSError, lmdb.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f'source "{uri}" is drawn into the cache folder {folder}, which cannot be written: {reason}. '
            "Name another folder in the environment variable LAYERFORGE_CACHE"
        ) from error
    return target


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Holds a lock that one process, or thread, has at a time. It ends with its process, however that ends."""
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go


def write(sample: Sample, uri: str, part: Path, target: Path) -> None:
    """Draws a data set into a new LMDB at ``part``."""
    with contextlib.closing(draw_all(sample)) as records:
        write_lmdb(part, progress(records, sample.count, uri, target))


def draw_all(sample: Sample) -> Generator[tuple[bytes, bytes], None, None]:
    """Every record in order, drawn by as many threads as `kernels.set_threads` says: drawing releases the GIL."""
    import cv2

    def some(start: int) -> list[tuple[bytes, bytes]]:
        numbers = range(start, min(start + AT_ONCE, sample.count))
        return [(sample.key(index), datum_bytes(sample.datum(index))) for index in numbers]

    threads_before = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the threads here are enough
    pool = ThreadPoolExecutor(get_threads())
    try:
        for records in pool.map(some, range(0, sample.count, AT_ONCE)):
            yield from records
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads_before)


def progress(
    records: Iterator[tuple[bytes, bytes]], count: int, uri: str, target: Path
) -> Iterator[tuple[bytes, bytes]]:
    """The records, with a progress bar on a terminal and one line anywhere else."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        sys.stderr.write(f"Drawing {count} images of {uri}, once, into {target}\n")
        sys.stderr.flush()
        yield from records
        return
    with tqdm(records, total=count, desc=f"Drawing {uri}", unit="img", leave=False, position=0) as bar:
        yield from bar
    sys.stderr.write(f"Drew {count} images of {uri} into {target}\n")
