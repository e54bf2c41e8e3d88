"""Draws a net: layers as boxes, blobs as lines.

The output's extension says the format: .dot (Graphviz text), .svg, .png or .pdf. PNG and PDF need matplotlib:
pip install 'layerforge[plot]'. Layers that work in place are rows of the box whose blob they change. Without --phase,
layers of both phases are drawn.

examples:
  layerforge draw nets/lenet_train_val.prototxt lenet.svg
  layerforge draw nets/alexnet_train_val.prototxt alexnet.png --rankdir TB --phase TRAIN
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from . import flags, machine


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("net", metavar="NET", help="the prototxt of a net, or of a solver that names one")
    parser.add_argument("output", metavar="OUT", help="the picture: .dot, .svg, .png or .pdf")
    parser.add_argument(
        "--rankdir",
        type=flags.one_of("LR", "TB", "BT", "RL"),
        default="LR",
        metavar="LR|TB|BT|RL",
        help="the direction: left to right (the default), top to bottom, ...",
    )
    parser.add_argument(
        "--phase",
        type=flags.one_of("ALL", "TRAIN", "TEST"),
        default="ALL",
        metavar="ALL|TRAIN|TEST",
        help="whose layers are drawn; default: %(default)s",
    )
    parser.add_argument("--display-lrm", action="store_true", help="tell the multipliers of the learning rate")
    flags.add_state(parser)
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    machine.import_layers(args.imports)
    from .. import TEST, TRAIN, draw
    from . import definitions

    definition = definitions.read_net(args.net)
    phase = {"ALL": None, "TRAIN": TRAIN, "TEST": TEST}[args.phase]
    draw.draw_net_to_file(
        definition, args.output, args.rankdir, phase, args.display_lrm, level=args.level, stages=args.stage
    )
    print(f"{args.output}: drawn.")
    return 0
