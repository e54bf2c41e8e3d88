"""ZFNet, and SPP-net on its convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parts
import solvers
from parts import constant, gaussian, imagenet

from layerforge.net_spec import L, NetSpec, P

START = {"weight_filler": gaussian(0.01), "bias_filler": constant(), "param": parts.WEIGHT_AND_BIAS}
#: name -> (outputs, options of the window)
CONVOLUTIONS: dict[str, tuple[int, dict[str, int]]] = {
    "1": (96, {"pad": 1, "kernel_size": 7, "stride": 2}),
    "2": (256, {"kernel_size": 5, "stride": 2}),
    "3": (384, {"pad": 1, "kernel_size": 3}),
    "4": (384, {"pad": 1, "kernel_size": 3}),
    "5": (256, {"pad": 1, "kernel_size": 3}),
}


def pool(bottom: Any) -> Any:
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)


def trunk(n: NetSpec) -> Any:
    """Five convolutions; the first two are pooled, then normalised across channels."""
    last = n.data
    for i, (outputs, window) in CONVOLUTIONS.items():
        n[f"conv{i}"] = L.Convolution(last, num_output=outputs, **window, **START)
        last = n[f"relu{i}"] = L.ReLU(n[f"conv{i}"], in_place=True)
        if i in "12":
            n[f"pool{i}"] = pool(last)
            last = n[f"norm{i}"] = L.LRN(n[f"pool{i}"], local_size=5, alpha=0.0001, beta=0.75)
    return last


def head(n: NetSpec, last: Any) -> Any:
    for i in (6, 7):
        n[f"fc{i}"] = L.InnerProduct(last, num_output=4096, **START)
        last = n[f"relu{i}"] = L.ReLU(n[f"fc{i}"], in_place=True)
        last = n[f"drop{i}"] = L.Dropout(last, dropout_ratio=0.5, in_place=True)
    n.fc8 = L.InnerProduct(last, num_output=1000, **START)
    return n.fc8


def zfnet(n: NetSpec) -> Any:
    n.pool5 = pool(trunk(n))
    return head(n, n.pool5)


def sppnet(n: NetSpec) -> Any:
    n.spp5 = L.SPP(trunk(n), pool=P.SPP.MAX, pyramid_height=3)
    return head(n, n.spp5)


def files() -> Iterator[tuple[str, str]]:
    data = """\
The data below is a stand-in that LayerForge draws itself, ten classes of shapes. For ImageNet change the two lines that
name a source."""
    yield (
        "zfnet_train_val",
        parts.train_val(
            "ZFNet",
            f"""\
ZFNet, the net of figure 3 in M. Zeiler, R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014:
AlexNet with a first layer of 7x7 and stride 2, which keeps more of the image, and without groups. The paper's contrast
normalisation across feature maps is an LRN with AlexNet's size and exponent; its rescaling of filters whose RMS grows
beyond 0.1 is left out.

62,357,608 parameters; 1.2 billion multiply-adds per image. The paper reports 38.4 % top-1 and 16.5 % top-5 error on
ImageNet's validation images (one net). {data}""",
            zfnet,
            imagenet(128, 224),
            top5=True,
        ),
    )
    yield (
        "sppnet_train_val",
        parts.train_val(
            "SPP-net",
            f"""\
SPP-net: K. He, X. Zhang, S. Ren, J. Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual
Recognition", ECCV 2014. Its head, a pyramid of pools in place of the last one, makes 5,376 features of a map of any
size, here that of ZFNet's convolutions, so that the net takes images of any size. Caffe's SPP layer halves its bins
from
level to level: 4x4, 2x2 and 1x1, where the paper has 6x6, 3x3, 2x2 and 1x1.

46,628,968 parameters; 1.2 billion multiply-adds per image. The paper reports 35.0 % top-1 and 14.1 % top-5 error on
ImageNet's validation images for its ZF-5 net with a pyramid (one net, ten crops), against 36.0 % and 14.8 % without.
{data}""",
            sppnet,
            imagenet(128, 224),
            top5=True,
        ),
    )
    for name, title, body, text in (
        ("zfnet", "ZFNet", zfnet, "ten BGR crops of 224x224,"),
        ("sppnet", "SPP-net", sppnet, "ten BGR images of 224x224, or of any other size,"),
    ):
        yield (
            f"{name}_deploy",
            parts.deploy(
                title,
                f"""\
{title} (see {name}_train_val.prototxt) for use: {text} less the mean pixel (104, 117, 123), in; the probabilities of
1000 classes out.""",
                body,
                [10, 3, 224, 224],
            ),
        )
        yield (
            f"{name}_solver",
            solvers.imagenet(
                """\
ZFNet's recipe (Zeiler, Fergus 2014): batches of 128, 70 epochs, a learning rate of 0.01 that drops by 10 when the
validation error stands still; here after 25, 45 and 60 epochs. The weight decay is AlexNet's, as the paper names
none.""",
                name,
                128,
                lambda i: {"stepvalue": [i(25), i(45), i(60)], "max_iter": i(70)},
                base_lr=0.01,
                lr_policy="multistep",
                gamma=0.1,
                momentum=0.9,
                weight_decay=0.0005,
            ),
        )
