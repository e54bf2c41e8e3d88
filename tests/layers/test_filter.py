import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import ShapeError
from layerforge.testing import Bench, check_layer

FILTER = 'name: "f" type: "Filter"'
SELECTOR = np.array([1, 0, 2, 0, -1])


@pytest.mark.parametrize(
    "selector, shapes",
    [
        (SELECTOR, [(5, 2, 3)]),
        (SELECTOR, [(5,), (5, 2, 3), (5, 1, 2)]),
        (np.ones(5), [(5, 2), (5, 4)]),
        (np.array([0, 0, 0, 1, 0]), [(5, 7)]),
        (np.zeros(5), [(5, 2), (5,)]),
    ],
)
@pytest.mark.parametrize("last", [(5,), (5, 1, 1)])
def test_filter(selector, shapes, last):
    def expected(*bottoms):
        *values, s = bottoms
        return tuple(x[s.reshape(-1) != 0] for x in values)

    tops = " ".join(f'top: "y{i}"' for i in range(len(shapes)))
    chosen = [*[None] * len(shapes), selector.reshape(last)]
    check_layer(f"{FILTER} {tops}", [*shapes, last], expected, bottoms=chosen)


@pytest.mark.parametrize("selector", [SELECTOR, np.ones(5), np.array([0, 0, 0, 1, 0])])
@pytest.mark.parametrize("last", [(5,), (5, 1), (5, 1, 1, 1)])
def test_one_bottom(selector, last):
    bench = Bench(FILTER, [(5, 2, 3), last])
    x, dy = np.random.default_rng(0).standard_normal((2, 5, 2, 3))
    kept = np.flatnonzero(selector)
    assert bench.layer.top_shapes((5, 2, 3), last) == [(5, 2, 3)]
    np.testing.assert_array_equal(bench.forward([x, selector.reshape(last)], {})[0], x[kept])
    assert bench.layer.top_shapes((5, 2, 3), last) == [(len(kept), 2, 3)]
    (dx, none), _ = bench.backward([dy[: len(kept)]])
    expected = np.zeros_like(x)
    expected[kept] = dy[: len(kept)]
    np.testing.assert_array_equal(dx, expected)
    assert none is None


def test_several_bottoms():
    bench = Bench(f'{FILTER} top: "y" top: "z"', [(5, 2), (5,), (5,)], dtype=np.float32)
    x, z = np.arange(10).reshape(5, 2), np.arange(5)
    for selector in (SELECTOR, np.zeros(5), np.ones(5), SELECTOR):
        kept = np.flatnonzero(selector)
        y, w = bench.forward([x, z, selector], {})
        np.testing.assert_array_equal(y, x[kept])
        np.testing.assert_array_equal(w, z[kept])
    (dx, dz, _), _ = bench.backward([np.ones((3, 2)), None])
    assert dx[:, 0].tolist() == [1, 0, 1, 0, 1] and not dz.any()


NET = """
    layer { name: "x" type: "Input" top: "x" top: "label" top: "s"
            input_param { shape { dim: 6 dim: 4 } shape { dim: 6 } shape { dim: 6 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
            inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
    layer { name: "f" type: "Filter" bottom: "fc" bottom: "label" bottom: "s" top: "some" top: "labels" }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "some" bottom: "labels" top: "loss"
            propagate_down: true propagate_down: false }
"""


def test_the_layers_below_follow():
    """The gradient is that of a net which sees the chosen items only."""
    rng = np.random.default_rng(0)
    x, label = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    for text in (NET, NET.replace('"some"', '"some_"')):
        net = lf.Net(lf.schema.parse(text, "NetParameter"), lf.TRAIN, seed=1)
        for chosen in ([1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1]):
            kept = np.flatnonzero(chosen)
            small = lf.Net(
                lf.schema.parse(
                    NET.replace("dim: 6", f"dim: {len(kept)}"),
                    "NetParameter",
                ),
                lf.TRAIN,
                seed=1,
            )
            losses = []
            for one, rows, selector in ((net, slice(None), chosen), (small, kept, np.ones(len(kept)))):
                one.clear_param_diffs()
                for name, values in (("x", x[rows]), ("label", label[rows]), ("s", selector)):
                    one.blobs[name].data[...] = values
                losses.append(one.forward_backward())
            assert np.isclose(*losses, rtol=1e-6)
            assert net.blobs["labels"].shape == (len(kept),)
            np.testing.assert_allclose(net.params["fc"][0].diff, small.params["fc"][0].diff, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options, shapes, text",
    [
        (
            'top: "y"',
            [(5, 2), (4,)],
            ':2:1: layer "f" (Filter): bottom "x" (5, 2) must have as many items on axis 0 as bottom "s" (4,)',
        ),
        (
            'top: "y"',
            [(5, 2), (5, 2)],
            ':2:13: layer "f" (Filter): bottom "s" (5, 2) must be (N,)',
        ),
        (
            'top: "y" top: "z"',
            [(5, 2), (5,)],
            ':2:25: layer "f" (Filter): 2 tops for 1 bottoms and a selector: each of those has a top of its own',
        ),
    ],
)
def test_bad_shapes(options, shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench(f'{FILTER}\nbottom: "x" bottom: "s" {options}', shapes)
    assert str(caught.value) == f"<text>{text}"
