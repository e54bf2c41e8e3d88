"""What classify and detect have in common: the flags of pycaffe's scripts, means, and a net with its weights."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from ..errors import DataError, Place
from . import flags


def pair(text: str) -> tuple[int, int]:
    """A type of flag: ``256,256`` as (256, 256)."""
    parts = numbers(text)
    if len(parts) != 2 or min(parts) < 1:
        raise ArgumentTypeError(f'"{text}" is no height,width')
    return parts[0], parts[1]


def numbers(text: str) -> tuple[int, ...]:
    """A type of flag: ``2,1,0`` as (2, 1, 0)."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f'"{text}" is no list of whole numbers') from None


def add_flags(parser: flags.Parser) -> None:
    """The net, its weights, and how images become its inputs."""
    net = parser.add_argument_group("net")
    net.add_argument("--model-def", "--model", required=True, metavar="FILE", help="the net's prototxt, for use")
    net.add_argument("--pretrained-model", "--weights", required=True, metavar="FILE", help="its weights")
    inputs = parser.add_argument_group("images to inputs, in this order")
    inputs.add_argument(
        "--channel-swap",
        type=numbers,
        metavar="2,1,0",
        help="the order of channels, from red, green, blue; default: 2,1,0 as Caffe's colour models have it",
    )
    inputs.add_argument(
        "--raw-scale", type=float, default=255.0, metavar="X", help="a factor before the mean; default: %(default)g"
    )
    inputs.add_argument("--mean-file", metavar="FILE", help="the mean to subtract: .npy or .binaryproto")
    inputs.add_argument("--input-scale", type=float, metavar="X", help="a factor after the mean")


def add_machine(parser: flags.Parser) -> None:
    """As `flags.add_machine`, with ``--gpu`` as pycaffe's scripts have it: without a number."""
    group = parser.add_argument_group("machine")
    group.add_argument("--gpu", action="store_const", const="gpu", help="compute on the GPU")
    group.add_argument("--device", default="auto", metavar="auto|cpu|gpu|N", help="where to compute")
    group.add_argument("--threads", type=flags.whole(1), metavar="N", help="threads to compute with; default: all")
    group.set_defaults(cache=None)
    flags.add_always(parser)


def options(args: Namespace, device: Any) -> dict[str, Any]:
    """The arguments of Classifier and Detector that the flags give; see `swap_channels` for one more."""
    return {
        "mean": read_mean(args.mean_file) if args.mean_file else None,
        "input_scale": args.input_scale,
        "raw_scale": args.raw_scale,
        "device": device,
        "seed": 0,
    }


def swap_channels(args: Namespace, net: Any) -> int:
    """Sets the order of channels that is asked for, or blue, green, red for colours. Returns how many there are."""
    name = net.inputs[0]
    channels = int(net.blobs[name].shape[1])
    swap = args.channel_swap or ((2, 1, 0) if channels == 3 else None)
    if swap:
        net.transformer.set_channel_swap(name, swap)
    return channels


def read_mean(path: str) -> Any:
    """A mean image (C, H, W), or a value per channel. Raises DataError for a file that holds neither."""
    import numpy as np

    from .. import io, schema

    try:
        if path.endswith(".npy"):
            return np.load(path)
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("there is no such file of a mean", Place(path)) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no array of numpy"
        raise DataError(f"cannot be read: {why}", Place(path)) from None
    try:
        mean = io.blobproto_to_array(schema.from_bytes(raw, "BlobProto", path).message)
    except Exception:
        raise DataError("this is neither .npy nor a BlobProto: no mean", Place(path)) from None
    return mean[0] if mean.ndim == 4 else mean


def image_files(path: str, ext: str) -> list[str]:
    """The images of a folder with that extension, by name, or the one file. Raises DataError where there are none."""
    if not os.path.exists(path):
        raise DataError("there is no such image, folder or array", Place(path))
    if not os.path.isdir(path):
        return [path]
    found = sorted(str(file) for file in Path(path).iterdir() if file.suffix.lower() == f".{ext.lower().lstrip('.')}")
    if not found:
        raise DataError(f"no image .{ext.lstrip('.')} is in this folder. --ext tells another extension", Place(path))
    return found
