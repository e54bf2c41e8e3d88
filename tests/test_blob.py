"""Blobs and parameters as layers and users see them."""

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.blob import Parameter, View, legacy_dimension, shape_of
from layerforge.device import cpu
from layerforge.errors import DefinitionError, ShapeError
from layerforge.memory import Arena

NET = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 4 } }
"""


def net():
    return lf.Net(schema.parse(NET, "NetParameter"), lf.TEST)


@pytest.mark.parametrize(
    "shape, expected",
    [((), (1, 1, 1, 1)), ((5,), (5, 1, 1, 1)), ((2, 3), (2, 3, 1, 1)), ((2, 3, 4, 5), (2, 3, 4, 5))],
)
def test_legacy_dimensions(shape, expected):
    view = View("x", shape)
    assert (view.num, view.channels, view.height, view.width) == expected
    assert view.count == int(np.prod(shape))


def test_legacy_dimensions_of_five_axes():
    with pytest.raises(ShapeError) as error:
        legacy_dimension((1, 2, 3, 4, 5), 0)
    assert str(error.value) == ("num, channels, height and width exist up to 4 axes; this blob has 5: (1, 2, 3, 4, 5)")


def test_a_top_that_cannot_be_reshaped():
    with pytest.raises(ShapeError) as error:
        View("x", (2, 3)).reshape(3, 2)
    assert str(error.value) == '"x" keeps its shape (2, 3): its layer is not dynamic'


def test_shape_of():
    assert shape_of([np.int64(2), 3]) == (2, 3)
    assert all(type(n) is int for n in shape_of(np.array([2, 3])))


# What a user sees.


def test_blobs_are_a_dictionary():
    made = net()
    assert list(made.blobs) == list(made.blobs.keys()) == ["data", "label", "ip"]
    assert [blob.shape for blob in made.blobs.values()] == [(2, 3), (2,), (2, 4)]
    assert {name: blob.count for name, blob in made.blobs.items()} == {"data": 6, "label": 2, "ip": 8}
    assert len(made.blobs) == 3 and "ip" in made.blobs and "none" not in made.blobs
    assert made.blobs.get("none") is None
    assert repr(made.blobs) == "{'data': (2, 3), 'label': (2,), 'ip': (2, 4)}"
    assert repr(made.blobs["ip"]) == "Blob('ip', (2, 4))"


def test_an_unknown_blob():
    with pytest.raises(DefinitionError) as error:
        net().blobs["labels"]
    assert str(error.value) == 'this net has no blob "labels". Did you mean "label"?'
    assert isinstance(error.value, KeyError)


def test_data_and_diff_are_the_nets_own_arrays():
    made = net()
    made.blobs["data"].data[...] = 7
    made.blobs["data"].data[1, 2] = 8
    assert made.blobs["data"].data.tolist() == [[7, 7, 7], [7, 7, 8]]
    made.blobs["ip"].diff[...] = 3
    assert made.blobs["ip"].diff.tolist() == [[3] * 4] * 2
    assert made.blobs["data"].diff.tolist() == [[0] * 3] * 2
    assert made.blobs["data"].data.dtype == np.float32


def test_data_has_no_setter():
    with pytest.raises(AttributeError):
        net().blobs["data"].data = 1


def test_reshape():
    made = net()
    blob = made.blobs["data"]
    blob.reshape(5, 3)
    assert blob.shape == blob.data.shape == (5, 3)
    made.reshape()
    assert made.blobs["ip"].data.shape == (5, 4)
    with pytest.raises(ShapeError) as error:
        blob.reshape(5, -3)
    assert str(error.value) == '"data" cannot take shape (5, -3): a dimension is below 0'


# Parameters.


def arena(size=128):
    made = Arena(cpu, size, np.float32)
    made.array[...] = np.arange(size)
    return made


def test_a_parameter_lies_where_it_is_put():
    parameter = Parameter("weight", (2, 3))
    data, diffs = arena(), arena()
    parameter.move(data, 64)
    assert parameter.data.tolist() == [[64, 65, 66], [67, 68, 69]]
    assert parameter.diff is None
    parameter.diff_home = (diffs, 0)
    assert parameter.diff.tolist() == [[0, 1, 2], [3, 4, 5]]
    parameter.diff[...] = -1
    assert diffs.array[:6].tolist() == [-1] * 6


def test_writing_to_data_leaves_the_array_where_it_is():
    parameter = Parameter("weight", (2, 3))
    data = arena()
    parameter.move(data, 0)
    parameter.diff_home = (arena(), 0)
    kept = parameter.data
    parameter.data = np.full((2, 3), 5)
    parameter.diff = np.full((2, 3), 6)
    assert parameter.data is kept
    assert data.array[:7].tolist() == [5] * 6 + [6]
    assert parameter.diff.tolist() == [[6] * 3] * 2


def test_a_shared_parameter_has_the_owners_arrays_in_its_own_shape():
    owner, sharer = Parameter("weight", (2, 3)), Parameter("weight", (3, 2))
    owner.move(arena(), 0)
    owner.diff_home = (arena(), 64)
    sharer.owner = owner
    sharer.follow(owner)
    sharer.data[2, 1] = 50
    sharer.diff[2, 1] = 60
    assert owner.data[1, 2] == 50
    assert owner.diff[1, 2] == 60
    assert sharer.diff.shape == (3, 2)


def test_reshape_of_a_parameter():
    parameter = Parameter("weight", (2, 3))
    parameter.move(arena(), 0)
    parameter.diff_home = (arena(), 0)
    assert parameter.diff.shape == (2, 3)
    parameter.reshape(1, 6)
    assert parameter.shape == parameter.data.shape == parameter.diff.shape == (1, 6)
    assert repr(parameter) == "Parameter('weight', (1, 6))"
    with pytest.raises(ShapeError) as error:
        parameter.reshape(5)
    assert str(error.value) == 'parameter "weight" (1, 6) cannot take shape (5,): the counts differ'
