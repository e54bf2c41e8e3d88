"""Running many items through a net, batch by batch: pycaffe's ``forward_all`` and ``forward_backward_all``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ShapeError

if TYPE_CHECKING:
    from .net import Net

Arrays = dict[str, Any]


def forward_all(net: Net, blobs: Sequence[str], inputs: Mapping[str, Any]) -> Arrays:
    """The outputs, and ``blobs``, for every item of the inputs. The last batch is filled up with zeros."""
    items = _Items(net, inputs)
    found: dict[str, list[np.ndarray]] = {}
    for batch in items:
        _collect(found, net.forward(blobs, **batch))
    return items.joined(found)


def forward_backward_all(
    net: Net, blobs: Sequence[str], diffs: Sequence[str], given: Mapping[str, Any]
) -> tuple[Arrays, Arrays]:
    """Forward, with the inputs among ``given``, and backward, with the diffs of outputs among them."""
    inputs = {name: value for name, value in given.items() if name in net.inputs}
    tops = {name: value for name, value in given.items() if name not in net.inputs}
    items = _Items(net, inputs)
    top_batches = iter(_Items(net, tops)) if tops else itertools.repeat({})
    forward: dict[str, list[np.ndarray]] = {}
    backward: dict[str, list[np.ndarray]] = {}
    for batch, top_batch in zip(items, top_batches, strict=False):
        _collect(forward, net.forward(blobs, **batch))
        _collect(backward, net.backward(diffs, **top_batch))
    return items.joined(forward), items.joined(backward)


class _Items:
    """Arrays with an item each along the first axis, in pieces of a net's batch size; zeros behind the last."""

    def __init__(self, net: Net, arrays: Mapping[str, Any]):
        if not arrays:
            raise ShapeError(
                "there are no items: give the net's inputs by name, each with its items along the first axis"
            )
        self.arrays = {name: np.asarray(value) for name, value in arrays.items()}
        first = next(iter(self.arrays))
        self.number, self.size = len(self.arrays[first]), net.blobs[first].shape[0]
        for name, array in self.arrays.items():
            if len(array) != self.number:
                raise ShapeError(f'"{name}" has {len(array)} items, but "{first}" has {self.number}')

    def __iter__(self) -> Iterator[Arrays]:
        for start in range(0, self.number, self.size):
            yield {name: self.piece(array, start) for name, array in self.arrays.items()}

    def piece(self, array: np.ndarray, start: int) -> np.ndarray:
        there = array[start : start + self.size]
        if len(there) == self.size:
            return there
        return np.concatenate([there, np.zeros((self.size - len(there), *array.shape[1:]), array.dtype)])

    def joined(self, found: Mapping[str, Sequence[np.ndarray]]) -> Arrays:
        """Batches of items as one array, without those that filled the last one up; others one for each batch."""
        return {
            name: np.concatenate(arrays)[: self.number] if arrays[0].shape[:1] == (self.size,) else np.stack(arrays)
            for name, arrays in found.items()
        }


def _collect(found: dict[str, list[np.ndarray]], arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        found.setdefault(name, []).append(array.copy())
