"""What users see of a net's arrays."""

import copy

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.device import get

NET = """
name: "small" force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 1 } }
}
"""


@pytest.fixture
def net():
    return lf.Net(schema.parse(NET, "NetParameter"), lf.TRAIN, device="emulated", seed=1)


def test_arrays_are_numpy_s_and_parameters_start_as_on_the_cpu(net):
    on_cpu = lf.Net(schema.parse(NET, "NetParameter"), lf.TRAIN, seed=1)
    for mine, theirs in zip(net.params["ip"], on_cpu.params["ip"], strict=True):
        assert isinstance(mine.data, np.ndarray)
        np.testing.assert_array_equal(mine.data, theirs.data)
        assert (mine.shape, mine.count, mine.lr_mult) == (theirs.shape, theirs.count, theirs.lr_mult)
        assert repr(mine) == repr(theirs)


def test_what_is_written_is_used(net):
    weight, bias = net.params["ip"]
    weight.data[...] = [[1, 2, 3], [4, 5, 6]]
    bias.data = [10, 20]
    net.blobs["x"].data[...] = np.eye(2, 3)
    net.forward()
    np.testing.assert_array_equal(net.blobs["y"].data, [[11, 24], [12, 25]])
    net.blobs["y"].diff[...] = [[1, 0], [0, 1]]
    net.backward()
    np.testing.assert_array_equal(net.blobs["x"].diff, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(weight.diff, [[1, 0, 0], [0, 1, 0]])
    weight.diff = np.ones((2, 3))
    net.clear_param_diffs()
    assert not weight.diff.any()


def test_one_look_is_enough_to_write_an_input_again_and_again(net):
    x = net.blobs["x"].data
    for value in (1, 2):
        x[...] = value
        net.forward()
        np.testing.assert_allclose(net.blobs["y"].data, np.full((2, 3), value) @ net.params["ip"][0].data.T, rtol=1e-6)


def test_an_input_is_sent_while_somebody_may_write_to_it(net, monkeypatch):
    """And after that not even compared: it may be large, and is there."""
    sent = []
    send = net.device.from_numpy
    monkeypatch.setattr(net.device, "from_numpy", lambda out, array: (sent.append(out.shape), send(out, array)))
    net.blobs["x"].data[...] = 1
    for _ in range(3):
        net.forward()
        net.backward()
    assert sent == [(2, 3)]
    row = net.blobs["x"].data[0]
    for value in (2, 3):
        row[...] = value
        net.forward()
        net.clear_param_diffs()
        np.testing.assert_array_equal(net.device.to_numpy(net.views["x"].data), [[value] * 3, [1] * 3])
    assert len(sent) == 3
    del row
    for _ in range(3):
        net.forward()
    assert len(sent) == 4  # nobody knows when it was written to last
    np.testing.assert_array_equal(net.blobs["x"].data, [[3] * 3, [1] * 3])


def test_what_is_no_number_is_as_it_was(net, monkeypatch):
    net.params["ip"][0].data[...] = np.nan
    net.forward()
    monkeypatch.setattr(net.device, "from_numpy", None)
    assert np.isnan(net.params["ip"][0].data).all() and np.isnan(net.blobs["y"].data).all()
    net.forward()


def test_an_old_copy_changes_nothing(net):
    old = net.params["ip"][0].data
    before = old.copy()
    net.forward()
    old[...] = 0  # too late: the net has run since
    net.forward()
    np.testing.assert_array_equal(net.params["ip"][0].data, before)


def test_two_looks_between_runs_see_one_array(net):
    net.blobs["x"].data[0] = 5
    net.blobs["x"].data[1] = 7
    net.forward()
    np.testing.assert_array_equal(net.blobs["x"].data, [[5, 5, 5], [7, 7, 7]])


def test_what_is_written_is_saved(net, tmp_path):
    net.params["ip"][0].data[...] = 3
    net.save(tmp_path / "net.caffemodel")
    again = lf.Net(schema.parse(NET, "NetParameter"), lf.TEST, weights=str(tmp_path / "net.caffemodel"))
    assert (again.params["ip"][0].data == 3).all()


def test_nets_that_share_see_what_is_written_to_either(net):
    other = lf.Net(schema.parse(NET, "NetParameter"), lf.TEST, device="emulated", share_with=net)
    net.params["ip"][0].data[...] = 1
    net.params["ip"][1].data[...] = 0
    other.forward(x=np.ones((2, 3)))
    assert (other.blobs["y"].data == 3).all()
    third = lf.Net(schema.parse(NET, "NetParameter"), lf.TEST, device="emulated")
    third.share_with(net)
    third.params["ip"][0].data[...] = 2
    net.forward(x=np.ones((2, 3)))
    assert (net.blobs["y"].data == 6).all()


def test_a_parameter_takes_another_shape(net):
    weight = net.params["ip"][0]
    weight.data[...] = [[1, 2, 3], [4, 5, 6]]
    weight.reshape(3, 2)
    np.testing.assert_array_equal(weight.data, [[1, 2], [3, 4], [5, 6]])


def test_the_device_s_arrays_are_not_numpy_s():
    emulated = get("emulated")
    array = emulated.zeros((2, 3))
    for touch in (
        lambda: np.asarray(array),
        lambda: np.matmul(array, np.zeros((3, 2), np.float32)),
        lambda: array.__setitem__(..., np.zeros((2, 3), np.float32)),
        lambda: np.mean(array),
        lambda: np.zeros((2, 3)) + array,
    ):
        with pytest.raises(TypeError):
            touch()
    array[...] = 2
    array += array
    array[:, 1] = array[:, 0] * 3
    np.testing.assert_array_equal(emulated.to_numpy(array), [[4, 12, 4], [4, 12, 4]])
    first, second = np.split(array, 2)
    assert first.shape == second.shape == (1, 3)
    assert len(array) == len(list(array)) == 2


def test_a_parameter_of_a_net_on_the_cpu_is_the_layer_s(net):
    on_cpu = lf.Net(schema.parse(NET, "NetParameter"), lf.TRAIN, seed=1)
    (shown, bias), (own, _) = on_cpu.params["ip"], on_cpu.layers[1].blobs
    assert shown == own == shown and shown != bias and {shown, on_cpu.params["ip"][0]} == {shown}
    assert np.shares_memory(shown.data, own.data) and np.shares_memory(shown.diff, own.diff)
    shown.data = 2
    shown.diff[...] = 3
    shown.lr_mult = 0.5
    assert (own.data == 2).all() and (own.diff == 3).all() and own.lr_mult == 0.5
    assert repr(copy.copy(shown)) == "Parameter('weight', (2, 3))"
    with pytest.raises(AttributeError, match="'Parameter' object has no attribute 'values'"):
        _ = shown.values
