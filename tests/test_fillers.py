import math

import numpy as np
import pytest

from layerforge import fillers, schema
from layerforge.errors import DefinitionError, Place, ShapeError
from layerforge.kernels import Kernels


def filled(text, shape, key=(1, 2), dtype=np.float32):
    array = np.full(shape, np.nan, dtype)
    fillers.fill(array, schema.parse(text, "FillerParameter").message, key)
    assert np.isfinite(array).all()
    return array


def check_moments(x, mean, deviation):
    """Mean and variance of independent draws, within 5 sigma; kurtosis at most 3, a normal distribution's."""
    n = x.size
    x = x.astype(np.float64)
    assert abs(x.mean() - mean) < 5 * deviation / math.sqrt(n)
    assert abs(x.var() - deviation**2) < 5 * deviation**2 * math.sqrt(2 / n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant(dtype):
    assert filled("value: 0.25", (2, 3), dtype=dtype).tolist() == [[0.25] * 3] * 2
    assert filled('type: "constant"', (2,), dtype=dtype).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform(dtype):
    x = filled('type: "uniform" min: -1 max: 3', (100, 300), dtype=dtype)
    assert x.min() >= -1
    assert x.max() < 3
    check_moments(x, 1, 4 / math.sqrt(12))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian(dtype):
    x = filled('type: "gaussian" mean: 2 std: 0.5', (100, 300), dtype=dtype)
    check_moments(x, 2, 0.5)
    inside = (np.abs(x - 2) < 0.5).mean()  # 68.27 % lie within one deviation
    assert abs(inside - 0.6827) < 5 * math.sqrt(0.6827 * 0.3173 / x.size)


def test_sparse_gaussian():
    x = filled('type: "gaussian" std: 2 sparse: 15', (100, 300))
    kept = x[x != 0]
    chance = 15 / 100
    assert abs(kept.size - chance * x.size) < 5 * math.sqrt(x.size * chance * (1 - chance))
    check_moments(kept, 0, 2)
    assert (filled('type: "gaussian" sparse: 0', (10, 30)) == 0).all()
    assert (filled('type: "gaussian" sparse: 99', (10, 30)) != 0).all()


def test_positive_unitball():
    x = filled('type: "positive_unitball"', (7, 5, 4))
    assert (x >= 0).all()
    np.testing.assert_allclose(x.sum(axis=(1, 2)), 1, rtol=1e-6)
    assert len(np.unique(x)) > 100


FANS = [("FAN_IN", 12), ("FAN_OUT", 2400), ("AVERAGE", 1206)]  # of (800, 4, 3): inputs 4 * 3, outputs 800 * 3


@pytest.mark.parametrize("norm, n", FANS)
def test_xavier(norm, n):
    x = filled(f'type: "xavier" variance_norm: {norm}', (800, 4, 3))
    bound = math.sqrt(3 / n)
    assert np.abs(x).max() <= np.float32(bound)
    assert np.abs(x).max() > 0.999 * bound
    check_moments(x, 0, bound / math.sqrt(3))


@pytest.mark.parametrize("norm, n", FANS)
def test_msra(norm, n):
    check_moments(filled(f'type: "msra" variance_norm: {norm}', (800, 4, 3)), 0, math.sqrt(2 / n))


def test_the_default_fan_is_that_of_the_inputs():
    assert np.array_equal(filled('type: "xavier"', (8, 4)), filled('type: "xavier" variance_norm: FAN_IN', (8, 4)))


def test_one_axis():
    """A bias of 9: one input each, and 9 outputs."""
    assert fillers.fan((9,), 0) == 1
    assert fillers.fan((9,), 1) == 9
    assert fillers.fan((), 0) == fillers.fan((), 1) == 1


@pytest.mark.parametrize(
    "side, row",
    [
        (1, [1]),
        (2, [0.5, 0.5]),
        (3, [0.5, 1, 0.5]),
        (4, [0.25, 0.75, 0.75, 0.25]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        (6, [1 / 6, 3 / 6, 5 / 6, 5 / 6, 3 / 6, 1 / 6]),
    ],
)
def test_bilinear(side, row):
    x = filled('type: "bilinear"', (2, 3, side, side))
    np.testing.assert_allclose(x, np.broadcast_to(np.outer(row, row), x.shape), rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        'type: "uniform"',
        'type: "gaussian"',
        'type: "gaussian" sparse: 2',
        'type: "positive_unitball"',
        'type: "xavier"',
    ],
)
def test_numbers_follow_from_the_key(text):
    shape = (10, 20)
    x = filled(text, shape, (1, 2))
    assert np.array_equal(filled(text, shape, (1, 2)), x)
    assert np.array_equal(filled(text, shape, (1, 2, 0)), x)
    for key in ((3, 2), (1, 3), (1, 2, 1), (1 + 2**40, 2)):
        assert not np.array_equal(filled(text, shape, key), x)


def test_streams_wrap_at_32_bits():
    assert np.array_equal(filled('type: "uniform"', (5,), (1, 2**32 + 7)), filled('type: "uniform"', (5,), (1, 7)))


def test_a_filler_of_ones_own():
    @fillers.filler("checkerboard")
    def checkerboard(array, options, key):
        array[...] = options.value * (np.indices(array.shape).sum(axis=0) % 2)

    try:
        assert filled('type: "checkerboard" value: 3', (2, 2)).tolist() == [[0, 3], [3, 0]]
    finally:
        del fillers.registry["checkerboard"]


def test_an_unknown_type():
    message = schema.parse('type: "xaver"', "FillerParameter").message
    with pytest.raises(DefinitionError) as error:
        fillers.fill(np.zeros(3, np.float32), message, (1, 2), Place("net.prototxt", 7, 5))
    assert str(error.value) == (
        'net.prototxt:7:5: unknown filler type "xaver". Did you mean "xavier"? '
        "Known: bilinear, constant, gaussian, msra, positive_unitball, uniform, xavier"
    )


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3, 4)])
def test_bilinear_needs_squares(shape):
    message = schema.parse('type: "bilinear"', "FillerParameter").message
    with pytest.raises(ShapeError) as error:
        fillers.fill(np.zeros(shape, np.float32), message, (1, 2), Place("net.prototxt", 7, 5))
    assert str(error.value) == (
        f'net.prototxt:7:5: the filler "bilinear" needs weights (outputs, inputs, side, side), not {shape}'
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 1001])
def test_four_at_a_time_are_the_same_normal_numbers(dtype, count):
    kernels = Kernels("random.h")
    assert "fill_gaussian" in kernels.tuned()
    fast, plain = np.full((2, count), np.nan, dtype)
    kernels.fill_gaussian(fast, 0.25, 3.0, 2**40 + 1, 2, 3)
    kernels.portable.fill_gaussian(plain, 0.25, 3.0, 2**40 + 1, 2, 3)
    assert np.array_equal(fast, plain)
