"""Training speed: forward, backward and update, side by side.

    python -m benchmarks.train alexnet --batch 64 --against torch

LayerForge and PyTorch take turns, each in its own process, with the same threads, the same batch and the same first
weights in memory. PyTorch runs eagerly, in NCHW and in channels_last, both with the system's allocator as it is
("stock") and told to keep large blocks ("tuned"). Before anything is timed both sides train a small batch without
dropout, and their losses must agree. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.contest import KEEP_LARGE_BLOCKS, Contestant, play
from benchmarks.nets import NETS, in_memory, plain, write_batch

TORCH = {
    "PyTorch, NCHW, stock": ("nchw", {}),
    "PyTorch, channels_last, stock": ("channels_last", {}),
    "PyTorch, NCHW, tuned": ("nchw", KEEP_LARGE_BLOCKS),
    "PyTorch, channels_last, tuned": ("channels_last", KEEP_LARGE_BLOCKS),
}


def contestants(options: argparse.Namespace, batch: int, folder: Path, dropout: bool) -> list[Contestant]:
    job = job_of(options.net, batch, folder, options.threads, dropout) | {"engine": options.engine}
    sides = [ours(job)]
    if options.against == "torch":
        sides += [theirs(name, job, layout, env) for name, (layout, env) in TORCH.items()]
    return sides


def job_of(net: str, batch: int, folder: Path, threads: int, dropout: bool) -> dict:
    """What every side is told."""
    known = NETS[net]
    return {
        "net": net,
        "batch": batch,
        "folder": str(folder),
        "threads": threads,
        "dropout": dropout,
        "engine": "default",
        "lr": known.lr,
        "weight_decay": known.weight_decay,
    }


def ours(job: dict) -> Contestant:
    return Contestant("LayerForge", job | {"side": "layerforge"})


def theirs(name: str, job: dict, layout: str, environment: dict, **more) -> Contestant:
    """A side of PyTorch, on the same net."""
    shape = NETS[job["net"]].shape
    layers = plain(in_memory(job["net"], (job["batch"], *shape), job["dropout"]))
    job = job | {"side": "torch", "layout": layout, "layers": layers, "shape": shape, **more}
    return Contestant(name, job, environment)


def start(sides: list[Contestant]) -> None:
    """Starts them; all begin from the weights of the first."""
    sides[0].start()
    sides[0].ask(do="save")
    for side in sides[1:]:
        side.start()
        if side.about["parameters"] != sides[0].about["parameters"]:
            raise SystemExit(
                f"{side.name} has {side.about['parameters']} parameters, {sides[0].name} {sides[0].about['parameters']}"
            )


def check(options: argparse.Namespace) -> str:
    """Trains a batch of 4 without dropout on both sides: the same arithmetic gives the same losses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_batch(folder, options.net, 4)
        sides = contestants(options, 4, folder, dropout=False)[:2]
        for side in sides:
            side.job["lr"] /= NETS[options.net].slowly
        start(sides)
        for side in sides:
            side.turn(4)
            side.stop()
    pairs = ", ".join(f"{a:.5f} / {b:.5f}" for a, b in zip(*(side.losses for side in sides), strict=True))
    if not np.allclose(sides[0].losses, sides[1].losses, rtol=2e-3):
        raise SystemExit(f"The two sides do not compute the same: losses without dropout {pairs}")
    return (
        f"Losses of four steps on one batch of 4 without dropout, same first weights (LayerForge / PyTorch): {pairs}."
    )


def table(sides: list[Contestant], batch: int) -> str:
    ours = sides[0]
    rows = [
        "| | ms per step (quartiles) | images/s | peak MB | page faults per step | LayerForge is |",
        "|---|---|---|---|---|---|",
    ]
    for side in sides:
        low, high = np.percentile(side.milliseconds, [25, 75])
        digits = 0 if side.median >= 100 else 2
        ratio = "" if side is ours else f"{side.median / ours.median:.2f} times as fast"
        rows.append(
            f"| {side.name} | {side.median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}) "
            f"| {1e3 * batch / side.median:,.0f} | {side.peak_mb:,.0f} | {np.median(side.faults):,.0f} | {ratio} |"
        )
    return "\n".join(rows)


def verdict(sides: list[Contestant]) -> str:
    ours, lines = sides[0], []
    for allocator in ("stock", "tuned"):
        best = min((side for side in sides[1:] if side.name.endswith(allocator)), key=lambda side: side.median)
        lines.append(
            f"**{best.median / ours.median:.2f} times as fast as the better {allocator} PyTorch** ({best.name})"
        )
    return (
        ", ".join(lines)
        + f"; peak memory {ours.peak_mb / min(side.peak_mb for side in sides[1:]):.2f} times the least of theirs."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__.split("\n")[0])
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--against", choices=["torch"])
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of every contestant (default: all cores)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warm-up", type=int, default=3, help="steps of each that are not counted")
    parser.add_argument("--turn", type=float, default=0.3, help="seconds of a turn, if more than one step fits into it")
    parser.add_argument(
        "--engine", choices=["default", "caffe"], default="default", help="of LayerForge's convolutions"
    )
    parser.add_argument("--no-check", action="store_true", help="skip the comparison of losses")
    options = parser.parse_args()

    print(f"## {options.net}, batch {options.batch}: one training step\n")
    print(machine.describe(), end="; ", flush=True)
    agreement = check(options) if options.against and not options.no_check else ""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_batch(folder, options.net, options.batch)
        sides = contestants(options, options.batch, folder, dropout=True)
        start(sides)
        print(", ".join(dict.fromkeys(side.about["version"] for side in sides)) + f"; {options.threads} threads.\n")
        play(sides, options.rounds, options.warm_up, options.turn)
        for side in sides:
            side.stop()
    print(table(sides, options.batch))
    if options.against:
        print(f"\n{verdict(sides)}\n\n{agreement}\n")
        first_last = ", ".join(f"{side.name}: {side.losses[0]:.2f} to {side.losses[-1]:.2f}" for side in sides)
        print(f"Losses with dropout, first step to last: {first_last}.")


if __name__ == "__main__":
    main()
