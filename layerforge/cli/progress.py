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
    """A line at the bottom of the terminal: iteration, time left, loss, learning rate, images/s, waiting for data.

    It is an observer of a solver. ``images/s`` counts the images of the train net since the last look, ``data wait`` is
    the share of that time in which the net waited for its sources. It appears with the first iteration, or the second
    batch of a test, once the sources are open: they may have lines of their own to show before.
    """

    def __init__(self, stream: IO[str], end: int):
        self.stream = stream
        self.end = end
        self.bar: Any = None
        self.shown = False
        self.mark = (0.0, 0, 0.0)  # at the last look: time, iteration, seconds waited

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Clears the line, and draws it again below whatever was written meanwhile."""
        self.hide()
        yield
        if self.shown:
            with survive():
                self.bar.refresh()

    def hide(self) -> None:
        if self.shown:
            with survive():
                self.bar.clear()

    def iterated(self, solver: Solver) -> None:
        now = time.perf_counter()
        since, iteration, before = self.mark
        if self.bar is None:  # how long the first iteration took says nothing: the sources were opened in it
            self.start(solver)
            self.look(solver)
            self.say(solver, f"loss {solver.loss:.4g}  lr {solver.lr:.3g}")
        elif not self.shown:  # a test was made before this iteration
            self.look(solver)
            self.say(solver, f"loss {solver.loss:.4g}  lr {solver.lr:.3g}")
        elif now - since >= EVERY:
            speed = (solver.iter - iteration) * images_per_iteration(solver) / (now - since)
            share = min((waited(solver) - before) / (now - since), 1)
            self.look(solver)
            figures = f"loss {solver.loss:.4g}  lr {solver.lr:.3g}  {speed:,.0f} images/s  data wait {share:.0%}"
            self.say(solver, figures + last_score(solver))
        with survive():
            self.bar.update(solver.iter - self.bar.n)

    def tested(self, solver: Solver, index: int, batch: int, batches: int) -> None:
        if self.bar is None:
            if batch == 1:
                return
            self.start(solver)
        if batch == batches:  # what comes next may be another test's first batch, which opens its source
            self.hide()
            self.shown = False
        elif time.perf_counter() - self.mark[0] >= EVERY or not self.shown:
            self.look(solver)
            self.say(solver, f"testing, batch {batch} of {batches}")

    def start(self, solver: Solver) -> None:
        from tqdm import tqdm

        self.bar = tqdm(
            total=self.end,
            initial=solver.iter,
            file=self.stream,
            bar_format=FORM,
            dynamic_ncols=True,
            leave=False,
            delay=1e-9,  # draws nothing yet
        )

    def look(self, solver: Solver) -> None:
        self.mark = (time.perf_counter(), solver.iter, waited(solver))

    def say(self, solver: Solver, text: str) -> None:
        self.shown = True
        with survive():
            self.bar.set_description_str(text)

    def close(self) -> None:
        if self.bar is not None:
            self.hide()
            self.shown = False
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


def last_score(solver: Solver) -> str:
    """The last test's first output that is no loss, say accuracy, or else its first: ``  test accuracy 0.968``."""
    scores: dict[str, Any] = getattr(solver, "scores", {})
    single = {name: float(value.reshape(-1)[0]) for name, value in scores.items() if value.size == 1}
    weights = solver.test_nets[0].blob_loss_weights if solver.test_nets else {}
    for name in sorted(single, key=lambda name: bool(weights.get(name))):
        return f"  test {name} {single[name]:.4g}"
    return ""
