import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DefinitionError, ShapeError
from layerforge.testing import Bench, assert_close, check_layer

CONT = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]])
SHAPES = [(5, 3, 6), (5, 3)]


def lstm(exposed=False, static=False):
    """One step at a time."""

    def s(v):
        return 1 / (1 + np.exp(-v))

    def formula(x, cont, *rest, W_xc, b_c, W_hc, W_xc_static=None):
        steps, batch, hidden = *x.shape[:2], W_hc.shape[1]
        h, c = (rest[-2][0], rest[-1][0]) if exposed else np.zeros((2, batch, hidden))
        rows = x.reshape(steps, batch, -1) @ W_xc.T + b_c
        if static:
            rows = rows + rest[0].reshape(batch, -1) @ W_xc_static.T
        y = np.zeros((steps, batch, hidden))
        for t in range(steps):
            keep = cont[t][:, None]
            i, f, o, g = np.split(rows[t] + np.where(keep == 0, 0, keep * h) @ W_hc.T, 4, 1)
            c = np.where(keep == 0, 0, keep * s(f) * c) + s(i) * np.tanh(g)
            y[t] = h = s(o) * np.tanh(c)
        return (y, h[None], c[None]) if exposed else y

    return formula


@pytest.mark.parametrize(
    "shapes, cont",
    [
        (SHAPES, CONT),
        ([(5, 3, 2, 3), (5, 3)], CONT),
        ([(1, 4, 5), (1, 4)], np.zeros((1, 4))),
        ([(5, 3), (5, 3)], CONT),
    ],
)
def test_lstm(shapes, cont):
    check_layer('type: "LSTM" recurrent_param { num_output: 4 }', shapes, lstm(), bottoms=[None, cont])


@pytest.mark.parametrize("static", [(3, 2), (3, 2, 2), (3,)])
def test_static_input(static):
    definition = 'type: "LSTM" recurrent_param { num_output: 4 }'
    check_layer(definition, [*SHAPES, static], lstm(static=True), bottoms=[None, CONT, None])


@pytest.mark.parametrize("static", [[], [(3, 2)]])
@pytest.mark.parametrize("cont", [CONT, np.ones((5, 3))])
def test_expose_hidden(static, cont):
    """The gradients of the last states are not passed on, as in Caffe."""
    check_layer(
        'type: "LSTM" top: "y" top: "h" top: "c" recurrent_param { num_output: 4 expose_hidden: true }',
        [*SHAPES, *static, (1, 3, 4), (1, 3, 4)],
        lstm(True, bool(static)),
        bottoms=[None, cont, *[None] * len(static), None, None],
        through=[0],
    )


def test_blobs():
    fillers = 'weight_filler { type: "uniform" } bias_filler { value: 2 } debug_info: true'
    bench = Bench(f'type: "LSTM" recurrent_param {{ num_output: 4 {fillers} }}', [*SHAPES, (3, 2)])
    assert [p.shape for p in bench.layer.blobs] == [(16, 6), (16,), (16, 2), (16, 4)]
    assert [p.filler.type for p in bench.layer.blobs] == ["uniform", "constant", "uniform", "uniform"]
    assert bench.layer.flops([x.shape for x in bench.bottom], []) == 16 * (15 * (6 + 4) + 3 * 2)


def values(bench, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(p.shape) for name, p in bench.layer.params.items()}


def test_the_state_goes_on_from_pass_to_pass():
    definition = 'type: "LSTM" recurrent_param { num_output: 4 }'
    whole, step = Bench(definition, SHAPES), Bench(definition, [(1, 3, 6), (1, 3)])
    x = np.random.default_rng(1).standard_normal((5, 3, 6))
    (expected,) = whole.forward([x, CONT], values(whole))
    for t in range(5):
        assert_close(step.forward([x[t : t + 1], CONT[t : t + 1]], values(step))[0][0], expected[t], 1e-12)
    step.layer.repeats = True
    assert_close(step.forward([x[4:], CONT[4:]], values(step))[0][0], expected[4], 0)


