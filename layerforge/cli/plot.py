"""Draws training logs as a chart, one line for each log, or for each output where a net has several of a kind.

CHART is a number, as for Caffe's plot_training_log.py, or a name:
  0  test-accuracy-vs-iters     1  test-accuracy-vs-seconds
  2  test-loss-vs-iters         3  test-loss-vs-seconds
  4  learning-rate-vs-iters     5  learning-rate-vs-seconds
  6  train-loss-vs-iters        7  train-loss-vs-seconds
OUT is a .png, .svg or .pdf file. This needs matplotlib: pip install 'layerforge[plot]'.

examples:
  layerforge plot 6 loss.png run.log
  layerforge plot test-accuracy-vs-iters accuracy.svg first.log second.log
"""

from __future__ import annotations

import io
import math
import os
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, DefinitionError, Place, did_you_mean
from . import _training_log, flags
from ._training_log import Row, TrainingLog

FORMATS = ("png", "svg", "pdf")
COLOURS = ["#3366cc", "#dc3912", "#109618", "#ff9900", "#990099", "#0099c6", "#b82e2e", "#66aa00"]
INK, FAINT, GRID = "#1f2430", "#5b6270", "#dfe2e8"

DASHES = ("-", "--", ":", "-.")  # one colour for each log, one of these for each of its outputs

Points = list[tuple[int, float, float]]  # iteration, seconds, value


@dataclass(frozen=True)
class Line:
    """A line of a chart: what the legend calls it, the number of its log and of its output, and its points."""

    name: str
    log: int
    output: int
    points: Points


@dataclass(frozen=True)
class Chart:
    """What is drawn over what; ``lines`` gives a log's points by the name of an output, "" where it needs none."""

    title: str
    against_time: bool
    lines: Callable[[TrainingLog], dict[str, Points]]
    steps: bool = False

    @property
    def name(self) -> str:
        return f"{self.title.lower().replace(' ', '-')}-vs-{'seconds' if self.against_time else 'iters'}"


def outputs(rows: Sequence[Row], wanted: Callable[[str], bool]) -> dict[str, Points]:
    """The points of each output that is wanted."""
    found: dict[str, Points] = {}
    for row in rows:
        for name, value in row.outputs.items():
            if wanted(name):
                found.setdefault(name, []).append((row.iteration, row.seconds, value))
    return found


def accuracies(log: TrainingLog) -> dict[str, Points]:
    """Outputs that are called so; where none is, those that are no losses."""
    named = outputs(log.test, lambda name: "acc" in name.lower())
    return named or outputs(log.test, lambda name: not is_loss(log, name))


def test_losses(log: TrainingLog) -> dict[str, Points]:
    return outputs(log.test, lambda name: is_loss(log, name))


def is_loss(log: TrainingLog, name: str) -> bool:
    return name in log.weighted or "loss" in name.lower()


def rates(log: TrainingLog) -> dict[str, Points]:
    return {"": log.rates} if log.rates else {}


def train_losses(log: TrainingLog) -> dict[str, Points]:
    return {"": log.losses} if log.losses else {}


CHARTS = [
    Chart(title, against_time, lines, steps)
    for title, lines, steps in (
        ("Test accuracy", accuracies, False),
        ("Test loss", test_losses, False),
        ("Learning rate", rates, True),
        ("Train loss", train_losses, False),
    )
    for against_time in (False, True)
]


