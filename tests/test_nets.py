"""The networks in nets/: they parse, build in both phases, have the shapes of the papers, and recipes that fit."""

import math
from pathlib import Path

import pytest

import layerforge as lf
from layerforge import schema, upgrade

NETS = Path(__file__).resolve().parent.parent / "nets"
NAMES = ["alexnet", "alexnet_mini", "caffenet", "lenet"]

ALEXNET = {
    "conv1": (96, 55, 55),
    "norm1": (96, 27, 27),
    "pool1": (96, 27, 27),
    "conv2": (256, 27, 27),
    "pool2": (256, 13, 13),
    "conv3": (384, 13, 13),
    "conv4": (384, 13, 13),
    "conv5": (256, 13, 13),
    "pool5": (256, 6, 6),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (1000,),
}
SHAPES = {
    "alexnet": {"data": (3, 227, 227)} | ALEXNET | {"norm1": (96, 55, 55), "norm2": (256, 27, 27)},
    "caffenet": {"data": (3, 227, 227)} | ALEXNET | {"norm2": (256, 13, 13)},
    "lenet": {
        "data": (1, 28, 28),
        "conv1": (20, 24, 24),
        "pool1": (20, 12, 12),
        "conv2": (50, 8, 8),
        "pool2": (50, 4, 4),
        "ip1": (500,),
        "ip2": (10,),
    },
    "alexnet_mini": {
        "data": (3, 64, 64),
        "conv1": (24, 32, 32),
        "pool1": (24, 16, 16),
        "conv2": (64, 16, 16),
        "pool2": (64, 8, 8),
        "conv3": (96, 8, 8),
        "conv4": (96, 8, 8),
        "conv5": (64, 8, 8),
        "pool5": (64, 4, 4),
        "fc6": (1024,),
        "fc7": (1024,),
        "fc8": (10,),
    },
}
PARAMETERS = {"alexnet": 60_965_224, "caffenet": 60_965_224, "lenet": 431_080}


def few(name):
    """The definition of a net, with sources that are drawn in a moment."""
    definition = schema.read(NETS / f"{name}_train_val.prototxt", "NetParameter")
    for layer in definition.message.layer:
        if layer.type == "Data":
            layer.data_param.source += "&count=10"
    return definition


def parameters(net):
    return {layer: [tuple(blob.shape) for blob in blobs] for layer, blobs in net.params.items()}


@pytest.mark.parametrize("path", sorted(NETS.glob("*.prototxt")), ids=lambda path: path.stem)
def test_definition(path):
    kind = "SolverParameter" if path.stem.endswith("_solver") else "NetParameter"
    definition = schema.read(path, kind)
    assert path.read_text().startswith("# "), "a comment says where it comes from"
    upgraded = upgrade.net(definition) if kind == "NetParameter" else upgrade.solver(definition)
    assert upgraded.message == definition.message, "it is written in today's words"


@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST], ids=["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_shapes(name, phase):
    net = lf.Net(few(name), phase, allocate=False)
    batch = net.blobs["data"].shape[0]
    for blob, shape in SHAPES[name].items():
        assert tuple(net.blobs[blob].shape) == (batch, *shape), blob
    assert tuple(net.blobs["label"].shape) == (batch,)
    assert net.outputs == (["loss"] if phase == lf.TRAIN else sorted(o for o in net.outputs if o != "label"))


@pytest.mark.parametrize("name", NAMES)
def test_deploy_has_the_same_parameters(name):
    deploy = lf.Net(str(NETS / f"{name}_deploy.prototxt"), lf.TEST, allocate=False)
    assert parameters(deploy) == parameters(lf.Net(few(name), lf.TRAIN, allocate=False))
    assert tuple(deploy.blobs["data"].shape)[1:] == SHAPES[name]["data"]
    assert deploy.outputs == ["prob"]
    if name in PARAMETERS:
        assert sum(math.prod(shape) for shapes in parameters(deploy).values() for shape in shapes) == PARAMETERS[name]


def test_alexnet_is_that_of_the_paper():
    layers = {layer.name: layer for layer in few("alexnet").message.layer if layer.type != "Data"}
    for name in ("norm1", "norm2"):
        norm = layers[name].lrn_param
        assert (norm.local_size, norm.k) == (5, 2)
        assert math.isclose(norm.alpha / norm.local_size, 1e-4, rel_tol=1e-6), "Caffe divides alpha by local_size"
        assert math.isclose(norm.beta, 0.75, rel_tol=1e-6)
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        options = layers[name].convolution_param if name.startswith("conv") else layers[name].inner_product_param
        assert math.isclose(options.weight_filler.std, 0.01, rel_tol=1e-6)
        assert options.bias_filler.value == (name in ("conv2", "conv4", "conv5", "fc6", "fc7")), name
        if name.startswith("conv"):
            assert options.group == (2 if name in ("conv2", "conv4", "conv5") else 1), name
    assert [layers[name].dropout_param.dropout_ratio for name in ("drop6", "drop7")] == [0.5, 0.5]


@pytest.mark.parametrize("name", ["alexnet", "caffenet"])
def test_recipe_fits_the_sample(name):
    """90 epochs of 4,000 images, and tests over 1,000."""
    solver = schema.read(NETS / f"{name}_solver.prototxt", "SolverParameter").message
    train, test = [layer.data_param.batch_size for layer in few(name).message.layer if layer.type == "Data"]
    assert abs(solver.max_iter - 90 * 4000 / train) < 1
    assert solver.test_iter[0] * test == 1000
    assert (NETS.parent / solver.net).is_file()
    assert math.isclose(solver.weight_decay, 5e-4, rel_tol=1e-6)
    assert math.isclose(solver.momentum, 0.9, rel_tol=1e-6)
