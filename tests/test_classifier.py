"""The Classifier: what its net sees of an image, and what it makes of the scores."""

import numpy as np
import pytest

import layerforge as caffe
from layerforge import io
from layerforge.errors import DefinitionError, ShapeError

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 4 dim: 5 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
        inner_product_param { num_output: 7 weight_filler { type: "gaussian" std: 0.1 } } }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    (folder / "net.prototxt").write_text(NET)
    net = caffe.Net(str(folder / "net.prototxt"), caffe.TEST, seed=1)
    net.save(str(folder / "net.caffemodel"))
    return folder


def classifier(folder, **options):
    return caffe.Classifier(str(folder / "net.prototxt"), str(folder / "net.caffemodel"), **options)


def images(count, shape=(8, 9, 3)):
    return list(np.random.default_rng(1).random((count, *shape), np.float32))


def scores(net, crops):
    weight, bias = net.params["score"][0].data, net.params["score"][1].data
    return np.stack([weight @ crop.transpose(2, 0, 1).ravel() + bias for crop in crops])


@pytest.mark.parametrize("count", [1, 4, 5])  # of one batch, and more
def test_centre(folder, count):
    net = classifier(folder, image_dims=(8, 9))
    given = images(count)
    expected = scores(net, [image[2:6, 2:7] for image in given])
    assert np.allclose(net.predict(given, oversample=False), expected, atol=1e-5)


def test_ten_crops(folder):
    net = classifier(folder, image_dims=[8, 9])
    given = images(3)
    crops = io.oversample(given, (4, 5))
    expected = scores(net, crops).reshape(3, 10, 7).mean(1)
    assert np.allclose(net.predict(given), expected, atol=1e-5)


def test_images_take_the_size_of_the_input_by_default(folder):
    net = classifier(folder)
    assert net.image_dims == (4, 5)
    given = images(2)
    expected = scores(net, [io.resize_image(image, (4, 5)) for image in given])
    assert np.allclose(net.predict(given, False), expected, atol=1e-5)


def test_transformation(folder):
    net = classifier(folder, mean=np.array([3, 4, 5]), raw_scale=255, channel_swap=(2, 1, 0), input_scale=0.5)
    given = images(1, (4, 5, 3))
    seen = (given[0][:, :, ::-1] * 255 - [3, 4, 5]) * 0.5
    assert np.allclose(net.predict(given, False), scores(net, [seen]), atol=1e-3)


def test_outputs_keep_their_axes_without_oversampling(tmp_path, folder):
    text = NET + 'layer { name: "r" type: "Reshape" bottom: "score" top: "r" reshape_param {'
    (tmp_path / "net.prototxt").write_text(text + " shape { dim: 0 dim: 7 dim: 1 dim: 1 } } }")
    net = caffe.Classifier(str(tmp_path / "net.prototxt"), str(folder / "net.caffemodel"), image_dims=(4, 5))
    assert net.predict(images(1), oversample=False).shape == (1, 7, 1, 1)
    assert net.predict(images(1)).shape == (1, 7)


def test_mistakes(folder, tmp_path):
    with pytest.raises(ShapeError) as error:
        classifier(folder).predict([])
    assert str(error.value) == "there are no images to classify"
    with pytest.raises(ShapeError) as error:
        classifier(folder, image_dims=(8, 4)).predict(images(1))
    assert str(error.value) == "image_dims: (8, 4) must not be smaller than the net's input (4, 5)"
    with pytest.raises(ShapeError) as error:
        classifier(folder).predict(images(1, (4, 5, 4)))
    assert str(error.value) == '"data" takes (3, 4, 5); the image gives (4, 4, 5). Is set_transpose as it should be?'
    (tmp_path / "flat.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
    )
    with pytest.raises(DefinitionError) as error:
        caffe.Classifier(str(tmp_path / "flat.prototxt"), None)
    assert str(error.value) == ('the net\'s input must be images, (N, C, H, W), from an Input layer; it has "x" (1, 2)')
    (tmp_path / "none.prototxt").write_text(
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }'
    )
    with pytest.raises(DefinitionError) as error:
        caffe.Classifier(str(tmp_path / "none.prototxt"), None)
    assert str(error.value) == "the net's input must be images, (N, C, H, W), from an Input layer; it has none"
