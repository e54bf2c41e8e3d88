"""What only a GPU can show. The tables of tests/layers and tests/golden run on it as well, wherever there is one."""

import itertools

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.data.lmdb_writer import write_lmdb
from layerforge.datum import Datum, datum_bytes
from layerforge.device import cpu, cudnn
from layerforge.errors import DeviceError, NotFiniteError
from layerforge.kernels import Kernels
from layerforge.testing import Bench, assert_close

DROPOUT = 'type: "Dropout" dropout_param { dropout_ratio: 0.3 }'

LENET = """
name: "LeNet"
layer {
  name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param {
    shape { dim: 64 dim: 1 dim: 28 dim: 28 } shape { dim: 64 }
    data_filler { type: "gaussian" } data_filler { type: "uniform" max: 9.99 }
  }
}
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } }
}
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer {
  name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 50 kernel_size: 5 weight_filler { type: "xavier" } }
}
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer {
  name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
  inner_product_param { num_output: 500 weight_filler { type: "xavier" } }
}
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" }
layer {
  name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""

SOLVER = 'base_lr: 0.01 lr_policy: "step" stepsize: 50 gamma: 0.5 momentum: 0.9 weight_decay: 0.0005 random_seed: 3'


def solver(folder, device):
    message = schema.message("SolverParameter")()
    made = schema.parse(SOLVER, "SolverParameter").message
    message.CopyFrom(made)
    message.net_param.CopyFrom(schema.parse(LENET, "NetParameter").message)
    message.snapshot_prefix = str(folder / device.replace(":", "_"))
    return lf.Solver(message, device=device)


def losses(trained, iterations):
    found = []
    for _ in range(iterations):
        trained.step(1)
        found.append(trained.loss)
    return np.array(found)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 255, 256, 257, 10**6 + 1])
@pytest.mark.parametrize("wide", [False, True])
def test_every_element_is_computed_once(gpu, dtype, count, wide):
    x = np.random.default_rng(1).standard_normal(count).astype(dtype)
    array = gpu.zeros(count, dtype)
    gpu.from_numpy(array, x)
    Kernels("eltwise.h", wide=wide).add(array, array, array)
    np.testing.assert_array_equal(gpu.to_numpy(array), x + x)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products(gpu, ta, tb, dtype):
    random = np.random.default_rng(1)
    a, b, c = (random.standard_normal(shape).astype(dtype) for shape in [(70, 30), (30, 50), (70, 50)])
    there = []
    for values in (a.T.copy() if ta else a, b.T.copy() if tb else b, c):
        there.append(gpu.empty(values.shape, dtype))
        gpu.from_numpy(there[-1], values)
    gpu.gemm(*there, ta, tb, 0.5, 2.0)
    assert_close(gpu.to_numpy(there[2]), 0.5 * (a @ b) + 2 * c, 1e-6)


def test_dropout_drops_the_same_everywhere(gpu):
    x = np.ones((64, 1000))
    tops = [
        Bench(DROPOUT, [x.shape], dtype=np.float32, device=where, seed=5).forward([x], {}) for where in ("cpu", "gpu")
    ]
    np.testing.assert_array_equal(*(top[0] for top in tops))


@pytest.mark.parametrize("kernel", ["fill_bits", "fill_uniform", "fill_integer"])
def test_random_numbers_are_the_same_everywhere(gpu, kernel):
    dtype, arguments = {
        "fill_bits": (np.uint32, ()), "fill_uniform": (np.float32, (-1.0, 2.0)), "fill_integer": (np.int32, (-5, 7)),
    }[kernel]  # fmt: skip
    there, here = gpu.zeros(10001, dtype), np.zeros(10001, dtype)
    for array in (there, here):
        getattr(Kernels("random.h"), kernel)(array, *arguments, 2**63 + 5, 7, 2**40)
    np.testing.assert_array_equal(gpu.to_numpy(there), here)


def test_the_transformer_s_kernel_gives_the_cpu_s_bits(gpu):
    image = np.random.default_rng(1).integers(0, 256, (3, 40, 50), np.uint8)
    means = np.float32([104.007, 116.669, 122.679])
    numbers = (0.017, 3, 32, 32, 40, 50, 5, 9, False, True)
    here, there, raw, mean = (
        np.zeros((3, 32, 32), np.float32),
        gpu.zeros((3, 32, 32)),
        gpu.zeros(image.shape, np.uint8),
        gpu.zeros(3),
    )
    gpu.from_numpy(raw, image)
    gpu.from_numpy(mean, means)
    Kernels("transform.h").transform_image(image, here, None, means, *numbers)
    Kernels("transform.h").transform_image(raw, there, None, mean, *numbers)
    np.testing.assert_array_equal(gpu.to_numpy(there), here)


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 257, 100_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_long_sums(gpu, size, dtype):
    """By a thread each, or by a team of 256; twice the same bits."""
    x, found = np.random.default_rng(1).standard_normal((9, size)).astype(dtype), []
    there = gpu.zeros(x.shape, dtype)
    gpu.from_numpy(there, x)
    for _ in range(2):
        rows, maximum, total = (gpu.zeros(9, dtype) for _ in range(3))
        Kernels("broadcast.h").sum_rows(there, rows, size, 0.5)
        Kernels("softmax.h").softmax_statistics(there, maximum, total, size, 1)
        found.append([gpu.to_numpy(each) for each in (rows, maximum, total)])
    np.testing.assert_array_equal(*found)
    rows, maximum, total = found[0]
    assert_close(rows, 0.5 * x.sum(axis=1, dtype=np.float64), 1e-4)
    np.testing.assert_array_equal(maximum, x.max(axis=1))
    assert_close(total, np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1), 1e-4)


@pytest.mark.parametrize(
    "items, channels, positions", [(3, 6, 31), (2, 64, 32), (5, 40, 49), (300, 256, 33), (2, 64, 5000)]
)
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-4), (np.float64, 1e-12)])
def test_rows(gpu, items, channels, positions, dtype, tolerance):
    """What is written and summed along rows, which lie one behind the other, or as many as there are side by side."""
    K = Kernels("batch_norm.h").portable  # the hand-tuned ones have blocks of some sizes only
    random, lanes = np.random.default_rng(1), items * channels
    large = random.standard_normal((2, lanes * positions)).astype(dtype)
    small = random.standard_normal((4, channels)).astype(dtype)

    def put(device, array):
        made = device.zeros(array.shape, dtype)
        device.from_numpy(made, array)
        return made

    for block in (1, channels):
        share, found = (channels, positions, block, 0, channels), []
        for device in (cpu, gpu):
            (x, dy), (mean, scale, total, dot) = ([put(device, each) for each in arrays] for arrays in (large, small))
            sizes = [lanes] * 4 + [lanes * positions] * 2 + [channels] * 5
            made = [device.zeros(size, dtype) for size in sizes]
            means, squares, sums, dots, y, dx, *statistics, sum_, dot_, column = made
            given = (x, mean, scale, None, None)
            K.lane_moments(x, means, squares, *share, count=lanes)
            K.lane_products(*given, dy, sums, dots, 0.1, *share, count=lanes)
            K.batch_norm_forward(*given, y, None, 0.1, *share, count=lanes)
            K.batch_norm_backward(*given, dy, total, dot, dx, None, 0.1, 12, *share, count=lanes)
            K.batch_statistics(means, squares, *statistics, None, None, None, items, channels, positions, 1, 1)
            K.batch_products(sums, dots, scale, sum_, dot_, None, None, items, channels)
            Kernels("broadcast.h").sum_columns(x, column, items * positions, channels, False)
            found.append([device.to_numpy(array) for array in made])
        for here, there in zip(*found, strict=True):
            assert_close(there, here, tolerance)


def test_a_record_is_replayed(gpu):
    x, y, slope = gpu.zeros(1000), gpu.zeros(1000), gpu.number(np.float32)
    gpu.from_numpy(x, np.full(1000, -4.0))
    run = lambda: Kernels("activation.h").relu_forward(x, y, slope)  # noqa: E731
    run()
    replay = gpu.record(run)
    for value in (0.5, 0.25, 0.125):
        slope.set(value)
        replay()
        np.testing.assert_array_equal(gpu.to_numpy(y), np.full(1000, -4 * value))


@pytest.mark.parametrize("what, call", [
    ("to_numpy", lambda gpu, x: gpu.to_numpy(x)),
    ("new memory", lambda gpu, x: gpu.zeros(3)),
    ("new memory", lambda gpu, x: x + 1),
    ("synchronize", lambda gpu, x: gpu.synchronize()),
])  # fmt: skip
def test_what_cannot_be_recorded(gpu, what, call):
    x = gpu.zeros(10)
    x.fill(1)  # older drivers load no kernel while a record is made
    x.fill(0)
    with pytest.raises(DeviceError) as caught:
        gpu.record(lambda: call(gpu, x))
    assert str(caught.value) == f"{what}: not while launches are recorded, because a replay of them does not come here"
    assert not gpu.to_numpy(x).any()  # it goes on
    gpu.record(lambda: x.fill(1))()
    assert gpu.to_numpy(x).all()


def test_replayed_as_launched(gpu, tmp_path):
    """The same bits after 30 iterations, with dropout and a rate that falls; an iteration is one record."""
    replayed, launched = (solver(tmp_path, "gpu") for _ in range(2))
    launched.net.passes.recorded = launched.rule.records = False
    np.testing.assert_array_equal(losses(replayed, 30), losses(launched, 30))
    assert replayed.iteration.recorder.records == 1
    assert list(replayed.net.passes.apart) == ['layer "data" (DummyData)']
    for mine, theirs in zip(replayed.net.owned, launched.net.owned, strict=True):
        np.testing.assert_array_equal(gpu.to_numpy(mine.data), gpu.to_numpy(theirs.data))


def test_the_host_reads_while_a_record_goes_on(gpu):
    """The results of this replay, not of the last one; and before the replay is over."""
    x, y, work = gpu.zeros(4), gpu.zeros(4), gpu.zeros(1 << 26)
    reading = gpu.reading(y)
    K = Kernels("eltwise.h")

    def run():
        K.add(x, x, y)
        reading.start()
        for _ in range(50):
            K.add(work, work, work)

    run()
    replay = gpu.record(run)
    early = 0
    for value in range(1, 20):
        gpu.from_numpy(x, np.full(4, value))
        replay()
        values = reading.wait().copy()
        early += not gpu.stream.done
        np.testing.assert_array_equal(values, np.full(4, 2 * value))
    assert early > 10


def test_a_loss_that_is_no_number_moves_nothing(gpu, tmp_path):
    """Although the update is launched with the rest."""
    made = solver(tmp_path, "gpu")
    losses(made, 5)
    made.net.params["conv1"][0].data[0] = np.inf
    before = [gpu.to_numpy(p.data) for p in made.net.owned[1:]]
    with pytest.raises(NotFiniteError):
        made.step(1)
    for mine, kept in zip(made.net.owned[1:], before, strict=True):
        np.testing.assert_array_equal(gpu.to_numpy(mine.data), kept)


def test_images_as_bytes(gpu, tmp_path):
    """Cropped, mirrored and scaled on the GPU: the CPU's bits, batch after batch, while others are under way."""
    records = ((b"%05d" % i, datum_bytes(Datum(3, 40, 50, image(i).tobytes(), i))) for i in range(50))
    write_lmdb(str(tmp_path / "db"), records)
    text = f"""layer {{ name: "data" type: "Data" top: "data" top: "label"
      transform_param {{ crop_size: 32 mirror: true scale: 0.017 mean_value: 104 mean_value: 117 mean_value: 123 }}
      data_param {{ source: "{tmp_path / "db"}" backend: LMDB batch_size: 8 }} }}"""
    nets = [lf.Net(schema.parse(text, "NetParameter"), lf.TRAIN, device=where, seed=7) for where in ("cpu", "gpu")]
    for _ in range(20):
        for net in nets:
            net.forward()
        for name in ("data", "label"):
            np.testing.assert_array_equal(nets[1].blobs[name].data, nets[0].blobs[name].data)
    for net in nets:
        net.close()


