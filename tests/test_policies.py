"""Learning rates, by their formulas."""

import math

import pytest

from layerforge import policies, schema
from layerforge.errors import Problems

BASE = "base_lr: 0.5 gamma: 0.25 power: 2 stepsize: 10 max_iter: 100 stepvalue: 5 stepvalue: 20 stepvalue: 20 "


def solver(text):
    return schema.parse(text, "SolverParameter", "solver.prototxt")


@pytest.mark.parametrize(
    "policy, rate",
    [
        ("fixed", lambda i: 0.5),
        ("step", lambda i: 0.5 * 0.25 ** (i // 10)),
        ("exp", lambda i: 0.5 * 0.25**i),
        ("inv", lambda i: 0.5 / (1 + 0.25 * i) ** 2),
        ("multistep", lambda i: 0.5 * 0.25 ** (0 if i < 5 else 1 if i < 20 else 3)),
        ("poly", lambda i: 0.5 * (1 - i / 100) ** 2),
        ("sigmoid", lambda i: 0.5 / (1 + math.exp(-0.25 * (i - 10)))),
    ],
)
@pytest.mark.parametrize("iteration", [0, 1, 4, 5, 9, 10, 19, 20, 99, 100])
def test_formulas(policy, rate, iteration):
    message = solver(BASE + f'lr_policy: "{policy}"').message
    assert policies.rate(message, iteration) == pytest.approx(rate(iteration), rel=1e-12)


def test_without_a_policy_the_rate_is_fixed():
    assert policies.rate(solver("base_lr: 0.5").message, 1000) == 0.5


@pytest.mark.parametrize(
    "text, iteration, rate",
    [
        ('lr_policy: "exp" gamma: 2', 2000, math.inf),
        ('lr_policy: "sigmoid" gamma: -1 stepsize: 10', 10**6, 0),
        ('lr_policy: "sigmoid" gamma: 1 stepsize: 1000000', 0, 0),
        ('lr_policy: "poly" power: 1.5 max_iter: 10', 10, 0),
        ('lr_policy: "poly" power: -1 max_iter: 10', 10, math.inf),
        ('lr_policy: "step" gamma: 0 stepsize: 10', 5, 1),
        ('lr_policy: "step" gamma: 0 stepsize: 10', 15, 0),
    ],
)
def test_the_ends(text, iteration, rate):
    assert policies.rate(solver("base_lr: 1 " + text).message, iteration) == rate


def test_beyond_max_iter_a_root_is_no_number():
    assert math.isnan(policies.rate(solver('base_lr: 1 lr_policy: "poly" power: 0.5 max_iter: 10').message, 11))


def test_warmup():
    message = solver(
        'base_lr: 0.5 lr_policy: "multistep" gamma: 0.1 stepvalue: 2 warmup_iter: 4 warmup_start_lr: 0.1'
    ).message
    rates = [policies.rate(message, i) for i in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.05, 0.05])


@pytest.mark.parametrize(
    "policy, steps",
    [("step", [0, 0, 1, 2]), ("multistep", [0, 1, 1, 3]), ("inv", [0, 0, 0, 0]), ("fixed", [0, 0, 0, 0])],
)
def test_steps_taken(policy, steps):
    message = solver(BASE + f'lr_policy: "{policy}"').message
    assert [policies.steps_taken(message, i) for i in (0, 5, 10, 20)] == steps


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ["solver.prototxt: base_lr is not given. 0.01 is where most nets start"]),
        (
            'base_lr: 1\nlr_policy: "stp"',
            [
                'solver.prototxt:2:1: unknown lr_policy "stp". Did you mean "step"? There are fixed, step, exp, inv,'
                " multistep, poly, sigmoid"
            ],
        ),
        (
            'base_lr: 1\nlr_policy: "step"',
            [
                'solver.prototxt:2:1: lr_policy "step" needs gamma',
                'solver.prototxt:2:1: lr_policy "step" needs stepsize',
            ],
        ),
        ('base_lr: 1\nlr_policy: "exp"', ['solver.prototxt:2:1: lr_policy "exp" needs gamma']),
        (
            'base_lr: 1\nlr_policy: "inv"',
            ['solver.prototxt:2:1: lr_policy "inv" needs gamma', 'solver.prototxt:2:1: lr_policy "inv" needs power'],
        ),
        ('base_lr: 1\nlr_policy: "multistep"', ['solver.prototxt:2:1: lr_policy "multistep" needs gamma']),
        (
            'base_lr: 1\nlr_policy: "poly"',
            [
                'solver.prototxt:2:1: lr_policy "poly" needs power',
                'solver.prototxt:2:1: lr_policy "poly" needs max_iter',
            ],
        ),
        (
            'base_lr: 1 lr_policy: "sigmoid" gamma: 1\nstepsize: 0',
            ['solver.prototxt:2:1: stepsize: 0 must be above 0 for lr_policy "sigmoid"'],
        ),
        (
            'base_lr: 1 lr_policy: "poly" power: 1\nmax_iter: 0',
            ['solver.prototxt:2:1: max_iter: 0 must be above 0 for lr_policy "poly"'],
        ),
        (
            'base_lr: 1 lr_policy: "multistep" gamma: 1\nstepvalue: 5 stepvalue: 3',
            ["solver.prototxt:2:1: stepvalue must ascend: 5, 3"],
        ),
        ("base_lr: 1\nwarmup_iter: -1", ["solver.prototxt:2:1: warmup_iter: -1 must be 0 or above"]),
        ("base_lr: 0 max_iter: 0 stepvalue: 5 stepvalue: 3", []),
    ],
)
def test_what_is_wrong(text, expected):
    problems = Problems()
    policies.check(solver(text), problems)
    assert [str(error) for error in problems.errors] == expected
