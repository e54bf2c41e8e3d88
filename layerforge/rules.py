"""Update rules: how parameters move, given their diffs. One sweep over the net's flat arenas moves them all.

A rule is a class registered under the ``type`` of a solver. It owns its history (momentum and the like), one or more
arenas laid out as the parameters'.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from . import memory
from .errors import DefinitionError, Problems, did_you_mean
from .kernels import Kernels
from .net import Net
from .schema import Definition

K = Kernels("update.h")

registry: dict[str, type[Rule]] = {}


class Rule:
    """How parameters move. A subclass registers itself under its name.

    ``slots`` is the number of history arrays per parameter; `sweep` moves every parameter in place. The diffs hold sums
    over ``iter_size`` batches; ``scale`` makes them means, and clips them.
    """

    slots: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        registry[cls.__name__] = cls

    def __init__(self, solver: Any, net: Net):
        self.solver = solver
        self.net = net
        self.l1 = (solver.regularization_type or "L2") == "L1"
        arena = net.arena
        blocks = arena.data.size // memory.ALIGNMENT
        # Multipliers of the learning rate and of the decay, for each block of the arena.
        self.rates = net.device.zeros((blocks,), net.dtype)
        self.decays = net.device.zeros((blocks,), net.dtype)
        for at, count, parameter in arena.segments:
            within = slice(at // memory.ALIGNMENT, (at + memory.aligned(count)) // memory.ALIGNMENT)
            self.rates[within] = parameter.lr_mult
            self.decays[within] = solver.weight_decay * parameter.decay_mult
        arena.history = [net.device.zeros(arena.data.shape, net.dtype) for _ in range(self.slots)]

    @classmethod
    def check(cls, definition: Definition, problems: Problems) -> None:
        """Reports what a solver says that this rule cannot honour."""

    def sweep(self, rate: float, scale: float, iteration: int) -> None:
        """Moves all parameters by one step at learning rate ``rate``."""
        raise DefinitionError(f"the update rule {type(self).__name__} has no sweep")

    def history(self) -> list[np.ndarray]:
        """The history, array by array in Caffe's order: the first slot of all parameters, then the second."""
        arena, device = self.net.arena, self.net.device
        return [
            device.to_numpy(slot[at : at + count]).reshape(parameter.shape)
            for slot in arena.history
            for at, count, parameter in arena.segments
        ]


class SGD(Rule):
    """Stochastic gradient descent with momentum, the learning rate inside the velocity: v = m v + r g ; w = w - v.

    g is the mean diff plus decay * w (L2) or decay * sign(w) (L1); r is the rate times the parameter's lr_mult. Polyak
    1964; in this form Krizhevsky et al., NIPS 2012.
    """

    def sweep(self, rate: float, scale: float, iteration: int) -> None:
        arena = self.net.arena
        K.sgd(
            arena.data,
            arena.diff,
            arena.history[0],
            self.rates,
            self.decays,
            rate,
            self.solver.momentum,
            scale,
            self.l1,
        )


def rule_class(definition: Definition) -> type[Rule]:
    """The rule that a solver's ``type`` names. Raises DefinitionError for an unknown one, with the nearest."""
    name = definition.message.type or "SGD"
    if name not in registry:
        raise DefinitionError(
            f'unknown solver type "{name}".{did_you_mean(name, registry)} There are {", ".join(registry)}',
            definition.place("type"),
        )
    return registry[name]


def sum_of_squares(net: Net) -> float:
    """The squared L2 norm of all diffs together, by which ``clip_gradients`` goes."""
    arena = net.arena
    return float(K_sum_of_squares(arena.diff))


def K_sum_of_squares(array: Any) -> float:
    partial = np.dot(array, array) if array.size < 1 << 14 else None
    if partial is not None:
        return float(partial)
    return float(sum(np.dot(part, part) for part in np.array_split(array, 64)))