def image(i):
    return np.random.default_rng(i).integers(0, 256, (3, 40, 50), np.uint8)


@pytest.mark.skipif(not cudnn.available(), reason="cuDNN is not installed")
@pytest.mark.parametrize("mode, tolerance", [("float32", 1e-5), ("tf32", 5e-3)])
@pytest.mark.parametrize("options", [
    "num_output: 96 kernel_size: 11 stride: 4",
    "num_output: 64 kernel_size: 5 pad: 2 group: 2",
    "num_output: 32 kernel_size: 1 bias_term: false",
    "num_output: 32 kernel_size: 3 pad: 2 dilation: 2",
])  # fmt: skip
def test_cudnn(gpu, mode, tolerance, options):
    definition = f'type: "Convolution" convolution_param {{ {options} }}'
    random = np.random.default_rng(1)
    x = random.standard_normal((8, 32, 43, 43)).astype(np.float32)
    on_cpu, on_gpu = (Bench(definition, [x.shape], dtype=np.float32, device=where) for where in ("cpu", "gpu"))
    assert on_gpu.layer.engine.name == "CUDNN"
    values = {n: random.standard_normal(p.shape).astype(np.float32) for n, p in on_cpu.layer.params.items()}
    diff = random.standard_normal(on_cpu.top[0].shape).astype(np.float32)
    with gpu.math(mode):
        found = [*on_gpu.forward([x], values), *all_of(on_gpu.backward([diff]))]
        again = [*on_gpu.forward([x], values), *all_of(on_gpu.backward([diff]))]
    expected = [*on_cpu.forward([x], values), *all_of(on_cpu.backward([diff]))]
    for mine, same, theirs in zip(found, again, expected, strict=True):
        assert_close(mine, theirs, tolerance)
        np.testing.assert_array_equal(mine, same)


