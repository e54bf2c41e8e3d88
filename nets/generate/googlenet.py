"""GoogLeNet with its two side losses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import parts
import solvers
import writing
from parts import TEST, TRAIN, constant, imagenet

from layerforge.net_spec import L, NetSpec, P

#: Outputs of the paper's table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj.
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
SIDES = {"4a": "loss1", "4d": "loss2"}


def convolution(n: NetSpec, group: str, name: str, bottom: Any, num_output: int, relu: str, **window: int) -> Any:
    """A convolution and its rectifier, ``group/name`` and ``group/relu_...``."""
    n[f"{group}/{name}"] = L.Convolution(
        bottom,
        num_output=num_output,
        **window,
        weight_filler={"type": "xavier"},
        bias_filler=constant(0.2),
        param=parts.WEIGHT_AND_BIAS,
    )
    n[f"{group}/{relu}"] = L.ReLU(n[f"{group}/{name}"], in_place=True)
    return n[f"{group}/{relu}"]


def pool(n: NetSpec, name: str, bottom: Any, how: str, size: int, stride: int, pad: int = 0) -> Any:
    more = {"pad": pad} if pad else {}
    n[name] = L.Pooling(bottom, pool=getattr(P.Pooling, how), kernel_size=size, stride=stride, **more)
    return n[name]


def norm(bottom: Any) -> Any:
    return L.LRN(bottom, local_size=5, alpha=0.0001, beta=0.75)


def inception(n: NetSpec, name: str, bottom: Any) -> Any:
    """Four branches of the same size, side by side in one blob."""
    one, reduce3, three, reduce5, five, proj = INCEPTION[name]
    group = f"inception_{name}"

    def conv(name: str, bottom: Any, num_output: int, kernel: int = 1) -> Any:
        window = {"pad": kernel // 2, "kernel_size": kernel} if kernel > 1 else {"kernel_size": 1}
        return convolution(n, group, name, bottom, num_output, f"relu_{name}", **window)

    branches = [
        conv("1x1", bottom, one),
        conv("3x3", conv("3x3_reduce", bottom, reduce3), three, 3),
        conv("5x5", conv("5x5_reduce", bottom, reduce5), five, 5),
        conv("pool_proj", pool(n, f"{group}/pool", bottom, "MAX", 3, 1, 1), proj),
    ]
    n[f"{group}/output"] = L.Concat(*branches)
    return n[f"{group}/output"]


def scores(bottom: Any, num_output: int, bias: float) -> Any:
    return L.InnerProduct(
        bottom,
        num_output=num_output,
        weight_filler={"type": "xavier"},
        bias_filler=constant(bias),
        param=parts.WEIGHT_AND_BIAS,
    )


def losses(n: NetSpec, group: str, bottom: Any, weight: float) -> None:
    """The loss of one classifier, and what it reaches in tests."""
    last = "loss3" if group == "loss3" else "loss1"
    n[f"{group}/{last}"] = L.SoftmaxWithLoss(
        bottom, n.label, name=f"{group}/{'loss3' if group == 'loss3' else 'loss'}", loss_weight=weight
    )
    n[f"{group}/top-1"] = L.Accuracy(bottom, n.label, include={"phase": TEST})
    n[f"{group}/top-5"] = L.Accuracy(bottom, n.label, include={"phase": TEST}, top_k=5)


def side(n: NetSpec, group: str, bottom: Any) -> None:
    """A classifier on the way, which brings gradients to the layers below it."""
    last = pool(n, f"{group}/ave_pool", bottom, "AVE", 5, 3)
    last = convolution(n, group, "conv", last, 128, "relu_conv", kernel_size=1)
    n[f"{group}/fc"] = scores(last, 1024, 0.2)
    last = n[f"{group}/relu_fc"] = L.ReLU(n[f"{group}/fc"], in_place=True)
    last = n[f"{group}/drop_fc"] = L.Dropout(last, dropout_ratio=0.7, in_place=True)
    n[f"{group}/classifier"] = scores(last, 1000, 0)
    losses(n, group, n[f"{group}/classifier"], 0.3)


def body(n: NetSpec, *, sides: bool = False) -> Any:
    last = convolution(n, "conv1", "7x7_s2", n.data, 64, "relu_7x7", pad=3, kernel_size=7, stride=2)
    last = n["pool1/norm1"] = norm(pool(n, "pool1/3x3_s2", last, "MAX", 3, 2))
    last = convolution(n, "conv2", "3x3_reduce", last, 64, "relu_3x3_reduce", kernel_size=1)
    last = convolution(n, "conv2", "3x3", last, 192, "relu_3x3", pad=1, kernel_size=3)
    last = n["conv2/norm2"] = norm(last)
    last = pool(n, "pool2/3x3_s2", last, "MAX", 3, 2)
    for name in INCEPTION:
        last = inception(n, name, last)
        if sides and name in SIDES:
            side(n, SIDES[name], last)
        if name in ("3b", "4e"):
            last = pool(n, f"pool{name[0]}/3x3_s2", last, "MAX", 3, 2)
    last = pool(n, "pool5/7x7_s1", last, "AVE", 7, 1)
    last = n["pool5/drop_7x7_s1"] = L.Dropout(last, dropout_ratio=0.4, in_place=True)
    n["loss3/classifier"] = scores(last, 1000, 0)
    return n["loss3/classifier"]


def train_val() -> str:
    images = imagenet(32, 224)
    n, test = NetSpec(), NetSpec()
    n.data, n.label = images.layer("train", include={"phase": TRAIN})
    test.data, test.label = images.layer("test", mirror=False, include={"phase": TEST})
    losses(n, "loss3", body(n, sides=True), 1)
    about = """\
GoogLeNet: C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, with the names of layers of Caffe's
bvlc_googlenet, whose weights it loads. Two side classifiers of weight 0.3 bring gradients to the lower layers while it
is trained; the net for use has none.

13,378,280 parameters, 6,998,552 of them in the net for use; 1.6 billion multiply-adds per image there. The paper
reports
10.07 % top-5 error on ImageNet's validation images for one net and one crop, with far more cropping and colour changes
in training than here; bvlc_googlenet has 68.7 % top-1 and 88.9 % top-5. The data below is a stand-in that LayerForge
draws itself, ten classes of shapes. For ImageNet change the two lines that name a source."""
    return writing.net("GoogleNet", about, parts.assemble(n, test), images.notes())


def files() -> Iterator[tuple[str, str]]:
    yield "googlenet_train_val", train_val()
    yield (
        "googlenet_deploy",
        parts.deploy(
            "GoogleNet",
            """\
GoogLeNet (see googlenet_train_val.prototxt) for use: ten BGR crops of 224x224, less the mean pixel (104, 117, 123), in;
the probabilities of 1000 classes out.""",
            partial(body, sides=False),
            [10, 3, 224, 224],
        ),
    )
    yield (
        "googlenet_solver",
        solvers.imagenet(
            """\
bvlc_googlenet's quick recipe: batches of 32, 60 epochs, a learning rate that falls from 0.01 to 0 with the root of what
is left. The paper's own, for 250 epochs, lowers it by 4 % every 8 epochs; for ImageNet:

  lr_policy: "step"  gamma: 0.96  stepsize: 320292  max_iter: 10009000""",
            "googlenet",
            32,
            lambda i: {"max_iter": i(60)},
            base_lr=0.01,
            lr_policy="poly",
            power=0.5,
            momentum=0.9,
            weight_decay=0.0002,
        ),
    )
