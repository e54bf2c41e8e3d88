"""The live line of a training run on a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..solver import Solver

FORM = "{percentage:3.0f}% {bar:12} {n_fmt}/{total_fmt}  {remaining} left  {desc}"
EVERY = 0.25  # seconds between two looks at the figures


class LiveLine:
    """A line at the bottom of the terminal: iteration, loss, learning rate, speed, waiting for data, time left.

    It is an observer of a solver. ``images/s`` counts the images of the train net since the last look; ``data wait`` is
    the share of that time in which the net waited for its sources.
    """

    def __init__(self, solver: Solver, stream: IO[str], end: int):
        from tqdm import tqdm

        self.solver = solver
        self.bar = tqdm(
            total=end, initial=solver.iter, file=stream, bar_format=FORM, dynamic_ncols=True, leave=False, unit="it"
        )
        self.batch = images_per_iteration(solver)
        self.mark = (time.perf_counter(), solver.iter, waited(solver))
        self.seconds_of_tests = 0.0
        self.figures = ""
        self.score = ""

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Clears the line, and draws it again below whatever was written meanwhile."""
        with survive():
            self.bar.clear()
        yield
        with survive():
            self.bar.refresh()

    def iterated(self, solver: Solver) -> None:
        now = time.perf_counter()
        since, iteration, waiting = self.mark
        if now - since >= EVERY or not self.figures:
            seconds = max(now - since, 1e-9)
            share = (waited(solver) - waiting) / seconds
            speed = (solver.iter - iteration) * self.batch / seconds
            self.mark = (now, solver.iter, waited(solver))
            self.figures = (
                f"loss {solver.loss:.4g}  lr {solver.lr:.3g}  {speed:,.0f} images/s  data wait {min(share, 1):.0%}"
            )
            self.say(self.figures + self.score)
        with survive():
            self.bar.update(solver.iter - self.bar.n)

    def tested(self, solver: Solver, index: int, batch: int, batches: int) -> None:
        now = time.perf_counter()
        if batch == batches:
            self.score = ""
            self.mark = (now, solver.iter, waited(solver))
        elif now - self.mark[0] >= EVERY or batch == 1:
            self.mark = (now, solver.iter, waited(solver))
            self.say(f"testing, batch {batch} of {batches}")

    def say(self, text: str) -> None:
        if not self.score:
            self.score = best_score(self.solver)
        with survive():
            self.bar.set_description_str(text)

    def close(self) -> None:
        with survive():
            self.bar.close()


def survive() -> contextlib.AbstractContextManager[None]:
    """A terminal that is gone does not end a training run."""
    return contextlib.suppress(OSError)


def images_per_iteration(solver: Solver) -> int:
    """The batch of the train net's first source, times iter_size."""
    for node in solver.net.nodes:
        if not node.bottom and node.top and node.top[0].shape:
            return node.top[0].shape[0] * solver.param.iter_size
    return 0


def waited(solver: Solver) -> float:
    """Seconds for which the sources of the train net have been waited for so far."""
    return sum(getattr(node.layer, "wait_seconds", 0.0) for node in solver.net.nodes)


def best_score(solver: Solver) -> str:
    """The last test's first output that is no loss, say accuracy, or else its first: ``  test accuracy 0.968``."""
    scores: dict[str, Any] = getattr(solver, "scores", {})
    single = {name: float(value.reshape(-1)[0]) for name, value in scores.items() if value.size == 1}
    weights = solver.test_nets[0].blob_loss_weights if solver.test_nets else {}
    for name in sorted(single, key=lambda name: bool(weights.get(name))):
        return f"  test {name} {single[name]:.4g}"
    return ""
