"""Tells the shapes, parameters, multiply-adds and memory of a net, layer by layer.

No memory is taken and nothing runs, so any batch size can be asked for. Memory is that of a layer's tops in float32; a
layer that works in place, or passes its bottom on, takes none. Multiply-adds are those of products; element-wise work
is not counted. What is "ReLU, in bn1" is computed by bn1 in its own pass. The last line has all memory that `layerforge
train` (with SGD) or `test` takes for the net, but for the batches that sources make ahead; the process and its
libraries take some 100 MiB more. With `memory: RECOMPUTE` in the net, the line before names the layers that are
computed again for backward.

examples:
  layerforge summary nets/alexnet_deploy.prototxt --batch 1
  layerforge summary nets/alexnet_train_val.prototxt --phase TEST
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from . import flags, machine
from .table import memory, scaled, table

if TYPE_CHECKING:
    from ..net import Net


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="the prototxt of a net, or of a solver that names one")
    parser.add_argument("--model", metavar="FILE", help="the same, as in Caffe")
    flags.add_phase(parser)
    parser.add_argument("--batch", type=flags.whole(1), metavar="N", help="in place of the batch size of its sources")
    flags.add_state(parser)
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    file = args.file or args.model
    if not file:
        raise flags.UsageError("name the prototxt to summarise")
    machine.import_layers(args.imports)
    from .. import TEST, TRAIN
    from ..net import Net
    from . import definitions

    definition = definitions.read_net(file)
    if args.batch:
        definitions.set_batch(definition, args.batch)
    training = args.phase == "TRAIN"
    net = Net(
        definition,
        TRAIN if training else TEST,
        args.level,
        args.stage,
        device=ledger(),
        seed=0,
        reuse=True,
        allocate=False,
    )
    try:
        print(report(net, training))
    finally:
        net.close()
    return 0


def ledger() -> Any:
    """A device whose arrays have a size, but take no memory: every element is one and the same."""
    import numpy as np

    from ..device.cpu import Cpu

    class Ledger(Cpu):
        def zeros(self, shape: Any, dtype: Any = np.float32) -> np.ndarray:
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))

        empty = zeros

    return Ledger()


def report(net: Net, training: bool) -> str:
    """The table and the totals."""
    taken = memory_line(net, training)
    size, types = net.dtype.itemsize, types_of(net)
    seen: set[int] = set()  # the blobs that are counted
    rows = []
    all_parameters = all_work = all_values = 0
    for node in net.nodes:
        layer = node.layer
        values = 0
        for view in node.top:
            passed_on = any(view is bottom for bottom in node.bottom) or layer.shares_data
            if not passed_on and id(view) not in seen:
                values += view.count
            seen.add(id(view))
        parameters = sum(p.count for p in layer.blobs if p.owner is None)
        work = layer.flops([view.shape for view in node.bottom], [view.shape for view in node.top])
        shapes = " ".join("x".join(map(str, view.shape)) or "1" for view in node.top)
        rows.append(
            [
                layer.name,
                types[layer.name],
                shapes,
                f"{parameters:,}" if parameters else "",
                scaled(work) if work else "",
                memory(values * size) if values else "",
            ]
        )
        all_parameters += parameters
        all_work += work
        all_values += values
    learnt = sum(p.count for p in net.arena.owned if p.lr_mult)
    foot = [["all", "", "", f"{all_parameters:,}", scaled(all_work), memory(all_values * size)]]
    lines = [
        table(["layer", "type", "tops", "parameters", "multiply-adds", "memory"], rows, foot, left=3),
        "",
        f"{net.name or 'The net'} in {'TRAIN' if training else 'TEST'}: {len(net.nodes)} layers, {all_parameters:,}"
        f" parameters, {learnt:,} of them learnt.",
    ]
    batch = batch_of(net)
    if batch > 1 and all_work:
        each = scaled(all_work / batch)
        lines.append(f"Multiply-adds forward: {scaled(all_work)} for a batch of {batch}, {each} for one of it.")
    again = [node.layer.name for piece in net.storage.pieces for node in piece.makers if not node.layer.shares_data]
    if again:
        lines.append(f"Computed again for backward: {', '.join(again)}.")
    lines.append(taken)
    return "\n".join(lines)


def types_of(net: Net) -> dict[str, str]:
    """Each layer's type, and which others compute it, or a part of it, in their own pass."""
    whole, part = net.fused, net.fused_in_part
    types = {}
    for layer in (node.layer for node in net.nodes):
        types[layer.name] = layer.type
        types[layer.name] += f", in {whole[layer.name]}" if layer.name in whole else ""
        types[layer.name] += f", partly in {part[layer.name]}" if layer.name in part else ""
    return types


def memory_line(net: Net, training: bool) -> str:
    """All memory of a net, by purpose. Takes it, on a device where that costs nothing."""
    for node in net.nodes:
        for parameter in node.layer.blobs:
            parameter.filler = None  # there is nothing to fill
    net.allocate()
    if training:
        net.storage.need_diffs()
    taken = net.memory_bytes()
    parts = {"parameters": taken["parameters"]}
    if training:
        parts |= {"their gradients": taken["parameters"], "momentum": taken["parameters"]}
    parts |= {"blobs": taken["data"], "gradients of blobs": taken["diff"], "work": taken["scratch"] + taken["state"]}
    words = ", ".join(f"{name} {memory(count)}" for name, count in parts.items() if count)
    return f"Memory to {'train' if training else 'test'}: {memory(sum(parts.values()))}: {words}."


def batch_of(net: Net) -> int:
    """The first dimension of the net's first source."""
    for node in net.nodes:
        if not node.bottom and node.top and node.top[0].shape:
            return int(node.top[0].shape[0])
    return 0
