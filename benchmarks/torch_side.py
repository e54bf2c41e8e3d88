"""The nets as a PyTorch user writes them, layer for layer those of nets/, and one training step."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def alexnet() -> list[tuple[str, nn.Module]]:
    # PyTorch divides alpha by the size, as Caffe does.
    return _alexnet_like(
        [("norm1", nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)), ("pool1", _max_pool())],
        [("norm2", nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)), ("pool2", _max_pool())],
    )


def caffenet() -> list[tuple[str, nn.Module]]:
    return _alexnet_like(
        [("pool1", _max_pool()), ("norm1", nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0))],
        [("pool2", _max_pool()), ("norm2", nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0))],
    )


def lenet() -> list[tuple[str, nn.Module]]:
    return [
        ("conv1", nn.Conv2d(1, 20, 5)),
        ("pool1", nn.MaxPool2d(2, 2, ceil_mode=True)),
        ("conv2", nn.Conv2d(20, 50, 5)),
        ("pool2", nn.MaxPool2d(2, 2, ceil_mode=True)),
        ("flatten", nn.Flatten()),
        ("ip1", nn.Linear(800, 500)),
        ("relu1", nn.ReLU(inplace=True)),
        ("ip2", nn.Linear(500, 10)),
    ]


NETS = {"alexnet": alexnet, "caffenet": caffenet, "lenet": lenet}


def _max_pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _alexnet_like(after_conv1: list, after_conv2: list) -> list[tuple[str, nn.Module]]:
    return [
        ("conv1", nn.Conv2d(3, 96, 11, stride=4)),
        ("relu1", nn.ReLU(inplace=True)),
        *after_conv1,
        ("conv2", nn.Conv2d(96, 256, 5, padding=2, groups=2)),
        ("relu2", nn.ReLU(inplace=True)),
        *after_conv2,
        ("conv3", nn.Conv2d(256, 384, 3, padding=1)),
        ("relu3", nn.ReLU(inplace=True)),
        ("conv4", nn.Conv2d(384, 384, 3, padding=1, groups=2)),
        ("relu4", nn.ReLU(inplace=True)),
        ("conv5", nn.Conv2d(384, 256, 3, padding=1, groups=2)),
        ("relu5", nn.ReLU(inplace=True)),
        ("pool5", _max_pool()),
        ("flatten", nn.Flatten()),
        ("fc6", nn.Linear(9216, 4096)),
        ("relu6", nn.ReLU(inplace=True)),
        ("drop6", nn.Dropout(0.5)),
        ("fc7", nn.Linear(4096, 4096)),
        ("relu7", nn.ReLU(inplace=True)),
        ("drop7", nn.Dropout(0.5)),
        ("fc8", nn.Linear(4096, 1000)),
    ]


class Trainer:
    """A net with its optimiser and one batch in memory; `step` is forward, backward and update."""

    def __init__(self, job: dict):
        torch.set_num_threads(job["threads"])
        torch.manual_seed(1)
        layers = NETS[job["net"]]()
        if not job["dropout"]:
            layers = [(name, module) for name, module in layers if not isinstance(module, nn.Dropout)]
        layout = torch.channels_last if job["layout"] == "channels_last" else torch.contiguous_format
        self.net = nn.Sequential(OrderedDict(layers)).to(memory_format=layout)
        folder = Path(job["folder"])
        self.data = torch.from_numpy(np.load(folder / "data.npy")).to(memory_format=layout)
        self.labels = torch.from_numpy(np.load(folder / "labels.npy")).long()
        if (folder / "weights.npz").exists():
            self._load(folder / "weights.npz")
        named = list(self.net.named_parameters())
        groups = [
            {"params": [p for name, p in named if name.endswith("weight")]},
            {"params": [p for name, p in named if name.endswith("bias")], **job["bias"]},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=job["lr"], momentum=0.9, weight_decay=5e-4, fused=True)

    def _load(self, path: Path) -> None:
        with np.load(path) as weights, torch.no_grad():
            for name, parameter in self.net.named_parameters():
                layer, kind = name.split(".")
                parameter.copy_(torch.from_numpy(weights[f"{layer}/{kind}"]))

    def step(self) -> float:
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.net(self.data), self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def describe(self) -> dict:
        return {
            "version": f"PyTorch {torch.__version__}",
            "parameters": sum(p.numel() for p in self.net.parameters()),
            "threads": torch.get_num_threads(),
        }
