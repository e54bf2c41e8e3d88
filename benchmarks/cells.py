"""The cells of the table: LayerForge and one rival, taking turns on one net at one batch size.

Each cell is a contest of two, so that the table can be interrupted and resumed between any two cells, and so that both
figures of a ratio come from the same minute. LayerForge is measured again in every cell.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, train
from benchmarks.contest import KEEP_LARGE_BLOCKS, ROOT, Contestant, Failure, import_path, play
from benchmarks.nets import NETS, deploy, plain, write_batch

ALLOCATORS = {"stock": {}, "tuned": KEEP_LARGE_BLOCKS}
FORMS = {
    "NCHW": {"layout": "nchw"},
    "channels_last": {"layout": "channels_last"},
    # Compiled, NCHW took 0.73 times as long as channels_last on AlexNet, and as long on ResNet-50.
    "compiled": {"layout": "nchw", "compiled": True},
}
#: Name of a rival -> (side, options, environment). Compiled comes last: it takes longest.
TORCH = {
    f"PyTorch, {form}, {allocator}": ("torch", options, environment)
    for form, options in FORMS.items()
    for allocator, environment in ALLOCATORS.items()
}
RIVALS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    **TORCH,
    "onnxruntime": ("onnx", {}, {}),
    "OpenCV": ("opencv", {}, {}),
}
KINDS = {"train": tuple(TORCH), "infer": tuple(RIVALS)}
INFERENCE_BATCHES = (1, 32)

#: The largest difference of two outputs, relative to the largest output, that passes for the same arithmetic; where
#: they are further apart, of each of them from what comes out in double precision.
AGREE = 1e-4


@dataclass(frozen=True)
class Cell:
    """One comparison; ``key`` names it in the file of results."""

    kind: str  # train, or infer
    net: str
    batch: int
    rival: str

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.net}/{self.batch}/{self.rival}"

    @classmethod
    def read(cls, key: str) -> Cell:
        kind, net, batch, rival = key.split("/", 3)
        return cls(kind, net, int(batch), rival)


def every(nets: list[str], kinds: list[str], rivals: list[str], batches: list[int] | None) -> Iterator[Cell]:
    """The cells of the table, net by net. ``rivals``: parts of names; ``batches``: in place of the usual ones."""
    for net in nets:
        for kind in kinds:
            for batch in batches or ((NETS[net].batch,) if kind == "train" else INFERENCE_BATCHES):
                for rival in KINDS[kind]:
                    if not rivals or any(part.lower() in rival.lower() for part in rivals):
                        yield Cell(kind, net, batch, rival)


class Bench:
    """Measures cells, in folders with the weights of one net at a time."""

    def __init__(self, folder: Path, options: argparse.Namespace):
        self.folder = folder
        self.options = options
        self.net = ""
        self.checks: dict[str, str] = {}  # net -> how the losses agree

    def measure(self, cell: Cell) -> dict[str, Any]:
        """What a cell's two contestants needed, or how they failed."""
        if cell.net != self.net:
            shutil.rmtree(self.folder / self.net, ignore_errors=True)
            self.net = cell.net
        result = {
            "when": datetime.datetime.now().isoformat(timespec="minutes"),
            "hardware": machine.hardware(),
            "system": machine.system(),
            "environment": machine.environment(),
            "load": round(machine.load(), 1),
            "commit": machine.commit(),
            "threads": self.options.threads,
            "rounds": self.options.rounds,
        }
        sides: list[Contestant] = []
        try:
            folder = self.folder / cell.net / cell.kind
            folder.mkdir(parents=True, exist_ok=True)
            make = self._training if cell.kind == "train" else self._inference
            ours, theirs, agreement = make(cell, folder, sides)
            play([ours, theirs], self.options.rounds, self.options.warm_up, self.options.turn)
            for side in sides:
                side.stop()
            result |= {
                "ours": figures(ours),
                "theirs": figures(theirs),
                "agreement": agreement,
                "versions": [ours.about["version"], theirs.about["version"]],
            }
            if RIVALS[cell.rival][1].get("compiled"):
                result["compiling"] = theirs.first_seconds
        except SystemExit as failure:  # a Failure, or a comparison that ends `benchmarks.train`
            lines = str(failure).strip().splitlines()
            result["failed"] = lines[0] + (f" {lines[-1]}" if len(lines) > 1 else "")
        finally:
            for side in sides:
                side.kill()
        return result

    def _rival(self, cell: Cell, job: dict[str, Any]) -> Contestant:
        side, more, environment = RIVALS[cell.rival]
        made = Contestant(cell.rival, job | {"side": side} | more, environment)
        if more.get("compiled"):
            made.limit = self.options.compile_limit
        return made

    def _training(self, cell: Cell, folder: Path, sides: list[Contestant]) -> tuple[Contestant, Contestant, str]:
        if cell.net not in self.checks:
            asked = argparse.Namespace(net=cell.net, threads=self.options.threads, engine="default", against="torch")
            self.checks[cell.net] = train.check(asked)
        write_batch(folder, cell.net, cell.batch)
        job = train.job_of(cell.net, cell.batch, folder, self.options.threads, dropout=True)
        ours = train.ours(job)
        _, more, environment = RIVALS[cell.rival]
        theirs = train.theirs(cell.rival, job, environment=environment, **more)
        theirs.limit = self.options.compile_limit if more.get("compiled") else None
        sides += [ours, theirs]
        train.start(sides)
        return ours, theirs, self.checks[cell.net]

    def _inference(self, cell: Cell, folder: Path, sides: list[Contestant]) -> tuple[Contestant, Contestant, str]:
        made = deploy(cell.net, cell.batch)
        layers, shape = plain(made), NETS[cell.net].shape
        if not (folder / "weights.caffemodel").exists():
            python("from benchmarks.layerforge_side import prepare; prepare(*args)", cell.net, folder)
        write_batch(folder, cell.net, cell.batch)
        if RIVALS[cell.rival][0] == "onnx":
            from benchmarks.onnx_side import write

            write(layers, folder, (cell.batch, *shape))
        if RIVALS[cell.rival][0] == "opencv":
            from benchmarks.layerforge_side import without_k
            from layerforge import schema

            (folder / "opencv.prototxt").write_text(schema.to_text(without_k(made)))
        job = {"net": cell.net, "folder": str(folder), "threads": self.options.threads, "kind": "Inferer"}
        job |= {"layers": layers, "shape": shape}
        ours, theirs = Contestant("LayerForge", job | {"side": "layerforge"}), self._rival(cell, job)
        sides += [ours, theirs]
        ours.start()
        theirs.start()
        outputs = []
        for i, side in enumerate(sides):
            begin = time.perf_counter()
            outputs.append(np.load(folder / side.ask(do="outputs", name=f"outputs{i}")["path"]))
            side.first_seconds = time.perf_counter() - begin
        a, b = (array.reshape(cell.batch, -1) for array in outputs)
        apart = distance(a, b)
        if not apart < AGREE:
            python("from benchmarks.layerforge_side import exact; exact(*args)", cell.net, folder)
            truth = np.load(folder / "exact.npy")
            errors = [distance(outputs, truth) for outputs in (a, b)]
            if not max(errors) < AGREE:
                told = f"LayerForge's by {errors[0]:.2g}, {cell.rival}'s by {errors[1]:.2g}"
                raise Failure(
                    f"The two sides do not compute the same: outputs differ by {apart:.2g} of the largest, "
                    f"from those in double precision {told}"
                )
        return ours, theirs, f"{apart:.1e}"


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def figures(side: Contestant) -> dict[str, Any]:
    return {
        "ms": [round(ms, 4) for ms in side.milliseconds],
        "peak_mb": round(side.peak_mb),
        "faults": float(np.median(side.faults)),
    }


def python(code: str, *arguments: object) -> None:
    """Runs code in a process of its own, so that this one stays small. Its ``args`` are a net and a folder."""
    begin = f"{import_path()}; from pathlib import Path; args = sys.argv[1], Path(sys.argv[2])"
    command = [sys.executable, "-c", f"{begin}\n{code}", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if run.returncode:
        raise Failure(f"The weights could not be made:\n{run.stderr[-2000:]}")
