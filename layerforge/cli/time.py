"""Times every layer of a net, forward and backward.

The table goes to stdout, Caffe's log lines to stderr where that is no terminal. GFLOP/s count a multiply-add of a
layer's products as two operations; backward does the work of forward once for each gradient that is needed. What is
"ReLU, in bn1" is computed by bn1 in its own pass, and counted there. The engine is what computes a layer's products:
CAFFE, im2col and matrix products; MKLDNN, oneDNN; or kernels of our own, Winograd for 3x3 and Depthwise. What is
"BatchNorm, partly in conv2" is counted where each part is computed.

--data tells, too, how many images a second reading, decoding, transforming and the whole loader of each data layer
give, and how many the net takes.

examples:
  layerforge time --model nets/alexnet_train_val.prototxt --iterations 10
  layerforge time --model nets/alexnet_train_val.prototxt --iterations 1 --data
"""

from __future__ import annotations

import logging
import time
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from ..logs import FOR_PARSERS
from . import flags, machine
from .summary import types_of
from .table import table

log = logging.getLogger("layerforge.cli")


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("--model", required=True, metavar="FILE", help="the net's prototxt")
    parser.add_argument(
        "--iterations", type=flags.whole(1), default=50, metavar="N", help="passes each way; default: %(default)s"
    )
    flags.add_phase(parser)
    parser.add_argument("--data", action="store_true", help="time the stages of data layers, too")
    parser.add_argument("--batch", type=flags.whole(1), metavar="N", help="in place of the batch size of its sources")
    parser.add_argument("--seed", type=flags.whole(0), default=1, metavar="N", help="default: %(default)s")
    flags.add_state(parser)
    flags.add_machine(parser)


class Stopwatch:
    """Seconds per layer: called before and after each of a net's layers."""

    def __init__(self, device: Any, layers: int):
        self.device = device
        self.seconds = [0.0] * layers
        self.since = 0.0

    def before(self, index: int) -> None:
        self.since = time.perf_counter()

    def after(self, index: int) -> None:
        self.device.synchronize()
        self.seconds[index] += time.perf_counter() - self.since


def run(args: Namespace, handler: Any) -> int:
    machine.import_layers(args.imports)
    device = machine.prepare(args)
    from .. import TEST, TRAIN
    from ..net import Net
    from . import _data_rates, definitions

    definition = definitions.read_net(args.model)
    if args.batch:
        definitions.set_batch(definition, args.batch)
    phase = TRAIN if args.phase == "TRAIN" else TEST
    net = Net(definition, phase, args.level, args.stage, device=device, seed=args.seed)
    try:
        if args.data and not _data_rates.loading(net):
            raise flags.UsageError(f"--data: no layer of this net loads images in phase {args.phase}")
        log.info("Performing Forward", extra=FOR_PARSERS)
        log.info("Initial loss: %.6g", net.run_forward())
        log.info("Performing Backward", extra=FOR_PARSERS)
        net.run_backward()
        device.synchronize()
        replayed = replay(net, args.iterations) if device.records else []
        forward, backward, total = measure(net, args.iterations, handler)
        if not handler.calm:
            log_as_caffe(net, forward, backward, total, args.iterations)
        print("\n".join([report(net, forward, backward, args.iterations), *replayed]))
        if args.data:
            print(f"\n{_data_rates.report(net)}")
    finally:
        net.close()
    return 0


def measure(net: Any, iterations: int, handler: Any) -> tuple[list[float], list[float], float]:
    """Seconds per layer forward and backward, and in all, over so many passes each way."""
    log.info("*** Benchmark begins ***", extra=FOR_PARSERS)
    log.info("Testing for %d iterations.", iterations)
    forward = Stopwatch(net.device, len(net.nodes))
    backward = Stopwatch(net.device, len(net.nodes))
    net.before_forward(forward.before, looks=False)
    net.after_forward(forward.after, looks=False)
    net.before_backward(backward.before, looks=False)
    net.after_backward(backward.after, looks=False)
    start = time.perf_counter()
    for i in with_bar(range(iterations), handler):
        since = time.perf_counter()
        net.clear_param_diffs()
        net.forward_backward()
        taken = (time.perf_counter() - since) * 1e3
        log.info("Iteration: %d forward-backward time: %.6g ms.", i + 1, taken, extra=FOR_PARSERS)
    return forward.seconds, backward.seconds, time.perf_counter() - start


