"""Launches on another device than the CPU, seen on the emulated one."""

import numpy as np
import pytest

from layerforge import device, kernel_source, launch
from layerforge.device import cpu
from layerforge.errors import DeviceError, KernelError
from layerforge.kernels import Kernels, include_path

K = Kernels("activation.h")
emulated = device.get("emulated")
HERE = np.zeros(6, np.float32)


def there(values):
    array = emulated.empty(np.shape(values), np.asarray(values).dtype)
    emulated.from_numpy(array, np.asarray(values))
    return array


@pytest.mark.parametrize("count", [1, 31, 32, 96, 97, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wide", [False, True])
def test_every_element_is_computed_once(count, dtype, wide):
    x = np.random.default_rng(1).standard_normal(count).astype(dtype)
    y = there(np.full(count, np.nan, dtype))
    Kernels("activation.h", wide=wide).relu_forward(there(x), y, 0.5)
    np.testing.assert_array_equal(emulated.to_numpy(y), np.where(x > 0, x, x * dtype(0.5)))
    total = there(x)
    Kernels("eltwise.h", wide=wide).add(total, total, total)  # in place, once each
    np.testing.assert_array_equal(emulated.to_numpy(total), x + x)


def test_threads_run_in_another_order_each_time():
    orders = set()
    for _ in range(5):
        before = emulated.seed
        K.relu_forward(there(HERE), there(HERE), 0.5)
        orders.add(emulated.seed)
        assert emulated.seed != before
    assert len(orders) == 5


def test_numbers_in_the_device_s_memory():
    slope, x, y = emulated.number(np.float32), there(np.float32([-2, 4])), there(np.zeros(2, np.float32))
    for value in (0.5, 0.25):
        slope.set(value)
        assert (float(slope), repr(slope)) == (value, repr(value))
        K.relu_forward(x, y, slope)
        np.testing.assert_array_equal(emulated.to_numpy(y), [-2 * value, 4])
    step, on_cpu = emulated.number(np.uint64), np.empty(5)
    step.set(7)
    K_random, y = Kernels("random.h"), there(np.zeros(5))
    K_random.fill_uniform(y, 0.0, 1.0, 3, 4, step)
    K_random.fill_uniform(on_cpu, 0.0, 1.0, 3, 4, step)  # on the CPU it is a number like any other
    np.testing.assert_array_equal(emulated.to_numpy(y), on_cpu)
    with pytest.raises(TypeError):
        slope.__index__()
    assert cpu.number(np.float32) is None


X, Y = there(HERE), there(HERE)


@pytest.mark.parametrize("arguments, message", [
    ((X, HERE, 1), 'y: expected a writable C-contiguous float32 array, received float32 array of shape (6,) on device'
     ' "cpu"'),
    ((X, there(np.zeros(6)), 1), 'y: expected a writable C-contiguous float32 array, received float64 array of shape'
     ' (6,) on device "emulated"'),
    ((X[::2], Y, 1), 'x: expected a C-contiguous float32 array, received float32 array, not C-contiguous, of shape'
     ' (3,) on device "emulated"'),
    ((there(np.zeros(6, np.int32)), Y, 1), 'x: expected a C-contiguous float32 or float64 array, received int32 array'
     ' of shape (6,) on device "emulated"'),
    ((X, [1], 1), "y: expected a writable C-contiguous float32 array, received list [1]"),
    ((X, Y, "a"), "slope: expected a number, received str 'a'"),
    ((X, Y, emulated.number(np.float64)), "slope: expected a number of type float32, received Number 0.0"),
    ((HERE, Y, 1), 'y: expected a writable C-contiguous float32 array, received float32 array of shape (6,) on device'
     ' "emulated"'),
])  # fmt: skip
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(KernelError) as caught:
        K.relu_forward(*arguments)
    assert str(caught.value) == f"kernel relu_forward (activation.h): argument {message}"


@pytest.mark.parametrize("value, message", [
    (2**40, "an integer of type int32, received int 1099511627776"),
    (1.5, "an integer, received float 1.5"),
])  # fmt: skip
def test_integers_that_do_not_fit(value, message):
    with pytest.raises(KernelError) as caught:
        Kernels("eltwise.h").larger_still(X, Y, there(np.zeros(6, np.int32)), value)
    assert str(caught.value) == f"kernel larger_still (eltwise.h): argument k: expected {message}"


def test_counts_that_do_not_fit():
    for given, message in (
        ({"count": -1}, "argument count: expected a number of elements, received int -1"),
        ({"count": "all"}, "argument count: expected a number of elements, received str 'all'"),
    ):
        with pytest.raises(KernelError) as caught:
            K.relu_forward(X, Y, 1, **given)
        assert str(caught.value) == f"kernel relu_forward (activation.h): {message}"


def test_a_large_index_is_wide():
    """An index_t beyond 32 bits, and a count that 32 bits cannot step beyond, take the wide form."""
    forms = []

    class Recorder(type(emulated)):
        def launch(self, form, blocks, threads, arguments):
            forms.append(form.key)

    recorder = Recorder()
    array = there(HERE)
    kept = device.homes[type(array)]
    device.homes[type(array)] = lambda array: recorder
    try:
        K.relu_forward(X, Y, 1, count=10)
        K.relu_forward(X, Y, 1, count=2**31 - 97)
        K.relu_forward(X, Y, 1, count=2**31 - 96)
        Kernels("broadcast.h").sum_rows(X, Y, 2**33, 1)
    finally:
        device.homes[type(array)] = kept
    assert [key.split("/")[-1] for key in forms] == ["narrow", "narrow", "wide", "wide"]


def test_long_sums_are_the_work_of_teams():
    """Where each element of the result has 32 terms or more; what they come to is the same."""
    K = Kernels("broadcast.h")
    forms, launch_ = [], type(emulated).launch

    class Recorder(type(emulated)):
        def launch(self, form, blocks, threads, arguments):
            forms.append((form.key, blocks, threads))
            launch_(self, form, blocks, threads, arguments)

    recorder = Recorder()
    kept = device.homes[type(X)]
    device.homes[type(X)] = lambda array: recorder
    try:
        for inner in (31, 32, 1000):
            for dtype in (np.float32, np.float64):
                x = np.random.default_rng(1).standard_normal((5, inner)).astype(dtype)
                y = there(np.zeros(5, dtype))
                K.sum_rows(there(x), y, inner, 2)
                np.testing.assert_allclose(emulated.to_numpy(y), 2 * x.sum(axis=1), rtol=1e-4)
                again = there(np.zeros(5, dtype))
                K.sum_rows(there(x), again, inner, 2)
                np.testing.assert_array_equal(emulated.to_numpy(again), emulated.to_numpy(y))
    finally:
        device.homes[type(X)] = kept
    float_, double = (f"broadcast/sum_rows/{each}/narrow" for each in ("float", "double"))
    team = [(f"{each}/team", 3, (1, 1, 1)) for each in (float_, float_, double, double)]
    float_, double = ((each, 1, (32, 1, 1)) for each in (float_, double))
    assert forms == [float_, float_, double, double, *team, *team]


def test_rows_side_by_side_are_told_to_the_device():
    """What the kernel's header names says how many they are."""
    found = []

    class Recorder(type(emulated)):
        def grid_of_teams(self, count, terms, side):
            found.append((count, terms, side))
            return super().grid_of_teams(count, terms, side)

    recorder = Recorder()
    K, x = Kernels("broadcast.h"), there(np.arange(10 * 6 * 50, dtype=np.float32))
    columns, lanes, rows = (there(np.zeros(n, np.float32)) for n in (6, 60, 60))
    kept = device.homes[type(X)]
    device.homes[type(X)] = lambda array: recorder
    try:
        K.sum_columns(x, columns, 500, 6, False)
        K.lane_sums(x, None, lanes, 50, 6)
        K.sum_rows(x, rows, 50, 1)
        with pytest.raises(KernelError) as caught:
            K.lane_sums(x, None, lanes, 50, "6")
    finally:
        device.homes[type(X)] = kept
    assert found[:3] == [(6, 500, 6), (60, 50, 6), (60, 50, 1)]
    assert str(caught.value) == (
        "kernel lane_sums (broadcast.h): argument block: expected an integer, received str '6'"
    )
    given = np.arange(3000, dtype=np.float64)
    np.testing.assert_allclose(emulated.to_numpy(columns), given.reshape(500, 6).sum(0), rtol=1e-6)
    np.testing.assert_allclose(emulated.to_numpy(lanes), given.reshape(10, 50, 6).sum(1).ravel(), rtol=1e-6)


def test_a_form_names_itself_and_its_siblings():
    header = launch.header(include_path() / "kernels" / "activation.h")
    form = header.launchers["relu_forward"].forms["float", False, False]
    assert form.key == "activation/relu_forward/float/narrow"
    assert form.siblings()[form.key] == "over_grid<relu_forward<float>, const float*, float*, float>"
    assert len(form.siblings()) == len(kernel_source.signatures((include_path() / "kernels/activation.h").read_text()))
    assert form.source == '#define LAYERFORGE_GRID\n#include "kernels/activation.h"\n#include "grid.h"\n'
    team = launch.header(include_path() / "kernels" / "softmax.h").launchers["softmax_dot"].forms["double", True, True]
    assert team.key == "softmax/softmax_dot/double/wide/team"
    assert [key.split("/")[1] for key in team.siblings()] == ["softmax_statistics", "softmax_dot"]
    assert team.source == (
        "#define LAYERFORGE_GRID\n#define LAYERFORGE_WIDE_INDEX\n#define LAYERFORGE_TEAM\n"
        '#include "kernels/softmax.h"\n#include "grid.h"\n'
    )


def test_what_a_cpu_cannot():
    for call in (
        lambda: cpu.launch(None, 1, (1, 1, 1), 0),
        lambda: cpu.grid(1),
        lambda: cpu.grid_of_teams(1, 1, 1),
    ):
        with pytest.raises(KernelError) as caught:
            call()
        assert str(caught.value) == 'Device("cpu") launches no grids'
    with pytest.raises(KernelError) as caught:
        cpu.gemm_batch(X, X, X, (1, 1, 1), (0, 0, 0), 1, False, False)
    assert str(caught.value) == 'Device("cpu") has no products in batches'
    with pytest.raises(DeviceError) as failure:
        cpu.record(lambda: None)
    assert str(failure.value) == 'Device("cpu") records no launches'
    with pytest.raises(DeviceError) as failure:
        cpu.reading(HERE)
    assert str(failure.value) == 'Device("cpu") has its arrays on the host'
    assert cpu.constant(HERE) is HERE
    assert emulated.constant(HERE) is emulated.constant(HERE.copy())
    with pytest.raises(DeviceError) as failure:
        emulated.from_numpy(X, np.zeros(5))
    assert str(failure.value) == "from_numpy: an array (5,) does not fit one of shape (6,)"
