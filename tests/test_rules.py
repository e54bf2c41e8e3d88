"""Update rules against their formulas in float64, parameter by parameter, and what they refuse."""

import numpy as np
import pytest

import layerforge as lf
from layerforge import rules, schema
from layerforge.errors import DefinitionError, Problems
from layerforge.rules import Rule
from layerforge.testing import assert_close

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 70 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 9 weight_filler { type: "gaussian" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { lr_mult: 0 } param { decay_mult: 3 }
        inner_product_param { num_output: 65 weight_filler { type: "gaussian" } bias_filler { value: 1 } } }
"""


def reference(rule, w, g, h, r, p, t):
    """One update of one parameter, as in the table of Caffe's solvers. ``h`` are its history arrays."""
    if rule == "SGD":
        h[0][...] = p.momentum * h[0] + r * g
        return w - h[0]
    if rule == "Nesterov":
        before = h[0].copy()
        h[0][...] = p.momentum * h[0] + r * g
        return w - ((1 + p.momentum) * h[0] - p.momentum * before)
    if rule == "AdaGrad":
        h[0] += g**2
        return w - r * g / (np.sqrt(h[0]) + p.delta)
    if rule == "RMSProp":
        h[0][...] = p.rms_decay * h[0] + (1 - p.rms_decay) * g**2
        return w - r * g / (np.sqrt(h[0]) + p.delta)
    if rule == "AdaDelta":
        h[0][...] = p.momentum * h[0] + (1 - p.momentum) * g**2
        u = g * np.sqrt((h[1] + p.delta) / (h[0] + p.delta))
        h[1][...] = p.momentum * h[1] + (1 - p.momentum) * u**2
        return w - r * u
    h[0][...] = p.momentum * h[0] + (1 - p.momentum) * g
    h[1][...] = p.momentum2 * h[1] + (1 - p.momentum2) * g**2
    correction = np.sqrt(1 - p.momentum2**t) / (1 - p.momentum**t)
    return w - r * correction * h[0] / (np.sqrt(h[1]) + p.delta)


SETTINGS = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "delta: 1e-6",
    "RMSProp": "rms_decay: 0.95 delta: 1e-6",
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9 momentum2: 0.99 delta: 1e-6",
}


def made(rule, text="", dtype=np.float64):
    net = lf.Net(schema.parse(NET, "NetParameter"), lf.TRAIN, seed=1, dtype=dtype)
    solver = schema.parse(f'type: "{rule}" weight_decay: 0.1 {SETTINGS[rule]} {text}', "SolverParameter").message
    return net, solver, rules.registry[rule](solver, net)


@pytest.mark.parametrize("regularization", ["L2", "L1"])
@pytest.mark.parametrize("rule", list(SETTINGS))
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_formulas(rule, regularization, dtype, tolerance):
    net, solver, moves = made(rule, f'regularization_type: "{regularization}"', dtype)
    rng = np.random.default_rng(0)
    slots = rules.registry[rule].slots
    w = [p.data.astype(np.float64) for p in net.owned]
    h = [[np.zeros(p.shape) for _ in range(slots)] for p in net.owned]
    for t in range(1, 6):
        rate, scale = 0.1 / t, 0.5
        for i, p in enumerate(net.owned):
            p.diff[...] = rng.normal(size=p.shape)
            decay = solver.weight_decay * p.decay_mult
            g = scale * p.diff.astype(np.float64) + decay * (np.sign(w[i]) if regularization == "L1" else w[i])
            w[i] = reference(rule, w[i], g, h[i], rate * p.lr_mult, solver, t)
        moves.sweep(rate, scale, t - 1)
    for i, p in enumerate(net.owned):
        assert_close(p.data, w[i], tolerance, f"{rule}, parameter {i}")
    history = moves.history()
    assert len(history) == slots * len(net.owned)
    for slot in range(slots):
        for i, p in enumerate(net.owned):
            found = history[slot * len(net.owned) + i]
            assert found.shape == p.shape
            assert_close(found, h[i][slot], max(tolerance, 1e-6), f"{rule}, history {slot} of parameter {i}")


@pytest.mark.parametrize("rule", list(SETTINGS))
def test_a_history_goes_on(rule):
    def run(net, moves, first, last):
        for t in range(first, last):
            for p in net.owned:
                p.diff[...] = np.random.default_rng(t).normal(size=p.shape)
            moves.sweep(0.1, 1.0, t)

    net, _, moves = made(rule)
    run(net, moves, 0, 3)
    weights, history = [p.data.copy() for p in net.owned], [array.copy() for array in moves.history()]
    run(net, moves, 3, 6)
    other, _, again = made(rule)
    for p, values in zip(other.owned, weights, strict=True):
        p.data[...] = values
    again.set_history(history)
    run(other, again, 3, 6)
    for p, q in zip(net.owned, other.owned, strict=True):
        assert np.array_equal(p.data, q.data)


