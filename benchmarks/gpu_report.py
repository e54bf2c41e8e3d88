"""The page on a GPU: tables of what `benchmarks.gpu` has found, and which aims are reached."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.gpu_sides import COUNT, NETS, RECORDS
from benchmarks.nets import NETS as TITLES

Key = tuple[str, str, str, int, str]  # contestant, what it does, net, batch, math mode
Found = dict[Key, dict[str, Any]]

OURS = "LayerForge"
EAGER = "PyTorch, eager"
RIVALS = (EAGER, "PyTorch, channels_last", "PyTorch, compiled")
CONTESTANTS = (OURS, *RIVALS)
LAUNCHED = "LayerForge, launched one by one"
PLAIN = "LayerForge, plain order"

#: Training at the batch of `NETS`: net, math mode, who is to be beaten, how many times as fast we want to be.
SPEED_AIMS = (
    ("alexnet", "float32", RIVALS, 1.3),
    ("alexnet", "tf32", RIVALS, 1.8),
    ("googlenet", "float32", RIVALS, 1.0),
    ("googlenet", "tf32", RIVALS, 1.0),
    ("resnet50", "float32", RIVALS, 1.0),
    ("resnet50", "tf32", RIVALS, 1.0),
    ("lenet", "float32", (EAGER,), 5.0),
    ("lenet", "tf32", (EAGER,), 5.0),
)
WAITING_AIM = 0.05  # of the time, at most
GIB = 2**30


class Notes:
    """Why figures are missing, in full, for below a table."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def cell(self, key: Key, result: dict[str, Any], text: str) -> str:
        """The text, or in few words why there is none."""
        if "failed" not in result:
            return text
        why = str(result["failed"])
        if why.startswith(("left out", "not ready")):
            return why.replace("|", "/")
        name, _, net, batch, math = key
        self.lines.append(f"- {name}, {net} {batch}, {math}: {why}")
        return "out of memory" if why.startswith("out of memory") else "failed, see below"

    def take(self) -> list[str]:
        """The lines since the last table, and an empty one."""
        taken, self.lines = self.lines, []
        return ["", *taken, ""] if taken else [""]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def speed(result: dict[str, Any], batch: int) -> str:
    if "seconds" not in result:
        return ""
    middle, low, high = (number(1e3 * result[name]) for name in ("seconds", "low", "high"))
    return f"{batch / result['seconds']:,.0f} ({middle} ms, {low} to {high})"


