"""A GPU's peaks, how long it waits for data, and training and inference on it, LayerForge against PyTorch.

    python -m benchmarks.gpu                        all of it, into docs/results/gpu-<device>.md
    python -m benchmarks.gpu --nets lenet --batch 64
    python -m benchmarks.gpu --device emulated --nets lenet --batch 2 --seconds 0.01 --out -    a trial without a GPU

On a GPU both sides time by CUDA events between chunks of steps, of 50 ms or one step each; nobody waits between two
chunks, and a figure is the median over them, with its quartiles. Without a GPU each chunk is waited for. PyTorch runs
eagerly, in channels_last and compiled, in the same math mode. LayerForge replays its records, as it does in training,
and, to show what that brings, launches every kernel by itself; and in TF32, where blobs have their channels last, keeps
them in plain order. Inference is the net of nets/ for use, from an array on the device to the probabilities there.

A contestant does all jobs of a net in one process, those first that matter most, and compiled PyTorch comes last: what
is not ready after ``--minutes`` is left out, and the report says so. How it should fit into eight minutes on an H200,
estimated from counts, at a second for a figure and one for what goes before it:

    peaks, versions                                             15 s
    LayerForge: 24 figures and 4 processes                      65 s
    PyTorch, eager and channels_last: 48 and 4                 120 s
    waiting for data: 4 and a process for each of two nets      25 s
    layer by layer: 4, launched: 8, plain order: 4, 4 processes 48 s
    compiled: what is left. 8 figures and 4 processes for training, and 16 for inference, at half a minute each, because
    every net is compiled anew for every math mode and batch: about half of them

The first time, both sides try algorithms for every convolution. LayerForge keeps its choices on the disk, so what did
not fit then fits the next time; how long it took to get ready is in the report.

Waiting for data is measured on a database of raw records that the contestant has just written, so that they lie in the
page cache: what is lost then is lost to LayerForge and not to the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import gpu_report
from benchmarks.contest import ROOT, import_path
from benchmarks.gpu_report import CONTESTANTS, LAUNCHED, PLAIN, Found, Key
from benchmarks.gpu_sides import NETS, RECORDS, Job

SHARE = 3  # a process gets at most one part in so many of the time: one that hangs does not take all


class Clock:
    """Lets contestants work until the time is over."""

    def __init__(self, minutes: float):
        self.seconds = 60 * minutes
        self.end = time.time() + self.seconds

    def ask(self, side: str, common: Job, jobs: list[Job]) -> list[Job]:
        """What a contestant has measured, or what it failed with, for each job."""
        found: list[Job] = []
        while len(found) < len(jobs):
            left = min(self.end - time.time(), self.seconds / SHARE)
            if left <= 0:
                return found + [{"failed": "left out: the time was over"}] * (len(jobs) - len(found))
            found += self._process(side, common, jobs[len(found) :], left)
        return found

    @staticmethod
    def _process(side: str, common: Job, jobs: list[Job], left: float) -> list[Job]:
        """The results of one process: of all jobs, or up to the first that fails."""
        task = json.dumps({"side": side, "until": time.time() + left, "jobs": jobs, **common})
        command = [sys.executable, "-c", f"{import_path()}; from benchmarks.gpu_sides import main; main()", task]
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            run = subprocess.Popen(command, stdout=out, stderr=errors, cwd=ROOT, start_new_session=True)
            why = ""
            try:
                run.wait(left)
            except subprocess.TimeoutExpired:
                why = "not ready when the time was over"
            finally:
                if run.poll() is None:
                    os.killpg(run.pid, signal.SIGKILL)  # with the compilers that it has started
                    run.wait()
            out.seek(0)
            errors.seek(0)
            found = [json.loads(line) for line in out.read().split("\n")[:-1] if line.startswith("{")]
            if why:  # and what follows would find no time
                return found + [{"failed": why}] * (len(jobs) - len(found))
            if not (found and (len(found) == len(jobs) or "failed" in found[-1])):
                words = errors.read().strip().splitlines()
                found.append({"failed": words[-1] if words else f"it ended without a word (status {run.returncode})"})
        return found[: len(jobs)]


def batches(net: str, do: str, batch: int | None) -> list[int]:
    """The batches of a net, the larger first."""
    return sorted({batch or NETS[net][0]} | ({1} if do == "infer" else set()), reverse=True)


def plan(args: argparse.Namespace) -> list[tuple[str, list[Key]]]:
    """Which contestants do what, in which order: a process for each line, and the most important ones first."""

    def keys(net: str, names: list[str], *whats: str) -> list[Key]:
        return [
            (name, do, net, batch, math)
            for do in whats
            for batch in batches(net, do, args.batch)
            for math in (args.math if do != "layers" else args.math[:1])
            for name in names
        ]

    ours, eager, layout, compiled = CONTESTANTS
    lines = []
    for net in args.nets:
        lines.append(("layerforge", keys(net, [ours], "train", "infer")))
        lines.append(("torch", keys(net, [eager, layout], "train", "infer")))
    for net in args.nets:
        if net in RECORDS:
            lines.append(("layerforge", keys(net, [ours], "waiting")))
    for net in args.nets:
        plain = [key for key in keys(net, [PLAIN], "train") if key[-1] == "tf32"]
        lines.append(("layerforge", keys(net, [ours], "layers") + keys(net, [LAUNCHED], "train") + plain))
    for do in ("train", "infer"):
        lines += [("torch", keys(net, [compiled], do)) for net in args.nets]
    return lines


FORMS = {name: name.rpartition(", ")[2] for name in CONTESTANTS} | {LAUNCHED: "launched", PLAIN: "plain"}


def job_of(key: Key) -> Job:
    name, do, net, batch, math = key
    return {"do": do, "form": FORMS[name], "net": net, "batch": batch, "math": math}


def measure(args: argparse.Namespace) -> tuple[Found, Job, Job]:
    """The figures; what is known of the device, and of PyTorch."""
    clock, common = Clock(args.minutes), {"device": args.device, "seconds": args.seconds}
    versions, peaks = clock.ask("layerforge", common, [{"do": "versions"}, {"do": "peaks"}])
    if "failed" in versions:
        raise SystemExit(versions["failed"])
    (rival,) = clock.ask("torch", common, [{"do": "versions"}])
    found: Found = {}
    for side, keys in plan(args):
        print(f"{clock.end - time.time():4.0f} s left: {keys[0][0]}, {keys[0][2]}", file=sys.stderr)
        found |= zip(keys, clock.ask(side, common, [job_of(key) for key in keys]), strict=True)
    return found, versions | peaks, rival


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--math", nargs="+", default=["float32", "tf32"])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it; what is left then is left out")
    parser.add_argument("--out", help="the file to write; - prints it")
    args = parser.parse_args()
    command = " ".join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    begin = time.monotonic()
    found, versions, rival = measure(args)
    minutes = (time.monotonic() - begin) / 60
    text = gpu_report.report(found, versions, rival, command, minutes, real=args.device not in ("cpu", "emulated"))
    if args.out == "-":
        print(text)
        return
    name = re.sub(r"[^a-z0-9]+", "-", text.splitlines()[0].lower()).strip("-")
    path = Path(args.out) if args.out else ROOT / "docs" / "results" / f"gpu-{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path)


if __name__ == "__main__":
    main()
