"""The nets of nets/ that are measured, as LayerForge reads them and as plain data for everybody else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import ROOT
from layerforge import schema, upgrade
from layerforge.layer import load_layers


@dataclass(frozen=True)
class Net:
    """A net, and what it is measured with."""

    title: str
    shape: tuple[int, int, int]  # of an image
    batch: int  # to train with
    classes: int = 1000
    lr: float = 0.01
    weight_decay: float = 5e-4
    # The rate of the comparison of losses is so many times lower: at the full one, four images make the loss jump, and
    # rounding errors grow from step to step until PyTorch's two layouts do not agree with each other.
    slowly: float = 10


NETS = {
    "alexnet": Net("AlexNet", (3, 227, 227), 64),
    "caffenet": Net("CaffeNet", (3, 227, 227), 64),
    "googlenet": Net("GoogLeNet", (3, 224, 224), 32, weight_decay=2e-4, slowly=100),
    "resnet50": Net("ResNet-50", (3, 224, 224), 16, weight_decay=1e-4, slowly=100),
    "vgg16": Net("VGG-16", (3, 224, 224), 8, lr=1e-4, slowly=1),  # at 0.01 it diverges after a few steps
    "lenet": Net("LeNet", (1, 28, 28), 64, classes=10),
}


def write_batch(folder: Path, net: str, batch: int) -> None:
    """Pixels less their mean (for LeNet divided by 256), and labels: the same files for both sides."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (batch, *NETS[net].shape)).astype(np.float32)
    np.save(folder / "data.npy", pixels / 256 if net == "lenet" else pixels - 117)
    np.save(folder / "labels.npy", random.integers(0, NETS[net].classes, batch))


def in_memory(net: str, shape: tuple[int, ...], dropout: bool, engine: str = "default") -> Any:
    """The training net of nets/ with an Input layer of this shape in the place of its data layers.

    ``engine`` is "default", LayerForge's choice, or "caffe": im2col and matrix products for every convolution.
    """
    definition = schema.read(ROOT / "nets" / f"{net}_train_val.prototxt", "NetParameter").message
    made = schema.message("NetParameter")(name=definition.name)
    source = made.layer.add(name="data", type="Input", top=["data", "label"])
    source.input_param.shape.add(dim=shape)
    source.input_param.shape.add(dim=shape[:1])
    for layer in definition.layer:
        if layer.type not in ("Data", "Accuracy") and (dropout or layer.type != "Dropout"):
            added = made.layer.add()
            added.CopyFrom(layer)
            if engine == "caffe" and layer.type == "Convolution":
                added.convolution_param.engine = added.convolution_param.CAFFE
    return made


def deploy(net: str, batch: int) -> Any:
    """The net for use, for so many images at once."""
    load_layers()
    definition = upgrade.net(schema.read(ROOT / "nets" / f"{net}_deploy.prototxt", "NetParameter")).message
    definition.layer[0].input_param.shape[0].dim[0] = batch
    return definition


def plain(definition: Any) -> list[dict[str, Any]]:
    """A net's layers as plain data, with the options that these nets use.

    A Scale that follows a BatchNorm is part of it, as everywhere but in Caffe: its name is the key "scale".
    """
    layers: list[dict[str, Any]] = []
    for layer in definition.layer:
        made = {"name": layer.name, "type": layer.type, "bottom": list(layer.bottom), "top": list(layer.top)}
        if layer.type == "Scale":
            assert layers[-1]["type"] == "BatchNorm"
            assert list(layer.bottom) == layers[-1]["top"]
            layers[-1] |= {"scale": layer.name, "top": list(layer.top)}
        elif layer.type != "Input":
            layers.append(made | OPTIONS.get(layer.type, lambda layer: {})(layer))
    return layers


def _window(options: Any) -> dict[str, Any]:
    def one(field: str, default: int) -> int:
        value = getattr(options, field)
        return int(value) if isinstance(value, int) else int(value[0]) if value else default

    return {"kernel": one("kernel_size", 0), "stride": one("stride", 1), "pad": one("pad", 0)}


def _convolution(layer: Any) -> dict[str, Any]:
    o = layer.convolution_param
    return {"outputs": o.num_output, "group": o.group, "bias": o.bias_term} | _window(o)


def _pooling(layer: Any) -> dict[str, Any]:
    o = layer.pooling_param
    return {"pool": o.PoolMethod.Name(o.pool)} | _window(o)


def _lrn(layer: Any) -> dict[str, Any]:
    o = layer.lrn_param
    return {"size": o.local_size, "alpha": o.alpha, "beta": o.beta, "k": o.k}


def _batch_norm(layer: Any) -> dict[str, Any]:
    o = layer.batch_norm_param
    return {"eps": o.eps, "fraction": o.moving_average_fraction}


#: What others need to know of a layer, by its type.
OPTIONS: dict[str, Any] = {
    "Convolution": _convolution,
    "Pooling": _pooling,
    "LRN": _lrn,
    "BatchNorm": _batch_norm,
    "InnerProduct": lambda layer: {"outputs": layer.inner_product_param.num_output},
    "Dropout": lambda layer: {"ratio": layer.dropout_param.dropout_ratio},
    "SoftmaxWithLoss": lambda layer: {"weight": layer.loss_weight[0] if layer.loss_weight else 1.0},
}
