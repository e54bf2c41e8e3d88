"""The whole table: LayerForge against PyTorch, onnxruntime and OpenCV, and its cost as work grows.

    python -m benchmarks                  all of it: an hour and a half on two cores, best on a quiet machine
    python -m benchmarks --resume         what an interrupted run left over
    python -m benchmarks --nets lenet vgg16 --kinds train --rivals stock          a part; the rest stays as it is
    python -m benchmarks --quick          a glance, in five minutes, that writes no file
    python -m benchmarks --report         writes the report again, and measures nothing

Writes docs/results/cpu.md: docs/results/cpu-foreword.md, which is written by hand, and below it what was measured.
Every figure is kept in docs/results/cpu.json as soon as it is there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import growth, machine, startup
from benchmarks.cells import Bench, Cell, every
from benchmarks.contest import ROOT
from benchmarks.nets import NETS
from benchmarks.report import report
from benchmarks.results import Results

OUT = ROOT / "docs" / "results" / "cpu.md"
FOREWORD = ROOT / "docs" / "results" / "cpu-foreword.md"
KINDS = ["train", "infer", "growth", "images", "startup"]

QUICK = {
    "nets": ["lenet", "alexnet", "resnet50"],
    "rivals": ["NCHW, tuned", "channels_last, tuned", "onnx", "OpenCV"],
    "rounds": 3,
    "warm_up": 1,
    "turn": 0.1,
}
QUICK_REMARK = (
    "**A glance**: few nets, of each rival one or two forms, and three rounds. "
    "For figures to rely on: `python -m benchmarks`."
)


def main() -> None:
    options = read()
    results = Results(options.out.with_suffix(".json") if options.out else None)
    if not options.report:
        measure(options, results)
        measure_others(options, results)
    chapters = [growth.chapter(results, (options.out or OUT).parent), results.get("images"), results.get("startup")]
    text = report(
        results.cells,
        [chapter for chapter in chapters if chapter],
        FOREWORD.read_text(encoding="utf-8") if FOREWORD.exists() and not options.quick else "",
        results.get("command") or "",
        QUICK_REMARK if options.quick else "",
    )
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def read() -> argparse.Namespace:
    about, _, rest = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=about,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nets", nargs="+", choices=list(NETS), help="default: all")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="default: all")
    parser.add_argument("--rivals", nargs="+", metavar="PART", help="rivals whose names have one of these in them")
    parser.add_argument("--batches", nargs="+", type=int, metavar="N", help="in place of the usual ones")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of every contestant; default: all cores")
    parser.add_argument("--rounds", type=int, help="turns that are counted; default: 7")
    parser.add_argument("--warm-up", type=int, help="steps of each that are not counted; default: 3")
    parser.add_argument("--turn", type=float, help="seconds of a turn, if more than one step fits; default: 0.3")
    parser.add_argument("--compile-limit", type=float, default=600, help="seconds that compiling may take")
    parser.add_argument("--resume", action="store_true", help="leave out what the file of results has already")
    parser.add_argument("--quick", action="store_true", help="a glance, in five minutes")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, help="the report; its figures go to .json beside it")
    options = parser.parse_args()
    quick = QUICK if options.quick else {}
    full = {"nets": list(NETS), "kinds": KINDS, "rivals": [], "rounds": 7, "warm_up": 3, "turn": 0.3}
    for name, value in (full | {"kinds": ["train", "infer"]} if quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, quick.get(name, value))
    options.out = options.out or (None if quick else OUT)
    return options


def measure(options: argparse.Namespace, results: Results) -> None:
    kinds = [kind for kind in options.kinds if kind in ("train", "infer")]
    cells = list(every(options.nets, kinds, options.rivals, options.batches))
    if options.quick and options.batches is None:
        cells = [cell for cell in cells if cell.kind == "train" or cell.batch == 1]
    if options.resume:
        cells = [cell for cell in cells if "ours" not in results.cells.get(cell.key, {})]
    if cells:
        results.put("command", shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]))
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options)
        for number, cell in enumerate(cells, 1):
            since = time.monotonic()
            result = bench.measure(cell)
            results.put_cell(cell.key, result)
            now = time.monotonic()
            tell(cell, result)
            print(f"{number}/{len(cells)}, {now - since:.0f} s, {(now - begin) / 60:.0f} min in all", file=sys.stderr)


def measure_others(options: argparse.Namespace, results: Results) -> None:
    """LayerForge alone."""
    if "growth" in options.kinds:
        growth.measure(results, options.threads, options.resume)
    if "images" in options.kinds and not (options.resume and results.get("images")):
        from benchmarks import images

        results.put("images", images.chapter(options.threads))
    if "startup" in options.kinds and not (options.resume and results.get("startup")):
        results.put("startup", startup.chapter())


def tell(cell: Cell, result: dict) -> None:
    """One line to the terminal, while the work goes on."""
    if "failed" in result:
        words = result["failed"]
    else:
        from benchmarks.report import ms_of, ratio

        words = (
            f"{ms_of(result, 'ours'):.2f} against {ms_of(result, 'theirs'):.2f} ms: {ratio(result):.2f} times as fast"
        )
    print(f"{cell.key}: {words}", file=sys.stderr)


if __name__ == "__main__":
    main()
