"""How much of the time that it takes to decode images is left over for them: convert_imageset, and layers of images.

    python -m benchmarks.images [--images 800] [--threads 2]

Photographs of 500x375 (drawn: blurred noise, and noise), JPEG of quality 90, resized to 256x256. "alone" decodes and
resizes them with OpenCV in as many threads, and does nothing else. The best of several rounds, in turn. Time of the
processor, all threads together, says it even on a machine that does other things.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from layerforge import schema
from layerforge.cli import main as layerforge
from layerforge.data import Loader, Transformer
from layerforge.data.image_list import ImageList

DRAWN = 100  # different images; the list goes on with them
SIZE = 256
CROP = 227
ROUNDS = 5


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

    together = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()


def convert(folder: Path, threads: int, *more: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as scratch, open(os.devnull, "w") as null:
        with contextlib.redirect_stderr(null):
            status = layerforge(
                ["convert_imageset", f"{folder}/", f"{folder}/list.txt", f"{scratch}/db", "--threads", str(threads)]
                + ["--resize-height", str(SIZE), "--resize-width", str(SIZE), *more]
            )
    assert status == 0


def load(folder: Path, count: int, threads: int) -> None:
    """As a layer of type ImageData does: crops of 227, mirrored, less a mean."""
    text = f"crop_size: {CROP} mirror: true mean_value: 104 mean_value: 117 mean_value: 123"
    transformer = Transformer(schema.parse(text, "TransformationParameter").message, 0)
    transformer.color, transformer.size = True, (SIZE, SIZE)
    source = ImageList(f"{folder}/list.txt", f"{folder}/")
    loader = Loader(source, transformer, 32, threads=threads, shuffle=True)
    for _ in range(count // 32):
        loader.next()
    loader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, count, threads = Path(name), args.images, args.threads
        draw(folder, count)
        cases: dict[str, Callable[[], None]] = {
            f"decode and resize alone, {threads} threads": lambda: alone(folder, count, threads),
            f"convert_imageset, {threads} threads": lambda: convert(folder, threads),
            f"convert_imageset to a LevelDB, {threads} threads": lambda: convert(
                folder, threads, "--backend", "leveldb"
            ),
            "decode alone, 1 thread": lambda: alone(folder, count, 1, None),
            "decode and resize alone, 1 thread": lambda: alone(folder, count, 1),
            "ImageData, 1 thread": lambda: load(folder, count, 1),
            f"ImageData, {threads} threads": lambda: load(folder, count, threads),
        }
        best = {case: [float("inf")] * 2 for case in cases}
        for _ in range(ROUNDS):
            for case, run in cases.items():
                wall, processor = time.perf_counter(), time.process_time()
                run()
                taken = time.perf_counter() - wall, time.process_time() - processor
                best[case] = [min(a, b) for a, b in zip(best[case], taken, strict=True)]
    for case, (wall, processor) in best.items():
        print(f"{case:44} {count / wall:7.0f} images/s {processor / count * 1e3:8.3f} ms of processor an image")


if __name__ == "__main__":
    main()
