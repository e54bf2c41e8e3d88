"""Learning rate policies: iteration -> learning rate, a table of formulas.

Each is Caffe's, computed from the iteration alone, so that a resumed run has the rates of one that never stopped.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from .errors import DefinitionError, Problems, did_you_mean
from .schema import Definition

Formula = Callable[[Any, int], float]

#: policy -> (formula of the solver's message and the iteration, fields that must be given)
POLICIES: dict[str, tuple[Formula, tuple[str, ...]]] = {
    "fixed": (lambda p, i: p.base_lr, ()),
    "step": (lambda p, i: p.base_lr * p.gamma ** (i // p.stepsize), ("gamma", "stepsize")),
    "exp": (lambda p, i: p.base_lr * p.gamma**i, ("gamma",)),
    "inv": (lambda p, i: p.base_lr * (1 + p.gamma * i) ** -p.power, ("gamma", "power")),
    "multistep": (lambda p, i: p.base_lr * p.gamma ** steps_taken(p, i), ("gamma",)),
    "poly": (lambda p, i: p.base_lr * (1 - i / p.max_iter) ** p.power, ("power", "max_iter")),
    "sigmoid": (lambda p, i: p.base_lr / (1 + math.exp(-p.gamma * (i - p.stepsize))), ("gamma", "stepsize")),
}


def steps_taken(solver: Any, iteration: int) -> int:
    """How many ``stepvalue`` lie at or before the iteration: Caffe's ``current_step``."""
    return bisect_right(list(solver.stepvalue), iteration)


def check(definition: Definition, problems: Problems) -> None:
    """Reports an unknown policy, and the fields that the policy needs and the solver lacks."""
    message = definition.message
    if not message.HasField("base_lr"):
        problems.add(DefinitionError("base_lr is not given. 0.01 is where most nets start", definition.place()))
    name = message.lr_policy or "fixed"
    if name not in POLICIES:
        problems.add(
            DefinitionError(
                f'unknown lr_policy "{name}".{did_you_mean(name, POLICIES)} There are {", ".join(POLICIES)}',
                definition.place("lr_policy"),
            )
        )
        return
    for field in POLICIES[name][1]:
        if not message.HasField(field):
            problems.add(DefinitionError(f'lr_policy "{name}" needs {field}', definition.place("lr_policy")))
    if "stepsize" in POLICIES[name][1] and message.HasField("stepsize") and message.stepsize <= 0:
        problems.add(DefinitionError(f"stepsize: {message.stepsize} must be above 0", definition.place("stepsize")))
    if list(message.stepvalue) != sorted(message.stepvalue):
        values = ", ".join(str(value) for value in message.stepvalue)
        problems.add(DefinitionError(f"stepvalue must ascend: {values}", definition.place("stepvalue", 0)))


def rate(solver: Any, iteration: int) -> float:
    """The learning rate of an iteration, before any ``lr_mult``."""
    formula, _ = POLICIES[solver.lr_policy or "fixed"]
    return float(formula(solver, iteration))
