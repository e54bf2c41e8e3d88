"""MobileNet v1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parts
import solvers
from parts import imagenet

from layerforge.net_spec import L, NetSpec, P

#: name -> (outputs, stride) of each depthwise convolution with its pointwise one.
BLOCKS = {
    "2_1": (64, 1),
    "2_2": (128, 2),
    "3_1": (128, 1),
    "3_2": (256, 2),
    "4_1": (256, 1),
    "4_2": (512, 2),
    "5_1": (512, 1),
    "5_2": (512, 1),
    "5_3": (512, 1),
    "5_4": (512, 1),
    "5_5": (512, 1),
    "5_6": (1024, 2),
    "6": (1024, 1),
}


def convolution(n: NetSpec, name: str, relu: str, bottom: Any, num_output: int, decay: float, **window: int) -> Any:
    """A convolution without biases, normalised, scaled and rectified."""
    n[name] = L.Convolution(
        bottom,
        num_output=num_output,
        bias_term=False,
        **window,
        weight_filler={"type": "msra"},
        param={"lr_mult": 1, "decay_mult": decay},
    )
    n[f"{name}/bn"] = L.BatchNorm(n[name], moving_average_fraction=0.9)
    n[f"{name}/scale"] = L.Scale(n[f"{name}/bn"], in_place=True, bias_term=True)
    n[relu] = L.ReLU(n[f"{name}/scale"], in_place=True)
    return n[relu]


def body(n: NetSpec) -> Any:
    last, channels = convolution(n, "conv1", "relu1", n.data, 32, 1, pad=1, kernel_size=3, stride=2), 32
    for i, (outputs, stride) in BLOCKS.items():
        # One filter for each channel. The paper: little or no weight decay here, there are so few parameters.
        window = {"pad": 1, "kernel_size": 3, "group": channels, "stride": stride}
        last = convolution(n, f"conv{i}/dw", f"relu{i}/dw", last, channels, 0, **window)
        last = convolution(n, f"conv{i}/sep", f"relu{i}/sep", last, outputs, 1, kernel_size=1)
        channels = outputs
    n.pool6 = L.Pooling(last, pool=P.Pooling.AVE, global_pooling=True)
    n.fc7 = L.Convolution(
        n.pool6, num_output=1000, kernel_size=1, weight_filler={"type": "msra"}, param=parts.WEIGHT_AND_BIAS
    )
    return n.fc7


def files() -> Iterator[tuple[str, str]]:
    mean = (103.94, 116.78, 123.68)
    yield (
        "mobilenet_train_val",
        parts.train_val(
            "MOBILENET",
            """\
MobileNet, width 1 and images of 224: A. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
Vision Applications", arXiv:1704.04861, 2017. Each convolution is one of 3x3 for every channel by itself (a group for
each), and one of 1x1 across channels. Names of layers, and how images are scaled, are those of shicai/MobileNet-Caffe.

4,231,976 parameters are learnt; 569 million multiply-adds per image. The paper reports 70.6 % top-1 on ImageNet's
validation images. The data below is a stand-in that LayerForge draws itself, ten classes of shapes. For ImageNet change
the two lines that name a source.""",
            body,
            imagenet(32, 224, mean, scale=0.017),
            top5=True,
        ),
    )
    yield (
        "mobilenet_deploy",
        parts.deploy(
            "MOBILENET",
            """\
MobileNet (see mobilenet_train_val.prototxt) for use: ten BGR crops of 224x224, less the mean pixel (103.94, 116.78,
123.68), times 0.017, in; the probabilities of 1000 classes out, as 1000 maps of 1x1.""",
            body,
            [10, 3, 224, 224],
        ),
    )
    yield (
        "mobilenet_solver",
        solvers.imagenet(
            """\
The paper trains with RMSProp as Inception v3 does (Szegedy et al., "Rethinking the Inception Architecture for Computer
Vision", CVPR 2016): decay 0.9, epsilon 1, a learning rate of 0.045 that falls by 6 % every two epochs, batches of 32 on
each of many machines, 100 epochs. Its weight decay is that of TensorFlow's MobileNet.""",
            "mobilenet",
            32,
            lambda i: {"stepsize": i(2), "max_iter": i(100)},
            type="RMSProp",
            base_lr=0.045,
            lr_policy="step",
            gamma=0.94,
            rms_decay=0.9,
            delta=1,
            weight_decay=0.00004,
        ),
    )
