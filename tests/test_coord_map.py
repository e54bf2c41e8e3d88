"""Coordinates through convolution, pooling and back up, and the crops that they give."""

import numpy as np
import pytest

import layerforge as caffe
from layerforge import layers as L
from layerforge import params as P
from layerforge.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from layerforge.errors import ShapeError


def down_and_up(kernel=3, stride=1, pad=0, pool=2, up=2, up_pad=0):
    """A convolution, a pooling, and a deconvolution whose kernel is twice its stride."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, 100, 100]})
    n.aux = L.Input(shape={"dim": [2, 1, 20, 20]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=kernel, stride=stride, pad=pad)
    n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=pool, stride=pool, pad=0)
    twice = (2 * np.asarray(up)).tolist()
    n.deconv = L.Deconvolution(n.pool, num_output=10, kernel_size=twice, stride=up, pad=up_pad)
    return n


def mapped(**options):
    n = down_and_up(**options)
    return coord_map_from_to(n.deconv, n.data)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, (1, 1, 0)),
        ({"pool": 4, "up": 4}, (1, 1, -1)),
        ({"pad": 7}, (1, 1, -7)),  # what is padded must be cropped
        ({"up_pad": 7}, (1, 1, 7)),
        ({"pad": 7, "up_pad": 7}, (1, 1, 0)),
        ({"kernel": 5, "stride": 2, "pad": 10}, (1, 2, -10)),
        ({"kernel": 1}, (1, 1, -1)),
    ],
)
def test_down_and_up(options, expected):
    assert mapped(**options) == expected


def test_each_side_by_itself():
    axis, a, b = mapped(kernel=[3, 5], stride=[1, 2], pad=[0, 10])
    assert (axis, a.tolist(), b.tolist()) == (1, [1, 2], [0, -10])
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 1, 100, 100]})
    options = {"kernel_h": 3, "kernel_w": 5, "stride_w": 2, "pad_w": 10}
    n.conv = L.Convolution(n.data, convolution_param=dict(num_output=1, **options))
    axis, a, b = coord_map_from_to(n.conv, n.data)
    assert (axis, a.tolist(), b.tolist()) == (1, [1, 2], [1, -8])


def test_three_dimensions():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 100, 100, 100]})
    n.conv = L.Convolution(n.data, num_output=10, kernel_size=[3, 3, 3], stride=[1, 1, 1], pad=[0, 1, 2])
    n.pool = L.Pooling(n.conv, kernel_size=2, stride=2)
    n.deconv = L.Deconvolution(n.pool, num_output=10, kernel_size=4, stride=2)
    axis, a, b = coord_map_from_to(n.deconv, n.data)
    assert (axis, a.tolist(), b.tolist()) == (1, [1, 1, 1], [0, -1, -2])
    offset = crop(n.deconv, n.data).fn.params["crop_param"]["offset"]
    assert offset == [0, 1, 2]


def test_layers_that_move_nothing():
    n = down_and_up()
    n.relu = L.ReLU(n.deconv)
    n.one = L.Convolution(n.relu, num_output=10, kernel_size=1)
    assert coord_map_from_to(n.relu, n.data) == coord_map_from_to(n.one, n.data) == (1, 1, 0)
    assert coord_map_from_to(L.ReLU(n.data), n.data) == (None, 1, 0)


def test_holes_widen_the_kernel():
    n = down_and_up()
    holes = L.Convolution(n.data, num_output=1, kernel_size=3, dilation=4, pad=4)
    assert coord_map(holes.fn) == coord_map(L.Convolution(n.data, num_output=1, kernel_size=9, pad=4).fn)


def test_every_input_of_a_layer_is_mapped_alike():
    n = down_and_up()
    n.a, n.b = L.Convolution(n.data, n.aux, ntop=2, num_output=10, kernel_size=5, stride=2)
    assert coord_map_from_to(n.a, n.data) == coord_map_from_to(n.b, n.aux) == (1, 2, 2)


def test_a_crop_moves_by_its_offset():
    n = down_and_up()
    n.crop = L.Crop(n.deconv, n.aux, axis=2, offset=6)
    assert coord_map_from_to(n.crop, n.data) == (1, 1, 6)
    with pytest.raises(UndefinedMapException):
        coord_map_from_to(n.crop, n.aux)  # of that only the size counts


def test_branches_that_meet():
    """FCN's skip: pool4's scores onto twice the size of pool5's."""
    n = down_and_up(pad=100, pool=2, up=2)
    n.score = L.Convolution(n.conv, num_output=10, kernel_size=1)
    n.crop = crop(n.deconv, n.score)
    layer = n.to_proto().layer[-1]
    assert (layer.type, list(layer.bottom), layer.crop_param.axis) == ("Crop", ["deconv", "score"], 2)
    assert list(layer.crop_param.offset) == [1]


def test_a_crop_that_fits_builds(tmp_path):
    n = down_and_up(pad=19)
    n.crop = crop(n.deconv, n.data)
    path = tmp_path / "net.prototxt"
    path.write_text(str(n.to_proto()))
    net = caffe.Net(str(path), caffe.TEST)
    assert net.blobs["crop"].shape == (2, 10, 100, 100)


def test_maps_of_one_kind():
    assert compose((1, 2, 3), (None, 1, 0)) == compose((None, 1, 0), (1, 2, 3)) == (1, 2, 3)
    assert compose((1, 2, 3), (1, 5, 7)) == (1, 10, 17)
    assert compose((1, 2, 3), inverse((1, 2, 3))) == (1, 1, 0)
    with pytest.raises(AxisMismatchException, match=r"^coordinate maps of axes 1 and 2 cannot be composed$"):
        compose((1, 2, 3), (2, 1, 0))


@pytest.mark.parametrize(
    "options, text",
    [
        ({"pool": 3}, "the tops differ in scale, by a factor of 1.5: resize one of them first"),
        ({"up_pad": 10}, "the tops are aligned by an offset of -10: pad the first one more"),
        ({"kernel": 4, "pad": 3}, "the tops are aligned by an offset of 2.5, which is not whole: change a pad"),
    ],
)
def test_crops_that_do_not_fit(options, text):
    n = down_and_up(**options)
    with pytest.raises(ShapeError) as error:
        crop(n.deconv, n.data)
    assert str(error.value) == text


def test_tops_that_nothing_connects():
    n = down_and_up()
    n.ip = L.InnerProduct(n.deconv, num_output=10)
    nowhere = "the two tops have no ancestor in common by which they can be aligned"
    with pytest.raises(UndefinedMapException) as error:
        coord_map_from_to(n.ip, n.data)
    why = "layers of type InnerProduct have no map: nothing can be aligned across one"
    assert str(error.value) == f"{nowhere}; {why}"
    with pytest.raises(UndefinedMapException) as error:
        coord_map_from_to(n.conv, n.aux)
    assert str(error.value) == nowhere
    with pytest.raises(UndefinedMapException) as error:
        coord_map(n.ip.fn)
    assert str(error.value) == why
