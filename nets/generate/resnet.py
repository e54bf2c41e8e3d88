"""Residual nets: 18, 50, 101 and 152 layers for ImageNet, 1001 layers for CIFAR-10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import parts
import solvers
from parts import CIFAR10, constant, gaussian, imagenet

from layerforge.net_spec import L, NetSpec, P

PAPER = 'K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016'
#: Units in each of the four stages.
STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def names(depth: int, stage: int, count: int) -> Iterator[str]:
    """The authors' names of a stage's units: 2a 2b 2c, and 4a 4b1 ... 4b22 in the longer stages of the deeper nets."""
    numbered = (depth > 50 and stage in (3, 4)) or depth > 1000
    for i in range(count):
        yield f"{stage}a" if i == 0 else f"{stage}b{i}" if numbered else f"{stage}{chr(ord('a') + i)}"


def convolution(bottom: Any, num_output: int, kernel: int, stride: int = 1, bias: bool = False, **init: Any) -> Any:
    window = {"kernel_size": kernel} | ({"pad": kernel // 2} if kernel > 1 else {})
    return L.Convolution(
        bottom,
        num_output=num_output,
        **({} if bias else {"bias_term": False}),
        **window,
        **({"stride": stride} if stride > 1 else {}),
        weight_filler={"type": "msra", **init},
    )


def normalise(n: NetSpec, name: str, bottom: Any, *, in_place: bool = True) -> Any:
    """Batch normalisation, then a scale and a bias for each channel: ``bn<name>`` and ``scale<name>``."""
    n[f"bn{name}"] = L.BatchNorm(bottom, in_place=in_place, moving_average_fraction=0.9)
    n[f"scale{name}"] = L.Scale(n[f"bn{name}"], in_place=True, bias_term=True)
    return n[f"scale{name}"]


def branch(n: NetSpec, name: str, bottom: Any, num_output: int, kernel: int, stride: int = 1) -> Any:
    n[f"res{name}"] = convolution(bottom, num_output, kernel, stride)
    return normalise(n, name, n[f"res{name}"])


def relu(n: NetSpec, name: str, bottom: Any) -> Any:
    n[f"{name}_relu"] = L.ReLU(bottom, in_place=True)
    return n[f"{name}_relu"]


def unit(n: NetSpec, name: str, bottom: Any, width: int, stride: int, *, bottleneck: bool, project: bool) -> Any:
    """x + F(x): two convolutions of 3x3, or one between two of 1x1, of which the last is four times as wide."""
    outputs = 4 * width if bottleneck else width
    shortcut = branch(n, f"{name}_branch1", bottom, outputs, 1, stride) if project else bottom
    kernels = (1, 3, 1) if bottleneck else (3, 3)
    last = bottom
    for i, kernel in enumerate(kernels):
        part = f"{name}_branch2{'abc'[i]}"
        end = i == len(kernels) - 1
        last = branch(n, part, last, outputs if end else width, kernel, 1 if i else stride)
        if not end:
            last = relu(n, f"res{part}", last)
    n[f"res{name}"] = L.Eltwise(shortcut, last)
    return relu(n, f"res{name}", n[f"res{name}"])


def body(n: NetSpec, depth: int) -> Any:
    bottleneck = depth >= 50
    n.conv1 = convolution(n.data, 64, 7, 2, bias=depth == 50)
    last = relu(n, "conv1", normalise(n, "_conv1", n.conv1))
    last = n.pool1 = L.Pooling(last, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    for stage, count in enumerate(STAGES[depth], 2):
        for i, name in enumerate(names(depth, stage, count)):
            first = i == 0
            last = unit(
                n,
                name,
                last,
                16 << stage,
                2 if first and stage > 2 else 1,
                bottleneck=bottleneck,
                project=first and (bottleneck or stage > 2),
            )
    n.pool5 = L.Pooling(last, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n.fc1000 = L.InnerProduct(
        n.pool5, num_output=1000, weight_filler=gaussian(0.01), bias_filler=constant(), param=parts.WEIGHT_AND_BIAS
    )
    return n.fc1000


def before(n: NetSpec, name: str, bottom: Any, *, in_place: bool = True) -> Any:
    """Normalised and rectified, ready for the convolution ``res<name>``."""
    return relu(n, f"res{name}", normalise(n, name, bottom, in_place=in_place))


def body1001(n: NetSpec, units: int) -> Any:
    """Full pre-activation: the shortcut goes from the first unit to the last without being normalised or rectified."""

    def conv(bottom: Any, num_output: int, kernel: int, stride: int = 1) -> Any:
        return convolution(bottom, num_output, kernel, stride, variance_norm=P.Filler.FAN_OUT)

    last = n.conv1 = conv(n.data, 16, 3)
    for stage in (2, 3, 4):
        width = 4 << stage
        for i, name in enumerate(names(1001, stage, units)):
            stride = 2 if i == 0 and stage > 2 else 1
            # Units that widen project what is rectified already; there, nobody else reads the bottom.
            ready = before(n, f"{name}_branch2a", last, in_place=i == 0)
            if i == 0:
                last = n[f"res{name}_branch1"] = conv(ready, 4 * width, 1, stride)
            n[f"res{name}_branch2a"] = conv(ready, width, 1, stride)
            ready = before(n, f"{name}_branch2b", n[f"res{name}_branch2a"])
            n[f"res{name}_branch2b"] = conv(ready, width, 3)
            ready = before(n, f"{name}_branch2c", n[f"res{name}_branch2b"])
            n[f"res{name}_branch2c"] = conv(ready, 4 * width, 1)
            last = n[f"res{name}"] = L.Eltwise(last, n[f"res{name}_branch2c"])
    last = relu(n, "res5", normalise(n, "5", last))
    n.pool5 = L.Pooling(last, pool=P.Pooling.AVE, global_pooling=True)
    n.fc10 = L.InnerProduct(
        n.pool5, num_output=10, weight_filler={"type": "xavier"}, bias_filler=constant(), param=parts.WEIGHT_AND_BIAS
    )
    return n.fc10


FACTS: dict[int, Sequence[str]] = {
    18: (
        "11,689,512 parameters are learnt; 1.8 billion multiply-adds per image",
        "The paper reports 27.9 % top-1 error (ten crops)",
        """\