def chart(text: str) -> Chart:
    """A type of flag: a number from 0 to 7, or a name."""
    names = {one.name: one for one in CHARTS}
    word = text.lower().replace("_", "-").replace(" ", "-")
    if word.isdigit() and int(word) < len(CHARTS):
        return CHARTS[int(word)]
    if word in names:
        return names[word]
    raise ArgumentTypeError(f'"{text}" is no chart: there are 0 to {len(CHARTS) - 1}.{did_you_mean(word, names)}')


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("chart", type=chart, metavar="CHART", help="0 to 7, or a name; see below")
    parser.add_argument("output", metavar="OUT", help="the picture: .png, .svg or .pdf")
    parser.add_argument("logs", nargs="+", metavar="LOG", help="logs of training runs")
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    from .. import files

    ext = os.path.splitext(args.output)[1].removeprefix(".").lower()
    if ext not in FORMATS:
        raise flags.UsageError(f'"{args.output}" must end with .png, .svg or .pdf')
    lines = collect(args.chart, [_training_log.read(path) for path in args.logs])
    picture = draw(args.chart, lines, ext)
    with files.atomic(args.output) as file:
        file.write(picture)
    print(f"{args.output}: {args.chart.title.lower()}, {len(lines)} line{'s' if len(lines) != 1 else ''}.")
    return 0


def collect(wanted: Chart, logs: Sequence[TrainingLog]) -> list[Line]:
    """The lines of a chart. Raises DataError for a log that has nothing to draw."""
    lines = []
    titles = title_of([log.path for log in logs])
    for number, (log, title) in enumerate(zip(logs, titles, strict=True)):
        found = wanted.lines(log)
        points = [point for line in found.values() for point in line]
        if not points:
            raise DataError(f"this log has no {wanted.title.lower()}", Place(log.path))
        if wanted.against_time and all(math.isnan(seconds) for _, seconds, _ in points):
            raise DataError("the lines of this log have no times", Place(log.path))
        for output, (name, line) in enumerate(found.items()):
            words = [title] if len(logs) > 1 else []
            plain = not words and name == wanted.title.split()[-1].lower()
            words += [name] if name and (len(found) > 1 or not (words or plain)) else []
            lines.append(Line(", ".join(words), number, output, line))
    return lines


def title_of(paths: Sequence[str]) -> list[str]:
    """Names of logs, without what all of them share where that leaves them apart."""
    names = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def unit(seconds: float) -> tuple[str, float]:
    """In what a time of that length is best told."""
    if seconds > 3 * 3600:
        return "Hours", 3600.0
    return ("Minutes", 60.0) if seconds > 10 * 60 else ("Seconds", 1.0)


def draw(wanted: Chart, lines: Sequence[Line], ext: str) -> bytes:
    """The chart as the bytes of a picture. Raises DefinitionError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise DefinitionError(
            "charts are drawn by matplotlib, which is not installed. Run: pip install 'layerforge[plot]'"
        ) from None
    longest = max(seconds for line in lines for _, seconds, _ in line.points)
    label, length = unit(longest) if wanted.against_time else ("Iterations", 1.0)
    figure = Figure(figsize=(8, 5), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15), facecolor="white")
    axes = figure.add_subplot()
    several_logs = any(line.log for line in lines)
    for line in lines:
        points, number = line.points, line.log if several_logs else line.output
        few = len(points) <= 40
        axes.plot(
            [seconds / length if wanted.against_time else iteration for iteration, seconds, _ in points],
            [value for _, _, value in points],
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[line.output % len(DASHES)] if several_logs else "-",
            linewidth=1.8 if few or wanted.steps else 1.2,
            marker="o" if few and not wanted.steps else "",
            markersize=4,
            drawstyle="steps-post" if wanted.steps else "default",
            label=line.name,
        )
    values = [value for line in lines for _, _, value in line.points if math.isfinite(value)]
    if wanted.steps and values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    if not wanted.against_time:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))
    subject = wanted.title if len(lines) > 1 or not lines[0].name else f"{wanted.title} ({lines[0].name})"
    axes.set_title(f"{subject} vs. {label.lower()}", color=INK, fontsize=13, loc="left", pad=12)
    axes.set_xlabel(label, color=FAINT)
    axes.set_ylabel(wanted.title, color=FAINT)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=FAINT, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.margins(x=0.02)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9.5)
    out = io.BytesIO()
    figure.savefig(out, format=ext, dpi=150, metadata={"CreationDate": None} if ext == "pdf" else None)
    return out.getvalue()
