"""The nets as a PyTorch user writes them, layer for layer those of nets/; training steps and inference."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

#: A loss: its weight, and the scores that go into it.
Scores = list[tuple[float, torch.Tensor]]


class Graph(nn.Module):
    """A net of `benchmarks.nets.plain` layers: rectifiers and sums in place, BatchNorm and Scale in one.

    Gives the scores of every loss while it is trained, or what its last layer computes.
    """

    def __init__(self, layers: list[dict[str, Any]], channels: int):
        super().__init__()
        self.parts = nn.ModuleDict()
        self.plan: list[tuple[str, str, list[str], str]] = []  # type, part, bottoms, top
        self.losses: list[tuple[float, str]] = []
        self.homes: dict[str, str] = {}  # the name of a parameter, or a statistic -> "layer/number" in Caffe's order
        self.last = ""
        # Who else reads a blob: a sum may overwrite a bottom that nobody else wants.
        self.readers = Counter(name for layer in layers for name in set(layer["bottom"]) - set(layer["top"]))
        shapes: dict[str, int] = {"data": channels}
        for layer in layers:
            kind, bottoms = layer["type"], layer["bottom"]
            if kind == "SoftmaxWithLoss":
                self.losses.append((layer["weight"], bottoms[0]))
                continue
            top = layer["top"][0]
            part = layer["name"].replace("/", "_").replace(".", "_")
            made = self._make(layer, [shapes[name] for name in bottoms])
            if made is not None:
                self.parts[part] = made
                self._remember(part, layer)
            self.plan.append((kind, part, bottoms, top))
            inputs = [shapes[name] for name in bottoms]
            shapes[top] = layer.get("outputs", sum(inputs) if kind == "Concat" else inputs[0])
            self.last = top

    @staticmethod
    def _make(layer: dict[str, Any], inputs: list[int]) -> nn.Module | None:
        window = (layer.get("kernel"), layer.get("stride"), layer.get("pad"))
        match layer["type"]:
            case "Convolution":
                return nn.Conv2d(inputs[0], layer["outputs"], *window, groups=layer["group"], bias=layer["bias"])
            case "InnerProduct":
                return nn.LazyLinear(layer["outputs"])
            case "Pooling" if layer["pool"] == "MAX":
                return nn.MaxPool2d(*window, ceil_mode=True)
            case "Pooling":
                return nn.AvgPool2d(*window, ceil_mode=True)
            case "LRN":  # PyTorch divides alpha by the size, as Caffe does.
                return nn.LocalResponseNorm(layer["size"], layer["alpha"], layer["beta"], layer["k"])
            case "BatchNorm":
                return nn.BatchNorm2d(inputs[0], layer["eps"], 1 - layer["fraction"])
            case "ReLU":
                return nn.ReLU(inplace=True)
            case "Dropout":
                return nn.Dropout(layer["ratio"])
            case "Softmax":
                return nn.Softmax(dim=1)
            case "Concat" | "Eltwise":
                return None
        raise SystemExit(f"PyTorch's side knows no {layer['type']}")

    def _remember(self, part: str, layer: dict[str, Any]) -> None:
        name = layer["name"]
        if layer["type"] == "BatchNorm":
            self.homes |= {f"parts.{part}.running_mean": f"{name}/0", f"parts.{part}.running_var": f"{name}/1"}
            name = layer["scale"]
        self.homes |= {f"parts.{part}.weight": f"{name}/0", f"parts.{part}.bias": f"{name}/1"}

    def forward(self, x: torch.Tensor) -> Any:
        blobs = {"data": x}
        for kind, part, bottoms, top in self.plan:
            if kind == "Concat":
                blobs[top] = torch.cat([blobs[name] for name in bottoms], 1)
            elif kind == "Eltwise":
                first, second = bottoms if self.readers[bottoms[1]] > 1 else (bottoms[1], bottoms[0])
                sums = torch.add if self.readers[first] > 1 else torch.Tensor.add_
                blobs[top] = sums(blobs[first], blobs[second])
            else:
                values = blobs[bottoms[0]]
                if kind == "InnerProduct" and values.dim() > 2:
                    values = torch.flatten(values, 1)
                blobs[top] = self.parts[part](values)
        if self.losses:
            return [blobs[name] for _, name in self.losses]
        return blobs[self.last]


def build(layers: list[dict[str, Any]], shape: tuple[int, ...], layout: str = "nchw") -> Graph:
    """A net for images of this shape (C, H, W), its fully connected layers sized by one pass."""
    torch.manual_seed(1)
    net = Graph(layers, shape[0]).eval()
    with torch.no_grad():
        net(torch.zeros(1, *shape))
    return net.to(memory_format=memory_format(layout))


def memory_format(layout: str) -> torch.memory_format:
    return torch.channels_last if layout == "channels_last" else torch.contiguous_format


def load(net: Graph, path: Path) -> None:
    """The weights that LayerForge wrote, by layer and number."""
    with np.load(path) as weights, torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if name in net.homes:
                values = torch.from_numpy(weights[net.homes[name]])
                if name.endswith(("running_mean", "running_var")):
                    values = values / max(float(weights[net.homes[name][:-1] + "2"][0]), 1e-30)
                tensor.copy_(values.reshape(tensor.shape))


class Side:
    """A net, compiled or not, and one batch in memory."""

    def __init__(self, job: dict[str, Any]):
        torch.set_num_threads(job["threads"])
        self.folder = folder = Path(job["folder"])
        layout = job["layout"]
        self.net = build(job["layers"], job["shape"], layout)
        self.data = torch.from_numpy(np.load(folder / "data.npy")).to(memory_format=memory_format(layout))
        load(self.net, folder / "weights.npz")
        self.run = torch.compile(self.net) if job.get("compiled") else self.net

    def describe(self) -> dict[str, Any]:
        return {
            "version": f"PyTorch {torch.__version__}",
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "threads": torch.get_num_threads(),
        }


class Trainer(Side):
    """`step` is forward, backward and update."""

    def __init__(self, job: dict[str, Any]):
        super().__init__(job)
        self.net.train()
        self.labels = torch.from_numpy(np.load(self.folder / "labels.npy")).long()
        multipliers = json.loads((self.folder / "multipliers.json").read_text())
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.net.named_parameters():
            groups.setdefault(tuple(multipliers[self.net.homes[name]]), []).append(parameter)
        lr, decay = job["lr"], job["weight_decay"]
        self.optimizer = torch.optim.SGD(
            [{"params": some, "lr": lr * a, "weight_decay": decay * b} for (a, b), some in groups.items()],
            lr=lr,
            momentum=0.9,
            fused=True,
        )

    def step(self) -> float:
        self.optimizer.zero_grad()
        scores = self.run(self.data)
        loss = sum(
            weight * functional.cross_entropy(x, self.labels)
            for (weight, _), x in zip(self.net.losses, scores, strict=True)
        )
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Inferer(Side):
    """`step` is a forward pass: an array in, an array out."""

    def step(self) -> float:
        with torch.inference_mode():
            self.run(self.data).numpy()
        return 0.0

    def outputs(self) -> np.ndarray:
        with torch.inference_mode():
            return self.run(self.data).numpy()
