"""SqueezeNet v1.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parts
import solvers
from parts import gaussian, imagenet

from layerforge.net_spec import L, NetSpec, P

#: Outputs of squeeze1x1, and of each of the two expanding convolutions.
FIRE = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}


def pool(bottom: Any) -> Any:
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)


def fire(n: NetSpec, name: str, bottom: Any, squeeze: int, expand: int) -> Any:
    """A narrow convolution of 1x1, and two wide ones on it, of 1x1 and 3x3, side by side."""

    def conv(part: str, bottom: Any, num_output: int, **window: int) -> Any:
        n[f"{name}/{part}"] = L.Convolution(bottom, num_output=num_output, **window, weight_filler={"type": "xavier"})
        n[f"{name}/relu_{part}"] = L.ReLU(n[f"{name}/{part}"], in_place=True)
        return n[f"{name}/relu_{part}"]

    last = conv("squeeze1x1", bottom, squeeze, kernel_size=1)
    both = conv("expand1x1", last, expand, kernel_size=1), conv("expand3x3", last, expand, pad=1, kernel_size=3)
    n[f"{name}/concat"] = L.Concat(*both)
    return n[f"{name}/concat"]


def body(n: NetSpec) -> Any:
    n.conv1 = L.Convolution(n.data, num_output=64, kernel_size=3, stride=2, weight_filler={"type": "xavier"})
    n.relu_conv1 = L.ReLU(n.conv1, in_place=True)
    last = n.pool1 = pool(n.relu_conv1)
    for i, (squeeze, expand) in FIRE.items():
        last = fire(n, f"fire{i}", last, squeeze, expand)
        if i in (3, 5):
            last = n[f"pool{i}"] = pool(last)
    n.drop9 = L.Dropout(last, dropout_ratio=0.5, in_place=True)
    n.conv10 = L.Convolution(n.drop9, num_output=1000, kernel_size=1, weight_filler=gaussian(0.01))
    n.relu_conv10 = L.ReLU(n.conv10, in_place=True)
    n.pool10 = L.Pooling(n.relu_conv10, pool=P.Pooling.AVE, global_pooling=True)
    return n.pool10


def files() -> Iterator[tuple[str, str]]:
    yield (
        "squeezenet_train_val",
        parts.train_val(
            "SqueezeNet",
            """\
SqueezeNet v1.1: F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size",
arXiv:1602.07360, 2016. v1.1 is the authors' later version: as accurate as the paper's, for 2.4 times less work.
Names of
layers are those of the authors' Caffe model.

1,235,496 parameters; 388 million multiply-adds per image. 57.5 % top-1 and 80.3 % top-5 on ImageNet's validation
images,
AlexNet's accuracy. The data below is a stand-in that LayerForge draws itself, ten classes of shapes. For ImageNet
change
the two lines that name a source.""",
            body,
            imagenet(32, 227),
            top5=True,
        ),
    )
    yield (
        "squeezenet_deploy",
        parts.deploy(
            "SqueezeNet",
            """\
SqueezeNet v1.1 (see squeezenet_train_val.prototxt) for use: ten BGR crops of 227x227, less the mean pixel (104, 117,
123), in; the probabilities of 1000 classes out, as 1000 maps of 1x1.""",
            body,
            [10, 3, 227, 227],
        ),
    )
    yield (
        "squeezenet_solver",
        solvers.imagenet(
            """\
The authors' recipe: batches of 512, here sixteen of 32, 68 epochs, a learning rate that falls from 0.04 to 0 in a
straight line.""",
            "squeezenet",
            512,
            lambda i: {"max_iter": i(68)},
            iter_size=16,
            base_lr=0.04,
            lr_policy="poly",
            power=1,
            momentum=0.9,
            weight_decay=0.0002,
        ),
    )
