"""FCN-8s, which labels every pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parts
import solvers
import vgg
import writing

from layerforge.coord_map import crop
from layerforge.net_spec import L, NetSpec, P

CLASSES = 21


def convolution(bottom: Any, num_output: int, kernel: int, **start: Any) -> Any:
    return L.Convolution(bottom, num_output=num_output, kernel_size=kernel, **start, param=parts.WEIGHT_AND_BIAS)


def upscore(bottom: Any, factor: int) -> Any:
    """Bilinear interpolation, fixed: one filter for every class."""
    options = {
        "num_output": CLASSES,
        "bias_term": False,
        "kernel_size": 2 * factor,
        "group": CLASSES,
        "stride": factor,
        "weight_filler": {"type": "bilinear"},
    }
    return L.Deconvolution(bottom, convolution_param=options, param={"lr_mult": 0, "decay_mult": 0})


def body(n: NetSpec) -> Any:
    last = vgg.trunk(n, vgg.BLOCKS[16], pad=100)
    for i, kernel in ((6, 7), (7, 1)):
        n[f"fc{i}"] = convolution(last, 4096, kernel, **vgg.START)
        last = n[f"relu{i}"] = L.ReLU(n[f"fc{i}"], in_place=True)
        last = n[f"drop{i}"] = L.Dropout(last, dropout_ratio=0.5, in_place=True)
    n.score_fr = convolution(last, CLASSES, 1)
    n.upscore2 = upscore(n.score_fr, 2)
    n.score_pool4 = convolution(n.pool4, CLASSES, 1)
    n.score_pool4c = crop(n.score_pool4, n.upscore2)
    n.fuse_pool4 = L.Eltwise(n.upscore2, n.score_pool4c, operation=P.Eltwise.SUM)
    n.upscore_pool4 = upscore(n.fuse_pool4, 2)
    n.score_pool3 = convolution(n.pool3, CLASSES, 1)
    n.score_pool3c = crop(n.score_pool3, n.upscore_pool4)
    n.fuse_pool3 = L.Eltwise(n.upscore_pool4, n.score_pool3c, operation=P.Eltwise.SUM)
    n.upscore8 = upscore(n.fuse_pool3, 8)
    n.score = crop(n.upscore8, n.data)
    return n.score


def files() -> Iterator[tuple[str, str]]:
    digits = parts.Images("sample://digits?split={}&size=160&count=400", "", ("", ""), 1, 1, mean=(118,))
    n, test = NetSpec(), NetSpec()
    n.digit, n.number = digits.layer("train", include={"phase": parts.TRAIN})
    test.digit, test.number = digits.layer("test", include={"phase": parts.TEST})
    n.data = L.Tile(n.digit, axis=1, tiles=3)
    n.ink = L.Threshold(n.digit)
    n["class"] = L.Power(n.number, shift=1)
    n.label = L.Scale(n.ink, n["class"], axis=0)
    score = body(n)
    n.accuracy = L.Accuracy(score, n.label, include={"phase": parts.TEST}, ignore_label=255)
    n.loss = L.SoftmaxWithLoss(score, n.label, loss_param={"ignore_label": 255, "normalize": False})
    about = """\
FCN-8s: J. Long, E. Shelhamer, T. Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015. VGG-16
with its fully connected layers as convolutions gives a coarse map of scores; it is enlarged and added to scores from
pool4 and pool3, and enlarged again to the size of the image. Names of layers are those of the authors' Caffe model. The
enlarging filters are fixed and bilinear, one for each class; the authors' model holds them as 21x21 filters, most of
them zero: to load it, take the three lines `group: 21` out.

134,362,751 parameters are learnt, 6,048 are fixed; 181 billion multiply-adds for an image of 500x500. 62.7 % mean IU
on PASCAL VOC 2011's validation images (the paper, FCN-8s, starting from VGG-16's
weights, stage by stage). docs/zoo.md tells how to start from a VGG-16.

The data below is a stand-in that LayerForge draws itself: digits, whose ink has the class of the digit plus one, on a
ground of class 0. For VOC replace the layers above conv1_1 by two Data layers of batch_size 1 in each phase, `data`
with
the images, less the mean pixel (104.007, 116.669, 122.679), and `label` with images of classes, 255 where there is
none."""
    yield (
        "fcn8s_train_val",
        writing.net("FCN-8s", about, parts.assemble(n, test), {"mean_value: 118": "half the range"}),
    )
    used = NetSpec()
    used.data = L.Input(shape={"dim": [1, 3, 500, 500]})
    used.prob = L.Softmax(body(used))
    yield (
        "fcn8s_deploy",
        writing.net(
            "FCN-8s",
            """\
FCN-8s (see fcn8s_train_val.prototxt) for use: one BGR image, of 500x500 or of any other size, less the mean pixel
(104.007, 116.669, 122.679), in; the probabilities of 21 classes at every pixel out.""",
            parts.for_use(used.to_proto()),
        ),
    )
    yield (
        "fcn8s_solver",
        solvers.solver(
            """\
The authors' recipe for all streams at once: one image at a time, a loss that is summed over its pixels, hence the small
learning rate, and a momentum of 0.99 in place of a batch. For VOC: test_iter: 736  max_iter: 100000""",
            "fcn8s",
            test_iter=50,
            test_interval=1000,
            test_initialization=False,
            base_lr=1e-10,
            lr_policy="fixed",
            max_iter=4000,
            momentum=0.99,
            weight_decay=0.0005,
            display=20,
            average_loss=20,
            snapshot=4000,
        ),
    )
