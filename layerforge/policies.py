"""Learning rate policies: iteration -> learning rate, a table of formulas.

Each is Caffe's, computed from the iteration alone, so that a resumed run has the rates of one that never stopped.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DefinitionError, Problems, did_you_mean
from .schema import Definition

Formula = Callable[[Any, int], float]


def power(base: float, exponent: float) -> float:
    """``base ** exponent`` as C has it: infinite where it overflows, NaN for a root of a negative number."""
    with np.errstate(all="ignore"):
        return float(np.float64(base) ** np.float64(exponent))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for any x."""
    return 0.5 * (1 + math.tanh(0.5 * x))


#: policy -> (formula of the solver's message and the iteration, fields that must be given)
POLICIES: dict[str, tuple[Formula, tuple[str, ...]]] = {
    "fixed": (lambda p, i: p.base_lr, ()),
    "step": (lambda p, i: p.base_lr * power(p.gamma, i // p.stepsize), ("gamma", "stepsize")),
    "exp": (lambda p, i: p.base_lr * power(p.gamma, i), ("gamma",)),
    "inv": (lambda p, i: p.base_lr * power(1 + p.gamma * i, -p.power), ("gamma", "power")),
    "multistep": (lambda p, i: p.base_lr * power(p.gamma, steps_taken(p, i)), ("gamma",)),
    "poly": (lambda p, i: p.base_lr * power(1 - i / p.max_iter, p.power), ("power", "max_iter")),
    "sigmoid": (lambda p, i: p.base_lr * sigmoid(p.gamma * (i - p.stepsize)), ("gamma", "stepsize")),
}


def steps_taken(solver: Any, iteration: int) -> int:
    """The ``current_step`` that a solver state holds: the drops of the policies step and multistep up to here."""
    if solver.lr_policy == "step":
        return iteration // int(solver.stepsize)
    if solver.lr_policy == "multistep":
        return bisect_right(list(solver.stepvalue), iteration)
    return 0


def check(definition: Definition, problems: Problems) -> None:
    """Reports an unknown policy, and the fields that the policy needs and the solver lacks."""
    message = definition.message

    def wrong(text: str, *field: Any) -> None:
        problems.add(DefinitionError(text, definition.place(*field)))

    if not message.HasField("base_lr"):
        wrong("base_lr is not given. 0.01 is where most nets start")
    name = message.lr_policy or "fixed"
    if name not in POLICIES:
        wrong(f'unknown lr_policy "{name}".{did_you_mean(name, POLICIES)} There are {", ".join(POLICIES)}', "lr_policy")
        return
    needs = POLICIES[name][1]
    for field in needs:
        if not message.HasField(field):
            wrong(f'lr_policy "{name}" needs {field}', "lr_policy")
        elif field in ("stepsize", "max_iter") and getattr(message, field) <= 0:
            wrong(f'{field}: {getattr(message, field)} must be above 0 for lr_policy "{name}"', field)
    if name == "multistep" and list(message.stepvalue) != sorted(message.stepvalue):
        wrong(f"stepvalue must ascend: {', '.join(map(str, message.stepvalue))}", "stepvalue", 0)
    if message.warmup_iter < 0:
        wrong(f"warmup_iter: {message.warmup_iter} must be 0 or above", "warmup_iter")


def rate(solver: Any, iteration: int) -> float:
    """The learning rate of an iteration, before any ``lr_mult``.

    For the first ``warmup_iter`` iterations it rises in a line from ``warmup_start_lr`` to ``base_lr``, whatever the
    policy (Intel's Caffe).
    """
    if iteration < solver.warmup_iter:
        done = iteration / solver.warmup_iter
        return float(solver.warmup_start_lr * (1 - done) + solver.base_lr * done)
    formula, _ = POLICIES[solver.lr_policy or "fixed"]
    return float(formula(solver, iteration))
