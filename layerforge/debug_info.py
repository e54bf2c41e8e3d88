"""What ``debug_info: true`` logs, in Caffe's words: mean absolute values of blobs, parameters and diffs."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .blob import Parameter
    from .net import Net

log = logging.getLogger("layerforge.net")


def mean_abs(array: np.ndarray) -> float:
    """The mean of absolute values; NaN for none."""
    return float(np.abs(array).mean(dtype=np.float64)) if array.size else math.nan


def display_name(parameter: Parameter, index: int) -> str:
    """Caffe's: the name by which it is shared, or its index in its layer."""
    return parameter.share_name or str(index)


def after_forward(net: Net, index: int) -> None:
    """The tops of a layer that has run, and its parameters."""
    node, read = net.nodes[index], net.device.to_numpy
    for view in node.top:
        value = mean_abs(read(view.data))
        log.info("    [Forward] Layer %s, top blob %s data: %.6g", node.layer.name, view.name, value)
    for i, parameter in enumerate(node.layer.blobs):
        value = mean_abs(read(parameter.data))
        log.info("    [Forward] Layer %s, param blob %s data: %.6g", node.layer.name, display_name(parameter, i), value)


def after_backward(net: Net, index: int) -> None:
    """The diffs that a layer's backward wrote."""
    node, read = net.nodes[index], net.device.to_numpy
    for view in node.bottom:
        if view.needs_diff:
            value = mean_abs(read(view.diff))
            log.info("    [Backward] Layer %s, bottom blob %s diff: %.6g", node.layer.name, view.name, value)
    for i, parameter in enumerate(node.layer.blobs):
        if parameter.needs_diff:
            value = mean_abs(read(parameter.diff))
            log.info("    [Backward] Layer %s, param blob %d diff: %.6g", node.layer.name, i, value)


def after_backward_pass(net: Net) -> None:
    """The norms of all parameters together, and of their diffs."""
    sums = [0.0, 0.0, 0.0, 0.0]  # of |data|, |diff|, data^2, diff^2
    for parameter in net.arena.owned:
        for k, array in enumerate((parameter.data, parameter.diff)):
            values = net.device.to_numpy(array).astype(np.float64)
            sums[k] += float(np.abs(values).sum())
            sums[k + 2] += float(np.square(values).sum())
    log.info(
        "    [Backward] All net params (data, diff): L1 norm = (%.6g, %.6g); L2 norm = (%.6g, %.6g)",
        sums[0],
        sums[1],
        math.sqrt(sums[2]),
        math.sqrt(sums[3]),
    )


def copy_parameters(net: Net) -> list[Any]:
    """The parameters as they are before an update."""
    return [net.device.to_numpy(parameter.data).copy() for parameter in net.arena.owned]


def after_update(net: Net, before: list[Any]) -> None:
    """The parameters before an update, and by how much it moved them."""
    moved = {}
    for parameter, values in zip(net.arena.owned, before, strict=True):
        moved[id(parameter)] = mean_abs(values), mean_abs(values - net.device.to_numpy(parameter.data))
    owners = {
        id(p): (node.layer.name, display_name(p, i)) for node in net.nodes for i, p in enumerate(node.layer.blobs)
    }
    for node in net.nodes:
        for i, parameter in enumerate(node.layer.blobs):
            name = display_name(parameter, i)
            if parameter.owner is None:
                data, diff = moved[id(parameter)]
                log.info("    [Update] Layer %s, param %s data: %.6g; diff: %.6g", node.layer.name, name, data, diff)
            else:
                log.info(
                    "    [Update] Layer %s, param blob %s (owned by layer %s, param %s) diff: %.6g",
                    node.layer.name,
                    name,
                    *owners[id(parameter.owner)],
                    moved[id(parameter.owner)][1],
                )
