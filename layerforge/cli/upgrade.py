"""Writes an old net or solver as one of today.

Nets of 2013 and 2014 (V0, V1), inputs beside the layers and solver_type become what is written now. The file itself
tells what it holds: the text of a net or of a solver, or a net as bytes with its weights (.caffemodel). What comes out
is of the same kind. Comments in a text are not kept. A file of today's form is written again as it is.

examples:
  layerforge upgrade old_train_val.prototxt train_val.prototxt
  layerforge upgrade old.caffemodel new.caffemodel
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ..errors import DefinitionError, Place
from . import flags, machine

if TYPE_CHECKING:
    from ..schema import Definition

HDF5 = b"\x89HDF"
CONTROL = set(range(32)) - set(b"\t\n\v\f\r")
LOOKED_AT = 1 << 16  # bytes in which what is no text shows itself


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("source", metavar="IN", help="the old file")
    parser.add_argument("target", metavar="OUT", help="the new file; it may be the same")
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    machine.import_layers(args.imports)
    from .. import files, layer, schema, upgrade
    from . import definitions

    layer.load_layers()  # their options are part of the schema
    raw = read(args.source)
    if is_text(raw):
        kind = definitions.kind(args.source)
        old = schema.read(args.source, kind)
    else:
        kind, old = "NetParameter", schema.from_bytes(raw, "NetParameter", args.source)
        if not old.message.layer and not old.message.layers:
            raise DefinitionError("no layers are in these bytes: a net is wanted.", Place(args.source))
    new = upgrade.net(old) if kind == "NetParameter" else upgrade.solver(old)
    message = new.message
    result = schema.to_text(message).encode() if is_text(raw) else message.SerializePartialToString()
    with files.atomic(args.target) as file:
        file.write(result)
    print(f"{args.target}: {what(new)}, {age(old)}.")
    return 0


def read(path: str) -> bytes:
    """A file's bytes. DefinitionError where there are none that could be upgraded."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DefinitionError(f"{why}; a net or a solver is wanted.", Place(path)) from None
    if raw.startswith(HDF5):
        raise DefinitionError("weights in HDF5 have no old form: there is nothing to upgrade.", Place(path))
    return raw


def is_text(raw: bytes) -> bool:
    """Whether bytes are a prototxt: they have no control characters but those of lines and tabs."""
    return not CONTROL.intersection(raw[:LOOKED_AT])


def what(new: Definition) -> str:
    """What was written: ``net "LeNet" of 9 layers``."""
    message = new.message
    if message.DESCRIPTOR.name == "SolverParameter":
        return f"solver of type {message.type}"
    layers = len(message.layer)
    named = f'net "{message.name}"' if message.name else "net"
    return f"{named} of {layers} layer{'s' if layers != 1 else ''}"


def age(old: Definition) -> str:
    """What it was made of: ``upgraded from V1``."""
    message = old.message
    if message.DESCRIPTOR.name == "SolverParameter":
        changes = ["solver_type"] if message.HasField("solver_type") else []
    else:
        from .. import upgrade

        changes = ["V0" if any(one.HasField("layer") for one in message.layers) else "V1"] if message.layers else []
        changes += ["input fields"] if message.input else []
        if not changes and upgrade.is_old(old):
            changes = ["learning rates of BatchNorm"]
    return f"upgraded from {' and '.join(changes)}" if changes else "of today's form already"
