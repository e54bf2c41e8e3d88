"""How many images a second are decoded and transformed, and how many if they were only decoded.

    python -m benchmarks.images [--images 800] [--threads 2]

Photographs of 500x375 (drawn: blurred noise, and noise), JPEG of quality 90, resized to 256x256; and an LMDB of them in
that size, JPEG too, as convert_imageset --encoded makes it. "alone" decodes, or decodes and resizes, with OpenCV in as
many threads, and does nothing else. Layers also crop to 227, mirror and subtract a mean. The best of several rounds, in
turn. Time of the processor, all threads together, says it even on a machine that does other things; the last column is
what a case reaches of the one that does nothing else. Prints Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks import machine
from layerforge import schema
from layerforge.cli import main as layerforge
from layerforge.data import Loader, Source, Transformer, open_source
from layerforge.data.image_list import ImageList

DRAWN = 100  # different images; the list goes on with them
SIZE = 256
CROP = 227
ROUNDS = 5
BATCH = 32
LOADERS: dict[tuple[str, int], Loader] = {}


def draw(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(min(DRAWN, count)):
        image = cv2.resize(rng.integers(0, 256, (24, 32, 3), np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "list.txt").write_text("".join(f"{i % DRAWN}.jpg {i % 10}\n" for i in range(count)))


def alone(folder: Path, count: int, threads: int, size: int | None = SIZE) -> None:
    def work(first: int) -> None:
        for i in range(first, count, threads):
            data = (folder / f"{i % DRAWN}.jpg").read_bytes()
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if size:
                cv2.resize(image, (size, size))

    together(work, threads)


def together(work: Callable[[int], None], threads: int) -> None:
    """Runs ``work(k)`` in so many threads."""
    running = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def convert(folder: Path, threads: int, *more: str, keep: str = "") -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch, open(os.devnull, "w") as null:
        to = f"{folder}/{keep}" if keep else f"{scratch}/db"
        with contextlib.redirect_stderr(null):
            status = layerforge(
                ["convert_imageset", f"{folder}/", f"{folder}/list.txt", to, "--threads", str(threads)]
                + ["--resize-height", str(SIZE), "--resize-width", str(SIZE), *more]
            )
    assert status == 0


def files(folder: Path) -> tuple[Source, Transformer]:
    """As a layer of type ImageData reads: resized to 256x256."""
    made = transformer()
    made.color, made.size = True, (SIZE, SIZE)
    return ImageList(f"{folder}/list.txt", f"{folder}/"), made


def records(folder: Path) -> tuple[Source, Transformer]:
    """As a layer of type Data reads: of that size already."""
    made = transformer()
    made.color = True
    return open_source(folder / "db"), made


def transformer() -> Transformer:
    """Crops of 227, mirrored, less a mean."""
    text = f"crop_size: {CROP} mirror: true mean_value: 104 mean_value: 117 mean_value: 123"
    return Transformer(schema.parse(text, "TransformationParameter").message, 0)


def load(source: Source, transformer: Transformer, count: int, threads: int) -> None:
    """With a loader that has run, for the memory of its batches is touched but once.

    It begins and ends with all batches made that it makes ahead: as many are made in between as are taken.
    """
    key = (source.uri, threads)
    if key not in LOADERS:
        LOADERS[key] = Loader(source, transformer, BATCH, threads=threads, shuffle=True)
    for _ in range(count // BATCH):
        LOADERS[key].next()
    LOADERS[key].release()
    ring = LOADERS[key]._ring
    while ring._room() or ring._active:
        time.sleep(1e-4)


def alone_in_records(source: Source, count: int, threads: int) -> None:
    def work(first: int) -> None:
        for i in range(first, count, threads):
            cv2.imdecode(np.frombuffer(source.borrow(i % len(source)).data, np.uint8), cv2.IMREAD_COLOR)

    together(work, threads)


def chapter(threads: int, count: int = 800) -> str:
    """Measures, and writes what was found."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder, count)
        convert(folder, threads, "--encoded", "--encode-type", "jpg", keep="db")
        files_of, records_of = files(folder), records(folder)
        # name -> (what it is compared with, what it does)
        cases: dict[str, tuple[str, Callable[[], None]]] = {}
        for n in dict.fromkeys((1, threads)):
            many = f"{n} thread{'s' * (n > 1)}"
            resized, decoded = f"decode and resize files alone, {many}", f"decode records alone, {many}"
            cases |= {
                resized: ("", partial(alone, folder, count, n)),
                f"ImageData, {many}": (resized, partial(load, *files_of, count, n)),
                decoded: ("", partial(alone_in_records, records_of[0], count, n)),
                f"Data, {many}": (decoded, partial(load, *records_of, count, n)),
            }
        cases |= {
            f"convert_imageset, {many}": (resized, partial(convert, folder, threads)),
            f"convert_imageset to a LevelDB, {many}": (
                resized,
                partial(convert, folder, threads, "--backend", "leveldb"),
            ),
        }
        best = {case: [float("inf")] * 2 for case in cases}
        for _ in range(ROUNDS):
            for case, (_, run) in cases.items():
                wall, processor = time.perf_counter(), time.process_time()
                run()
                taken = time.perf_counter() - wall, time.process_time() - processor
                best[case] = [min(a, b) for a, b in zip(best[case], taken, strict=True)]
    for loader in LOADERS.values():
        loader.close()
    LOADERS.clear()
    lines = [f"## Images\n\n{machine.describe()}; {count} images, best of {ROUNDS}.\n"]
    lines += ["| | images/s | ms of processor an image | of decoding alone, per processor time |", "|---|---|---|---|"]
    for case, (wall, processor) in best.items():
        base = cases[case][0]
        share = f"{best[base][1] / processor:.0%}" if base else ""
        lines.append(f"| {case} | {count / wall:,.0f} | {processor / count * 1e3:.3f} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--threads", type=int, default=machine.cores())
    options = parser.parse_args()
    print(chapter(options.threads, options.images))


if __name__ == "__main__":
    main()
