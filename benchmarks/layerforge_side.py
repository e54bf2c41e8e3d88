"""The nets of nets/ on a batch in memory: training steps by the solver, and inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import layerforge as lf
from benchmarks import nets
from benchmarks.contest import ROOT
from layerforge import schema


class Side:
    """What both have in common."""

    net: Any

    def __init__(self, job: dict[str, Any]):
        lf.set_threads(job["threads"])
        self.folder = Path(job["folder"])
        self.data = np.load(self.folder / "data.npy")

    def describe(self) -> dict[str, Any]:
        where = "the tree" if Path(lf.__file__).is_relative_to(ROOT / "layerforge") else "installed"
        return {
            "version": f"LayerForge {lf.__version__} ({where})",
            "parameters": sum(blob.count for node in self.net.nodes for blob in learnt(node.layer)),
            "threads": lf.get_threads(),
        }


class Trainer(Side):
    """A solver on a net whose data layer is replaced by an Input; `step` is forward, backward and update."""

    def __init__(self, job: dict[str, Any]):
        super().__init__(job)
        solver = schema.message("SolverParameter")(
            base_lr=job["lr"],
            lr_policy="fixed",
            momentum=0.9,
            weight_decay=job["weight_decay"],
            random_seed=1,
            max_iter=1 << 30,
        )
        solver.net_param.CopyFrom(nets.in_memory(job["net"], self.data.shape, job["dropout"], job["engine"]))
        self.solver = lf.get_solver(solver, reuse=True)
        self.net = self.solver.net
        self.net.blobs["data"].data[...] = self.data
        self.net.blobs["label"].data[...] = np.load(self.folder / "labels.npy")
        del self.data

    def step(self) -> float:
        self.solver.step(1)
        return self.solver.loss

    def save(self) -> None:
        save(self.net, self.folder)


class Inferer(Side):
    """A net for use, with the weights of a caffemodel; `step` is a forward pass: an array in, an array out."""

    def __init__(self, job: dict[str, Any]):
        super().__init__(job)
        deploy = nets.deploy(job["net"], len(self.data))
        self.net = lf.Net(deploy, lf.TEST, weights=str(self.folder / "weights.caffemodel"))
        (self.output,) = self.net.outputs

    def step(self) -> float:
        self.outputs()
        return 0.0

    def outputs(self) -> np.ndarray:
        return self.net.forward(data=self.data)[self.output]


def learnt(layer: Any) -> list[Any]:
    """A layer's parameters, without statistics."""
    return [] if layer.type == "BatchNorm" else list(layer.blobs)


def save(net: Any, folder: Path) -> None:
    """Writes all parameters for other sides, by layer and number, and their multipliers of rate and decay."""
    arrays, multipliers = {}, {}
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            arrays[f"{layer.name}/{i}"] = blob.data
            multipliers[f"{layer.name}/{i}"] = (blob.lr_mult, blob.decay_mult)
    np.savez(folder / "weights.npz", **arrays)
    (folder / "multipliers.json").write_text(json.dumps(multipliers))


def prepare(net: str, folder: Path) -> None:
    """Writes weights for inference, as a caffemodel and as arrays: those that the net begins training with.

    Means and variances are those of a batch. The last layer is scaled so that one class is likelier than another: the
    outputs could not be told apart else.
    """
    nets.write_batch(folder, net, 8)
    data = np.load(folder / "data.npy")
    made = lf.Net(nets.in_memory(net, data.shape, dropout=False), lf.TRAIN, seed=1)
    made.blobs["data"].data[...] = data
    made.run_forward()
    loss = next(layer for layer in reversed(made.layers) if layer.type == "SoftmaxWithLoss")
    scores = made.bottom_names[loss.name][0]
    scorer = next(layer for layer in reversed(made.layers) if layer.params and scores in made.top_names[layer.name])
    scale = 2 / made.blobs[scores].data.std()
    for blob in scorer.blobs:
        blob.data[...] *= scale
    made.save(str(folder / "weights.caffemodel"))
    save(made, folder)
    absorb_k(made)
    made.save(str(folder / "opencv.caffemodel"))


def exact(net: str, folder: Path) -> None:
    """Writes the outputs for the batch in float64, computed image by image."""
    made = lf.Net(nets.deploy(net, 1), lf.TEST, weights=str(folder / "weights.caffemodel"), dtype=np.float64)
    (output,) = made.outputs
    images = np.load(folder / "data.npy")
    np.save(folder / "exact.npy", [made.forward(data=image[None])[output].reshape(-1).copy() for image in images])


def absorb_k(net: Any) -> None:
    """Changes weights for a net without `LRNParameter.k`, which OpenCV takes for 1.

    (k + a s)^-b is k^-b (1 + a/k s)^-b: the first factor goes into the next weights, `without_k` does the rest.
    """
    factor = 1.0
    for layer in net.layers:
        if layer.type == "LRN":
            factor = layer.options.k**-layer.options.beta
        elif layer.params and factor != 1:
            layer.blobs[0].data[...] *= factor
            factor = 1.0


def without_k(definition: Any) -> Any:
    """The same net in OpenCV's words: see `absorb_k`."""
    made = type(definition)()
    made.CopyFrom(definition)
    for layer in made.layer:
        if layer.type == "LRN":
            layer.lrn_param.alpha /= layer.lrn_param.k
            layer.lrn_param.ClearField("k")
    return made
