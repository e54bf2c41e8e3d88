"""The nets of cuda-convnet for CIFAR-10 as Caffe's users know them, with rectifiers and with tanh."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import parts
import solvers
from parts import CIFAR10, gaussian

from layerforge.net_spec import L, NetSpec, P

SOURCE = """\
After cuda-convnet's layer definitions for CIFAR-10 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny
Images", 2009, is the data set; "cuda-convnet: High-performance C++/CUDA implementation of convolutional neural
networks", 2012, are the nets), in the form that Caffe's users know."""
DATA = """\
The data below is a stand-in that LayerForge draws itself, 4,000 images of ten shapes at 32x32. For CIFAR-10 change the
lines that name a source; its 50,000 images give other numbers of iterations, which the solver states."""


def activation(n: NetSpec, name: str, bottom: Any, kind: str) -> Any:
    n[name] = getattr(L, kind)(bottom, in_place=True)
    return n[name]


def convolution(bottom: Any, num_output: int, std: float, **more: Any) -> Any:
    return L.Convolution(
        bottom,
        num_output=num_output,
        pad=2,
        kernel_size=5,
        weight_filler=gaussian(std),
        bias_filler={"type": "constant"},
        param=[{"lr_mult": 1}, {"lr_mult": 2}],
        **more,
    )


def pool(bottom: Any, how: str) -> Any:
    return L.Pooling(bottom, pool=getattr(P.Pooling, how), kernel_size=3, stride=2)


def scores(bottom: Any, num_output: int, std: float, decay: tuple[float, ...] = ()) -> Any:
    param: list[dict[str, float]] = [{"lr_mult": 1}, {"lr_mult": 2}]
    for spec, mult in zip(param, decay, strict=False):
        spec["decay_mult"] = mult
    return L.InnerProduct(
        bottom,
        num_output=num_output,
        weight_filler=gaussian(std),
        bias_filler={"type": "constant"},
        param=param,
    )


def trunk(n: NetSpec, kind: str, *, norm: bool) -> Any:
    """Three convolutions; the first pools before its activation, the others after it."""
    word = {"ReLU": "relu", "TanH": "tanh"}[kind]
    options = {"local_size": 3, "alpha": 5e-5, "beta": 0.75, "norm_region": P.LRN.WITHIN_CHANNEL}
    n.conv1 = convolution(n.data, 32, 0.0001)
    n.pool1 = pool(n.conv1, "MAX")
    last = activation(n, f"{word}1", n.pool1, kind)
    if norm:
        last = n.norm1 = L.LRN(last, **options)
    n.conv2 = convolution(last, 32, 0.01)
    n.pool2 = pool(activation(n, f"{word}2", n.conv2, kind), "AVE")
    last = n.pool2
    if norm:
        last = n.norm2 = L.LRN(last, **options)
    n.conv3 = convolution(last, 64, 0.01)
    n.pool3 = pool(activation(n, f"{word}3", n.conv3, kind), "AVE")
    return n.pool3


def quick(n: NetSpec, kind: str = "ReLU") -> Any:
    n.ip1 = scores(trunk(n, kind, norm=False), 64, 0.1)
    n.ip2 = scores(n.ip1, 10, 0.1)
    return n.ip2


def full(n: NetSpec, kind: str = "ReLU") -> Any:
    n.ip1 = scores(trunk(n, kind, norm=True), 10, 0.01, decay=(250, 0))
    return n.ip1


FIGURE = """\
The AlexNet paper (A. Krizhevsky, I. Sutskever, G. Hinton, NIPS 2012, figure 1) trains a net of four layers on CIFAR-10
without any regularisation: with rectifiers it has a training error of 25 % six times sooner than with tanh. It does not
say which net; this one has four layers with weights. nets/cifar10_figure1_relu_solver.prototxt and
nets/cifar10_figure1_tanh_solver.prototxt run the race."""


