"""The nets of nets/ on a batch in memory, and one training step by the solver."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import layerforge as lf
from benchmarks.contest import ROOT
from layerforge import schema


class Trainer:
    """A solver on a net whose data layer is replaced by an Input; `step` is forward, backward and update."""

    def __init__(self, job: dict):
        lf.set_threads(job["threads"])
        folder = self.folder = Path(job["folder"])
        data, labels = np.load(folder / "data.npy"), np.load(folder / "labels.npy")
        solver = schema.message("SolverParameter")(
            base_lr=job["lr"], lr_policy="fixed", momentum=0.9, weight_decay=5e-4, random_seed=1, max_iter=1 << 30
        )
        solver.net_param.CopyFrom(in_memory(job["net"], data.shape, job["dropout"], job["engine"]))
        self.solver = lf.get_solver(solver, reuse=True)
        blobs = self.solver.net.blobs
        blobs["data"].data[...] = data
        blobs["label"].data[...] = labels

    def step(self) -> float:
        self.solver.step(1)
        return self.solver.loss

    def save(self) -> None:
        kinds = ("weight", "bias")
        arrays = {
            f"{layer}/{kind}": blob.data
            for layer, blobs in self.solver.net.params.items()
            for kind, blob in zip(kinds, blobs, strict=True)
        }
        np.savez(self.folder / "weights.npz", **arrays)

    def describe(self) -> dict:
        where = "the tree" if Path(lf.__file__).is_relative_to(ROOT / "layerforge") else "installed"
        return {
            "version": f"LayerForge {lf.__version__} ({where})",
            "parameters": sum(blob.count for blobs in self.solver.net.params.values() for blob in blobs),
            "threads": lf.get_threads(),
        }


def in_memory(net: str, shape: tuple[int, ...], dropout: bool, engine: str):
    """The training net of nets/ with an Input layer of this shape in the place of its data layers.

    ``engine`` is "default", LayerForge's choice, or "caffe": im2col and matrix products for every convolution.
    """
    definition = schema.read(ROOT / "nets" / f"{net}_train_val.prototxt", "NetParameter").message
    made = schema.message("NetParameter")(name=definition.name)
    source = made.layer.add(name="data", type="Input", top=["data", "label"])
    source.input_param.shape.add(dim=shape)
    source.input_param.shape.add(dim=shape[:1])
    for layer in definition.layer:
        if layer.type not in ("Data", "Accuracy") and (dropout or layer.type != "Dropout"):
            added = made.layer.add()
            added.CopyFrom(layer)
            if engine == "caffe" and layer.type == "Convolution":
                added.convolution_param.engine = added.convolution_param.CAFFE
    return made
