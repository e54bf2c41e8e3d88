"""A GPU's peaks, how long it waits for data, and training and inference on it, LayerForge against PyTorch.

    python -m benchmarks.gpu                        all of it, into docs/results/gpu-<device>.md
    python -m benchmarks.gpu --nets lenet --batch 64
    python -m benchmarks.gpu --device emulated --nets lenet --batch 4 --seconds 0.1 --out -    a trial without a GPU

Every contestant runs in a process of its own, on one batch in memory; a figure is the median of iterations, each timed
to its end with the device synchronised. PyTorch runs eagerly, in channels_last and compiled, in the same math mode.
LayerForge replays its records, as it does in training, and, to show what that brings, launches every kernel by itself.
Waiting for data is measured on a database of raw records that the contestant has just written, so that they lie in the
page cache: what is lost then is lost to LayerForge and not to the disk.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.contest import ROOT

NETS = {
    "lenet": (64, (1, 28, 28), 10),
    "alexnet": (256, (3, 227, 227), 1000),
    "googlenet": (256, (3, 224, 224), 1000),
    "resnet50": (256, (3, 224, 224), 1000),
}
RECORDS = {"lenet": 28, "alexnet": 256}  # nets that are quick enough to wait for data: the side of a record's image
COUNT = 1024  # of them


def median_seconds(step: Callable[[], Any], wait: Callable[[], Any], seconds: float) -> float:
    """The median time of an iteration, after a few that are not counted."""
    for _ in range(3):
        step()
    wait()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def batch_of(net: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    _, shape, classes = NETS[net]
    random = np.random.default_rng(1)
    return random.normal(size=(batch, *shape)).astype(np.float32), random.integers(0, classes, batch)


def solver_message(net: Any) -> Any:
    """How LayerForge trains a net."""
    from layerforge import schema

    message = schema.message("SolverParameter")(
        base_lr=1e-4, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, random_seed=1, max_iter=1 << 30
    )
    message.net_param.CopyFrom(net)
    return message


# One contestant, in a process of its own: prints one line of JSON.


def layerforge_side(job: dict[str, Any]) -> dict[str, Any]:
    import layerforge as lf
    from benchmarks.nets import in_memory
    from layerforge import device as devices

    device = devices.get(job["device"])
    data, labels = batch_of(job["net"], job["batch"])
    definition = in_memory(job["net"], data.shape, dropout=True)
    definition.math_mode = job["math"]
    solver = lf.Solver(solver_message(definition), device=device, reuse=True) if job["do"] != "infer" else None
    net = solver.net if solver is not None else lf.Net(definition, lf.TEST, device=device, seed=1)
    if job.get("form") == "launched":
        net.passes.recorded = False
        if solver is not None:
            solver.rule.records = False  # type: ignore[misc]
    net.blobs["data"].data[...], net.blobs["label"].data[...] = data, labels
    if job["do"] == "layers":
        return {"layers": layer_times(net, device, job["seconds"])}
    step = net.run_forward if solver is None else lambda: solver.step(1)
    seconds = median_seconds(step, device.synchronize, job["seconds"])
    recorder = solver.iteration.recorder if solver is not None else net.passes.forward_recorder
    return {"seconds": seconds, "bytes": sum(net.memory_bytes().values()), "records": recorder.records}


def waiting_side(job: dict[str, Any]) -> dict[str, Any]:
    """Trains on records of a database. Seconds of an iteration, and the share of them in which the net waits."""
    import layerforge as lf
    from benchmarks.nets import in_memory
    from layerforge import device as devices
    from layerforge.data.lmdb_writer import write_lmdb
    from layerforge.datum import Datum, datum_bytes

    device = devices.get(job["device"])
    _, (channels, crop, _), classes = NETS[job["net"]]
    side, random = RECORDS[job["net"]], np.random.default_rng(1)

    def record(i: int) -> tuple[bytes, bytes]:
        pixels = random.integers(0, 256, (channels, side, side), np.uint8)
        return b"%08d" % i, datum_bytes(Datum(*pixels.shape, pixels.tobytes(), i % classes))

    definition = in_memory(job["net"], (job["batch"], channels, crop, crop), dropout=True)
    definition.math_mode = job["math"]
    data = definition.layer[0]
    data.ClearField("input_param")
    data.type = "Data"
    data.transform_param.scale = 1 / 256
    if crop < side:
        data.transform_param.crop_size, data.transform_param.mirror = crop, True
        data.transform_param.mean_value.extend((104, 117, 123))
    with tempfile.TemporaryDirectory() as folder:
        write_lmdb(f"{folder}/db", map(record, range(COUNT)))
        data.data_param.source, data.data_param.batch_size = f"{folder}/db", job["batch"]
        solver = lf.Solver(solver_message(definition), device=device, reuse=True)
        layer = solver.net.layer_dict["data"]
        solver.step(3 + layer.loader.ahead)  # the first are slow, and batches that were made meanwhile do not count
        device.synchronize()
        begin, waited, passes = time.perf_counter(), layer.wait_seconds, 0
        while passes < 5 or time.perf_counter() < begin + job["seconds"]:
            solver.step(1)
            passes += 1
        device.synchronize()
        took, waited = time.perf_counter() - begin, layer.wait_seconds - waited
        solver.net.close()
    return {"seconds": took / passes, "waiting": waited / took, "threads": layer.loader.threads}


def layer_times(net: Any, device: Any, seconds: float) -> list[tuple[str, str, float, float]]:
    """Name, type, and milliseconds forward and backward of every layer."""
    net.forward_backward()
    each = seconds / len(net.nodes) / 2
    rows = []
    for node in net.nodes:
        times = [median_seconds(lambda node=node: node.forward(node.bottom, node.top), device.synchronize, each)]
        if node.runs_backward:
            back = lambda node=node: node.layer.backward(node.bottom, node.top)  # noqa: E731
            times.append(median_seconds(back, device.synchronize, each))
        rows.append((node.layer.name, node.layer.type, *(1e3 * t for t in (*times, 0.0)[:2])))
    return rows


def torch_side(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from torch.nn import functional

    on = torch.device("cuda" if job["device"].startswith("gpu") else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job["math"] == "tf32"
    torch.backends.cudnn.benchmark = True
    layout = torch.contiguous_format if job["form"] == "eager" else torch.channels_last
    net = torch_net(job["net"]).to(on, memory_format=layout)
    data, labels = batch_of(job["net"], job["batch"])
    x = torch.from_numpy(data).to(on, memory_format=layout)
    target = torch.from_numpy(labels).to(on)
    net.train(job["do"] == "train")
    run = torch.compile(net) if job["form"] == "compiled" else net
    rule = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)

    def train() -> None:
        rule.zero_grad(set_to_none=True)
        scores = zip(net.losses, run(x), strict=True)
        sum(weight * functional.cross_entropy(out, target) for (weight, _), out in scores).backward()
        rule.step()

    def infer() -> None:
        with torch.inference_mode():
            run(x)

    wait = torch.cuda.synchronize if on.type == "cuda" else lambda: None
    seconds = median_seconds(train if job["do"] == "train" else infer, wait, job["seconds"])
    return {"seconds": seconds, "bytes": torch.cuda.max_memory_allocated() if on.type == "cuda" else 0}


def torch_net(name: str) -> Any:
    from benchmarks.nets import in_memory, plain
    from benchmarks.torch_side import build

    _, shape, _ = NETS[name]
    return build(plain(in_memory(name, (1, *shape), dropout=True)), shape)


def peaks_side(job: dict[str, Any]) -> dict[str, Any]:
    """Bytes copied a second, and float32 operations a second in a large product, strict and in TF32."""
    from layerforge import device as devices

    device = devices.get(job["device"])
    large = 1 << (28 if job["device"].startswith("gpu") else 12)
    a, b = device.zeros(large), device.zeros(large)

    def copy() -> None:
        b[...] = a

    found = {"copy GB/s": 8 * large / median_seconds(copy, device.synchronize, job["seconds"]) / 1e9}
    n = 8192 if job["device"].startswith("gpu") else 64
    x, y, z = (device.zeros((n, n)) for _ in range(3))
    for mode in ("float32", "tf32"):
        device.cublas.set_math_mode(mode)  # type: ignore[attr-defined]
        seconds = median_seconds(lambda: device.gemm(x, y, z), device.synchronize, job["seconds"])
        found[f"SGEMM {mode} TFLOP/s"] = 2 * n**3 / seconds / 1e12
    return found


SIDES = {"layerforge": layerforge_side, "torch": torch_side, "peaks": peaks_side, "waiting": waiting_side}


class Clock:
    """Asks contestants until the time is over."""

    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes

    def ask(self, side: str, **job: Any) -> dict[str, Any]:
        """What a contestant has measured, or what it failed with."""
        left = self.end - time.monotonic()
        if left <= 0:
            return {"failed": "left out: the time was over"}
        try:
            run = subprocess.run(
                [sys.executable, "-m", "benchmarks.gpu", "--side", side, "--job", json.dumps(job)],
                capture_output=True, text=True, check=False, cwd=ROOT, timeout=left,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"failed": "not ready when the time was over"}
        if run.returncode:
            return {"failed": (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
        return json.loads(run.stdout.strip().splitlines()[-1])


def cell(result: dict[str, Any], batch: int) -> str:
    if "failed" in result:
        return result["failed"].replace("|", "/")[:60]
    return f"{batch / result['seconds']:,.0f} ({1e3 * result['seconds']:.2f} ms, {result['bytes'] / 2**30:.1f} GiB)"


#: The contestants, those first that are to be measured even when time is short.
CONTESTANTS = {
    "LayerForge": ("layerforge", "replayed"),
    "PyTorch, eager": ("torch", "eager"),
    "PyTorch, channels_last": ("torch", "channels_last"),
    "LayerForge, launched one by one": ("layerforge", "launched"),
    "PyTorch, compiled": ("torch", "compiled"),
}


def waiting(clock: Clock, args: argparse.Namespace, common: dict[str, Any]) -> list[str]:
    """The chapter on data: a line for each net that is quick enough."""
    lines = ["## Waiting for data", "", f"Training from an LMDB of {COUNT:,} raw records in the page cache.", ""]
    lines += ["| net | batch | records | math | images/s | waits | threads |", "|---|---|---|---|---|---|---|"]
    for net in args.nets:
        if net not in RECORDS:
            continue
        batch, side = args.batch or NETS[net][0], RECORDS[net]
        for math in args.math:
            found = clock.ask("waiting", **common, net=net, batch=batch, math=math)
            head = f"| {net} | {batch} | {side}x{side}x{NETS[net][1][0]} | {math} |"
            if "failed" in found:
                lines.append(f"{head} {cell(found, batch)} | | |")
                continue
            lines.append(f"{head} {batch / found['seconds']:,.0f} | {found['waiting']:.1%} | {found['threads']} |")
    return [*lines, ""]


def report(args: argparse.Namespace) -> str:
    from layerforge import device as devices

    device = devices.get(args.device)
    title = getattr(device, "title", device.name)
    clock, common = Clock(args.minutes), {"device": args.device, "seconds": args.seconds}
    command = " ".join(["python", "-m", "benchmarks.gpu", *sys.argv[1:]])
    lines = [f"# {title}", "", machine.describe(), "", f"Command: `{command}`", "", "## Peaks", ""]
    for name, value in clock.ask("peaks", **common).items():
        lines.append(value if name == "failed" else f"- {name}: {value:,.1f}")
    lines.append("")
    if any(net in RECORDS for net in args.nets):
        lines += waiting(clock, args, common)
    tables = [(do, math) for do in ("train", "infer") for math in args.math]
    rows = {
        (do, math): [
            (net, batch)
            for net in args.nets
            for batch in sorted({args.batch or NETS[net][0]} | ({1} if do == "infer" else set()))
        ]
        for do, math in tables
    }
    found = {
        (do, math, net, batch, name): clock.ask(side, **common, net=net, batch=batch, math=math, do=do, form=form)
        for name, (side, form) in CONTESTANTS.items()
        for do, math in tables
        for net, batch in rows[do, math]
    }
    for do, math in tables:
        lines += [f"## {'Training' if do == 'train' else 'Inference'}, {math}: images/s", ""]
        lines += [f"| net | batch | {' | '.join(CONTESTANTS)} |", "|---|---|" + "---|" * len(CONTESTANTS)]
        for net, batch in rows[do, math]:
            cells = [cell(found[do, math, net, batch, name], batch) for name in CONTESTANTS]
            lines.append(f"| {net} | {batch} | {' | '.join(cells)} |")
        lines.append("")
    for net in args.nets:
        batch = args.batch or NETS[net][0]
        layers = clock.ask("layerforge", **common, net=net, batch=batch, math="float32", do="layers")
        lines += [f"## {net}, layer by layer, batch {batch}, float32: ms", ""]
        if "failed" in layers:
            lines += [layers["failed"], ""]
            continue
        lines += ["| layer | type | forward | backward |", "|---|---|---|---|"]
        lines += [f"| {name} | {kind} | {there:.3f} | {back:.3f} |" for name, kind, there, back in layers["layers"]]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--math", nargs="+", default=["float32", "tf32"])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all of it; what is left then is left out")
    parser.add_argument("--out", help="the file to write; - prints it")
    parser.add_argument("--side", choices=list(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](json.loads(args.job))))
        return
    text = report(args)
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
