import numpy as np
import pytest

from layerforge import random
from layerforge.errors import DefinitionError
from layerforge.kernels import Kernels
from layerforge.layer import TEST, TRAIN
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("ratio", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,), (64, 33)])
def test_dropout(ratio, shape):
    # Of one NaN alone the mask decides whether it is seen; the harness then sets all of the bottom to NaN.
    options = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    check_layer(options, [shape], lambda x: x, in_place=True, phase=TEST)
    if ratio < 1:
        check_layer(options, [shape], in_place=True)


def test_ratio_0_keeps_all_and_ratio_1_nothing():
    x = np.arange(1, 8)
    for ratio, expected in ((0, x), (1, 0 * x)):
        bench = Bench(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', [x.shape])
        (y,) = bench.forward([x], {})
        (dx,), _ = bench.backward([x])
        assert y.tolist() == dx.tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_mask_is_the_generator_s_at_the_layer_s_key(dtype):
    bench = Bench('type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [(5, 7)], dtype=dtype, seed=4)
    for bench.layer.step in (0, 1, 2**33):
        (y,) = bench.forward([np.ones((5, 7))], {})
        kept = random.philox(*bench.layer.random_key(), 35).reshape(5, 7) >= round(np.float32(0.3) * 2.0**32)
        np.testing.assert_allclose(y, np.where(kept, 1 / 0.7, 0), rtol=1e-6)
        (dx,), _ = bench.backward([np.ones((5, 7))])
        assert (dx == y).all()


def test_the_mask_changes_with_step_seed_and_name():
    masks = []
    for name, seed, step in (("a", 1, 0), ("a", 1, 1), ("a", 2, 0), ("b", 1, 0)):
        bench = Bench(f'name: "{name}" type: "Dropout"', [(1000,)], seed=seed)
        bench.layer.step = step
        masks.append(bench.forward([np.ones(1000)], {})[0] > 0)
    for i, one in enumerate(masks):
        for other in masks[:i]:
            # As many agree as of independent coins, within 5 sigma.
            assert abs((one == other).sum() - 500) < 5 * np.sqrt(250)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_share_dropped_and_the_mean(ratio):
    count = 200_000
    bench = Bench(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', [(count,)], seed=3)
    (y,) = bench.forward([np.ones(count)], {})
    sigma = np.sqrt(ratio * (1 - ratio) / count)
    assert abs((y == 0).mean() - ratio) < 5 * sigma
    assert abs(y.mean() - 1) < 5 * sigma / (1 - ratio)


def test_scaled_in_test():
    """A fork's scale_train: false."""
    options = 'type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }'
    check_layer(options, [(3, 5)], lambda x: 0.75 * x, in_place=True, phase=TEST)
    bench = Bench(options, [(1000,)], phase=TRAIN)
    (y,) = bench.forward([np.ones(1000)], {})
    (dx,), _ = bench.backward([np.ones(1000)])
    assert set(y) == {0, 1} and 650 < y.sum() < 850
    assert (dx == y).all()


@pytest.mark.parametrize("scaled, kept", [("true", 4 / 3), ("false", 1)])
def test_dropped_in_test(scaled, kept):
    """A fork's sample_weights_test."""
    text = f"dropout_ratio: 0.25 sample_weights_test: true scale_train: {scaled}"
    options = f'type: "Dropout" dropout_param {{ {text} }}'
    outputs = []
    for phase in (TRAIN, TEST):
        (y,) = Bench(options, [(1000,)], phase=phase).forward([np.ones(1000)], {})
        outputs.append(y)
    assert (outputs[0] == outputs[1]).all()
    np.testing.assert_allclose(np.unique(outputs[0]), [0, kept], rtol=1e-6)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_a_ratio_that_is_none(phase):
    with pytest.raises(DefinitionError) as caught:
        Bench('type: "Dropout"\ndropout_param { dropout_ratio: 1.5 }', [(2,)], phase=phase)
    assert str(caught.value) == '<text>:2:17: layer "dropout" (Dropout): dropout_ratio: 1.5 must be from 0 to 1'


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3, 255, 256, 257, 1500])
def test_strips_draw_what_single_blocks_draw(dtype, count):
    kernels = Kernels("dropout.h")
    assert "dropout" in kernels.tuned()
    x, y, z = np.arange(1, count + 1, dtype=dtype), np.zeros(count, dtype), np.zeros(count, dtype)
    for seed, stream, step in ((1, 2, 3), (2**63, 2**32 - 1, 2**40)):
        arguments = count, 1, 1, 2**31, 2.0, seed, stream, step
        kernels.dropout(x, y, *arguments, count=(count + 3) // 4)
        kernels.portable.dropout(x, z, *arguments, count=(count + 3) // 4)
        assert (y == z).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, block", [((2, 16, 5), 16), ((3, 32, 169), 16), ((2, 8, 300), 8), ((1, 6, 1), 2)])
def test_the_same_elements_are_dropped_in_blocks_of_channels(dtype, shape, block):
    x = np.arange(1, np.prod(shape) + 1, dtype=dtype).reshape(shape)

    def blocked(array):
        return array.reshape(shape[0], shape[1] // block, block, shape[2]).swapaxes(2, 3).copy()

    kernels = Kernels("dropout.h")
    for dropout in (kernels.dropout, kernels.portable.dropout):
        plain, lies = np.empty_like(x), blocked(x)
        for source, target, by in ((x, plain, 1), (lies, lies, block)):
            dropout(source, target, x.size, shape[2], by, 2**31, 2.0, 1, 2, 3, count=(x.size + 3) // 4)
        np.testing.assert_array_equal(lies, blocked(plain))
