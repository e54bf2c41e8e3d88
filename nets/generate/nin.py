"""Network in Network, for CIFAR-10 and for ImageNet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import parts
import solvers
from parts import CIFAR10, constant, gaussian, imagenet

from layerforge.net_spec import L, NetSpec, P

PAPER = 'M. Lin, Q. Chen, S. Yan, "Network In Network", ICLR 2014'


class Stack:
    """A net that grows layer by layer."""

    def __init__(self, n: NetSpec):
        self.n, self.last = n, n.data

    def convolution(self, name: str, relu: str, num_output: int, std: float, **window: int) -> None:
        self.n[name] = L.Convolution(
            self.last,
            num_output=num_output,
            **window,
            weight_filler=gaussian(std),
            bias_filler=constant(),
            param=parts.WEIGHT_AND_BIAS,
        )
        self.last = self.n[name]
        self.n[relu] = L.ReLU(self.last, in_place=True)

    def pool(self, name: str, how: str, size: int, stride: int) -> None:
        self.last = self.n[name] = L.Pooling(self.last, pool=getattr(P.Pooling, how), kernel_size=size, stride=stride)

    def drop(self, name: str) -> None:
        self.n[name] = L.Dropout(self.last, dropout_ratio=0.5, in_place=True)


def cifar10(n: NetSpec) -> Any:
    s = Stack(n)
    s.convolution("conv1", "relu1", 192, 0.05, pad=2, kernel_size=5)
    s.convolution("cccp1", "relu_cccp1", 160, 0.05, kernel_size=1)
    s.convolution("cccp2", "relu_cccp2", 96, 0.05, kernel_size=1)
    s.pool("pool1", "MAX", 3, 2)
    s.drop("drop3")
    s.convolution("conv2", "relu2", 192, 0.05, pad=2, kernel_size=5)
    s.convolution("cccp3", "relu_cccp3", 192, 0.05, kernel_size=1)
    s.convolution("cccp4", "relu_cccp4", 192, 0.05, kernel_size=1)
    s.pool("pool2", "AVE", 3, 2)
    s.drop("drop6")
    s.convolution("conv3", "relu3", 192, 0.05, pad=1, kernel_size=3)
    s.convolution("cccp5", "relu_cccp5", 192, 0.05, kernel_size=1)
    s.convolution("cccp6", "relu_cccp6", 10, 0.05, kernel_size=1)
    s.pool("pool3", "AVE", 8, 1)
    return s.last


def nin_imagenet(n: NetSpec) -> Any:
    s = Stack(n)
    s.convolution("conv1", "relu0", 96, 0.01, kernel_size=11, stride=4)
    s.convolution("cccp1", "relu1", 96, 0.05, kernel_size=1)
    s.convolution("cccp2", "relu2", 96, 0.05, kernel_size=1)
    s.pool("pool0", "MAX", 3, 2)
    s.convolution("conv2", "relu3", 256, 0.05, pad=2, kernel_size=5)
    s.convolution("cccp3", "relu5", 256, 0.05, kernel_size=1)
    s.convolution("cccp4", "relu6", 256, 0.05, kernel_size=1)
    s.pool("pool2", "MAX", 3, 2)
    s.convolution("conv3", "relu7", 384, 0.01, pad=1, kernel_size=3)
    s.convolution("cccp5", "relu8", 384, 0.05, kernel_size=1)
    s.convolution("cccp6", "relu9", 384, 0.05, kernel_size=1)
    s.pool("pool3", "MAX", 3, 2)
    s.drop("drop")
    s.convolution("conv4-1024", "relu10", 1024, 0.05, pad=1, kernel_size=3)
    s.convolution("cccp7-1024", "relu11", 1024, 0.05, kernel_size=1)
    s.convolution("cccp8-1024", "relu12", 1000, 0.01, kernel_size=1)
    s.pool("pool4", "AVE", 6, 1)
    return s.last


def files() -> Iterator[tuple[str, str]]:
    images = replace(CIFAR10, batch=128, scale=1 / 64)
    yield (
        "nin_train_val",
        parts.train_val(
            "NIN",
            f"""\
Network in Network for CIFAR-10: {PAPER}. After each convolution two of 1x1, which make it a small net that slides over
the image (cccp: cascaded cross-channel parametric pooling); the average of the last maps in place of fully connected
layers; dropout between the blocks.

966,986 parameters; 222.5 million multiply-adds per image. The paper reports 89.6 % on CIFAR-10, 91.2 % with shifted and
mirrored images. It whitens the images (global contrast normalisation and ZCA); here they lose their mean pixel and are
divided by 64. The data below is a stand-in that LayerForge draws itself, ten shapes at 32x32. For CIFAR-10 change the
lines that name a source.""",
            cifar10,
            images,
        ),
    )
    yield (
        "nin_deploy",
        parts.deploy(
            "NIN",
            """\
Network in Network (see nin_train_val.prototxt) for use: one BGR image of 32x32, less the mean pixel (114, 123, 125),
divided by 64, in; the probabilities of ten classes out.""",
            cifar10,
            [1, 3, 32, 32],
        ),
    )
    yield (
        "nin_solver",
        solvers.solver(
            """\
The paper's recipe: batches of 128, and a learning rate that drops by 10 twice, when the training accuracy stands still;
here after 200 and 230 of 250 epochs. The numbers of iterations are for the 4,000 sample images, 31.25 an epoch. For
CIFAR-10's 50,000 and 10,000 images:

  test_iter: 100  test_interval: 1000  stepvalue: [78125, 89844]  max_iter: 97656  snapshot: 10000""",
            "nin",
            test_iter=10,
            test_interval=200,
            base_lr=0.05,
            lr_policy="multistep",
            gamma=0.1,
            stepvalue=[6250, 7188],
            max_iter=7813,
            momentum=0.9,
            weight_decay=0.0001,
            display=50,
            snapshot=1000,
        ),
    )
    yield (
        "nin_imagenet_train_val",
        parts.train_val(
            "nin_imagenet",
            f"""\
Network in Network for ImageNet: {PAPER}, in the form that its authors gave to Caffe's users, with their names of
layers. The paper itself stops at CIFAR, SVHN and MNIST.

7,595,176 parameters, an eighth of AlexNet's; 1.1 billion multiply-adds per image. The authors report 59.4 % top-1 on
ImageNet's validation images. The data below is a stand-in that LayerForge draws itself, ten classes of shapes. For
ImageNet change the two lines that name a source.""",
            nin_imagenet,
            imagenet(64, 224),
            top5=True,
        ),
    )
    yield (
        "nin_imagenet_deploy",
        parts.deploy(
            "nin_imagenet",
            """\
Network in Network for ImageNet (see nin_imagenet_train_val.prototxt) for use: ten BGR crops of 224x224, less the mean
pixel (104, 117, 123), in; the probabilities of 1000 classes out.""",
            nin_imagenet,
            [10, 3, 224, 224],
        ),
    )
    yield (
        "nin_imagenet_solver",
        solvers.imagenet(
            "The authors' recipe for Caffe: batches of 64, 22.5 epochs, a learning rate that drops by 10 twice.",
            "nin_imagenet",
            64,
            lambda i: {"stepvalue": [i(10), i(20)], "max_iter": i(22.5)},
            base_lr=0.01,
            lr_policy="multistep",
            gamma=0.1,
            momentum=0.9,
            weight_decay=0.0005,
        ),
    )
