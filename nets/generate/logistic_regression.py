"""Logistic regression on rows of HDF5, and the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import parts
import solvers
import writing
from parts import TEST, TRAIN

from layerforge.net_spec import L, NetSpec

ROWS = {"train": 2000, "test": 500}
CLASSES, FEATURES = 2, 4


def rows(split: str) -> tuple[np.ndarray, np.ndarray]:
    """(data (rows, 4), label (rows)): two overlapping clouds, drawn from one seed.

    Each class is a normal distribution; the classes share their covariance, for which the best boundary is a plane.
    """
    random = np.random.Generator(np.random.PCG64([7, list(ROWS).index(split)]))
    label = np.arange(ROWS[split]) % CLASSES
    centre = np.array([[-0.6, 0.4, 0.0, -0.3], [0.6, -0.4, 0.0, 0.3]])
    mix = np.array([[1.0, 0.3, 0.0, 0.0], [0.0, 1.0, 0.2, 0.0], [0.0, 0.0, 1.0, 0.4], [0.0, 0.0, 0.0, 1.0]])
    data = centre[label] + random.standard_normal((len(label), FEATURES)) @ mix
    return data.astype(np.float32), label.astype(np.float32)


def write_rows(folder: Path) -> None:
    """Writes ``logistic_regression_<split>.hdf5`` and the list that names it."""
    import h5py

    for split in ROWS:
        name = f"logistic_regression_{split}.hdf5"
        data, label = rows(split)
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("data", data=data, track_times=False)
            file.create_dataset("label", data=label, track_times=False)
        (folder / f"logistic_regression_{split}.txt").write_text(f"{name}\n", encoding="utf-8")


def source(split: str, batch: int) -> dict[str, object]:
    shuffle = {"shuffle": True} if split == "train" else {}
    return {"source": f"nets/logistic_regression_{split}.txt", "batch_size": batch, **shuffle}


def files() -> Iterator[tuple[str, str]]:
    n, test = NetSpec(), NetSpec()
    n.data, n.label = L.HDF5Data(ntop=2, include={"phase": TRAIN}, hdf5_data_param=source("train", 10))
    test.data, test.label = L.HDF5Data(ntop=2, include={"phase": TEST}, hdf5_data_param=source("test", 10))
    param = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
    n.fc1 = L.InnerProduct(n.data, num_output=2, weight_filler={"type": "xavier"}, param=param)
    parts.classify(n, n.fc1, top5=False)
    about = """\
Logistic regression, the smallest net there is: D. R. Cox, "The regression analysis of binary sequences", Journal of the
Royal Statistical Society B 20, 1958. Its data are rows of numbers in HDF5: a text file lists HDF5 files, and a top is
read from the dataset of its name.

10 parameters. The rows that come with it, 2,000 and 500 of four numbers in two overlapping classes, are drawn by
nets/generate/logistic_regression.py; `python nets/generate --rows` writes them again. The best that any classifier can
do on them is 81 %, and this one reaches it. For rows of your own change the two lines that name a source."""
    yield "logistic_regression_train_val", writing.net("LogisticRegression", about, parts.assemble(n, test))
    yield (
        "logistic_regression_solver",
        solvers.solver(
            "For 2,000 rows in batches of 10, 200 iterations an epoch.",
            "logistic_regression",
            test_iter=50,
            test_interval=500,
            base_lr=0.01,
            lr_policy="step",
            gamma=0.1,
            stepsize=1000,
            max_iter=2000,
            momentum=0.9,
            weight_decay=0.0005,
            display=500,
            snapshot=1000,
        ),
    )
    used = NetSpec()
    used.data = L.Input(shape={"dim": [1, FEATURES]})
    used.fc1 = L.InnerProduct(used.data, num_output=2)
    used.prob = L.Softmax(used.fc1)
    yield (
        "logistic_regression_deploy",
        writing.net(
            "LogisticRegression",
            """\
Logistic regression (see logistic_regression_train_val.prototxt) for use: one row of four numbers in, the probabilities
of two classes out.""",
            used.to_proto(),
        ),
    )
