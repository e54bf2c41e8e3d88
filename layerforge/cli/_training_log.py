"""What a training log says: rates, losses and outputs by iteration. Read by parse_log and plot.

The lines are Caffe's, see `layerforge.logs`; times are glog's (with or without a year) or those of a terminal's log.
Zero is the line with "Solving", or the first that names an iteration.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..errors import DataError, Place

NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)"
GLOG = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})")
CALM = re.compile(r"(\d\d):(\d\d):(\d\d)  ")
ITERATION = re.compile(r"Iteration (\d+)")
LOSS = re.compile(rf"Iteration \d+.*, loss = ({NUMBER})")
RATE = re.compile(rf"\blr = ({NUMBER})")
TESTING = re.compile(r"Testing net \(#(\d+)\)")
OUTPUT = re.compile(rf"(Train|Test) net output #(\d+): (\S+) = ({NUMBER})(.*)")


@dataclass
class Row:
    """One iteration: seconds since the start, learning rate, and outputs by name."""

    iteration: int
    seconds: float
    rate: float
    outputs: dict[str, float] = field(default_factory=dict)


@dataclass
class TrainingLog:
    """A log as tables; ``losses`` are (iteration, seconds, smoothed loss), ``weighted`` the outputs that are losses."""

    path: str
    train: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    rates: list[tuple[int, float, float]] = field(default_factory=list)
    weighted: set[str] = field(default_factory=set)
    places: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # of an output's values among all outputs


def read(path: str) -> TrainingLog:
    """Reads a log. Raises DataError for a file that is none, with its name."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = parse(file, path, datetime.fromtimestamp(os.path.getmtime(path)).year)
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{why}; the log of a training run is wanted", Place(path)) from None
    if not (found.train or found.test or found.losses):
        raise DataError(
            'no line "Iteration 0, loss = ..." or the like is in this file: it is no training log', Place(path)
        )
    return found


def parse(lines: Iterable[str], path: str, year: int) -> TrainingLog:
    """The tables of a log's lines. A row of outputs has the rate of its iteration, as far as the log tells it."""
    log = TrainingLog(path)
    clock = _Clock(year)
    iteration = net = 0
    began = False
    for line in lines:
        seconds = clock.read(line)
        if "Solving" in line:
            clock.zero()
        match = ITERATION.search(line)
        if match:
            iteration = int(match[1])
            if not began:
                began = True
                clock.zero(unless_known=True)
                seconds = clock.seconds
        if not began:
            continue
        if match := RATE.search(line):
            _keep(log.rates, iteration, seconds, float(match[1]))
        elif match := LOSS.search(line):
            _keep(log.losses, iteration, seconds, float(match[1]))
        elif match := TESTING.search(line):
            net = int(match[1])
        elif match := OUTPUT.search(line):
            _add_output(log, match, iteration, seconds, net)
    _fill_rates(log)
    return log


def _keep(values: list[tuple[int, float, float]], iteration: int, seconds: float, value: float) -> None:
    """Adds a value; what is said twice of one iteration, as after a resume, is what was said last."""
    if values and values[-1][0] == iteration:
        values.pop()
    values.append((iteration, seconds, value))


def _add_output(log: TrainingLog, match: re.Match[str], iteration: int, seconds: float, net: int) -> None:
    kind, index, name, value, rest = match.groups()
    rows = log.train if kind == "Train" else log.test
    if not rows or rows[-1].iteration != iteration:
        rows.append(Row(iteration, seconds, math.nan))
    column = f"{name} (#{net})" if kind == "Test" and net else name
    places = log.places.setdefault((kind, column), [])  # the values of one blob have one name
    if index not in places:
        places.append(index)
    if copy := places.index(index):
        column = f"{column}[{copy + 1}]"
    rows[-1].outputs[column] = float(value)
    if "loss)" in rest:
        log.weighted.add(column)


def _fill_rates(log: TrainingLog) -> None:
    """The rate of each row: that of its iteration, else the last one before, else the first of all."""
    for rows in (log.train, log.test):
        at, rate = 0, log.rates[0][2] if log.rates else math.nan
        for row in rows:
            while at < len(log.rates) and log.rates[at][0] <= row.iteration:
                rate = log.rates[at][2]
                at += 1
            row.rate = rate


class _Clock:
    """Seconds since the start, from the times of lines. A log without times has none: NaN."""

    def __init__(self, year: int):
        self.year = year
        self.now: datetime | None = None
        self.start: datetime | None = None

    @property
    def seconds(self) -> float:
        if self.now is None or self.start is None:
            return math.nan
        return (self.now - self.start).total_seconds()

    def read(self, line: str) -> float:
        """The time of a line, or of the last one that had a time."""
        if match := GLOG.match(line):
            year, *rest = match.groups()
            month, day, hour, minute, second, micro = map(int, rest)
            now = datetime(int(year or self.year), month, day, hour, minute, second, micro)
            if year is None and self.now is not None and self.now - now > timedelta(days=180):  # New Year has passed
                self.year += 1
                now = now.replace(year=self.year)
            self.now = now
        elif match := CALM.match(line):
            hour, minute, second = map(int, match.groups())
            today = self.now or datetime(self.year, 1, 1)
            now = datetime(today.year, today.month, today.day, hour, minute, second)
            if self.now is not None and self.now - now > timedelta(hours=12):  # midnight has passed
                now += timedelta(days=1)
            self.now = now
        return self.seconds

    def zero(self, unless_known: bool = False) -> None:
        if self.start is None or not unless_known:
            self.start = self.start or self.now
