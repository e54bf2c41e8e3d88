import numpy as np
import pytest

from layerforge.errors import DefinitionError
from layerforge.testing import Bench, assert_close, check_layer

CONT = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]])
SHAPES = [(5, 3, 6), (5, 3)]


def rnn(exposed=False, static=False):
    """One step at a time."""

    def formula(x, cont, *rest, W_xh, b_h, W_hh, W_ho, b_o, W_xh_static=None):
        steps, batch = x.shape[:2]
        h = rest[-1][0] if exposed else np.zeros((batch, len(W_hh)))
        rows = x.reshape(steps, batch, -1) @ W_xh.T + b_h
        if static:
            rows = rows + rest[0].reshape(batch, -1) @ W_xh_static.T
        y = np.zeros((steps, batch, len(W_hh)))
        for t in range(steps):
            keep = cont[t][:, None]
            h = np.tanh(rows[t] + np.where(keep == 0, 0, keep * h) @ W_hh.T)
            y[t] = np.tanh(h @ W_ho.T + b_o)
        return (y, h[None]) if exposed else y

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
def test_rnn(shapes, cont):
    check_layer('type: "RNN" recurrent_param { num_output: 4 }', shapes, rnn(), bottoms=[None, cont])


@pytest.mark.parametrize("static", [(3, 2), (3, 2, 2), (3,)])
def test_static_input(static):
    definition = 'type: "RNN" recurrent_param { num_output: 4 }'
    check_layer(definition, [*SHAPES, static], rnn(static=True), bottoms=[None, CONT, None])


@pytest.mark.parametrize("static", [[], [(3, 2)]])
@pytest.mark.parametrize("cont", [CONT, np.ones((5, 3))])
def test_expose_hidden(static, cont):
    """The gradient of the last state is not passed on, as in Caffe."""
    check_layer(
        'type: "RNN" top: "y" top: "h" recurrent_param { num_output: 4 expose_hidden: true }',
        [*SHAPES, *static, (1, 3, 4)],
        rnn(True, bool(static)),
        bottoms=[None, cont, *[None] * len(static), None],
        through=[0],
    )


def values(bench, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(p.shape) for name, p in bench.layer.params.items()}


def test_blobs():
    fillers = 'weight_filler { type: "uniform" } bias_filler { value: 2 }'
    bench = Bench(f'type: "RNN" recurrent_param {{ num_output: 4 {fillers} }}', [*SHAPES, (3, 2)])
    assert [p.shape for p in bench.layer.blobs] == [(4, 6), (4,), (4, 2), (4, 4), (4, 4), (4,)]
    assert [p.filler.type == "constant" for p in bench.layer.blobs] == [False, True, False, False, False, True]
    assert bench.layer.flops([x.shape for x in bench.bottom], []) == 4 * (15 * (6 + 4) + 3 * 2) + 15 * 16


def test_the_state_goes_on_from_pass_to_pass():
    definition = 'type: "RNN" recurrent_param { num_output: 4 }'
    whole, step = Bench(definition, SHAPES), Bench(definition, [(1, 3, 6), (1, 3)])
    x = np.random.default_rng(1).standard_normal((5, 3, 6))
    (expected,) = whole.forward([x, CONT], values(whole))
    for t in range(5):
        assert_close(step.forward([x[t : t + 1], CONT[t : t + 1]], values(step))[0][0], expected[t], 1e-12)


def test_what_works_in_place_on_the_top_does_no_harm():
    bench = Bench('type: "RNN" recurrent_param { num_output: 4 }', SHAPES)
    x, dy = np.random.default_rng(1).standard_normal((5, 3, 6)), np.random.default_rng(2).standard_normal((5, 3, 4))
    bench.forward([x, CONT], values(bench))
    expected, _ = bench.backward([dy])
    bench.forward([x, CONT], values(bench))
    bench.top[0].data[...] = 7
    assert_close(bench.backward([dy])[0][0], expected[0], 0)


@pytest.mark.parametrize(
    "shapes, tops, text",
    [
        ([*SHAPES, (1, 3, 4)], 1, ':1:23: layer "r" (RNN): with expose_hidden: true it takes 2 tops, not 1'),
        (SHAPES, 2, ':2:1: layer "r" (RNN): with expose_hidden: true it takes 3 or 4 bottoms, not 2'),
    ],
)
def test_what_does_not_fit(shapes, tops, text):
    bottom = " ".join(f'bottom: "{name}"' for name in "abcd"[: len(shapes)])
    top = " ".join(f'top: "y{i}"' for i in range(tops))
    with pytest.raises(DefinitionError) as caught:
        Bench(f'name: "r" type: "RNN" {top}\n{bottom} recurrent_param {{ num_output: 4 expose_hidden: true }}', shapes)
    assert str(caught.value) == f"<text>{text}"