def number(value: float) -> str:
    """Three digits, or all in front of the point."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def seconds_of(found: Found, name: str, key: Key) -> float | None:
    """The time of another contestant at the same; None where it was not measured."""
    return found.get((name, *key[1:]), {}).get("seconds")


def ratio(found: Found, key: Key, rivals: Iterable[str]) -> tuple[float, str, list[str]] | None:
    """Our speed divided by the best of theirs, who that is, and who of them was not measured."""
    ours = seconds_of(found, OURS, key)
    times = {name: seconds_of(found, name, key) for name in rivals}
    there = {name: each for name, each in times.items() if each is not None}
    if ours is None or not there:
        return None
    best = min(there, key=there.__getitem__)
    return there[best] / ours, best, [name for name in times if name not in there]


def peak(found: Found, key: Key) -> tuple[int, int, str] | None:
    """The bytes that we have reserved, the least that a rival has, and who that is."""
    ours = found.get(key, {}).get("reserved")
    theirs = {name: found.get((name, *key[1:]), {}).get("reserved") for name in RIVALS}
    there = {name: each for name, each in theirs.items() if each}
    if not ours or not there:
        return None
    best = min(there, key=there.__getitem__)
    return ours, there[best], best


def of_kind(found: Found, do: str, name: str = OURS) -> list[Key]:
    return [key for key in found if key[:2] == (name, do)]


def versions(ours: dict[str, Any], rival: dict[str, Any]) -> list[str]:
    def told(side: dict[str, Any]) -> str:
        return ", ".join(f"{k} {v}" for k, v in side["versions"].items()) if "versions" in side else side["failed"]

    return [
        "## Versions",
        "",
        f"- GPU: {card()}",
        f"- Python {platform.python_version()}, numpy {np.__version__}",
        f"- {OURS}'s side: {told(ours)}",
        f"- PyTorch's side: {told(rival)}",
        "",
    ]


def card() -> str:
    """What the driver says of itself and of the GPU."""
    asked = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")
    command = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        try:
            told = Path("/proc/driver/nvidia/version").read_text()
        except OSError:
            return "none"
        number = re.search(r"\d+\.\d+(\.\d+)?", told)
        return f"driver {number.group() if number else told.strip()}"
    found = "; ".join(
        ", ".join(f"{what} {value.strip()}" for what, value in zip(asked, line.split(","), strict=True))
        for line in run.stdout.strip().splitlines()
    ).replace("name ", "")
    return found.replace("_version", "") + (f"; CUDA_VISIBLE_DEVICES={visible}" if visible else "")


def aims(found: Found, real: bool) -> list[str]:
    """What the project wants on an H200, and what became of it."""

    def missing(text: str) -> tuple[str, str, str]:
        return text, "", "not measured"

    rows = []
    for net, math, rivals, wanted in SPEED_AIMS:
        batch = NETS[net][0]
        against = "PyTorch's best" if len(rivals) > 1 else rivals[0]
        text = f"{TITLES[net].title}, training, batch {batch}, {math}: at least {wanted:.1f} x {against}"
        got = ratio(found, (OURS, "train", net, batch, math), rivals) if real else None
        if got is None:
            rows.append(missing(text))
            continue
        times, best, out = got
        verdict = "reached" if times >= wanted else "missed"
        if out and verdict == "reached":
            verdict += f", but without {' and '.join(out)}"
        rows.append((text, f"{times:.2f} x {best}", verdict))
    for net, (batch, _, _) in NETS.items():
        for math in ("float32", "tf32"):
            text = f"{TITLES[net].title}, training, batch {batch}, {math}: no more memory than PyTorch"
            pair = peak(found, (OURS, "train", net, batch, math)) if real else None
            if pair is None:
                rows.append(missing(text))
                continue
            ours, theirs, best = pair
            words = f"{ours / GIB:.2f} GiB, {best} {theirs / GIB:.2f} GiB (reserved)"
            rows.append((text, words, "reached" if ours <= theirs else "missed"))
    for net in RECORDS:
        for math in ("float32", "tf32"):
            text = f"{TITLES[net].title}, {math}: waits for data less than {WAITING_AIM:.0%} of the time"
            waited = found.get((OURS, "waiting", net, NETS[net][0], math), {}).get("waiting") if real else None
            if waited is None:
                rows.append(missing(text))
                continue
            rows.append((text, f"{waited:.1%}", "reached" if waited < WAITING_AIM else "missed"))
    lines = ["## Aims", "", "For an H200; on any other device they say less." if real else "For an H200: not here.", ""]
    return [*lines, *table(("aim", "measured", ""), rows), ""]


def speeds(found: Found, notes: Notes) -> list[str]:
    lines = []
    for do, title in (("train", "Training"), ("infer", "Inference")):
        keys = of_kind(found, do)
        for math in dict.fromkeys(key[4] for key in keys):
            rows = []
            for key in (key for key in keys if key[4] == math):
                got, batch = ratio(found, key, RIVALS), key[3]
                cells = []
                for name in CONTESTANTS:
                    theirs = (name, *key[1:])
                    result = found.get(theirs, {"failed": "left out"})
                    cells.append(notes.cell(theirs, result, speed(result, batch)))
                rows.append([key[2], str(batch), *cells, f"{got[0]:.2f}" if got else ""])
            lines += [f"## {title}, {math}: images/s", ""]
            lines += table(("net", "batch", *CONTESTANTS, f"{OURS} / PyTorch's best"), rows)
            lines += notes.take()
    return lines


def memory(found: Found) -> list[str]:
    rows = []
    for key in [*of_kind(found, "train"), *of_kind(found, "infer")]:
        results = [found.get((name, *key[1:]), {}) for name in CONTESTANTS]
        if any("reserved" in result for result in results):
            cells = [
                f"{each['reserved'] / GIB:.2f} ({each['allocated'] / GIB:.2f})" if each.get("reserved") else ""
                for each in results
            ]
            rows.append(["training" if key[1] == "train" else "inference", key[2], str(key[3]), key[4], *cells])
    return [
        "## Memory: GiB",
        "",
        "Reserved, and in brackets allocated. LayerForge: what CuPy's pool has taken from the device, workspaces of",
        "cuDNN and cuBLAS included, and what the net has planned for itself, without the solver's history.",
        "PyTorch: max_memory_reserved and max_memory_allocated. Both without what was needed to choose algorithms,",
        "and without the driver's own.",
        "",
        *table(("", "net", "batch", "math", *CONTESTANTS), rows),
        "",
    ]


def getting_ready(found: Found) -> list[str]:
    """How long the first steps took, of those that were long."""
    rows = [
        (name, f"{do} {net} {batch}, {math}", f"{result['ready']:.1f}")
        for (name, do, net, batch, math), result in found.items()
        if result.get("ready", 0) >= 2
    ]
    if not rows:
        return []
    lines = [
        "## Getting ready: s",
        "",
        "The first three steps, where they took two seconds or more: choosing algorithms,",
    ]
    return [*lines, "compiling.", "", *table(("contestant", "job", "s"), rows), ""]


def otherwise(found: Found, notes: Notes) -> list[str]:
    rows = []
    for _, do, net, batch, math in of_kind(found, "train", LAUNCHED):
        ways = [(name, do, net, batch, math) for name in (OURS, LAUNCHED, PLAIN)]
        results = [found.get(key, {}) for key in ways]
        cells = [notes.cell(key, result, speed(result, batch)) for key, result in zip(ways, results, strict=True)]
        rows.append([net, str(batch), math, *cells, str(results[0].get("records", ""))])
    lines = [
        "## What replaying brings, and channels last: training, images/s",
        "",
        "In TF32 blobs have their channels last; in plain order they have not, and cuDNN turns them round.",
        "",
    ]
    head = ("net", "batch", "math", "as it is", "launched one by one", "in plain order", "records of an iteration")
    return [*lines, *table(head, rows), *notes.take()]


def waiting(found: Found, notes: Notes) -> list[str]:
    rows = []
    for key in of_kind(found, "waiting"):
        _, _, net, batch, math = key
        result = found[key]
        cells = [net, str(batch), f"{RECORDS[net]}x{RECORDS[net]}x{NETS[net][1][0]}", math]
        if "failed" in result:
            rows.append([*cells, notes.cell(key, result, ""), "", ""])
        else:
            share, threads = f"{result['waiting']:.1%}", str(result["threads"])
            rows.append([*cells, f"{batch / result['seconds']:,.0f}", share, threads])
    if not rows:
        return []
    lines = ["## Waiting for data", "", f"Training from an LMDB of {COUNT:,} raw records in the page cache.", ""]
    return [*lines, *table(("net", "batch", "records", "math", "images/s", "waits", "threads"), rows), *notes.take()]


def layers(found: Found) -> list[str]:
    lines = []
    for key in of_kind(found, "layers"):
        _, _, net, batch, math = key
        lines += [f"## {net}, layer by layer, batch {batch}, {math}: ms", ""]
        if "failed" in found[key]:
            lines += [found[key]["failed"], ""]
            continue
        rows = [(name, kind, f"{there:.3f}", f"{back:.3f}") for name, kind, there, back in found[key]["layers"]]
        lines += [*table(("layer", "type", "forward", "backward"), rows), ""]
    return lines


def report(
    found: Found, ours: dict[str, Any], rival: dict[str, Any], command: str, minutes: float, *, real: bool
) -> str:
    """The page, in Markdown. ``real``: measured on a GPU."""
    notes = Notes()
    how = "by CUDA events" if real else "by the clock of the host"
    lines = [f"# {ours.get('title', 'No device')}", "", machine.describe(), ""]
    lines += [f"Command: `{command}`, which took {minutes:.1f} minutes", ""]
    lines += [f"Times are taken {how}, over chunks of steps. Speed is that of the median; the milliseconds of a step"]
    lines += ["stand beside it, and their quartiles."]
    lines += ["", *versions(ours, rival), *aims(found, real), "## Peaks", ""]
    lines += [f"- {name}: {value:,.1f}" for name, value in ours.get("peaks", {}).items()] or [ours["failed"]]
    lines += ["", *speeds(found, notes), *memory(found), *waiting(found, notes), *otherwise(found, notes)]
    return "\n".join([*lines, *getting_ready(found), *layers(found)])
