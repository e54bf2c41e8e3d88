"""The passes of a net whose arrays are not the host's: nobody waits for the device before its results are wanted.

Losses, and what layers want to be sure of (`Layer.doubt`), are gathered in one array while the net runs forward, and
are copied to the host when that has ended. Whole passes without callbacks are recorded and replayed, see `recorder`.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .fusion import speaks_for
from .kernels import Kernels
from .layer import NONE
from .node import Node
from .recorder import Recorder, Step

if TYPE_CHECKING:
    from .net import Net

K = Kernels("results.h")


class Passes:
    """Forward and backward passes of a net."""

    def __init__(self, net: Net):
        self.net = net = weakref.proxy(net)  # which ends when its last user lets go of it, and its memory with it
        device = net.device
        self.number = device.number(np.uint64)  # of the pass: kernels read it in the device's memory
        losses = [len(node.losses) for node in net.nodes]
        #: Of each node a sum per loss, and what it doubts; behind them the number of the pass, where `Iteration` runs.
        self.results = device.zeros((sum(losses) + len(losses) + 1,), np.float64)
        self.reading = device.reading(self.results)
        ends = np.cumsum([n + 1 for n in losses]).tolist()
        self.places = [self.results[end - n - 1 : end] for end, n in zip(ends, losses, strict=True)]
        self.starts = [end - n - 1 for end, n in zip(ends, losses, strict=True)]
        for node, place in zip(net.nodes, self.places, strict=True):
            node.layer.step = self.number
            alone = len(node.losses) == 1 and node.losses[0][0] is node.top[0]
            if alone and node.layer.tells and speaks_for(node.layer, "tells"):
                node.layer.told = place[:1]
        self.doubts: dict[int, tuple[int, Callable[[], None]]] = {}  # node -> a place in results, and who looks again
        self.recorded = device.records
        me = weakref.proxy(self)
        self.not_recorded: dict[str, str] = {}  # how messages name a layer -> why
        self._recorders: list[Recorder] = []
        self.forward_recorder = self.recorder(lambda: me.forward_steps(0, len(net.nodes) - 1), lambda: me.uses())
        self.backward_recorder = self.recorder(lambda: me.backward_steps(len(net.nodes) - 1, 0), lambda: me.uses())

    def recorder(self, steps: Callable[[], Sequence[Step]], uses: Callable[[], list[Any]]) -> Recorder:
        """A recorder of steps in which layers of the net run."""
        self._recorders.append(Recorder(self.net.device, steps, uses, self.not_recorded))
        return self._recorders[-1]

    def forget(self) -> None:
        """Lets go of the records: memory or shapes are about to change."""
        for recorder in self._recorders:
            recorder.forget()

    @property
    def apart(self) -> dict[str, str]:
        """The layers that are not recorded: how messages name them -> why."""
        titles = {node.layer.title: "the host takes part in it" for node in self.net.nodes if not records(node)}
        return titles | self.not_recorded

    # Forward.

    def begin(self, step: int) -> None:
        """Says which pass comes, by the number that layers draw by."""
        self.number.set(step)

    def forward(self, first: int, last: int, step: int) -> Callable[[], float]:
        """Runs layers first..last. What is returned waits for the weighted loss and raises what is wrong with data."""
        self.begin(step)
        if self._whole(first, last, "forward"):
            self.forward_recorder.run()
        else:
            for each in self.forward_steps(first, last):
                each.run()
        ran = range(first, last + 1)
        if not any(self.net.nodes[i].losses or i in self.doubts for i in ran):
            return lambda: 0.0
        self.reading.start()
        return lambda: self.loss(self.reading.wait(), ran)

    def forward_steps(self, first: int, last: int) -> list[Step]:
        layers = [self._forward_step(i, self.net.nodes[i]) for i in range(first, last + 1)]
        return [*self._start("data"), *layers]

    def _forward_step(self, i: int, node: Node) -> Step:
        net, place, me = self.net, self.places[i], weakref.proxy(self)

        def run() -> None:
            for callback in net._before["forward"]:
                callback(i)
            if node.dynamic or node in net._misfits:
                net._follow(node)
            node.forward(node.bottom, node.top)
            for k, (view, _) in enumerate(node.losses if node.layer.told is None else ()):
                K.total_of(view.data, place[k : k + 1], view.count)
            me._note_doubt(i, node)
            for callback in net._after["forward"]:
                callback(i)

        return Step(run, records(node), node.layer.title)

    def _note_doubt(self, i: int, node: Node) -> None:
        """Sees to it that what a layer doubts is among the results."""
        doubt = node.layer.take_doubt()
        if doubt is None:
            if self.doubts.pop(i, None) is not None:
                self.places[i][-1:].fill(0)
            return
        array, look = doubt
        summed = next((k for k, (view, _) in enumerate(node.losses) if view.data is array), len(node.losses))
        if summed == len(node.losses):
            K.total_of(array, self.places[i][-1:], 1)
        self.doubts[i] = summed, look

    def loss(self, values: np.ndarray, ran: Sequence[int]) -> float:
        """The weighted loss of the layers that ran, from the results of the pass. Raises what is wrong with data."""
        loss = 0.0
        for i in ran:
            start, node = self.starts[i], self.net.nodes[i]
            summed, look = self.doubts.get(i, (0, None))
            if look is not None and math.isnan(values[start + summed]):
                look()
            for k, (_, weight) in enumerate(node.losses):
                loss += weight * float(values[start + k])
        return loss

    # Backward.

    def backward(self, first: int, last: int) -> None:
        """Runs backward from layer ``first`` down to ``last``."""
        if self._whole(last, first, "backward"):
            self.backward_recorder.run()
            return
        for each in self.backward_steps(first, last):
            each.run()

    def backward_steps(self, first: int, last: int, fresh: Mapping[int, frozenset[str]] | None = None) -> list[Step]:
        """``fresh``: of these nodes, by index, the parameters whose diffs are overwritten; see `Layer.fresh`."""
        nodes, storage, fresh = self.net.nodes, self.net.storage, fresh or {}
        begin = Step(lambda: storage.start("diff"), subject="the begin of backward")
        ran = [i for i in range(first, last - 1, -1) if nodes[i].runs_backward]
        return [begin, *(self._backward_step(i, nodes[i], fresh.get(i, NONE)) for i in ran)]

    def _backward_step(self, i: int, node: Node, fresh: frozenset[str]) -> Step:
        net, layer = self.net, node.layer

        def run() -> None:
            for callback in net._before["backward"]:
                callback(i)
            layer.fresh = fresh
            try:
                node.backward(node.bottom, node.top)
            finally:
                layer.fresh = NONE
            for callback in net._after["backward"]:
                callback(i)

        return Step(run, records(node), node.layer.title)

    # Records.

    def _start(self, kind: str) -> list[Step]:
        storage = self.net.storage
        return [Step(lambda: storage.start(kind), subject="the first step")] if storage.starts(kind) else []

    def _whole(self, first: int, last: int, way: str) -> bool:
        """Whether a pass may be recorded: it is a whole one, and nobody is called meanwhile."""
        return self.recorded and not self.called(way) and first == 0 and last == len(self.net.nodes) - 1

    def called(self, way: str) -> bool:
        """Whether there are callbacks."""
        return bool(self.net._before[way] or self.net._after[way])

    def uses(self) -> list[Any]:
        """The objects that passes use, and somebody may exchange."""
        found: list[Any] = self.net.storage.copies()
        for view in self.net.views.values():
            found += (view.data, view.diff)
        for node in self.net.nodes:
            layer = node.layer
            found += (layer.seed, layer.scratch, layer.joined, node.forward, node.backward)
            found += layer.state.values()
            for parameter in layer.params.values():
                found += (parameter.data, parameter._diff)
        return found


def records(node: Node) -> bool:
    """Whether a layer computes on the device alone, and always in the same shapes."""
    return node.layer.records and not node.dynamic
