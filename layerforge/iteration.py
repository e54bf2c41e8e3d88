"""An iteration of a solver on a device that records: forward, backward and update are launched as one.

The host waits for the loss alone. It comes while backward runs, and before the device is done the host has looked at it
and prepares what follows. So the update is under way before anybody knows whether the loss is a number: the device sees
to that by itself, and holds the update back where it is none (`allow` in csrc/kernels/results.h). Then the host raises
what it always raises, with all blobs as that pass left them.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blob import Parameter
from .device.base import Branch
from .fusion import speaks_for
from .kernels import Kernels
from .net import Net
from .node import Node
from .recorder import Step
from .rules import Rule

K = Kernels("results.h")


class Iteration:
    """What a solver does with one batch: runs the net both ways, and moves its parameters."""

    def __init__(self, net: Net, rule: Rule):
        self.net = net
        self.rule = rule
        me = weakref.proxy(self)
        self.recorder = net.passes.recorder(lambda: me._steps(), lambda: me._uses())
        self._told = Branch()
        self._given: tuple[Any, ...] = ()  # see Rule.given; and what the norm is clipped to
        # The scale of the diffs, NaN where they must not be used: in the type of the net, and in clip's.
        self._allowed = {clips: net.device.number(np.float64 if clips else net.dtype) for clips in (False, True)}

    @property
    def possible(self) -> bool:
        """Whether nobody has to do with an iteration but the device and the layers, and it needs no more memory."""
        passes = self.net.passes
        called = passes.called("forward") or passes.called("backward")
        return passes.recorded and self.rule.records and not called and self.net.storage.settled

    def run(self, rate: float, scale: float, bound: float, iteration: int) -> float:
        """Runs the ``iteration``-th from 0, and returns the loss. Where that is no number, no parameter has moved.

        ``scale`` and ``rate`` as in `Rule.sweep`; ``bound`` as in `Rule.clip`, below 0 for none. Raises what is wrong
        with data.
        """
        net, passes = self.net, self.net.passes
        net.begin_iteration()
        with net.device.sending():
            passes.begin(net.step)
            self._given = self.rule.given(rate, scale, bound, iteration)
        self.recorder.run()
        net.storage.end_backward()
        net.arena.changed()
        values = passes.reading.wait()
        if values[-1] != net.step:  # the event was still the last replay's
            net.device.synchronize()
        loss = passes.loss(values, range(len(net.nodes)))
        if math.isfinite(loss) and not np.isfinite(values).all():
            self._update(scale)  # which was held back for a number that does not count
        return loss

    def _steps(self) -> Sequence[Step]:
        me, passes, last = weakref.proxy(self), self.net.passes, len(self.net.nodes) - 1
        fresh, rest = first_gradients(self.net.nodes, self.net.arena.owned)
        clear = Step(self.net.arena.clear_diffs, subject="the clearing of diffs")
        begin, *backward = passes.backward_steps(last, 0, fresh)
        beside = begin.run if self.net.storage.starts_beside() else None
        return [
            *passes.forward_steps(0, last),
            Step(lambda: me._read(beside), subject="the loss"),
            *([clear] if rest else []),
            *([] if beside else [begin]),
            *backward,
            Step(lambda: me._update(me._allowed[me._clips]), subject="the update"),
        ]

    def _uses(self) -> list[Any]:
        return [self._given, *self.net.passes.uses(), *self.rule.uses()]

    @property
    def _clips(self) -> bool:
        _, _, bound, *_ = self._given
        return bool(bound >= 0)

    def _read(self, begin: Callable[[], None] | None) -> None:
        """Starts to copy the results to the host, and tells the update whether it may go on; backward begins, too."""
        passes, (_, scale, *_) = self.net.passes, self._given
        results, told, allowed = passes.results, passes.results[-1:], self._allowed[self._clips]
        with self.net.device.beside() as self._told:  # backward does not wait for it
            K.allow(results, allowed.array, told, scale, passes.number, results.size - 1)
            passes.reading.start()
            if begin is not None:
                begin()

    def _update(self, scale: Any) -> None:
        rate, _, bound, *_ = self._given
        self._told.join()
        if self._clips:
            scale = self.rule.clip(bound, scale)
        self.rule.move_all(rate, scale, 0)


def first_gradients(
    nodes: Sequence[Node], parameters: Sequence[Parameter]
) -> tuple[dict[int, frozenset[str]], list[Parameter]]:
    """Of each node, by index, the parameters whose diffs its backward pass is the first to reach, and overwrites: they
    need not be cleared. And the other parameters, which must be."""
    reached: set[int] = set()
    written: set[int] = set()
    fresh = {}
    for i, node in reversed(list(enumerate(nodes))):
        layer = node.layer
        if not node.runs_backward:
            continue
        owners = {name: id(p.owner or p) for name, p in layer.params.items() if p.needs_diff}
        own = list(owners.values())
        if layer.writes_diffs and speaks_for(layer, "writes_diffs"):
            fresh[i] = frozenset(n for n, owner in owners.items() if owner not in reached and own.count(owner) == 1)
            written.update(owners[name] for name in fresh[i])
        reached.update(own)
    return fresh, [parameter for parameter in parameters if id(parameter) not in written]
