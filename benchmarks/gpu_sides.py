"""What a contestant of `benchmarks.gpu` measures: many jobs in one process, one line of JSON for each that is done.

    python -m benchmarks.gpu_sides '{"side": "torch", "device": "gpu", "seconds": 1, "until": 1e12, "jobs": [...]}'

A job is what to do (`do`), and where that matters a form of the contestant, a net, a batch and a math mode. Between two
jobs all memory is given back. A job that fails ends the process, which may have come to harm, and says so in its line;
whoever started it starts another for what is left.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

NETS = {
    "alexnet": (256, (3, 227, 227), 1000),
    "googlenet": (256, (3, 224, 224), 1000),
    "resnet50": (256, (3, 224, 224), 1000),
    "lenet": (64, (1, 28, 28), 10),
}
RECORDS = {"alexnet": 256, "lenet": 28}  # nets that are quick enough to wait for data: the side of a record's image
COUNT = 1024  # of them

WARM_UP = 3  # steps that are not counted: LayerForge records in the third, PyTorch compiles and tries in the first
CHUNK = 0.05  # seconds between two moments that are compared
CHUNKS = (5, 1000)  # of a figure, at least and at most

Job = dict[str, Any]


@dataclass(frozen=True)
class Stopwatch:
    """How a contestant takes the time: on a GPU by events, which it passes without anybody waiting."""

    moment: Callable[[], Any]
    between: Callable[[Any, Any], float]  # seconds, waits for the second

    def seconds(self, steps: Callable[[int], None], number: int, chunks: int = 1) -> list[float]:
        """Seconds of a step, in each of so many chunks of ``number`` steps. Nobody waits between two chunks."""
        moments = [self.moment()]
        for _ in range(chunks):
            steps(number)
            moments.append(self.moment())
        return [self.between(*both) / number for both in itertools.pairwise(moments)]

    def measure(self, steps: Callable[[int], None], seconds: float) -> dict[str, float]:
        """The median time of a step, and its quartiles, over chunks; for about so many seconds."""
        chunk, number = min(CHUNK, seconds / CHUNKS[0]), 1
        while True:  # a short chunk is mostly its launch, so the guess grows by steps
            (once,) = self.seconds(steps, number)
            if once * number >= chunk / 2 or number >= 1 << 20:
                break
            number = min(10 * number, math.ceil(chunk / max(once, 1e-9)))
        number = max(1, round(chunk / once))
        chunks = min(max(math.ceil(seconds / (once * number)), CHUNKS[0]), CHUNKS[1])
        low, middle, high = statistics.quantiles(self.seconds(steps, number, chunks), n=4, method="inclusive")
        return {"seconds": middle, "low": low, "high": high, "steps": number, "chunks": chunks}


def again(step: Callable[[], Any]) -> Callable[[int], None]:
    """Does one thing so many times."""

    def steps(number: int) -> None:
        for _ in range(number):
            step()

    return steps


def batch_of(net: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    _, shape, classes = NETS[net]
    random = np.random.default_rng(1)
    return random.standard_normal((batch, *shape), np.float32), random.integers(0, classes, batch)


class LayerForge:
    """LayerForge: `do` is versions, peaks, train, infer, layers or waiting; `form` is replayed, launched or plain."""

    def __init__(self, device: str, seconds: float):
        from layerforge import device as devices

        self.device = devices.get(device)
        self.real = device not in ("cpu", "emulated")
        self.watch = Stopwatch(self.device.moment, self.device.between)
        self.time = seconds

    def clear(self) -> None:
        self.device.let_go()
        self.device.free_memory()

    def versions(self, job: Job) -> Job:
        import layerforge as lf

        title = getattr(self.device, "title", self.device.name)
        return {"title": title, "versions": {"LayerForge": lf.__version__, **self.device.versions()}}

    def peaks(self, job: Job) -> Job:
        """Bytes copied a second, and float32 operations a second in a large product, strict and in TF32."""
        device, random = self.device, np.random.default_rng(1)
        large, n = (1 << 28, 8192) if self.real else (1 << 12, 64)
        x, y, z = (device.empty((n, n)) for _ in range(3))
        for array in (x, y):  # zeros would take less current, and leave the clock higher
            device.from_numpy(array, random.standard_normal((n, n), np.float32))
        a, b = device.zeros(large), device.zeros(large)
        found = {"copy GB/s": 8 * large / self.measure(again(lambda: b.__setitem__(..., a)))["seconds"] / 1e9}
        for mode in ("float32", "tf32"):
            with device.math(mode):
                seconds = self.measure(again(lambda: device.gemm(x, y, z)))["seconds"]
            found[f"SGEMM {mode} TFLOP/s"] = 2 * n**3 / seconds / 1e12
        return {"peaks": found}

    def measure(self, steps: Callable[[int], None]) -> dict[str, float]:
        steps(WARM_UP)
        return self.watch.measure(steps, self.time)

    def solver(self, definition: Any, job: Job) -> Any:
        """How LayerForge trains a net."""
        import layerforge as lf
        from layerforge import schema

        definition.math_mode = job["math"]
        message = schema.message("SolverParameter")(
            base_lr=1e-4, lr_policy="fixed", momentum=0.9, weight_decay=5e-4, random_seed=1, max_iter=1 << 30
        )
        message.net_param.CopyFrom(definition)
        return lf.Solver(message, device=self.device, reuse=True, blocks=job.get("form") != "plain")

    def trainer(self, job: Job) -> Any:
        from benchmarks.nets import in_memory

        data, labels = batch_of(job["net"], job["batch"])
        solver = self.solver(in_memory(job["net"], data.shape, dropout=True), job)
        solver.net.blobs["data"].data[...], solver.net.blobs["label"].data[...] = data, labels
        if job.get("form") == "launched":
            solver.net.passes.recorded = solver.rule.records = False
        return solver

    def train(self, job: Job) -> Job:
        solver = self.trainer(job)
        return self.timed(solver.step, solver.net, solver.iteration.recorder)

    def infer(self, job: Job) -> Job:
        import layerforge as lf
        from benchmarks.nets import deploy

        definition = deploy(job["net"], job["batch"])
        definition.math_mode = job["math"]
        net = lf.Net(definition, lf.TEST, device=self.device, seed=1)
        random = np.random.default_rng(1)
        for parameter in net.owned:  # which are zeros: see `peaks`
            values = np.ones(parameter.shape, np.float32)
            if values.ndim > 1:
                values = random.standard_normal(values.shape, np.float32) * math.sqrt(2 / values[0].size)
            self.device.from_numpy(parameter.data, values)
        net.blobs["data"].data[...] = batch_of(job["net"], job["batch"])[0]
        return self.timed(again(net.run_forward), net, net.passes.forward_recorder)

    def timed(self, steps: Callable[[int], None], net: Any, recorder: Any) -> Job:
        begin = time.perf_counter()
        steps(WARM_UP)
        self.device.synchronize()
        ready = time.perf_counter() - begin
        self.device.free_memory()  # that of plans which were tried
        found = self.watch.measure(steps, self.time)
        planned = sum(net.memory_bytes().values())
        memory = {"reserved": self.device.taken_memory() or planned, "allocated": planned}
        return {**found, **memory, "ready": ready, "records": recorder.records}

    def layers(self, job: Job) -> Job:
        """Name, type, and milliseconds forward and backward of every layer, each replayed by itself."""
        solver = self.trainer(job)
        net = solver.net
        solver.step(WARM_UP)
        net.forward_backward()
        each = self.time / len(net.nodes) / 2

        def milliseconds(run: Callable[[], None]) -> float:
            run()
            try:
                replay = self.device.record(run)
            except Exception:  # of the device, or of the layer: it needs the host
                replay = run
            return 1e3 * self.watch.measure(again(replay), each)["seconds"]

        rows = []
        for node in net.nodes:
            times = [milliseconds(lambda node=node: node.forward(node.bottom, node.top)), 0.0]
            if node.runs_backward:
                times[1] = milliseconds(lambda node=node: node.backward(node.bottom, node.top))
            rows.append((node.layer.name, node.layer.type, *times))
        return {"layers": rows}

    def waiting(self, job: Job) -> Job:
        """Trains on records of a database. Seconds of an iteration, and the share of them in which the net waits."""
        from benchmarks.nets import in_memory
        from layerforge.data.lmdb_writer import write_lmdb
        from layerforge.datum import Datum, datum_bytes

        _, (channels, crop, _), classes = NETS[job["net"]]
        side, random = RECORDS[job["net"]], np.random.default_rng(1)

        def record(i: int) -> tuple[bytes, bytes]:
            pixels = random.integers(0, 256, (channels, side, side), np.uint8)
            return b"%08d" % i, datum_bytes(Datum(*pixels.shape, pixels.tobytes(), i % classes))

        definition = in_memory(job["net"], (job["batch"], channels, crop, crop), dropout=True)
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
            solver = self.solver(definition, job)
            layer = solver.net.layer_dict["data"]
            solver.step(WARM_UP + layer.loader.ahead)  # batches that were made while the first ones ran do not count
            self.device.synchronize()
            begin, waited, passes = time.perf_counter(), layer.wait_seconds, 0
            while passes < 5 or time.perf_counter() < begin + self.time:
                solver.step(1)
                passes += 1
            self.device.synchronize()
            took, waited = time.perf_counter() - begin, layer.wait_seconds - waited
            solver.net.close()
        return {"seconds": took / passes, "waiting": waited / took, "threads": layer.loader.threads}


class Torch:
    """PyTorch: `do` is versions, train or infer; `form` is eager, channels_last or compiled (in channels_last)."""

    def __init__(self, device: str, seconds: float):
        import torch

        self.torch = torch
        self.on_gpu = device not in ("cpu", "emulated")
        number = int(device.partition(":")[2] or 0)
        self.device = torch.device("cuda", number) if self.on_gpu else torch.device("cpu")
        if self.on_gpu:
            torch.cuda.set_device(self.device)
            self.watch = Stopwatch(self.moment, self.between)
        else:
            self.watch = Stopwatch(time.perf_counter, lambda first, second: second - first)
        self.time = seconds
        torch.backends.cudnn.benchmark = True

    def moment(self) -> Any:
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @staticmethod
    def between(first: Any, second: Any) -> float:
        second.synchronize()
        return float(first.elapsed_time(second)) / 1e3

    def clear(self) -> None:
        self.torch.compiler.reset()
        gc.collect()
        if self.on_gpu:
            self.torch.cuda.synchronize()
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    def versions(self, job: Job) -> Job:
        torch = self.torch
        found = {"PyTorch": torch.__version__, "CUDA of PyTorch": torch.version.cuda or "none"}
        cudnn = torch.backends.cudnn.version() if self.on_gpu else None
        if cudnn:
            found["cuDNN"] = f"{cudnn // 10000}.{cudnn % 10000 // 100}.{cudnn % 100}"
        if self.on_gpu:
            x = torch.ones(8, 8, device=self.device)
            (x @ x).sum().item()  # loads cuBLAS
            found["cuBLAS"] = loaded_cublas()
        try:
            found["Triton"] = importlib.metadata.version("triton")
        except importlib.metadata.PackageNotFoundError:
            pass  # what is compiled for a CPU does without
        return {"versions": found}

    def net(self, job: Job) -> Any:
        from benchmarks.nets import deploy, in_memory, plain
        from benchmarks.torch_side import build

        name, (_, shape, _) = job["net"], NETS[job["net"]]
        made = in_memory(name, (1, *shape), dropout=True) if job["do"] == "train" else deploy(name, 1)
        layout = "nchw" if job["form"] == "eager" else "channels_last"
        net = build(plain(made), shape, layout).to(self.device)
        return net.train(job["do"] == "train")

    def given(self, job: Job) -> tuple[Any, Any]:
        torch = self.torch
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job["math"] == "tf32"
        data, labels = (torch.from_numpy(each).to(self.device) for each in batch_of(job["net"], job["batch"]))
        layout = torch.contiguous_format if job["form"] == "eager" else torch.channels_last
        return data.contiguous(memory_format=layout), labels

    def train(self, job: Job) -> Job:
        torch, cross_entropy = self.torch, self.torch.nn.functional.cross_entropy
        data, labels = self.given(job)
        net = self.net(job)
        run = torch.compile(net) if job["form"] == "compiled" else net
        rule = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=True)
        weights = [weight for weight, _ in net.losses]

        def step() -> None:
            rule.zero_grad(set_to_none=True)
            losses = [cross_entropy(scores, labels) for scores in run(data)]
            loss = losses[0] if len(losses) == 1 else sum(w * each for w, each in zip(weights, losses, strict=True))
            loss.backward()
            rule.step()

        return self.timed(again(step))

    def infer(self, job: Job) -> Job:
        data, _ = self.given(job)
        net = self.net(job)
        run = self.torch.compile(net) if job["form"] == "compiled" else net

        def steps(number: int) -> None:
            with self.torch.inference_mode():
                for _ in range(number):
                    run(data)

        return self.timed(steps)

    def timed(self, steps: Callable[[int], None]) -> Job:
        cuda = self.torch.cuda
        begin = time.perf_counter()
        steps(WARM_UP)
        if self.on_gpu:
            cuda.synchronize()
        ready = time.perf_counter() - begin
        if self.on_gpu:  # algorithms that were tried want memory which those that were chosen do not
            cuda.empty_cache()
            cuda.reset_peak_memory_stats()
        found = self.watch.measure(steps, self.time)
        memory = {"reserved": 0, "allocated": 0}
        if self.on_gpu:
            memory = {"reserved": cuda.max_memory_reserved(), "allocated": cuda.max_memory_allocated()}
        return {**found, **memory, "ready": ready}


def loaded_cublas() -> str:
    """The version of the cuBLAS that this process has loaded."""
    for major in (13, 12, 11):
        try:
            library = ctypes.CDLL(f"libcublas.so.{major}", mode=os.RTLD_NOLOAD)
        except OSError:
            continue
        values = [ctypes.c_int() for _ in range(3)]
        for which, value in enumerate(values):
            library.cublasGetProperty(which, ctypes.byref(value))
        return ".".join(str(value.value) for value in values)
    return "not found"


SIDES = {"layerforge": LayerForge, "torch": Torch}


def failure(error: BaseException) -> str:
    """What a table says of it."""
    if "out of memory" in str(error).lower() or getattr(error, "out_of_memory", False):
        return f"out of memory: {error}".splitlines()[0]
    return traceback.format_exception_only(error)[0].strip().splitlines()[0]


def work(task: Job, tell: Callable[[Job], None]) -> None:
    """Does the jobs of a task, and tells each result. The first that fails is the last, unless a package is missing."""
    side: Any = None
    for job in task["jobs"]:
        if time.time() > task["until"]:
            tell({"failed": "left out: the time was over"})
            continue
        try:
            if side is None:
                side = SIDES[task["side"]](task["device"], task["seconds"])
            tell(getattr(side, job["do"])(job))
            gc.collect()
            side.clear()
        except ImportError as error:
            tell({"failed": failure(error)})
        except (Exception, SystemExit) as error:
            tell({"failed": failure(error)})
            return


def main() -> None:
    work(json.loads(sys.argv[1]), lambda result: print(json.dumps(result), flush=True))


if __name__ == "__main__":
    main()
