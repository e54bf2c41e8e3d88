"""VGG-16 and VGG-19."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import parts
import solvers
from parts import constant, imagenet

from layerforge.net_spec import L, NetSpec, P

PAPER = """\
K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015"""
#: Convolutions in each of the five blocks.
BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
#: U(-a, a) with a^2 = 6 / (inputs + outputs), as Glorot & Bengio have it.
GLOROT = {"type": "xavier", "variance_norm": P.Filler.AVERAGE}
START = {"weight_filler": GLOROT, "bias_filler": constant()}


def trunk(n: NetSpec, blocks: Sequence[int], pad: int = 1) -> Any:
    """The convolutions; ``pad`` is that of the first one."""
    last = n.data
    for block, count in enumerate(blocks, 1):
        for i in range(1, count + 1):
            n[f"conv{block}_{i}"] = L.Convolution(
                last,
                num_output=min(32 << block, 512),
                pad=pad,
                kernel_size=3,
                **START,
                param=parts.WEIGHT_AND_BIAS,
            )
            last = n[f"relu{block}_{i}"] = L.ReLU(n[f"conv{block}_{i}"], in_place=True)
            pad = 1
        last = n[f"pool{block}"] = L.Pooling(last, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    return last


def body(n: NetSpec, depth: int) -> Any:
    last = trunk(n, BLOCKS[depth])
    for i in (6, 7):
        n[f"fc{i}"] = L.InnerProduct(last, num_output=4096, **START, param=parts.WEIGHT_AND_BIAS)
        last = n[f"relu{i}"] = L.ReLU(n[f"fc{i}"], in_place=True)
        last = n[f"drop{i}"] = L.Dropout(last, dropout_ratio=0.5, in_place=True)
    n.fc8 = L.InnerProduct(last, num_output=1000, **START, param=parts.WEIGHT_AND_BIAS)
    return n.fc8


def files() -> Iterator[tuple[str, str]]:
    facts = {
        16: ("D", "138,357,544 parameters; 15.5 billion multiply-adds", "25.6 % top-1 and 8.1 % top-5 error"),
        19: ("E", "143,667,240 parameters; 19.6 billion multiply-adds", "25.5 % top-1 and 8.0 % top-5 error"),
    }
    for depth, (letter, numbers, errors) in facts.items():
        name = f"vgg{depth}"
        yield (
            f"{name}_train_val",
            parts.train_val(
                f"VGG-{depth}",
                f"""\
VGG-{depth}, configuration {letter} of the paper: {PAPER}. Names of layers are those of the authors' Caffe model.
Weights
start as Glorot and Bengio have them, with which, the paper says, no pretraining of a shallower net is needed.

{numbers} per image. The paper reports {errors} on ImageNet's validation images (one net, one scale of test images,
trained on scales from 256 to 512, which is not done here). The data below is a stand-in that LayerForge draws itself,
ten classes of shapes. For ImageNet change the two lines that name a source.""",
                partial(body, depth=depth),
                imagenet(32, 224, (103.939, 116.779, 123.68)),
                top5=True,
            ),
        )
        yield (
            f"{name}_deploy",
            parts.deploy(
                f"VGG-{depth}",
                f"""\
VGG-{depth} (see {name}_train_val.prototxt) for use: ten BGR crops of 224x224, less the mean pixel (103.939, 116.779,
123.68), in; the probabilities of 1000 classes out.""",
                partial(body, depth=depth),
                [10, 3, 224, 224],
            ),
        )
        yield (
            f"{name}_solver",
            solvers.imagenet(
                """\
VGG's recipe (Simonyan, Zisserman 2015): batches of 256, here eight of 32, 74 epochs, a learning rate of 0.01 that drops
by 10 three times, when the validation accuracy stands still; here after 30, 50 and 65 epochs.""",
                name,
                256,
                lambda i: {"stepvalue": [i(30), i(50), i(65)], "max_iter": i(74)},
                iter_size=8,
                base_lr=0.01,
                lr_policy="multistep",
                gamma=0.1,
                momentum=0.9,
                weight_decay=0.0005,
            ),
        )
