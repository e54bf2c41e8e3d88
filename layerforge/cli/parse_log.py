"""Writes what a training log says as two CSV tables, LOG.train and LOG.test.

Columns: NumIters, Seconds since the start, LearningRate, and the outputs of the net, as parse_log.py of Caffe has them.
A row's LearningRate is that of its own iteration. Outputs of a second test net have (#1) behind their name, and the
further values of a blob with several have [2], [3], ...

examples:
  layerforge parse-log run.log
  layerforge parse-log run.log tables --delimiter ';'
"""

from __future__ import annotations

import csv
import io
import os
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any

from . import _training_log, flags


def letter(text: str) -> str:
    """A type of flag: one character."""
    if len(text) != 1:
        raise ArgumentTypeError(f'"{text}" is no single character')
    return text


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("log", metavar="LOG", help="the log of a training run")
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="where the tables go; default: here")
    parser.add_argument("--delimiter", type=letter, default=",", metavar="C", help="between columns; default: a comma")
    parser.add_argument("--verbose", action="store_true", help="print the tables too")
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    from .. import files

    log = _training_log.read(args.log)
    stem = os.path.join(args.folder, os.path.basename(args.log))
    for name, rows in (("train", log.train), ("test", log.test)):
        text = table(rows, args.delimiter)
        with files.atomic(f"{stem}.{name}") as file:
            file.write(text.encode())
        print(f"{stem}.{name}: {len(rows)} row{'s' if len(rows) != 1 else ''}.")
        if args.verbose:
            print(text, end="")
    return 0


def table(rows: Sequence[_training_log.Row], delimiter: str) -> str:
    """Rows as CSV; what a row does not have is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row.outputs))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["NumIters", "Seconds", "LearningRate", *columns])
    for row in rows:
        outputs = [row.outputs.get(name, "") for name in columns]
        writer.writerow([float(row.iteration), row.seconds, row.rate, *outputs])
    return text.getvalue()