def replay(net: Any, iterations: int) -> list[str]:
    """What to say of passes that are recorded and replayed: how long they take, and which layers divide the records."""
    for _ in range(2):  # which warms up, and records
        net.forward_backward()
    net.device.synchronize()
    start = time.perf_counter()
    for _ in range(iterations):
        net.clear_param_diffs()
        result = net.start_forward()
        net.run_backward()
        result()
    net.device.synchronize()
    whole = (time.perf_counter() - start) / iterations
    passes = net.passes
    number = passes.forward_recorder.records + passes.backward_recorder.records
    lines = [f"Replayed, in {number} records: {whole * 1e3:.3f} ms."]
    return lines + [f"Not recorded: {title}: {why}." for title, why in passes.apart.items()]


def with_bar(steps: Iterable[int], handler: Any) -> Iterable[int]:
    """The steps, with a progress bar on a terminal."""
    if not handler.calm:
        return steps
    from tqdm import tqdm

    bar: Iterable[int] = tqdm(steps, file=handler.stream, leave=False)
    return bar


def log_as_caffe(net: Any, forward: list[float], backward: list[float], total: float, iterations: int) -> None:
    log.info("Average time per layer: ")
    for node, ahead, back in zip(net.nodes, forward, backward, strict=True):
        log.info("%10s\tforward: %.6g ms.", node.layer.name, ahead / iterations * 1e3)
        log.info("%10s\tbackward: %.6g ms.", node.layer.name, back / iterations * 1e3)
    log.info("Average Forward pass: %.6g ms.", sum(forward) / iterations * 1e3)
    log.info("Average Backward pass: %.6g ms.", sum(backward) / iterations * 1e3)
    log.info("Average Forward-Backward: %.6g ms.", total / iterations * 1e3)
    log.info("Total Time: %.6g ms.", total * 1e3)
    log.info("*** Benchmark ends ***")


def report(net: Any, forward: list[float], backward: list[float], iterations: int) -> str:
    """The table: milliseconds per pass, share of the time, GFLOP/s."""
    whole = (sum(forward) + sum(backward)) / iterations
    rows = []
    all_work, types = [0.0, 0.0], types_of(net)
    for node, ahead, back in zip(net.nodes, forward, backward, strict=True):
        ahead, back = ahead / iterations, back / iterations
        work = work_of(node)
        all_work = [have + more for have, more in zip(all_work, work, strict=True)]
        share = f"{(ahead + back) / whole:.1%}" if whole else ""
        cells = [node.layer.name, types[node.layer.name], engine_of(node.layer)]
        cells += [f"{ahead * 1e3:.3f}", f"{back * 1e3:.3f}" if back else ""]
        rows.append([*cells, share, rate(work[0], ahead), rate(work[1], back)])
    ahead, back = sum(forward) / iterations, sum(backward) / iterations
    foot = ["all", "", "", f"{ahead * 1e3:.3f}", f"{back * 1e3:.3f}", ""]
    foot += [rate(work, seconds) for work, seconds in zip(all_work, (ahead, back), strict=True)]
    head = ["layer", "type", "engine", "forward ms", "backward ms", "share", "GFLOP/s forward", "backward"]
    batch = batch_of(net)
    speed = f"\n{batch / whole:,.1f} images/s in batches of {batch}" if batch and whole else ""
    return f"{table(head, rows, [foot], left=3)}\nForward and backward: {whole * 1e3:.3f} ms.{speed}"


def work_of(node: Any) -> tuple[float, float]:
    """Floating point operations of one forward and one backward pass of a layer."""
    work = 2.0 * node.layer.flops([view.shape for view in node.bottom], [view.shape for view in node.top])
    if not node.runs_backward:
        return work, 0.0
    gradients = any(p.needs_diff for p in node.layer.blobs) + any(view.needs_diff for view in node.bottom)
    return work, work * gradients


def engine_of(layer: Any) -> str:
    """What computes a layer, where there is a choice, and in which order its values lie."""
    if not hasattr(layer, "engine"):
        return ""
    block = max(layer.block)
    if block == 1:
        return layer.engine.name
    return layer.engine.name + (f", blocks of {block}" if layer.device.is_host else ", channels last")


def rate(work: float, seconds: float) -> str:
    return f"{work / seconds / 1e9:.1f}" if work and seconds else ""


def batch_of(net: Any) -> int:
    """The first dimension of the net's first source."""
    for node in net.nodes:
        if not node.bottom and node.top and node.top[0].shape:
            return int(node.top[0].shape[0])
    return 0
