"""Definitions as the command line reads them: with ``--set KEY=VALUE``, a net or a solver, for any batch size."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from .. import files, layer, schema, textformat, upgrade
from ..errors import DefinitionError, Place, Problems, did_you_mean
from ..textformat import Node, Source, is_repeated

SETTING = re.compile(r"([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


class Typed(Node):
    """The place of a field that ``--set`` changed."""

    __slots__ = ("setting",)

    def __init__(self, setting: str):
        super().__init__(Source(""), 0)
        self.setting = setting

    def place(self) -> Place:
        return Place(f"--set {self.setting}")


def read_solver(path: str, settings: list[str]) -> schema.Definition:
    """The solver of a prototxt, with the changes that ``--set`` asks for. Raises DefinitionError with all mistakes."""
    layer.load_layers()  # a net may stand within the solver, and their options are part of the schema
    definition = schema.read(path, "SolverParameter")
    problems = Problems()
    for setting in settings:
        try:
            change(definition, setting)
        except DefinitionError as error:
            problems.add(error)
    problems.raise_any()
    return upgrade.solver(definition)


def change(definition: schema.Definition, setting: str) -> None:
    """Sets a field of a definition: ``base_lr=0.02``, ``stepvalue=100,200``, ``train_state.level=1``."""
    place = Place(f"--set {setting}")
    match = SETTING.fullmatch(setting)
    if not match:
        raise DefinitionError("write KEY=VALUE, as in --set base_lr=0.01", place)
    path, value = match[1].split("."), match[2]
    field = find_field(definition.message.DESCRIPTOR, path, place)
    text = f"{path[-1]}: {as_text(field, value)}"
    for name in reversed(path[:-1]):
        text = f"{name} {{ {text} }}"
    try:
        change_by = schema.parse(text, definition.message.DESCRIPTOR.name)
    except DefinitionError as error:
        problems = Problems()
        for one in getattr(error, "errors", [error]):
            problems.add(DefinitionError(one.message, place))
        problems.raise_any()
        raise
    overwrite(definition.message, change_by.message)
    node = definition.node
    for name in path:
        inner = node.fields.get(name, [None])[0]
        if name == path[-1] or not isinstance(inner, Node):
            node.fields[name] = [Typed(setting)]
            break
        node = inner


def find_field(descriptor: Descriptor, path: list[str], place: Place) -> Any:
    """The field that a dotted path names."""
    field: Any = None
    for name in path:
        if descriptor is None:
            raise DefinitionError(f'"{field.name}" has no fields of its own', place)
        if name not in descriptor.fields_by_name:
            hint = did_you_mean(name, descriptor.fields_by_name)
            raise DefinitionError(f'"{name}" is no field of {descriptor.name}.{hint}', place)
        field = descriptor.fields_by_name[name]
        descriptor = field.message_type
    return field


def as_text(field: Any, value: str) -> str:
    """A value as a prototxt has it: text in quotation marks, a list in brackets."""
    values = [value]
    if is_repeated(field) and not value.startswith(("[", "{")):
        values = [part.strip() for part in value.split(",")]
    if field.type == FieldDescriptor.TYPE_STRING and not value.startswith(("[", '"', "'")):
        escaped = [part.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for part in values]
        values = [f'"{part}"' for part in escaped]
    return f"[{', '.join(values)}]" if len(values) > 1 else values[0]


def overwrite(message: Any, by: Any) -> None:
    """Sets every field that ``by`` has; a repeated one is replaced, not added to."""
    for field, value in by.ListFields():
        if is_repeated(field):
            message.ClearField(field.name)
            getattr(message, field.name).extend(value)
        elif field.message_type is not None:
            overwrite(getattr(message, field.name), value)
        else:
            setattr(message, field.name, value)


def kind(path: str) -> str:
    """NetParameter or SolverParameter: what a prototxt holds, by the fields that stand at its top.

    Raises DefinitionError where there is no such file.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DefinitionError(f"{why}; a net or a solver is wanted.", Place(path)) from None
    reader = textformat.Reader(Source(text, path))
    reader.read(schema.message("NetParameter")())
    belongs = {
        name: len(reader.top_names & set(schema.message(name).DESCRIPTOR.fields_by_name)) for name in schema.ROOTS
    }
    if belongs["SolverParameter"] == belongs["NetParameter"]:
        return "SolverParameter" if "solver" in os.path.basename(path) else "NetParameter"
    return max(belongs, key=lambda name: belongs[name])


def read_net(path: str) -> schema.Definition:
    """The net of a prototxt, or the one that a solver's prototxt names, in today's form."""
    layer.load_layers()
    if kind(path) == "NetParameter":
        return upgrade.net(schema.read(path, "NetParameter"))
    solver = read_solver(path, [])
    for field in ("net", "train_net"):
        name = getattr(solver.message, field)
        if name:
            found = files.find(name, path)
            if found is None:
                raise DefinitionError(files.missing("net", name, path), solver.place(field))
            return upgrade.net(schema.read(found, "NetParameter"))
    for field in ("net_param", "train_net_param"):
        if solver.message.HasField(field):
            return upgrade.net(solver.child(field))
    raise DefinitionError("this solver names no net", solver.place())


def set_batch(definition: schema.Definition, size: int) -> None:
    """Gives every source of a net this batch size: in its ``batch_size`` or as first dimension of its shapes."""
    for message in definition.message.layer:
        if message.bottom:
            continue
        for _, options in message.ListFields():
            if not hasattr(options, "DESCRIPTOR"):
                continue
            known = options.DESCRIPTOR.fields_by_name
            if "batch_size" in known:
                options.batch_size = size
            if "num" in known and getattr(options, "num", None):
                options.num[:] = [size] * len(options.num)
            for shape in getattr(options, "shape", ()) if "shape" in known else ():
                if getattr(shape, "dim", None):
                    shape.dim[0] = size
