"""The deep autoencoder of digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import parts
import solvers
import writing
from parts import MNIST, TEST, TRAIN

from layerforge.net_spec import L, NetSpec

WIDTHS = [1000, 500, 250, 30]


def inner_product(bottom: Any, num_output: int) -> Any:
    """Fifteen weights of each output start from N(0, 1), the others from 0 (Martens, ICML 2010)."""
    return L.InnerProduct(
        bottom,
        num_output=num_output,
        weight_filler={"type": "gaussian", "std": 1, "sparse": 15},
        bias_filler={"type": "constant"},
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}],
    )


def body(n: NetSpec, pixels: Any) -> Any:
    """Down to the code, and back up to one logit for each pixel."""
    last = pixels
    for i, width in enumerate(WIDTHS, 1):
        last = n[f"encode{i}"] = inner_product(last, width)
        if i < len(WIDTHS):
            last = n[f"encode{i}neuron"] = L.Sigmoid(last)
    for i, width in reversed(list(enumerate([784, *WIDTHS[:-1]], 1))):
        last = n[f"decode{i}"] = inner_product(last, width)
        if i > 1:
            last = n[f"decode{i}neuron"] = L.Sigmoid(last)
    return last


def files() -> Iterator[tuple[str, str]]:
    images = replace(MNIST, batch=100, scale=1 / 255)
    n, test, on_train = NetSpec(), NetSpec(), NetSpec()
    n.data = images.layer("train", include={"phase": TRAIN})[0]
    test.data = images.layer("test", include={"phase": TEST, "not_stage": "on_train"})[0]
    on_train.data = images.layer("train", include={"phase": TEST, "stage": "on_train"})[0]
    for spec in (n, test, on_train):
        spec.data.fn.ntop, spec.data.fn.tops = 1, (spec.data,)
    n.flatdata = L.Flatten(n.data)
    logits = body(n, n.flatdata)
    n.cross_entropy_loss = L.SigmoidCrossEntropyLoss(logits, n.flatdata, name="loss", loss_weight=1)
    n.decode1neuron = L.Sigmoid(logits)
    n.l2_error = L.EuclideanLoss(n.decode1neuron, n.flatdata, loss_weight=0)
    about = """\
A deep autoencoder, 784-1000-500-250-30 and back: G. Hinton, R. Salakhutdinov, "Reducing the Dimensionality of Data with
Neural Networks", Science 313, 2006, in the form that Caffe's users know: no pretraining, sparse first weights. It is
trained on the cross-entropy of the pixels; l2_error, half the squared error of an image, is only told.

2,837,314 parameters; 2.8 million multiply-adds per image. The paper, with pretraining, has a squared error of 3.00 on
MNIST's test images, which is an l2_error of 1.5. The data below is a stand-in that LayerForge draws itself, digits in
many hands. For MNIST change the lines that name a source. A test net with the stage "on_train" tests on the training
images."""
    yield "autoencoder_train_val", writing.net("Autoencoder", about, parts.assemble(n, test, on_train), images.notes())
    yield (
        "autoencoder_solver",
        solvers.solver(
            """\
Caffe's recipe for its autoencoder. Test net 0 is on the training images, test net 1 on the test images. For MNIST's
60,000 and 10,000 images:

  test_iter: [500, 100]  max_iter: 65000  snapshot: 10000""",
            "autoencoder",
            test_state=[solvers.ON_TRAIN, solvers.ON_TEST],
            test_iter=[100, 10],
            test_interval=500,
            test_compute_loss=True,
            base_lr=0.01,
            lr_policy="step",
            gamma=0.1,
            stepsize=10000,
            max_iter=15000,
            momentum=0.9,
            weight_decay=0.0005,
            display=100,
            snapshot=5000,
        ),
    )
    used = NetSpec()
    used.data = L.Input(shape={"dim": [1, 1, 28, 28]})
    used.flatdata = L.Flatten(used.data)
    used.decode1neuron = L.Sigmoid(body(used, used.flatdata))
    yield (
        "autoencoder_deploy",
        writing.net(
            "Autoencoder",
            """\
The autoencoder (see autoencoder_train_val.prototxt) for use: a grey image of 28x28, grey values divided by 255, in; the
image as it remembers it out. Its code is the blob `encode4`.""",
            parts.for_use(used.to_proto()),
        ),
    )
