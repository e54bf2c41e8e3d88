"""OpenCV reads what is written here and computes the same. OpenCV 4, that is: the last that reads Caffe's nets."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from google.protobuf import text_format

import layerforge as caffe

NETS = Path(__file__).resolve().parent.parent / "nets"


def for_one(path):
    """The text of a net for use, for one input at a time."""
    net = text_format.Merge(path.read_text(), caffe.proto.caffe_pb2.NetParameter())
    net.layer[0].input_param.shape[0].dim[0] = 1
    return str(net)


def randomise(net, rng):
    """Random statistics, scales and biases too; weights are what the fillers made them."""
    for name, blobs in net.params.items():
        kind = net.layer_dict[name].type
        if kind == "BatchNorm":
            blobs[0].data[...] = rng.normal(0, 0.1, blobs[0].shape)
            blobs[1].data[...] = rng.uniform(0.5, 1.5, blobs[1].shape)
            blobs[2].data[...] = 1
        elif kind == "Scale":
            blobs[0].data[...] = rng.uniform(0.5, 1.0, blobs[0].shape)
        for bias in list(blobs)[1:] if kind != "BatchNorm" else []:
            bias.data[...] = rng.normal(0, 0.1, bias.shape)


@pytest.mark.parametrize("name", ["lenet", "alexnet", "caffenet", "googlenet", "resnet50", "squeezenet"])
def test_the_same_outputs(name, tmp_path):
    (tmp_path / "net.prototxt").write_text(for_one(NETS / f"{name}_deploy.prototxt"))
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST, seed=1)
    rng = np.random.default_rng(1)
    randomise(net, rng)
    image = rng.normal(size=net.blobs["data"].shape).astype(np.float32)
    (before,) = net.bottom_names[net.layers[-1].name]
    last = list(net.params.values())[-1]
    spread = net.forward([before], data=image)[before].std()
    for blob in last:
        blob.data[...] *= 2 / spread  # so that one class is likelier than another
    net.save(str(tmp_path / "net.caffemodel"))
    ours = net.forward(data=image)[net.outputs[0]]
    assert ours.max() > 3 * ours.mean()

    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    theirs.setInput(image)
    expected = theirs.forward().reshape(ours.shape)
    assert np.abs(ours - expected).max() < 1e-4
    assert np.allclose(ours, expected, rtol=1e-3)