def test_it_starts_from_nothing_and_again_when_the_batch_changes():
    definition = 'type: "LSTM" recurrent_param { num_output: 4 }'
    bench = Bench(definition, [(1, 3, 6), (1, 3)])
    x = np.random.default_rng(1).standard_normal((1, 3, 6))
    assert_close(
        bench.forward([x, np.ones((1, 3))], values(bench))[0],
        lstm()(x, np.zeros((1, 3)), **values(bench)),
        1e-12,
    )
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" top: "c"
                input_param {{ shape {{ dim: 1 dim: 3 dim: 6 }} shape {{ dim: 1 dim: 3 }} }} }}
        layer {{ name: "l" bottom: "x" bottom: "c" top: "y" {definition} }}
    """
    net = lf.Net(lf.schema.parse(text, "NetParameter"), lf.TEST)
    for name, value in zip(net.params["l"], values(bench).values(), strict=True):
        name.data[...] = value

    def run(x):
        net.blobs["x"].reshape(*x.shape)
        net.blobs["c"].reshape(*x.shape[:2])
        net.reshape()
        net.blobs["x"].data[...], net.blobs["c"].data[...] = x, 1
        net.forward()
        return net.blobs["y"].data.copy()

    first, second = run(x), run(x)
    assert not np.allclose(first, second, rtol=1e-3)
    assert_close(run(x[:, :2]), first[:, :2], 1e-5)
    assert_close(run(x), first, 1e-5)


def test_what_works_in_place_on_the_top_does_no_harm():
    bench = Bench('type: "LSTM" recurrent_param { num_output: 4 }', SHAPES)
    x, dy = np.random.default_rng(1).standard_normal((5, 3, 6)), np.random.default_rng(2).standard_normal((5, 3, 4))
    bench.forward([x, CONT], values(bench))
    expected, _ = bench.backward([dy])
    bench.forward([x, CONT], values(bench))
    bench.top[0].data[...] = 7
    assert_close(bench.backward([dy])[0][0], expected[0], 0)


def test_a_sequence_begins_whatever_was_before():
    bench = Bench('type: "LSTM" recurrent_param { num_output: 2 }', [(2, 1, 3), (2, 1)])
    x = np.ones((2, 1, 3))
    x[0] = np.nan
    (y,) = bench.forward([x, np.zeros((2, 1))], values(bench))
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


def test_no_steps():
    bench = Bench('type: "LSTM" recurrent_param { num_output: 2 }', [(0, 2, 3), (0, 2)])
    bench.forward([np.zeros((0, 2, 3)), np.zeros((0, 2))], values(bench))
    _, diffs = bench.backward([np.zeros((0, 2, 2))])
    assert not any(diff.any() for diff in diffs.values())


EXPOSED = "expose_hidden: true"


@pytest.mark.parametrize(
    "kind, options, shapes, tops, text",
    [
        (DefinitionError, "", SHAPES, 1, ': layer "l" (LSTM): num_output is missing: write num_output: 256, say'),
        (DefinitionError, "num_output: 0", SHAPES, 1, ':3:1: layer "l" (LSTM): num_output: 0 must be at least 1'),
        (
            DefinitionError,
            "num_output: 4",
            [*SHAPES, (3, 2), (1, 3, 4)],
            1,
            ':2:1: layer "l" (LSTM): with expose_hidden: false it takes 2 or 3 bottoms, not 4',
        ),
        (
            DefinitionError,
            f"num_output: 4 {EXPOSED}",
            [*SHAPES, (1, 3, 4), (1, 3, 4)],
            1,
            ':1:24: layer "l" (LSTM): with expose_hidden: true it takes 3 tops, not 1',
        ),
        (
            DefinitionError,
            "num_output: 4",
            SHAPES,
            2,
            ':1:24: layer "l" (LSTM): with expose_hidden: false it takes 1 top, not 2',
        ),
        (
            ShapeError,
            "num_output: 4",
            [(5,), (5,)],
            1,
            ':2:1: layer "l" (LSTM): bottom "a" (5,) must be (T, N, ...), T steps of N sequences',
        ),
        (
            ShapeError,
            "num_output: 4",
            [(5, 3, 6), (5, 1)],
            1,
            ':2:13: layer "l" (LSTM): bottom "b" (5, 1) must be (5, 3), one number for each step of bottom "a"'
            " (5, 3, 6)",
        ),
        (
            ShapeError,
            "num_output: 4",
            [*SHAPES, (2, 3)],
            1,
            ':2:25: layer "l" (LSTM): bottom "c" (2, 3) must be (3, ...), to fit the sequences of bottom "a" (5, 3, 6)',
        ),
        (
            ShapeError,
            f"num_output: 4 {EXPOSED}",
            [*SHAPES, (1, 3, 4), (1, 3, 5)],
            3,
            ':2:37: layer "l" (LSTM): bottom "d" (1, 3, 5) must be (1, 3, 4), the state before the first step',
        ),
    ],
)
def test_what_does_not_fit(kind, options, shapes, tops, text):
    bottom = " ".join(f'bottom: "{name}"' for name in "abcde"[: len(shapes)])
    top = " ".join(f'top: "y{i}"' for i in range(tops))
    with pytest.raises(kind) as caught:
        Bench(f'name: "l" type: "LSTM" {top}\n{bottom} recurrent_param {{\n{options} }}', shapes)
    assert str(caught.value) == f"<text>{text}"


@pytest.mark.parametrize(
    "shapes, text",
    [
        (
            [(5, 3, 7), (5, 3), (3, 2)],
            'bottom "x" (5, 3, 7) has 7 values from axis 2 on, but the weights were made for 6',
        ),
        ([(5, 3, 6), (5, 3), (3, 1)], 'bottom "s" (3, 1) has 1 values from axis 1 on, but the weights were made for 2'),
    ],
)
def test_shapes_that_change(shapes, text):
    definition = 'name: "l" type: "LSTM" bottom: "x" bottom: "c" bottom: "s" recurrent_param { num_output: 4 }'
    layer = Bench(definition, [*SHAPES, (3, 2)]).layer
    assert layer.top_shapes((9, 2, 6), (9, 2), (2, 2)) == [(9, 2, 4)]
    layer.bottom_shapes = tuple(shapes)
    with pytest.raises(ShapeError) as caught:
        layer.top_shapes(*shapes)
    assert caught.value.message == f'layer "l" (LSTM): {text}'
