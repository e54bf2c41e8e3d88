"""Caffe's messages under the names of protobuf's generated module: ``caffe_pb2.NetParameter``.

>>> from google.protobuf import text_format
>>> from layerforge.proto import caffe_pb2
>>> net = text_format.Merge('layer { type: "Pooling" pooling_param { pool: AVE } }', caffe_pb2.NetParameter())
>>> net.layer[0].pooling_param.pool == caffe_pb2.PoolingParameter.AVE
True

The classes come from `layerforge.schema` each time they are asked for, so that a net has the fields of every layer that
is known, a user's own among them. Nothing is generated, and no other package's messages are in the way.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.internal import enum_type_wrapper

from .. import layer, schema


def _file() -> Any:
    layer.load_layers()
    return schema.message("NetParameter").DESCRIPTOR.file


def _old_name(file: Any, name: str) -> Any:
    """What generated modules of old called ``_POOLINGPARAMETER_POOLMETHOD``: the descriptor of a message or an enum."""
    for descriptor in file.message_types_by_name.values():
        for inner in (descriptor, *descriptor.enum_types):
            if "_" + inner.full_name.removeprefix(f"{file.package}.").replace(".", "_").upper() == name:
                return inner
    return None


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = _file()
    if name in file.message_types_by_name:
        return schema.message(name)
    if name in file.enum_types_by_name:
        return enum_type_wrapper.EnumTypeWrapper(file.enum_types_by_name[name])
    for enum in file.enum_types_by_name.values():
        if name in enum.values_by_name:
            return enum.values_by_name[name].number
    if name == "DESCRIPTOR":
        return file
    if name == "__all__":
        return _names(file)
    found = _old_name(file, name) if name.startswith("_") else None
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found


def _names(file: Any) -> list[str]:
    values = [value for enum in file.enum_types_by_name.values() for value in enum.values_by_name]
    return sorted([*file.message_types_by_name, *file.enum_types_by_name, *values, "DESCRIPTOR"])


def __dir__() -> list[str]:
    return sorted({*globals(), *_names(_file())})
