"""What is said when a net does not fit into a device's memory."""

import numpy as np
import pytest

import layerforge as lf
from layerforge import device, schema
from layerforge.device import emulated
from layerforge.errors import DeviceError
from layerforge.fitting import Ledger

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: %d dim: 3 dim: 20 dim: 20 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: %d } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "conv" top: "tanh" }
layer { name: "ip" type: "InnerProduct" bottom: "tanh" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


@pytest.fixture
def memory(monkeypatch):
    """Lets the emulated device have so many bytes, of which nothing comes back."""
    left = [0]
    zeros = emulated.Emulated.zeros

    def limited(self, shape, dtype=np.float32):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > left[0]:
            failure = DeviceError(f"not enough memory for {size} bytes, {left[0]} are free. Lower batch_size")
            failure.out_of_memory = True
            raise failure
        left[0] -= size
        return zeros(self, shape, dtype)

    monkeypatch.setattr(emulated.Emulated, "zeros", limited)
    return left


def make(batch, reuse=True):
    return lf.Net(schema.parse(NET % (batch, batch), "NetParameter"), lf.TRAIN, device="emulated", seed=1, reuse=reuse)


def taken(batch):
    net = make(batch)
    net.forward_backward()
    return net.memory_bytes()


@pytest.mark.parametrize("backward", [False, True], ids=["when it is made", "when backward begins"])
def test_the_batch_that_would_fit(memory, monkeypatch, backward):
    memory[0] = 10**9
    needed = taken(64)
    blobs = sum(needed[name] for name in ("data", "diff", "state", "scratch"))
    room = needed["parameters"] + needed["data"] // (1 if backward else 2) + (100_000 if backward else 0)
    memory[0] = room
    free = blobs // 2 + 2 * needed["parameters"]
    monkeypatch.setattr(emulated.Emulated, "free_memory", lambda self: free)
    with pytest.raises(DeviceError) as caught:
        make(64).forward_backward()
    fits = int(64 * (free - 2 * sum(p.count for p in make_small().owned) * 4) / blobs)
    assert 30 <= fits <= 33
    assert str(caught.value).startswith("not enough memory for ")
    assert str(caught.value).endswith(f" are free. Lower batch_size: about {fits} would fit, not 64")
    memory[0] = 10**9
    assert sum(taken(fits).values()) < sum(needed.values())  # and so it does


def make_small():
    return lf.Net(schema.parse(NET % (1, 1), "NetParameter"), lf.TRAIN, device="cpu", allocate=False)


def test_when_nothing_fits(memory):
    with pytest.raises(DeviceError) as caught:
        make(8)
    assert str(caught.value) == "not enough memory for 53504 bytes, 0 are free. Lower batch_size"  # for parameters
    memory[0] = 100_000
    with pytest.raises(DeviceError) as caught:
        make(800)
    assert str(caught.value).endswith(" are free. Lower batch_size, though not even a batch of 1 would fit")


def test_other_mistakes_of_a_device_are_told_as_they_are(monkeypatch):
    def fail(*arguments):
        raise DeviceError("it is gone")

    monkeypatch.setattr(emulated.Emulated, "zeros", fail)
    with pytest.raises(DeviceError) as caught:
        make(8)
    assert str(caught.value) == "it is gone"


def test_a_ledger():
    made = Ledger(device.get("emulated"))
    array = made.zeros((1000, 1000, 1000))
    assert (made.name, made.is_host, array.nbytes, array.strides) == ("emulated", False, 4 * 10**9, (0, 0, 0))
    assert made.empty(3).shape == (3,)
    assert made.to_numpy(array) is array
    for nothing in (made.gemm(), made.from_numpy(array, array), made.synchronize()):
        assert nothing is None
