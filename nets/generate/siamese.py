"""Two LeNets with one set of weights, trained to place equal digits close to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import parts
import solvers
import writing
from parts import MNIST, TEST, TRAIN

from layerforge.net_spec import L, NetSpec, P


def shared(name: str) -> list[dict[str, object]]:
    """Weights and biases under a name: a layer that names the same ones shares them."""
    return [{"name": f"{name}_w", "lr_mult": 1}, {"name": f"{name}_b", "lr_mult": 2}]


def branch(n: NetSpec, data: Any, end: str = "") -> Any:
    """LeNet down to two numbers; ``end`` tells the branches' layers apart."""
    xavier = {"weight_filler": {"type": "xavier"}, "bias_filler": {"type": "constant"}}

    def convolution(name: str, bottom: Any, num_output: int) -> Any:
        n[name + end] = L.Convolution(bottom, num_output=num_output, kernel_size=5, param=shared(name), **xavier)
        return n[name + end]

    def pool(name: str, bottom: Any) -> Any:
        n[name + end] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=2, stride=2)
        return n[name + end]

    def inner_product(name: str, bottom: Any, num_output: int) -> Any:
        n[name + end] = L.InnerProduct(bottom, num_output=num_output, param=shared(name), **xavier)
        return n[name + end]

    last = pool("pool1", convolution("conv1", data, 20))
    last = pool("pool2", convolution("conv2", last, 50))
    last = inner_product("ip1", last, 500)
    n["relu1" + end] = L.ReLU(last, in_place=True)
    last = inner_product("ip2", last, 10)
    return inner_product("feat", last, 2)


def files() -> Iterator[tuple[str, str]]:
    n, test = NetSpec(), NetSpec()
    images = replace(MNIST, sample="sample://digits?split={}")
    layers = []
    for split, phase in (("train", TRAIN), ("test", TEST)):
        for end in ("", "_p"):
            made = NetSpec()
            options = {"include": {"phase": phase}}
            made["data" + end], made["label" + end] = images.layer(split, **options)
            (layer,) = made.to_proto().layer
            layer.data_param.shuffle = True
            layers.append(layer)
    del test
    n.data, n.label = L.Data(ntop=2)
    n.data_p, n.label_p = L.Data(ntop=2)
    n.difference = L.Eltwise(n.label, n.label_p, coeff=[1, -1])
    n.distance = L.AbsVal(n.difference)
    n.other = L.Threshold(n.distance, threshold=0.5)
    n.sim = L.Power(n.other, scale=-1, shift=1)
    first, second = branch(n, n.data), branch(n, n.data_p, "_p")
    n.loss = L.ContrastiveLoss(first, second, n.sim, margin=1)
    net = n.to_proto()
    drawn = list(net.layer)[2:]
    del net.layer[:]
    net.layer.extend([*layers, *drawn])
    about = """\
A Siamese net: R. Hadsell, S. Chopra, Y. LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006,
with LeNet for its branches, as Caffe's users know it. Both branches have one set of weights, shared by the names of
their parameters. Each pair of images is made of two that are drawn at random, one in ten of the same digit; four layers
make `sim` of the labels, 1 for equal and 0 for different digits. The loss pulls equal digits together and pushes others
one apart.

431,102 parameters, counted once; 2.3 million multiply-adds per image. After training, the two numbers of `feat`
place each digit in a cluster of its own.
The data below is a stand-in that LayerForge draws itself, digits in many hands. For MNIST change the four lines that
name a source."""
    yield "siamese_train_val", writing.net("Siamese", about, net, images.notes())
    yield (
        "siamese_solver",
        solvers.solver(
            """\
Caffe's recipe for its Siamese net. For MNIST's 60,000 and 10,000 images:

  test_iter: 100  max_iter: 50000  snapshot: 5000""",
            "siamese",
            test_iter=10,
            test_interval=500,
            base_lr=0.01,
            lr_policy="inv",
            gamma=0.0001,
            power=0.75,
            max_iter=5000,
            momentum=0.9,
            weight_decay=0,
            display=100,
            snapshot=1000,
        ),
    )
    used = NetSpec()
    used.data = L.Input(shape={"dim": [1, 1, 28, 28]})
    branch(used, used.data)
    yield (
        "siamese_deploy",
        writing.net(
            "Siamese",
            """\
One branch of the Siamese net (see siamese_train_val.prototxt) for use: a grey image of 28x28, grey values divided by
256, in; its place in a plane out.""",
            parts.for_use(used.to_proto()),
        ),
    )
