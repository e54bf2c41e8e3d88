"""Update rules: how parameters move, given their diffs. One sweep over the net's flat arenas moves them all.

A rule is a class registered under the ``type`` of a solver. It owns its history (momentum and the like), in arenas laid
out as the parameters'. In all formulas

    g = the mean diff over iter_size batches, clipped, plus decay * w (L2) or decay * sign(w) (L1)
    r = the learning rate times the parameter's lr_mult

where decay is weight_decay times the parameter's decay_mult. The kernels are those of ``csrc/kernels/update.h``.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from . import memory
from .arena import Run
from .device.base import Reading
from .errors import DefinitionError, Problems, did_you_mean
from .kernels import Kernels
from .net import Net
from .recorder import Recorder, Step
from .schema import Definition

K = Kernels("update.h")
S = Kernels("reduce.h")

SUMMED = 4096  # elements in each of the partial sums of `norm`

registry: dict[str, type[Rule]] = {}


class Rule:
    """How parameters move. A subclass registers itself under its name.

    ``slots`` is the number of history arrays per parameter. `move` moves the parameters of one run of the arena. With
    ``records = True`` a GPU's launches in it are recorded and replayed: what changes from update to update must then be
    a `number`, set in `prepare`.
    """

    slots: ClassVar[int] = 1
    records: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        registry[cls.__name__] = cls

    def __init__(self, solver: Any, net: Net):
        self.solver = solver
        self.net = net
        self.l1 = solver.regularization_type == "L1"
        parameters = net.arena
        # Multipliers of the learning rate and of the decay, for each block of the arena.
        blocks = parameters.size // memory.ALIGNMENT
        self.rates = net.device.zeros((blocks,), net.dtype)
        self.decays = net.device.zeros((blocks,), net.dtype)
        for parameter, offset in zip(parameters.owned, parameters.offsets, strict=True):
            end = offset + memory.aligned(parameter.count)
            within = slice(offset // memory.ALIGNMENT, end // memory.ALIGNMENT)
            self.rates[within] = parameter.lr_mult
            self.decays[within] = solver.weight_decay * parameter.decay_mult
        self.slot = [net.device.zeros((parameters.size,), net.dtype) for _ in range(self.slots)]
        self._partial: Any = None
        self._norm: Any = None
        self._numbers: dict[str, Any] = {}
        self._given: tuple[Any, ...] = ()
        me = weakref.proxy(self)
        self._recorder = Recorder(net.device, lambda: me._steps(), lambda: me._uses())

    @classmethod
    def check(cls, definition: Definition, problems: Problems) -> None:
        """Reports what a solver says that this rule cannot honour."""

    def sweep(self, rate: float, scale: Any, iteration: int) -> None:
        """Moves all parameters by one step, the ``iteration``-th from 0, at learning rate ``rate``.

        The diffs hold sums over iter_size batches; ``scale`` makes them means, and clips them.
        """
        if self.net.device.records and self.records:
            self.given(rate, scale, -1, iteration)
            self._recorder.run()
        else:
            self.prepare(iteration)
            self.move_all(self.number("rate", rate), scale, iteration)
        self.net.arena.changed()

    def given(self, rate: float, scale: Any, bound: float, iteration: int) -> tuple[Any, ...]:
        """Gets ready for a `move_all` that may be recorded: rate, scale, bound, and what else a record holds for good.

        While these stay the same, it is the same object.
        """
        self.prepare(iteration)
        solver = self.solver
        numbers = (solver.momentum, solver.momentum2, solver.rms_decay, solver.delta, self.l1)
        given = (self.number("rate", rate), scale, bound, *numbers)
        if given != self._given:
            self._given = given
        return self._given

    def prepare(self, iteration: int) -> None:
        """Computes what changes from update to update, before each."""

    def number(self, name: str, value: float) -> Any:
        """A number that changes: itself on the CPU; elsewhere it lies in the device's memory, where kernels read it."""
        if name not in self._numbers:
            self._numbers[name] = self.net.device.number(self.net.dtype)
        number = self._numbers[name]
        if number is None:
            return value
        number.set(value)
        return number

    def move_all(self, rate: Any, scale: Any, iteration: int) -> None:
        """Moves all parameters: `sweep`, when everything is at hand."""
        for run in self.net.arena.runs:
            slots = [slot[run.within] for slot in self.slot]
            self.move(run, slots, (self.rates[run.blocks], self.decays[run.blocks], rate), (scale, self.l1), iteration)

    def _steps(self) -> list[Step]:
        me = weakref.proxy(self)
        return [Step(lambda: me.move_all(me._given[0], me._given[1], 0), subject="the update")]

    def _uses(self) -> list[Any]:
        return [self._given, *self.uses()]

    def uses(self) -> list[Any]:
        """The objects that `move_all` uses, and somebody may exchange."""
        return [self.net.arena.runs, *self.slot]

    def clip(self, bound: float, scale: float) -> Any:
        """``scale``, or less, so that the norm of all diffs counts as no more than ``bound``; see `clipped`.

        On another device than the CPU it is a number there, and nobody waits for it.
        """
        device = self.net.device
        if device.is_host:
            self._norm = norm = self.norm()
            return scale * (bound / norm) if norm > bound else scale
        if self._norm is None:
            self._numbers["scale"] = device.number(self.net.dtype)
            self._norm = device.reading(device.zeros((1,), np.float64))
        number = self._numbers["scale"]
        S.clip(self._partial_sums(), self._norm.array, number.array, len(self._partial), scale, bound, count=1)
        self._norm.start()
        return number

    def clipped(self) -> float:
        """The norm that the last `clip` found. Waits for it."""
        return float(self._norm.wait()[0]) if isinstance(self._norm, Reading) else self._norm

    def norm(self) -> float:
        """The L2 norm of all diffs together, by which ``clip_gradients`` goes."""
        return math.sqrt(self.net.device.to_numpy(self._partial_sums()).sum())

    def _partial_sums(self) -> Any:
        diff = self.net.arena.diff
        if self._partial is None:
            self._partial = self.net.device.zeros((-(-diff.size // SUMMED),), np.float64)
        S.sum_of_squares(diff, self._partial, diff.size)
        return self._partial

    def move(self, run: Run, slots: list[Any], rates: tuple[Any, ...], diff: tuple[Any, ...], iteration: int) -> None:
        """Calls the kernel for a run: ``rates`` are its arguments rates, decays and rate, ``diff`` scale and l1."""
        raise DefinitionError(f"the update rule {type(self).__name__} has no kernel: its class must define move")

    def history(self) -> list[np.ndarray]:
        """The history, array by array in Caffe's order: the first slot of all parameters, then the second."""
        parameters, to_numpy = self.net.arena, self.net.device.to_numpy
        return [
            to_numpy(slot[offset : offset + parameter.count]).reshape(parameter.shape)
            for slot in self.slot
            for parameter, offset in zip(parameters.owned, parameters.offsets, strict=True)
        ]

    def set_history(self, arrays: Sequence[np.ndarray]) -> None:
        """Takes a history of the same sizes, as `history` gives it."""
        parameters, given = self.net.arena, iter(arrays)
        for slot in self.slot:
            for parameter, offset in zip(parameters.owned, parameters.offsets, strict=True):
                self.net.device.from_numpy(slot[offset : offset + parameter.count], next(given).reshape(-1))


class SGD(Rule):
    """Stochastic gradient descent with momentum, the learning rate inside the velocity: h = m h + r g; w = w - h.

    m is ``momentum``. Polyak 1964; in this form Krizhevsky et al., NIPS 2012.
    """

    records = True

    def move(self, run, slots, rates, diff, iteration):
        K.sgd(run.data, run.diff, *slots, *rates, self.solver.momentum, *diff)


class Nesterov(Rule):
    """Nesterov's accelerated gradient: h' = m h + r g; w = w - (1 + m) h' + m h.

    m is ``momentum``. Nesterov 1983; in this form Sutskever et al., ICML 2013.
    """

    records = True

    def move(self, run, slots, rates, diff, iteration):
        K.nesterov(run.data, run.diff, *slots, *rates, self.solver.momentum, *diff)


class AdaGrad(Rule):
    """h = h + g^2; w = w - r g / (sqrt(h) + delta). There is no momentum. Duchi et al., JMLR 2011."""

    records = True

    @classmethod
    def check(cls, definition, problems):
        _no_momentum(definition, problems)

    def move(self, run, slots, rates, diff, iteration):
        K.adagrad(run.data, run.diff, *slots, *rates, self.solver.delta, *diff)


class RMSProp(Rule):
    """h = d h + (1 - d) g^2; w = w - r g / (sqrt(h) + delta), where d is ``rms_decay``. There is no momentum.

    Tieleman & Hinton, Coursera 2012.
    """

    records = True

    @classmethod
    def check(cls, definition, problems):
        _no_momentum(definition, problems)
        decay = definition.message.rms_decay
        if not 0 <= decay < 1:
            problems.add(
                DefinitionError(f"rms_decay: {decay:g} must be from 0 to below 1", definition.place("rms_decay"))
            )

    def move(self, run, slots, rates, diff, iteration):
        K.rmsprop(run.data, run.diff, *slots, *rates, self.solver.rms_decay, self.solver.delta, *diff)


class AdaDelta(Rule):
    """h = m h + (1 - m) g^2; u = g sqrt((k + delta) / (h + delta)); k = m k + (1 - m) u^2; w = w - r u.

    m is ``momentum``, here a decay. Zeiler, arXiv:1212.5701.
    """

    records = True
    slots = 2

    def move(self, run, slots, rates, diff, iteration):
        K.adadelta(run.data, run.diff, *slots, *rates, self.solver.momentum, self.solver.delta, *diff)


class Adam(Rule):
    """m = a m + (1 - a) g; v = b v + (1 - b) g^2; w = w - r sqrt(1 - b^t) / (1 - a^t) m / (sqrt(v) + delta).

    t counts updates from 1; a is ``momentum`` (0 where it is not given, as in Caffe), b is ``momentum2``. The decay is
    part of g. Kingma & Ba, ICLR 2015.
    """

    records = True
    slots = 2

    @classmethod
    def check(cls, definition, problems):
        for field in ("momentum", "momentum2"):
            value = getattr(definition.message, field)
            if not 0 <= value < 1:
                problems.add(DefinitionError(f"{field}: {value:g} must be from 0 to below 1", definition.place(field)))

    def prepare(self, iteration):
        first, second = self.solver.momentum, self.solver.momentum2
        correction = math.sqrt(1 - second ** (iteration + 1)) / (1 - first ** (iteration + 1))
        self.correction = self.number("correction", correction)

    def move(self, run, slots, rates, diff, iteration):
        first, second = self.solver.momentum, self.solver.momentum2
        K.adam(run.data, run.diff, *slots, *rates, first, second, self.correction, self.solver.delta, *diff)


def _no_momentum(definition: Definition, problems: Problems) -> None:
    solver = definition.message
    if solver.momentum:
        problems.add(
            DefinitionError(
                f"momentum: {solver.momentum:g} cannot be used with {solver.type}, which has none. Take it out,"
                " or choose another type",
                definition.place("momentum"),
            )
        )


def rule_class(definition: Definition) -> type[Rule]:
    """The rule that a solver's ``type`` names. Raises DefinitionError for an unknown one, with the nearest."""
    name = definition.message.type
    if name not in registry:
        raise DefinitionError(
            f'unknown solver type "{name}".{did_you_mean(name, registry)} There are {", ".join(registry)}',
            definition.place("type"),
        )
    return registry[name]