def test_a_rule_moves_what_another_net_shares():
    net, _, moves = made("SGD")
    other = lf.Net(schema.parse(NET.replace('"b"', '"c"'), "NetParameter"), lf.TRAIN, seed=2, dtype=np.float64)
    net.share_with(other)
    before = [p.data.copy() for p in net.owned]
    for p in net.owned:
        p.diff[...] = 1
    version = net.arena.version, other.arena.version
    moves.sweep(0.1, 1.0, 0)
    assert (net.arena.version, other.arena.version) != version
    moved = [p.data - values for p, values in zip(net.owned, before, strict=True)]
    assert_close(moved[0], -0.1 * (1 + 0.1 * before[0]), 1e-6)
    assert_close(moved[3], -0.1 * (1 + 0.3 * before[3]), 1e-6)
    assert not moved[2].any(), "lr_mult is 0"
    assert np.array_equal(other.params["a"][0].data, net.params["a"][0].data)


def test_norm():
    net, _, moves = made("SGD", dtype=np.float32)
    rng = np.random.default_rng(0)
    total = 0.0
    for p in net.owned:
        p.diff[...] = rng.normal(size=p.shape)
        total += float(np.square(p.diff.astype(np.float64)).sum())
    assert moves.norm() == pytest.approx(np.sqrt(total), rel=1e-9)
    net.clear_param_diffs()
    assert moves.norm() == 0


@pytest.mark.parametrize(
    "text, expected",
    [
        ('type: "SGD" momentum: 0.9', []),
        ('type: "AdaGrad" momentum: 0', []),
        (
            'type: "AdaGrad"\nmomentum: 0.9',
            [
                "solver.prototxt:2:1: momentum: 0.9 cannot be used with AdaGrad, which has none. Take it out, or choose"
                " another type"
            ],
        ),
        (
            'type: "RMSProp"\nmomentum: 0.9\nrms_decay: 1',
            [
                "solver.prototxt:2:1: momentum: 0.9 cannot be used with RMSProp, which has none. Take it out, or choose"
                " another type",
                "solver.prototxt:3:1: rms_decay: 1 must be from 0 to below 1",
            ],
        ),
        ('type: "RMSProp" rms_decay: 0', []),
        ('type: "Adam"', []),
        (
            'type: "Adam"\nmomentum: 1\nmomentum2: -0.5',
            [
                "solver.prototxt:2:1: momentum: 1 must be from 0 to below 1",
                "solver.prototxt:3:1: momentum2: -0.5 must be from 0 to below 1",
            ],
        ),
    ],
)
def test_what_a_rule_refuses(text, expected):
    definition = schema.parse(text, "SolverParameter", "solver.prototxt")
    problems = Problems()
    rules.rule_class(definition).check(definition, problems)
    assert [str(error) for error in problems.errors] == expected


def test_an_unknown_type():
    with pytest.raises(DefinitionError) as error:
        rules.rule_class(schema.parse('type: "adagrad"', "SolverParameter", "solver.prototxt"))
    assert str(error.value) == (
        'solver.prototxt:1:1: unknown solver type "adagrad". Did you mean "AdaGrad"? There are SGD, Nesterov, AdaGrad,'
        " RMSProp, AdaDelta, Adam"
    )


@pytest.fixture
def of_my_own():
    class SignSGD(Rule):
        """w = w - r sign(g)"""

        slots = 0

        def move(self, run, slots, rates, diff, iteration):
            run.data[...] -= rates[2] * np.repeat(rates[0], 64) * np.sign(run.diff)

    class Idle(Rule):
        pass

    yield SignSGD, Idle
    del rules.registry["SignSGD"], rules.registry["Idle"]


def test_a_rule_of_ones_own(of_my_own):
    net = lf.Net(schema.parse(NET, "NetParameter"), lf.TRAIN, seed=1)
    solver = schema.parse('type: "SignSGD"', "SolverParameter")
    moves = rules.rule_class(solver)(solver.message, net)
    before = net.owned[1].data.copy()
    net.owned[1].diff[...] = -3
    moves.sweep(0.25, 1.0, 0)
    assert np.array_equal(net.owned[1].data, before + 0.5)
    assert moves.history() == []


def test_a_rule_that_does_not_move(of_my_own):
    net = lf.Net(schema.parse(NET, "NetParameter"), lf.TRAIN)
    with pytest.raises(DefinitionError) as error:
        of_my_own[1](schema.parse("", "SolverParameter").message, net).sweep(0.1, 1.0, 0)
    assert str(error.value) == "the update rule Idle has no kernel: its class must define move"
