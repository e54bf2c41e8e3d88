"""How many images a second each stage of a data layer gives, and how many the net takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..data.loader import Records
from .table import table

SECONDS = 1.0  # for each figure
BATCHES = 2  # at least


def loading(net: Any) -> list[Any]:
    """The nodes whose layers have a loader."""
    return [node for node in net.nodes if hasattr(node.layer, "loader")]


def report(net: Any) -> str:
    """A table for each data layer. The net's sources are closed then: it can run on, but reads nothing more."""
    nodes = loading(net)
    each = [rows_of(node.layer.loader, SECONDS) for node in nodes]
    for node in nodes:
        node.layer.close()
        node.forward = lambda bottom, top: None  # the batch that is there, again and again
    passes = rate(net.forward_backward, SECONDS)
    parts = []
    for node, rows in zip(nodes, each, strict=True):
        batch = node.layer.loader.work.batch_size
        given, taken = rows[-1][1], passes * batch
        rows.append(("net, forward and backward, without them", taken))
        cells = [[name, f"{1e3 / images:,.3f}", f"{images:,.0f}"] for name, images in rows]
        title = f"{node.layer.title}, batches of {batch}"
        verdict = f"The loader gives {given / taken:.2g} times what the net takes"
        verdict += "." if given > taken else ": the net waits for its data."
        parts.append(f"{title}\n\n{table(['stage', 'ms per image', 'images/s'], cells)}\n\n{verdict}")
    return "\n\n".join(parts)


def rows_of(loader: Any, seconds: float) -> list[tuple[str, float]]:
    """Stages and their images/s, the loader as a whole last."""
    rows = stages(loader.work, loader.position, seconds) if isinstance(loader.work, Records) else []
    for _ in range(loader.ahead + 1):  # what was made ahead, while nobody looked at a clock
        loader.next()
    threads = f"{loader.threads} thread{'' if loader.threads == 1 else 's'}" if loader.threads else "no threads"
    rows.append((f"loader, {threads}", rate(loader.next, seconds) * loader.work.batch_size))
    return rows


def stages(work: Records, first: int, seconds: float) -> list[tuple[str, float]]:
    """Reading, decoding and transforming, in this thread alone."""
    work.open()
    taken = [0.0, 0.0, 0.0]
    out: Any = None
    index = first
    end = time.perf_counter() + seconds
    while index == first or time.perf_counter() < end:
        times = [time.perf_counter()]
        datum = work.source.borrow(work.order(index))
        times.append(time.perf_counter())
        image = work.transformer.decode(datum)
        times.append(time.perf_counter())
        shape = work.transformer.output_shape(image)
        if out is None or out.shape != shape:
            import numpy as np

            out = np.empty(shape, np.float32)
            times[2] = time.perf_counter()
        work.transformer(image, out, index)
        times.append(time.perf_counter())
        taken = [have + (b - a) for have, a, b in zip(taken, times, times[1:], strict=False)]
        index += 1
    images = index - first
    names = ("read", "decode", "transform")
    rows = [(f"{name}, one thread", images / max(spent, 1e-9)) for name, spent in zip(names, taken, strict=True)]
    return [*rows, ("the three, one thread", images / sum(taken))]


def rate(run: Callable[[], Any], seconds: float) -> float:
    """Calls a second."""
    begin, calls = time.perf_counter(), 0
    while calls < BATCHES or time.perf_counter() - begin < seconds:
        run()
        calls += 1
    return calls / (time.perf_counter() - begin)
