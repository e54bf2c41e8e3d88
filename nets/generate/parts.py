"""What nets have in common: where their images come from, their last layers, and what use leaves out of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import writing

from layerforge import schema
from layerforge.net_spec import L, NetSpec, P

TRAIN, TEST = 0, 1
Body = Callable[[NetSpec], Any]  # adds layers to a net that has ``data``, and returns its scores


@dataclass(frozen=True)
class Images:
    """A data set of images: a sample that is there, and the real one that it stands in for."""

    sample: str  # with {} for the split
    real_name: str
    real: tuple[str, str]  # the LMDBs to train and to test on
    batch: int
    test_batch: int
    crop: int = 0
    mirror: bool = False
    mean: tuple[float, ...] = ()
    scale: float = 1

    def notes(self) -> dict[str, str]:
        """Comments for the lines that name a source, and for the mean pixel."""
        sources = {
            f'source: "{self.sample.format(split)}': f'for {self.real_name}: source: "{real}"'
            for split, real in zip(("train", "test"), self.real, strict=True)
        }
        return sources | ({"mean_value: [": "blue, green, red"} if len(self.mean) == 3 else {})

    def layer(self, split: str, *, mirror: bool | None = None, **options: Any) -> Any:
        """A Data layer: its tops, data and label."""
        transform: dict[str, Any] = {}
        if self.mirror if mirror is None else mirror:
            transform["mirror"] = True
        if self.crop:
            transform["crop_size"] = self.crop
        if self.mean:
            transform["mean_value"] = self.mean
        if self.scale != 1:
            transform["scale"] = self.scale
        batch = self.batch if split == "train" else self.test_batch
        source = {"source": self.sample.format(split), "batch_size": batch, "backend": P.Data.LMDB}
        given = {"transform_param": transform} if transform else {}
        return L.Data(ntop=2, data_param=source, **given, **options)


def imagenet(batch: int, crop: int, mean: Sequence[float] = (104, 117, 123), **options: Any) -> Images:
    """ImageNet's images, and shapes in their place."""
    real = ("ilsvrc12_train_lmdb", "ilsvrc12_val_lmdb")
    mean = tuple(mean)
    return Images("sample://shapes?split={}", "ImageNet", real, batch, 50, crop, True, mean, **options)


#: CIFAR-10's images, whose mean pixel this is, and small shapes in their place.
CIFAR10 = Images(
    "sample://shapes?split={}&size=32",
    "CIFAR-10",
    ("cifar10_train_lmdb", "cifar10_test_lmdb"),
    batch=100,
    test_batch=100,
    mean=(114, 123, 125),
)
MNIST = Images(
    "sample://digits?split={}",
    "MNIST",
    ("mnist_train_lmdb", "mnist_test_lmdb"),
    batch=64,
    test_batch=100,
    scale=1 / 256,
)

WEIGHT_AND_BIAS = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]


def assemble(n: NetSpec, *others: NetSpec) -> Any:
    """The net; layers of others, made for another phase, stand behind its first one."""
    first, *rest = n.to_proto().layer
    extra = [layer for other in others for layer in other.to_proto().layer]
    return schema.message("NetParameter")(layer=[first, *extra, *rest])


def classify(n: NetSpec, scores: Any, *, top5: bool) -> None:
    """Accuracy in tests, and the loss."""
    n.accuracy = L.Accuracy(scores, n.label, include={"phase": TEST})
    if top5:
        n.accuracy_top5 = L.Accuracy(scores, n.label, include={"phase": TEST}, top_k=5)
    n.loss = L.SoftmaxWithLoss(scores, n.label)


def train_val(
    name: str, about: str, body: Body, images: Images, *, top5: bool = False, more: bool = False, short: bool = False
) -> str:
    """A classifier for training and tests. ``more``: a test net with the stage "on_train" tests on the training set."""
    n, test = NetSpec(), NetSpec()
    n.data, n.label = images.layer("train", include={"phase": TRAIN})
    rule = {"phase": TEST, "not_stage": "on_train"} if more else {"phase": TEST}
    test.data, test.label = images.layer("test", mirror=False, include=rule)
    tests = [test]
    if more:
        tests.append(NetSpec())
        rule = {"phase": TEST, "stage": "on_train"}
        again = replace(images, batch=images.test_batch)
        tests[1].data, tests[1].label = again.layer("train", mirror=False, include=rule)
    classify(n, body(n), top5=top5)
    return writing.net(name, about, assemble(n, *tests), images.notes(), short=short)


def deploy(name: str, about: str, body: Body, shape: Sequence[int]) -> str:
    """A classifier for use: an input of ``shape``, probabilities at the end."""
    n = NetSpec()
    n.data = L.Input(shape={"dim": shape})
    n.prob = L.Softmax(body(n))
    return writing.net(name, about, for_use(n.to_proto()))


def for_use(net: Any) -> Any:
    """A net without what only training asks for: fillers and multipliers."""
    for layer in net.layer:
        del layer.param[:]
        for field, options in layer.ListFields():
            if field.message_type and not hasattr(options, "append"):
                for name in ("weight_filler", "bias_filler", "filler"):
                    if name in options.DESCRIPTOR.fields_by_name and options.DESCRIPTOR.name != "DummyDataParameter":
                        options.ClearField(name)
                if not options.ListFields():
                    layer.ClearField(field.name)
    return net


def filler(kind: str, **options: Any) -> dict[str, Any]:
    return {"type": kind, **options}


def gaussian(std: float) -> dict[str, Any]:
    return {"type": "gaussian", "std": std}


def constant(value: float = 0) -> dict[str, Any]:
    return {"type": "constant", "value": value}
