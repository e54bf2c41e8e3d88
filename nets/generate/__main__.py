"""Writes the nets of this folder's parent: ``python nets/generate``, or ``python nets/generate --to FOLDER``.

Each module with a function ``files`` holds one family of nets. Change it, run this, and commit both.
"""

import argparse
import importlib
from pathlib import Path

FAMILIES = [
    "autoencoder",
    "cifar10",
    "fcn",
    "finetune",
    "googlenet",
    "logistic_regression",
    "lstm",
    "mobilenet",
    "nin",
    "resnet",
    "siamese",
    "squeezenet",
    "vgg",
    "zfnet",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=Path(__file__).resolve().parent.parent, metavar="FOLDER")
    parser.add_argument("--rows", action="store_true", help="write the rows of the logistic regression too")
    parser.add_argument("families", nargs="*", default=FAMILIES, help=f"of {', '.join(FAMILIES)}; default: all")
    args = parser.parse_args()
    for family in args.families:
        for name, text in importlib.import_module(family).files():
            (args.to / f"{name}.prototxt").write_text(text, encoding="utf-8")
    if args.rows:
        importlib.import_module("logistic_regression").write_rows(args.to)


if __name__ == "__main__":
    main()