def files() -> Iterator[tuple[str, str]]:
    tanh = "with tanh in place of the rectifiers"
    yield (
        "cifar10_quick_train_val",
        parts.train_val(
            "CIFAR10_quick",
            f"""\
A small net for CIFAR-10 that is trained in minutes: three convolutions and two fully connected layers. {SOURCE}

145,578 parameters; 12.4 million multiply-adds per image. About 75 % on CIFAR-10 after 5,000 iterations. {DATA}""",
            quick,
            CIFAR10,
        ),
    )
    yield (
        "cifar10_quick_tanh_train_val",
        parts.train_val(
            "CIFAR10_quick_tanh",
            f"""\
The small net for CIFAR-10 of cifar10_quick_train_val.prototxt {tanh}, to compare the two. 145,578 parameters.

{DATA}""",
            partial(quick, kind="TanH"),
            CIFAR10,
        ),
    )
    yield (
        "cifar10_full_train_val",
        parts.train_val(
            "CIFAR10_full",
            f"""\
Three convolutions with response normalisation within channels, and one fully connected layer. {SOURCE}

89,578 parameters; 12.3 million multiply-adds per image. About 81.5 % on CIFAR-10 after 70,000 iterations. {DATA}

{FIGURE} A test net with the stage "on_train" tests on the training images.""",
            full,
            CIFAR10,
            more=True,
        ),
    )
    yield (
        "cifar10_full_tanh_train_val",
        parts.train_val(
            "CIFAR10_full_tanh",
            f"""\
The net of cifar10_full_train_val.prototxt {tanh}. 89,578 parameters.

{FIGURE}

{DATA}""",
            partial(full, kind="TanH"),
            CIFAR10,
            more=True,
        ),
    )
    for name, body in (("quick", quick), ("full", full)):
        yield (
            f"cifar10_{name}_deploy",
            parts.deploy(
                f"CIFAR10_{name}",
                f"""\
The net of cifar10_{name}_train_val.prototxt for use: one BGR image of 32x32, less the mean pixel (114, 123, 125), in;
the probabilities of ten classes out.""",
                body,
                [1, 3, 32, 32],
            ),
        )
    for kind in ("", "_tanh"):
        yield (
            f"cifar10_quick{kind}_solver",
            solvers.solver(
                """\
Caffe's recipe for the quick net: 4,000 iterations at 0.001, 1,000 at a tenth of it. For CIFAR-10's 50,000 and 10,000
images:

  test_iter: 100  test_interval: 500  snapshot: 4000""",
                f"cifar10_quick{kind}",
                test_iter=10,
                test_interval=250,
                base_lr=0.001,
                lr_policy="multistep",
                gamma=0.1,
                stepvalue=[4000],
                max_iter=5000,
                momentum=0.9,
                weight_decay=0.004,
                display=100,
                snapshot=1000,
            ),
        )
        yield (
            f"cifar10_full{kind}_solver",
            solvers.solver(
                """\
Caffe's recipe for the full net, 120 epochs at 0.001, 10 at a tenth and 10 at a hundredth of it. The numbers of
iterations are for the 4,000 sample images, 40 iterations an epoch. For CIFAR-10's 50,000 and 10,000 images:

  test_iter: 100  test_interval: 1000  stepvalue: [60000, 65000]  max_iter: 70000  display: 200  snapshot: 10000""",
                f"cifar10_full{kind}",
                test_iter=10,
                test_interval=200,
                base_lr=0.001,
                lr_policy="multistep",
                gamma=0.1,
                stepvalue=[4800, 5200],
                max_iter=5600,
                momentum=0.9,
                weight_decay=0.004,
                display=100,
                snapshot=1000,
            ),
        )
    for word, kind in (("relu", ""), ("tanh", "_tanh")):
        yield (
            f"cifar10_figure1_{word}_solver",
            solvers.solver(
                f"""\
One side of the race in figure 1 of the AlexNet paper (see cifar10_full{kind}_train_val.prototxt): no weight decay, one
learning rate, which the paper chose for each net by itself, and the error on the training images: 1 - accuracy of test
net 1. For CIFAR-10's 50,000 images, of which 10,000 tell the training error well enough:

  test_iter: [100, 100]  test_interval: 500  max_iter: 20000""",
                f"cifar10_full{kind}",
                snapshot_prefix=f"cifar10_figure1_{word}",
                test_state=[solvers.ON_TEST, solvers.ON_TRAIN],
                test_iter=[10, 40],
                test_interval=100,
                base_lr=0.001,
                lr_policy="fixed",
                max_iter=4000,
                momentum=0.9,
                weight_decay=0,
                display=100,
                snapshot=1000,
            ),
        )
