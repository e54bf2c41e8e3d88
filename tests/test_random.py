import numpy as np
import pytest

from layerforge.kernels import Kernels
from layerforge.random import philox

K = Kernels("random.h")


def reference(seed, stream, step, block):
    """Philox 4x32-10 as its paper writes it, on Python's integers."""
    counter = [block & 0xFFFFFFFF, (block >> 32) ^ (step >> 32), stream, step & 0xFFFFFFFF]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(b >> 32) ^ counter[1] ^ key[0], b & 0xFFFFFFFF, (a >> 32) ^ counter[3] ^ key[1], a & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


@pytest.mark.parametrize("block, stream, step, seed, words", [
    # Known answers of Random123, kat_vectors: counter (block, stream, step), key seed.
    (0, 0, 0, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (0x85A308D3243F6A88, 0x13198A2E, 0x03707344, 0x299F31D0A4093822,
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
])  # fmt: skip
def test_the_reference_gives_the_known_answers(block, stream, step, seed, words):
    assert reference(seed, stream, step, block) == words


@pytest.mark.parametrize("seed, stream, step", [(0, 0, 0), (2**64 - 1, 2**32 - 1, 2**64 - 1), (1701, 3, 5_000_000_000)])
def test_philox(seed, stream, step):
    expected = np.array([reference(seed, stream, step, block) for block in range(3)]).ravel()[:11]
    np.testing.assert_array_equal(philox(seed, stream, step, 11), expected.astype(np.uint32))


def test_another_seed_stream_or_step_gives_other_numbers():
    draws = [philox(1, 1, 1, 100), philox(2, 1, 1, 100), philox(1, 2, 1, 100), philox(1, 1, 2, 100)]
    assert len({draw.tobytes() for draw in draws}) == 4


def five_sigma(sample, mean, std):
    assert abs(sample.mean() - mean) < 5 * std / np.sqrt(sample.size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform(dtype):
    y = np.empty(100_000, dtype)
    K.fill_uniform(y, -2, 3, 1, 2, 3)
    assert y.min() >= -2 and y.max() <= 3
    five_sigma(y, 0.5, 5 / np.sqrt(12))
    five_sigma((y - 0.5) ** 2, 25 / 12, np.sqrt(5**4 / 180))
    bits = philox(1, 2, 3, y.size)
    np.testing.assert_allclose(y, -2 + 5 * (bits / 2.0**32), rtol=0, atol=np.finfo(dtype).eps * 4)


def test_gaussian():
    y = np.empty(100_000)
    K.fill_gaussian(y, 1, 2, 1, 2, 3)
    z = (y - 1) / 2
    five_sigma(z, 0, 1)
    five_sigma(z**2, 1, np.sqrt(2))
    five_sigma(z**4, 3, np.sqrt(96))
    five_sigma(z[::2] * z[1::2], 0, 1)  # the two halves of a pair are independent
    single = np.empty(100_000, np.float32)
    K.fill_gaussian(single, 1, 2, 1, 2, 3)
    np.testing.assert_array_equal(single, y.astype(np.float32))


@pytest.mark.parametrize("probability", [0, 0.3, 1])
def test_bernoulli(probability):
    y = np.empty(100_000, np.float32)
    K.fill_bernoulli(y, probability, 1, 2, 3)
    assert set(np.unique(y)) <= {0, 1}
    assert abs(y.mean() - probability) <= 5 * np.sqrt(probability * (1 - probability) / y.size)


@pytest.mark.parametrize("low, high", [(0, 10), (-5, 5), (-(2**31), 2**31 - 1), (3, 4)])
def test_integer(low, high):
    y = np.empty(100_000, np.int32)
    K.fill_integer(y, low, high, 1, 2, 3)
    assert y.min() >= low and y.max() < high
    five_sigma(y.astype(float), (low + high - 1) / 2, (high - low) / np.sqrt(12))
