"""Which batch would fit, when a device's memory does not hold a net: planned again, where memory costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .device import Device
from .errors import DeviceError

if TYPE_CHECKING:
    from .net import Net


class Ledger(Device):
    """A device like another, whose arrays have a size but take no memory: every element is one and the same."""

    def __init__(self, like: Device):
        self.name = like.name
        self.channels_last = like.channels_last

    def zeros(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> np.ndarray:
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))

    def gemm(self, *arguments: Any) -> None:
        """Nothing is computed here."""

    def to_numpy(self, array: Any) -> np.ndarray:
        return array

    def from_numpy(self, out: Any, array: np.ndarray) -> None:
        """Nothing is kept here."""

    def synchronize(self) -> None:
        """Nothing runs here."""


def explain(net: Net, error: DeviceError) -> DeviceError:
    """The error, with the batch size that would about fit. The net cannot be used any more.

    What grows with the batch is that of blobs, their diffs, and the layers' state and scratch; beside them the solver
    keeps the diffs of the parameters and their history, and a GPU's libraries their workspaces.
    """
    batch = next((node.top[0].shape[0] for node in net.nodes if not node.bottom and node.top and node.top[0].shape), 0)
    if not error.out_of_memory or batch < 2:
        return error
    learns = any(node.runs_backward for node in net.nodes)
    needed = sum(net.plan_memory(Ledger(net.device), learns).values())
    left = net.device.free_memory() - net.device.reserve
    if learns:
        left -= 2 * sum(parameter.count for parameter in net.arena.owned) * net.dtype.itemsize
    fits = int(batch * left / max(needed, 1))
    if fits < 1:
        return DeviceError(f"{error.message}, though not even a batch of 1 would fit")
    return DeviceError(f"{error.message}: about {min(fits, batch - 1)} would fit, not {batch}")
