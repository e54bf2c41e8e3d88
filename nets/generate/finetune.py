"""AlexNet with frozen convolutions and a new last layer, made of alexnet_train_val.prototxt as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import parts
import solvers
import writing

from layerforge import schema

CLASSES = 10
FROZEN = ("conv1", "conv2", "conv3", "conv4", "conv5")
LAST = "fc8_shapes"


def renamed(net: Any) -> Any:
    """The net with a last layer of another name and width, for which a caffemodel of AlexNet has no weights."""
    for layer in net.layer:
        for blobs in (layer.bottom, layer.top):
            blobs[:] = [LAST if blob == "fc8" else blob for blob in blobs]
        if layer.name == "fc8":
            layer.name = LAST
            layer.inner_product_param.num_output = CLASSES
            for param in layer.param:
                param.lr_mult *= 10
        if layer.name in FROZEN:
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0
    return net


def alexnet(kind: str) -> Any:
    path = Path(__file__).resolve().parent.parent / f"alexnet_{kind}.prototxt"
    return schema.read(path, "NetParameter").message


def files() -> Iterator[tuple[str, str]]:
    images = parts.imagenet(128, 227)
    notes = images.notes() | {
        'source: "sample://shapes?split=train': "or your own: an LMDB of images of at least 227x227",
        'source: "sample://shapes?split=test': "or your own",
    }
    net = renamed(alexnet("train_val"))
    layers = [layer for layer in net.layer if layer.name != "accuracy_top5"]
    net = schema.message("NetParameter")(layer=layers)
    about = """\
AlexNet (see alexnet_train_val.prototxt), fine-tuned to classes of your own: the convolutions are frozen (lr_mult 0, so
that nothing is computed backward below fc6), the fully connected layers go on learning, and the last one, which has a
new name and therefore starts anew, learns ten times as fast. That features learnt on ImageNet serve other tasks: J.
Donahue et al., "DeCAF: A Deep Convolutional Activation Feature for Generic Visual Recognition", ICML 2014; J. Yosinski
et al., "How transferable are features in deep neural networks?", NIPS 2014.

  layerforge train --solver nets/finetune_solver.prototxt --weights alexnet.caffemodel

56,909,194 parameters, of which the 54,575,114 in fc6, fc7 and fc8_shapes learn. For other classes change the two lines
that name a source, and num_output of fc8_shapes."""
    yield "finetune_train_val", writing.net("AlexNetFinetuned", about, net, notes)
    yield (
        "finetune_deploy",
        writing.net(
            "AlexNetFinetuned",
            """\
The fine-tuned AlexNet (see finetune_train_val.prototxt) for use: ten BGR crops of 227x227, less the mean pixel (104,
117, 123), in; the probabilities of ten classes out.""",
            renamed(alexnet("deploy")),
        ),
    )
    yield (
        "finetune_solver",
        solvers.solver(
            """\
A tenth of AlexNet's learning rate, since most weights are good already, and ten epochs of the 4,000 sample images.""",
            "finetune",
            test_iter=20,
            test_interval=50,
            base_lr=0.001,
            lr_policy="step",
            gamma=0.1,
            stepsize=200,
            max_iter=313,
            momentum=0.9,
            weight_decay=0.0005,
            display=5,
            snapshot=100,
        ),
    )