The authors gave no Caffe model of it; the names follow their deeper ones. As in the paper, only units that widen have a
projection; HolmesShuan's Caffe model of 18 layers has one more, in unit 2a.""",
    ),
    50: (
        "25,557,096 parameters are learnt; 3.9 billion multiply-adds per image",
        "The authors' Caffe model has 24.7 % top-1 and 7.8 % top-5 error (one crop)",
        """\
Names of layers are those of the authors' Caffe model, whose first convolution has biases in this net alone.""",
    ),
    101: (
        "44,549,160 parameters are learnt; 7.6 billion multiply-adds per image",
        "The authors' Caffe model has 23.6 % top-1 and 7.1 % top-5 error (one crop)",
        "Names of layers are those of the authors' Caffe model.",
    ),
    152: (
        "60,192,808 parameters are learnt; 11.3 billion multiply-adds per image",
        "The authors' Caffe model has 23.0 % top-1 and 6.7 % top-5 error (one crop)",
        "Names of layers are those of the authors' Caffe model.",
    ),
}


def files() -> Iterator[tuple[str, str]]:
    for depth, (numbers, errors, remark) in FACTS.items():
        name = f"resnet{depth}"
        yield (
            f"{name}_train_val",
            parts.train_val(
                f"ResNet-{depth}",
                f"""\
ResNet-{depth}: {PAPER}. {remark} Units that halve the size do so in their first convolution, as in the paper.

{numbers}. {errors} on ImageNet's validation images. The paper scales images to a shorter side of 256 to 480
and changes their colours, and subtracts the mean of every pixel; here crops are cut from images of 256. The data below
is a stand-in that LayerForge draws itself, ten classes of shapes. For ImageNet change the two lines that name a
source.""",
                partial(body, depth=depth),
                imagenet(32, 224),
                top5=True,
            ),
        )
        yield (
            f"{name}_deploy",
            parts.deploy(
                f"ResNet-{depth}",
                f"""\
ResNet-{depth} (see {name}_train_val.prototxt) for use: ten BGR crops of 224x224, less the mean pixel (104, 117, 123),
in; the probabilities of 1000 classes out.""",
                partial(body, depth=depth),
                [10, 3, 224, 224],
            ),
        )
        yield (
            f"{name}_solver",
            solvers.imagenet(
                """\
The paper's recipe: batches of 256, here eight of 32, each normalised by itself as on the paper's GPUs, 120 epochs, a
learning rate of 0.1 that drops by 10 when the error stands still; here after 30, 60 and 90 epochs.""",
                name,
                256,
                lambda i: {"stepvalue": [i(30), i(60), i(90)], "max_iter": i(120)},
                iter_size=8,
                base_lr=0.1,
                lr_policy="multistep",
                gamma=0.1,
                momentum=0.9,
                weight_decay=0.0001,
            ),
        )
    images = replace(
        CIFAR10, sample="sample://shapes?split={}&size=40", batch=64, test_batch=50, crop=32, mirror=True, scale=1 / 64
    )
    yield (
        "resnet1001_train_val",
        parts.train_val(
            "ResNet-1001",
            """\
ResNet-1001: K. He, X. Zhang, S. Ren, J. Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, the net for
CIFAR-10: 333 bottleneck units with full pre-activation, 111 in each of three stages.

10,327,706 parameters are learnt; 1.5 billion multiply-adds per image. The paper reports 4.92 % error on CIFAR-10 with
batches of 128, 4.62 % with batches of 64. Crops of 32 are cut from images of 40: for CIFAR-10, pad its images with four
pixels of the mean on each side, and change the lines that name a source. The data below is a stand-in that LayerForge
draws itself, ten classes of shapes.""",
            partial(body1001, units=111),
            images,
            short=True,
        ),
    )
    yield (
        "resnet1001_solver",
        solvers.solver(
            """\
The paper's recipe: batches of 64, a learning rate of 0.1 after a warm-up of 400 iterations at 0.01, that drops by 10
after 82 and 123 of 164 epochs. Here the warm-up rises in a line. The numbers of iterations are for the 4,000 sample
images, 62.5 an epoch. For CIFAR-10's 50,000 and 10,000 images:

  test_iter: 200  test_interval: 1000  stepvalue: [64000, 96000]  max_iter: 128000  snapshot: 10000""",
            "resnet1001",
            test_iter=20,
            test_interval=250,
            test_initialization=False,
            base_lr=0.1,
            warmup_iter=400,
            warmup_start_lr=0.01,
            lr_policy="multistep",
            gamma=0.1,
            stepvalue=[5120, 7680],
            max_iter=10240,
            momentum=0.9,
            weight_decay=0.0001,
            display=10,
            snapshot=500,
        ),
    )