RESIDUAL = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 16 dim: 19 dim: 17 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 32 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "conv2" }
layer { name: "scale2" type: "Scale" bottom: "conv2" top: "conv2" scale_param { bias_term: true } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "conv2" top: "sum" }
layer { name: "relu3" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "loss" type: "Reduction" bottom: "sum" top: "loss" loss_weight: 1 reduction_param { operation: SUMSQ } }
force_backward: true
"""


def assert_train_alike(gpu, nets, of_gradients, of_data):
    """Passes of `RESIDUAL` both ways, launched, recorded and replayed, within these tolerances."""
    for turn in range(4):
        for net in nets:
            net.blobs["data"].data[...] = np.random.default_rng(turn).standard_normal((4, 16, 19, 17))
            net.clear_param_diffs()
            net.run_forward()
            net.run_backward()
    for mine, theirs in zip(nets[0].owned, nets[1].owned, strict=True):
        assert_close(gpu.to_numpy(mine.diff), gpu.to_numpy(theirs.diff), of_gradients)
    for name in nets[0].blobs:
        assert_close(np.array(nets[0].blobs[name].data), np.array(nets[1].blobs[name].data), of_data)


def test_layers_that_compute_what_follows_them(gpu):
    definition = schema.parse(RESIDUAL, "NetParameter")
    nets = [lf.Net(definition, lf.TRAIN, device="gpu", seed=7, fuse=fuse) for fuse in (True, False)]
    assert {"scale2": "bn2", "relu3": "sum"}.items() <= nets[0].fused.items()
    assert ("relu1" in nets[0].fused) == cudnn.available()
    assert_train_alike(gpu, nets, 1e-4, 1e-5)


@pytest.mark.skipif(not cudnn.available(), reason="cuDNN is not installed")
def test_channels_last(gpu):
    """In either order, convolutions round alike, to 10 bits of mantissa, and what is looked at is plain."""
    definition = schema.parse(RESIDUAL + 'math_mode: "tf32"', "NetParameter")
    nets = [lf.Net(definition, lf.TRAIN, device="gpu", seed=7, blocks=blocks) for blocks in (True, False)]
    assert (nets[0].views["conv2"].block, nets[1].views["conv2"].block) == (32 if gpu.architecture >= 80 else 1, 1)
    assert_train_alike(gpu, nets, 1e-2, 1e-2)


def all_of(diffs):
    return [*diffs[0], *diffs[1].values()]


def test_lenet_trains_as_on_the_cpu(gpu, tmp_path):
    on_gpu, on_cpu = (losses(solver(tmp_path, where), 200) for where in ("gpu", "cpu"))
    assert_close(on_gpu[:5], on_cpu[:5], 1e-4, "the first 5 losses")  # then some maximum is another's by rounding
    assert_close(on_gpu, on_cpu, 0.05, "the losses")


def test_two_runs_give_the_same_bits(gpu, tmp_path):
    first, second = (solver(tmp_path, "gpu") for _ in range(2))
    np.testing.assert_array_equal(losses(first, 30), losses(second, 30))
    for mine, theirs in zip(first.net.owned, second.net.owned, strict=True):
        np.testing.assert_array_equal(gpu.to_numpy(mine.data), gpu.to_numpy(theirs.data))


def test_a_resumed_run_ends_with_the_same_bits(gpu, tmp_path):
    whole = solver(tmp_path, "gpu")
    losses(whole, 10)
    names = whole.snapshot()
    losses(whole, 10)
    resumed = solver(tmp_path, "gpu")
    resumed.restore(str(names.state))
    losses(resumed, 10)
    for mine, theirs in zip(whole.net.owned, resumed.net.owned, strict=True):
        np.testing.assert_array_equal(gpu.to_numpy(mine.data), gpu.to_numpy(theirs.data))


def test_moments(gpu):
    """The later one comes when the work between them is done, and not when it is launched."""
    work = gpu.zeros(1 << 26)
    Kernels("eltwise.h").add(work, work, work)
    moments = [gpu.moment()]
    for number in (1, 50):
        for _ in range(number):
            Kernels("eltwise.h").add(work, work, work)
        moments.append(gpu.moment())
    once, often = (gpu.between(*both) for both in itertools.pairwise(moments))
    assert 0 < 5 * once < often < 10


def test_memory_and_versions(gpu):
    gpu.let_go()
    gpu.free_memory()
    before, array = gpu.taken_memory(), gpu.zeros(1 << 26)
    assert gpu.taken_memory() >= before + array.nbytes
    assert {"CUDA runtime", "CuPy", "cuBLAS"} <= set(gpu.versions())


def test_more_memory_than_there_is(gpu):
    with pytest.raises(DeviceError) as caught:
        gpu.zeros((2**20, 2**24))
    text = str(caught.value)
    assert text.startswith("not enough memory on gpu for 67,108,864 MiB: an array (1048576, 16777216) of float32; ")
    assert text.endswith(" MiB are free. Lower batch_size")
    assert gpu.zeros(10).shape == (10,)  # it goes on
