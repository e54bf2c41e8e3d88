"""An LSTM that reads a digit row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import parts
import solvers
import writing
from parts import MNIST, TEST, TRAIN

from layerforge.net_spec import L, NetSpec

STEPS, FEATURES, BATCH = 28, 28, 50


def uniform(width: float) -> dict[str, object]:
    return {"type": "uniform", "min": -width, "max": width}


def body(n: NetSpec) -> Any:
    """From ``rows`` (T, N, features) and ``cont`` (T, N) to scores (N, 10)."""
    n.lstm1 = L.LSTM(
        n.rows,
        n.cont,
        recurrent_param={"num_output": 128, "weight_filler": uniform(0.08), "bias_filler": {"type": "constant"}},
    )
    n.before, n.last = L.Slice(n.lstm1, ntop=2, axis=0, slice_point=STEPS - 1)
    n.silence = L.Silence(n.before, ntop=0)
    n.state = L.Reshape(n.last, shape={"dim": [-1, 128]})
    n.ip1 = L.InnerProduct(n.state, num_output=10, weight_filler={"type": "xavier"}, bias_filler={"type": "constant"})
    return n.ip1


def files() -> Iterator[tuple[str, str]]:
    images = replace(MNIST, batch=BATCH, test_batch=BATCH)
    n, test = NetSpec(), NetSpec()
    n.data, n.label = images.layer("train", include={"phase": TRAIN})
    test.data, test.label = images.layer("test", include={"phase": TEST})
    slices = L.Slice(n.data, ntop=STEPS, axis=2, name="cut")
    for i, top in enumerate(slices):
        n[f"row{i}"] = top
    n.stacked = L.Concat(*slices, axis=0)
    n.rows = L.Reshape(n.stacked, shape={"dim": [STEPS, -1, FEATURES]})
    n.start, n.go_on = L.DummyData(
        ntop=2,
        name="when",
        data_filler=[{"value": 0}, {"value": 1}],
        shape=[{"dim": [1, BATCH]}, {"dim": [STEPS - 1, BATCH]}],
    )
    n.cont = L.Concat(n.start, n.go_on, axis=0)
    parts.classify(n, body(n), top5=False)
    about = """\
An LSTM (S. Hochreiter, J. Schmidhuber, "Long Short-Term Memory", Neural Computation 9, 1997; with forget gates: F.
Gers,
J. Schmidhuber, F. Cummins, 2000) that reads an image from top to bottom, one row a step, and names the digit at the
end. Reading MNIST as a sequence is the task of Q. Le, N. Jaitly, G. Hinton, "A Simple Way to Initialize Recurrent
Networks of Rectified Linear Units", 2015, there pixel by pixel. The layers down to `cont` turn a batch of images into
what a recurrent layer takes: steps x items x features, and a mark that is 0 where a sequence starts.

81,674 parameters; 2.2 million multiply-adds per image. About 98 % on MNIST. The data below is a stand-in that
LayerForge
draws itself, digits in many hands. For MNIST change the two lines that name a source."""
    yield "lstm_train_val", writing.net("LSTM", about, parts.assemble(n, test), images.notes())
    yield (
        "lstm_solver",
        solvers.solver(
            """\
Adam, and gradients clipped as recurrent nets need it. For MNIST's 60,000 and 10,000 images:

  test_iter: 200  max_iter: 12000""",
            "lstm",
            type="Adam",
            test_iter=20,
            test_interval=500,
            base_lr=0.002,
            lr_policy="fixed",
            max_iter=4000,
            momentum=0.9,
            momentum2=0.999,
            delta=0.00000001,
            clip_gradients=10,
            display=100,
            snapshot=2000,
        ),
    )
    used = NetSpec()
    used.rows, used.cont = L.Input(ntop=2, name="input", shape=[{"dim": [STEPS, 1, FEATURES]}, {"dim": [STEPS, 1]}])
    used.prob = L.Softmax(body(used))
    yield (
        "lstm_deploy",
        writing.net(
            "LSTM",
            """\
The LSTM (see lstm_train_val.prototxt) for use: the 28 rows of one image, grey values divided by 256, and a mark for
each
of them, 0 for the first and 1 for the others, in; the probabilities of ten digits out.""",
            parts.for_use(used.to_proto()),
        ),
    )
