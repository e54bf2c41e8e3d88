"""Cost as work grows: time, memory and building, by the batch and by the depth of a net.

    python -m benchmarks.growth [--quick]

A net is built and trained for some steps in a process of its own for every point, all points in turn and several
times. The least counts (of a round, the median step), for what else the machine does only adds; where it is a virtual
one, its host may have to find fresh memory, which takes several times as long as building. A process before it touches
as much as it will need, so that this is the exception. The net of the batches is GoogLeNet;
those of the depths are the residual nets of nets/resnet1001_train_val.prototxt with fewer units, on images of 32x32, in
batches of 8. Linear means: a straight line through all points, a fixed cost and one for each image or unit, misses none
of them by more than the tenth part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.contest import ROOT, import_path
from benchmarks.results import Results

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
#: Units in each of the three stages; a net of so many has 9 times as many layers with weights, and two more.
UNITS = (2, 6, 12, 18, 35, 56, 111)
BATCH = 8
SECONDS = 2.0  # for the steps of one point, if they are quicker
STEPS = 5  # at least
ROUNDS = 5
TOUCHED = 2200  # MB
LIMIT = 0.10

IMAGES = ROOT / "docs" / "images"


def net_of_batch(batch: int) -> Any:
    from benchmarks.nets import NETS, in_memory

    return in_memory("googlenet", (batch, *NETS["googlenet"].shape), dropout=True)


def net_of_units(units: int) -> Any:
    """A residual net with so many units in each stage."""
    sys.path.insert(0, str(ROOT / "nets" / "generate"))
    import resnet

    from layerforge.net_spec import L, NetSpec

    n = NetSpec()
    n.data, n.label = L.Input(ntop=2, shape=[{"dim": [BATCH, 3, 32, 32]}, {"dim": [BATCH]}])
    n.loss = L.SoftmaxWithLoss(resnet.body1001(n, units=units), n.label)
    return n.to_proto()


SERIES = {"batch": (net_of_batch, BATCHES), "depth": (net_of_units, UNITS)}


def point(series: str, size: int, threads: int) -> dict[str, float]:
    """Milliseconds of a step, peak memory in MB, seconds of building: in this process, which should be fresh."""
    import layerforge as lf
    from benchmarks.worker import peak_mb
    from layerforge import schema
    from layerforge.layer import load_layers

    lf.set_threads(threads)
    load_layers()
    definition = SERIES[series][0](size)
    solver = schema.message("SolverParameter")(
        base_lr=1e-4, lr_policy="fixed", momentum=0.9, weight_decay=1e-4, random_seed=1, max_iter=1 << 30
    )
    solver.net_param.CopyFrom(definition)
    before = peak_mb()
    begin = time.perf_counter()
    made = lf.get_solver(solver, reuse=True)
    built = time.perf_counter() - begin
    net = made.net
    random = np.random.default_rng(1)
    net.blobs["data"].data[...] = random.normal(0, 50, net.blobs["data"].shape)
    net.blobs["label"].data[...] = random.integers(0, 10, net.blobs["label"].shape)
    made.step(2)
    taken: list[float] = []
    while len(taken) < STEPS or sum(taken) < SECONDS:
        begin = time.perf_counter()
        made.step(1)
        taken.append(time.perf_counter() - begin)
    return {
        "size": size,
        "layers": len(net.nodes),
        "ms": 1e3 * statistics.median(taken),
        "mb": peak_mb() - before,
        "build": built,
    }


def measure(results: Results, threads: int, resume: bool = False, quick: bool = False) -> None:
    """Measures both series, each point in a process of its own, and keeps them."""
    kept = (results.get("growth") or {}) if resume else {}
    kept |= {
        "hardware": machine.hardware(),
        "environment": machine.environment(),
        "commit": machine.commit(),
        "threads": threads,
    }
    for number in range(1, ROUNDS + 1):
        for series, (_, sizes) in SERIES.items():
            points = kept.setdefault(series, [])
            for size in sizes[:4] if quick else sizes:
                if sum(point["size"] == size for point in points) >= number:
                    continue
                code = f"{import_path()}; import json; from benchmarks.growth import point"
                code += f"; print(json.dumps(point({series!r}, {size}, {threads})))"
                subprocess.run([sys.executable, "-c", f"import numpy; numpy.ones({TOUCHED} << 20, 'u1')"], check=True)
                run = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
                )
                if run.returncode:
                    print(f"{series} {size} failed: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                points.append(json.loads(run.stdout))
                print(f"{series} {size}: {points[-1]['ms']:.1f} ms, {points[-1]['mb']:.0f} MB", file=sys.stderr)
                results.put("growth", kept)


def points_of(points: list[dict[str, float]]) -> list[dict[str, float]]:
    """Points, the smallest first, of which each was measured several times: the least of each figure.

    >>> points_of([{"size": 2, "ms": 3.0, "mb": 7}, {"size": 1, "ms": 9.0, "mb": 4}, {"size": 2, "ms": 5.0, "mb": 6}])
    [{'size': 1, 'ms': 9.0, 'mb': 4}, {'size': 2, 'ms': 3.0, 'mb': 6}]
    """
    found: dict[float, list[dict[str, float]]] = {}
    for each in sorted(points, key=lambda each: each["size"]):
        found.setdefault(each["size"], []).append(each)
    return [{name: min(each[name] for each in same) for name in same[0]} for same in found.values()]


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Fixed cost, cost of each, and by how much the worst point is missed, of the line that misses the least.

    >>> line([1, 2, 4], [3, 5, 9])
    (1.0, 2.0, 0.0)
    """
    a, b = np.array(x, float), np.array(y, float)
    (fixed, each), *_ = np.linalg.lstsq(np.stack([1 / b, a / b], 1), np.ones(len(a)), rcond=None)
    worst = float(np.abs((fixed + each * a) / b - 1).max())
    return round(float(fixed), 9), round(float(each), 9), round(worst, 9)


