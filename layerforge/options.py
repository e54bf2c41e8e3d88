"""A dataclass of options becomes a protobuf message, so that it parses as ordinary prototxt."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import types
import typing
from collections.abc import Collection
from dataclasses import MISSING, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from .errors import DefinitionError

F = FieldDescriptorProto
SCALARS = {float: F.TYPE_FLOAT, int: F.TYPE_INT64, bool: F.TYPE_BOOL, str: F.TYPE_STRING}
# protobuf keeps these numbers for itself.
RESERVED = range(19000, 20000)
GREATEST = 2**29 - 1
# Derived numbers lie above all that Caffe and its forks use.
DERIVED = range(2**27, GREATEST + 1)
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Filler:
    """Stands for a FillerParameter in a dataclass of options: ``weight_filler: Filler | None = None``."""

    message = "FillerParameter"


@dataclass(frozen=True)
class Added:
    """The options of one layer: their message, and their number in LayerParameter."""

    message: DescriptorProto
    number: int
    origin: str

    def field(self, name: str) -> FieldDescriptorProto:
        """The field of LayerParameter that holds them."""
        return F(
            name=name,
            number=self.number,
            label=F.LABEL_OPTIONAL,
            type=F.TYPE_MESSAGE,
            type_name=f".layerforge.{self.message.name}",
        )


def origin(cls: type) -> str:
    """Where a class comes from: ``module.Layer.Options``."""
    return f"{cls.__module__}.{cls.__qualname__}"


def added(field: str, cls: type, number: int | None, taken: dict[int, str], messages: Collection[str]) -> Added:
    """The options ``cls`` as the field ``field`` of LayerParameter.

    ``taken`` has the numbers in use with their names, ``messages`` the names of the schema's messages.
    """
    if not NAME.fullmatch(field):
        raise DefinitionError(f'"{field}" cannot name a field: letters, digits and _ are allowed, and no digit first.')
    if number is None:
        number = derived_number(field)
        remedy = "Give one of them a number of its own: `number = 200001` in its class of options."
    else:
        remedy = "Give it another, or none."
        if not 1 <= number <= GREATEST or number in RESERVED:
            raise DefinitionError(
                f'"{field}" cannot have number {number}: it must be from 1 to {GREATEST}, but not 19000 to 19999.'
            )
    if number in taken:
        raise DefinitionError(f'"{field}" and "{taken[number]}" of LayerParameter share number {number}. {remedy}')
    name = cls.__name__
    if not name.endswith("Parameter") or name in messages:
        name = camel_case(field.removesuffix("_param")) + "Parameter"
    while name in messages:
        name += "_"
    return Added(descriptor(name, cls, f".layerforge.{name}"), number, origin(cls))


def derived_number(field: str) -> int:
    """The number of a field that was given none: a hash of its name, the same in every process."""
    digest = hashlib.sha256(field.encode()).digest()
    return DERIVED[int.from_bytes(digest[:8], "big") % len(DERIVED)]


def descriptor(name: str, cls: type, full_name: str) -> DescriptorProto:
    """The message with the fields of a dataclass."""
    out = DescriptorProto(name=name)
    hints = get_type_hints(cls)
    for position, field in enumerate(dataclasses.fields(cls), 1):
        made = out.field.add(name=field.name, number=field.metadata.get("number", position), label=F.LABEL_OPTIONAL)
        kind = without_none(hints[field.name])
        if get_origin(kind) is list:
            made.label = F.LABEL_REPEATED
            (kind,) = get_args(kind)
        if kind in SCALARS:
            made.type = SCALARS[kind]
        elif get_origin(kind) is Literal and all(isinstance(v, str) and NAME.fullmatch(v) for v in get_args(kind)):
            # Values are known throughout the message around their enum, so each enum gets a message of its own.
            scope = camel_case(field.name)
            values = out.nested_type.add(name=scope).enum_type.add(name="Value")
            for number, value in enumerate(get_args(kind)):
                values.value.add(name=value, number=number)
            made.type, made.type_name = F.TYPE_ENUM, f"{full_name}.{scope}.Value"
        elif dataclasses.is_dataclass(kind):
            scope = camel_case(field.name)
            out.nested_type.append(descriptor(scope, typing.cast(type, kind), f"{full_name}.{scope}"))
            made.type, made.type_name = F.TYPE_MESSAGE, f"{full_name}.{scope}"
        elif isinstance(getattr(kind, "message", None), str):
            made.type, made.type_name = F.TYPE_MESSAGE, f".layerforge.{kind.message}"
        else:
            raise DefinitionError(
                f"{origin(cls)}.{field.name} cannot be an option: its type must be float, int, bool, str,"
                f' Literal["a", "b"], a dataclass, Filler, or a list of one of these, not {type_name(field.type)}.'
            )
        scalar = made.type != F.TYPE_MESSAGE and made.label == F.LABEL_OPTIONAL
        if scalar and field.default is not MISSING and field.default is not None:
            if get_origin(kind) is Literal:
                fits = field.default in get_args(kind)
            else:
                fits = isinstance(field.default, (int, float) if kind is float else kind)
            if not fits:
                raise DefinitionError(
                    f"{origin(cls)}.{field.name} has the default {field.default!r}, which its type does not allow."
                )
            made.default_value = default_text(field.default)
    numbers = [made.number for made in out.field]
    if len(set(numbers)) < len(numbers):
        raise DefinitionError(f"{origin(cls)} gives two of its fields one number: {', '.join(map(str, numbers))}.")
    return out


def type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def without_none(kind: Any) -> Any:
    """``X | None`` -> ``X``: every field may be absent."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        rest = [one for one in get_args(kind) if one is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return kind


def default_text(value: Any) -> str:
    """A default as descriptors spell it.

    >>> default_text(True), default_text(0.5), default_text("warp")
    ('true', '0.5', 'warp')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)


def camel_case(name: str) -> str:
    """roi_pooling -> RoiPooling."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def to_dataclass(cls: type, message: Any) -> Any:
    """An instance of the dataclass with a message's values; enums become words again, absent fields their defaults."""
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        kind, of = without_none(hints[field.name]), message.DESCRIPTOR.fields_by_name[field.name]
        value = getattr(message, field.name)
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
            if not value and (field.default_factory is not MISSING):
                continue
            values[field.name] = [_python(kind, of, one) for one in value]
        elif message.HasField(field.name) or (field.default is MISSING and field.default_factory is MISSING):
            values[field.name] = _python(kind, of, value)
    return cls(**values)


def _python(kind: Any, of: Any, value: Any) -> Any:
    if of.enum_type is not None:
        return of.enum_type.values_by_number[value].name
    return to_dataclass(typing.cast(type, kind), value) if dataclasses.is_dataclass(kind) else value
