"""Scores the weights of a net: the outputs of every batch, then their means.

examples:
  layerforge test --model nets/lenet_train_val.prototxt --weights lenet_iter_3000.caffemodel --iterations 10
"""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import Any

from . import flags, machine

log = logging.getLogger("layerforge.cli")


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("--model", required=True, metavar="FILE", help="the net's prototxt")
    parser.add_argument("--weights", required=True, metavar="A,B", help="its weights; several by commas")
    parser.add_argument(
        "--iterations", type=flags.whole(1), default=50, metavar="N", help="how many batches; default: %(default)s"
    )
    parser.add_argument("--seed", type=flags.whole(0), metavar="N", help="the seed of whatever is random in it")
    flags.add_state(parser)
    flags.add_machine(parser)


def run(args: Namespace, handler: Any) -> int:
    machine.import_layers(args.imports)
    device = machine.prepare(args)
    import numpy as np

    from .. import TEST
    from ..net import Net

    net = Net(args.model, TEST, args.level, args.stage, device=device, seed=args.seed)
    try:
        for path in args.weights.split(","):
            log.info("%s", net.copy_from(path))
        log.info("Running for %d iterations.", args.iterations)
        loss, sums = 0.0, dict[str, Any]()
        for batch in range(args.iterations):
            loss += net.run_forward()
            for name in net.outputs:
                values = net.blobs[name].data.astype(np.float64).reshape(-1)
                for value in values.tolist():
                    log.info("Batch %d, %s = %.6g", batch, name, value)
                sums[name] = sums[name] + values if name in sums else values
        log.info("Loss: %.6g", loss / args.iterations)
        weights = net.blob_loss_weights
        for name, total in sums.items():
            for value in (total / args.iterations).tolist():
                weight = weights[name]
                log.info("%s = %.6g%s", name, value, f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else "")
    finally:
        net.close()
    return 0