FIGURES = {"ms": ("a step", "ms"), "mb": ("memory", "MB"), "build": ("building", "s")}


def chapter(results: Results, folder: Path) -> str:
    """The chapter of the report whose page lies in ``folder``, and its plots. Empty where nothing was measured."""
    kept = results.get("growth") or {}
    parts = []
    titles = {
        "batch": ("GoogLeNet, batches of 1 to 128", "batch", "image"),
        "depth": (f"Residual nets of 20 to 1001 layers on 32x32, batches of {BATCH}", "layers", "layer"),
    }
    for series, (title, column, one) in titles.items():
        points = points_of(kept.get(series, []))
        if len(points) < 3:
            continue
        x = [point["size"] if series == "batch" else 9 * point["size"] + 2 for point in points]
        lines = [f"### {title}", ""]
        lines += [f"| {column} | ms per step | ms per {one} | memory MB | MB per {one} | building s |"]
        lines += ["|---|---|---|---|---|---|"]
        for n, point in zip(x, points, strict=True):
            ms, mb = point["ms"], point["mb"]
            lines.append(f"| {n} | {ms:,.1f} | {ms / n:,.2f} | {mb:,.0f} | {mb / n:,.2f} | {point['build']:.2f} |")
        lines.append("")
        for name, (what, unit) in FIGURES.items():
            if name == "build" and series == "batch":
                continue
            fixed, each, worst = line(x, [point[name] for point in points])
            verdict = "linear" if worst <= LIMIT else "not linear within 10 %"
            lines.append(
                f"- {what}: {fixed:.3g} {unit} and {each:.3g} {unit} for each {one}; the line misses "
                f"no point by more than {worst:.1%}: {verdict}."
            )
        picture = IMAGES / f"growth-{series}.png"
        if folder == ROOT / "docs" / "results":
            draw(picture, title, column, x, points, with_building=series == "depth")
            lines += ["", f"![{title}](../images/{picture.name})"]
        parts.append("\n".join(lines))
    if not parts:
        return ""
    head = (
        f"## Cost as work grows\n\nTraining steps of LayerForge alone, with {kept['threads']} threads; memory is the "
    )
    head += "most that the process held, less what it held before the net was made. The best of "
    head += f"{ROUNDS} rounds; commit {kept['commit']}."
    return "\n\n".join([head, *parts])


def draw(path: Path, title: str, column: str, x: list[float], points: list[dict], with_building: bool) -> None:
    """Each figure over the size, both axes linear, with the line that misses the least."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in FIGURES if name != "build" or with_building]
    figure, axes = pyplot.subplots(1, len(names), figsize=(4.2 * len(names), 3.4), layout="constrained")
    for axis, name in zip(axes, names, strict=True):
        what, unit = FIGURES[name]
        y = [point[name] for point in points]
        fixed, each, worst = line(x, y)
        axis.plot([0, x[-1]], [fixed, fixed + each * x[-1]], color="0.6", lw=1, label=f"line, within {worst:.0%}")
        axis.plot(x, y, "o", ms=5, color="#1f6fb4", label="measured")
        axis.set(xlabel=column, ylabel=unit, title=what, xlim=(0, None), ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, loc="upper left")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--quick", action="store_true", help="the four smallest of each")
    options = parser.parse_args()
    results = Results(None)
    measure(results, options.threads, quick=options.quick)
    print(chapter(results, Path()))


if __name__ == "__main__":
    main()
