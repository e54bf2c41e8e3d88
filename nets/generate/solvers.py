"""Solvers as text, for the sample's number of images, with what changes for the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from writing import comment

#: How a solver is told: what it trains, how it is tested, how it learns, what it shows and keeps.
ORDER = [
    name
    for line in (
        "net type iter_size test_state test_iter test_interval test_initialization test_compute_loss",
        "base_lr warmup_iter warmup_start_lr lr_policy gamma power stepsize stepvalue max_iter",
        "momentum momentum2 rms_decay delta clip_gradients weight_decay",
        "display average_loss snapshot snapshot_prefix random_seed",
    )
    for name in line.split()
]
#: The states of two test nets: one on the test images, one on the training images.
MESSAGES = ON_TEST, ON_TRAIN = "{ }", '{ stage: "on_train" }'
Lines = dict[str, Any]
Epochs = Callable[[float], int]  # epochs to iterations


def text(given: Any) -> str:
    """A value as a solver has it."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, str):
        return json.dumps(given)
    if isinstance(given, (list, tuple)):
        return f"[{', '.join(map(text, given))}]"
    return f"{given:.12f}".rstrip("0").rstrip(".") if isinstance(given, float) else str(given)


def solver(about: str, net: str, **fields: Any) -> str:
    """The solver of ``nets/<net>_train_val.prototxt``; snapshots are named after the net, if not otherwise."""
    given = {"net": f"nets/{net}_train_val.prototxt", "snapshot_prefix": net, "random_seed": 1, **fields}
    lines = []
    for name in sorted(given, key=ORDER.index):
        messages = isinstance(given[name], list) and given[name][0] in MESSAGES
        lines += [f"{name} {one}" for one in given[name]] if messages else [f"{name}: {text(given[name])}"]
    return comment(about) + "\n".join(lines) + "\n"


def epochs(images: int, batch: int) -> Epochs:
    """How many iterations so many epochs are."""
    return lambda count: round(count * images / batch)


def imagenet(about: str, net: str, batch: int, schedule: Callable[[Epochs], Lines], **fields: Any) -> str:
    """A recipe for ImageNet, with its iterations for the 4,000 shapes, and in a comment those for ImageNet itself."""
    real, sample = epochs(1281167, batch), epochs(4000, batch)
    there = {"test_iter": 1000, "test_interval": 5000, **schedule(real), "display": 20, "snapshot": 20000}
    changes = "  ".join(f"{name}: {text(value)}" for name, value in there.items())
    about += f"""

The numbers of iterations are for the 4,000 sample images, {4000 / batch:g} iterations an epoch. For ImageNet's
1,281,167 images, {1281167 / batch:,.0f} iterations an epoch, and 50,000 validation images:

  {changes}
"""
    here = schedule(sample)
    return solver(
        about,
        net,
        test_iter=20,
        test_interval=max(1, sample(4)),
        test_initialization=False,
        **here,
        **fields,
        display=5,
        snapshot=max(1, sample(10)),
    )
