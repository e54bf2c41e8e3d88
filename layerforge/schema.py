"""The schema at run time: message classes, definitions that remember their lines, and the options of added layers.

`proto/layerforge.proto` is compiled to a descriptor set when the package is built. The classes are made from it here,
in a descriptor pool of our own: there is no generated code, so no tie to one protobuf version, and no clash with
another package's ``caffe.proto`` in the same process.

A layer with options of its own adds them with `add_options`. The pool is then built anew when a class is next asked
for. Messages of an older pool stay usable, and `current` turns them into messages of today's.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from . import options
from .errors import DefinitionError, LayerForgeError, MissingDefinition, Place, SnapshotError
from .textformat import MANY, Node, Reader, Source, is_repeated

PACKAGE = "layerforge"
DESCRIPTORS = Path(__file__).with_name("layerforge.desc")
# What whole files hold; a text of one of them may be taken for the other.
ROOTS = {"NetParameter": "a net", "SolverParameter": "a solver"}
WHOLE_FLOAT = re.compile(r"^( *\w+: -?\d+)\.0$", re.M)
# Fields and enum values with these numbers, and above, are our own: Caffe does not have them.
FORKS = 10000

Filler = options.Filler

_lock = threading.RLock()
_added: dict[str, options.Added] = {}
_classes: dict[str, Any] = {}


def message(name: str) -> Any:
    """The class of a message, e.g. ``NetParameter``, with all options added so far.

    >>> message("PoolingParameter")(kernel_size=3).kernel_size
    3
    """
    if name not in _classes:
        with _lock:
            if not _classes:
                _classes.update(_build())
    return _classes[name]


def add_options(field: str, dataclass: type, number: int | None = None) -> None:
    """Adds a layer's options to LayerParameter, as a message with the fields of a dataclass.

    Fields are ``float``, ``int``, ``bool``, ``str``, ``Literal["a", "b"]`` (an enum), another dataclass,
    ``schema.Filler``, or a ``list`` of one of them; their defaults are the dataclass's. They are numbered in their
    order, from 1, unless ``field(metadata={"number": 7})`` says otherwise: in files saved as bytes the number is the
    name, so put new ones last.

    ``number`` is that of the field in LayerParameter. Without it, it follows from the field's name, the same in every
    process. Adding the same class again, as a notebook does, replaces it.

    Raises DefinitionError if the name or number is taken, or for a type that no field can have.
    """
    with _lock:
        known = _file().message_type
        layer = next(m for m in known if m.name == "LayerParameter")
        taken = {f.number: f.name for f in layer.field}
        taken.update({other.number: name for name, other in _added.items() if name != field})
        if field in taken.values():
            raise DefinitionError(
                f'"{field}" is a field of LayerParameter already. Give {options.origin(dataclass)} another field.'
            )
        old = _added.get(field)
        if old is not None and old.origin != options.origin(dataclass):
            raise DefinitionError(
                f'"{field}" holds {old.origin} already. Give {options.origin(dataclass)} another field.'
            )
        messages = {m.name for m in known} | {other.message.name for name, other in _added.items() if name != field}
        _added[field] = options.added(field, dataclass, number, taken, messages)
        _classes.clear()


def current(old: Any) -> Any:
    """The message itself, or a copy of today's class if options were added since it was made."""
    cls = message(old.DESCRIPTOR.name)
    if isinstance(old, cls):
        return old
    new = cls()
    new.ParseFromString(old.SerializePartialToString())
    return new


def to_dataclass(cls: type, filled: Any) -> Any:
    """A message of added options as an instance of their dataclass: enums are words again."""
    return options.to_dataclass(cls, filled)


@lru_cache(maxsize=1)
def _file() -> descriptor_pb2.FileDescriptorProto:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    except FileNotFoundError:
        raise LayerForgeError(f"{DESCRIPTORS} is missing: the package is not built. Run: pip install -e .") from None
    return files.file[0]


def _build() -> dict[str, Any]:
    """A pool of its own, and the classes of its messages by name."""
    file = descriptor_pb2.FileDescriptorProto()
    file.CopyFrom(_file())
    layer = next(m for m in file.message_type if m.name == "LayerParameter")
    for name, added in _added.items():
        file.message_type.append(added.message)
        layer.field.append(added.field(name))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{m.name}"))
        for m in file.message_type
    }


class Definition:
    """A message that remembers where each of its fields was written.

    >>> net = parse('layer { name: "conv1"\\n  bottom: "data" bottom: "more" }', "NetParameter", "mine.prototxt")
    >>> str(net.place("layer", 0, "bottom", 1))
    'mine.prototxt:2:18'
    >>> net.child("layer", 0).message.name
    'conv1'
    """

    __slots__ = ("message", "node")

    def __init__(self, message: Any, node: Node):
        self.message = message
        self.node = node

    @classmethod
    def of(cls, message: Any, file: str | None = None) -> Definition:
        """A definition of a message made in code, or read from bytes: it has no lines."""
        return cls(current(message), Node(Source("", file)))

    @property
    def file(self) -> str | None:
        return self.node.source.file if self.node.source else None

    def place(self, *path: str | int) -> Place:
        """Where a field was written, or the nearest message around it that was written anywhere.

        The path has field names, each with an index where there are several: ``("convolution_param", "group")``,
        ``("bottom", 1)``, ``("layer", 3, "name")``.
        """
        node, found = self.node, self.node.place()
        steps = list(path)
        while steps:
            entries = node.fields.get(str(steps.pop(0)))
            index = steps.pop(0) if steps and isinstance(steps[0], int) else 0
            if not entries:
                break
            entry = entries[int(index)] if int(index) < len(entries) else entries[-1]
            if not isinstance(entry, Node):
                return node.source.place(entry) if node.source else found
            node = entry
            if node.offset is not None:
                found = node.place()
        return found

    def child(self, name: str, index: int = 0) -> Definition:
        """A message within this one, with its places."""
        value = getattr(self.message, name)
        entries = self.node.fields.get(name, ())
        entry = entries[index] if index < len(entries) else None
        node = entry if isinstance(entry, Node) else Node(self.node.source, self.node.offset)
        return Definition(value[index] if is_repeated(self.message.DESCRIPTOR.fields_by_name[name]) else value, node)

    def children(self, name: str) -> list[Definition]:
        """All messages of a repeated field."""
        return [self.child(name, index) for index in range(len(getattr(self.message, name)))]

    def with_children(self, name: str, children: Iterable[Definition], without: Iterable[str] = ()) -> Definition:
        """A copy whose repeated field has these messages instead, which keep their places; ``without`` other fields."""
        children = list(children)
        new = type(self.message)()
        new.CopyFrom(self.message)
        node = Node(self.node.source, self.node.offset)
        node.fields = dict(self.node.fields)
        for gone in (name, *without):
            new.ClearField(gone)
            node.fields.pop(gone, None)
        getattr(new, name).extend(child.message for child in children)
        node.fields[name] = [child.node for child in children]
        return Definition(new, node)

    def replace(self, message: Any) -> Definition:
        """Another message at the same places."""
        return Definition(message, self.node)

    def today(self) -> Definition:
        """The same definition with a message of today's class: see `current`."""
        return Definition(current(self.message), self.node)

    def __repr__(self) -> str:
        return f"<{self.message.DESCRIPTOR.name} from {self.file or 'code'}>"


def parse(text: str, name: str, file: str | None = None) -> Definition:
    """Reads a text in protobuf's text format, as a message of that name.

    Raises DefinitionError with every mistake in it, each with file, line and column.
    """
    filled = message(name)()
    source = Source(text, file)
    if "\0" in text:
        raise DefinitionError(f"this is no text, but bytes; {ROOTS.get(name, name)} is wanted.", Place(file))
    reader = Reader(source)
    node = reader.read(filled)
    if reader.errors:
        other = _other_root(name, reader)
        if other:
            raise DefinitionError(
                f"this is {ROOTS[other]} ({other}); {ROOTS.get(name, 'something else')} ({name}) is wanted.",
                Place(file),
            )
        raise_all(reader)
    return Definition(filled, node)


def read(path: str | os.PathLike[str], name: str) -> Definition:
    """Reads a prototxt file. Raises DefinitionError if there is none, and with every mistake in it."""
    file = os.fspath(path)
    try:
        raw = Path(file).read_bytes()
    except FileNotFoundError:
        raise MissingDefinition(f"there is no such file; {ROOTS.get(name, name)} is wanted.", Place(file)) from None
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror}.", Place(file)) from None
    if raw.startswith(b"version https://git-lfs.github.com"):
        raise DefinitionError("this is a pointer of Git LFS, not the file. Run: git lfs pull", Place(file))
    # Comments in another encoding do no harm; a string in one is named by the reader.
    return parse(raw.decode("utf-8-sig", "surrogateescape"), name, file)


def fork_fields(definition: Definition) -> list[tuple[str, str, Place]]:
    """What a definition asks for that Caffe does not have: the message, the field in it, and its place.

    Options that layers added themselves are not among these.

    >>> [f"{place}: {name} of {owner}" for owner, name, place in fork_fields(
    ...     parse("layer { pooling_param { ceil_mode: false engine: MKL2017 } }", "NetParameter"))]
    ['<text>:1:42: engine of PoolingParameter', '<text>:1:25: ceil_mode of PoolingParameter']
    """
    found = []
    for field, value in definition.message.ListFields():
        owner = field.containing_type.name
        if field.number >= FORKS and field.name not in _added:
            found.append((owner, field.name, definition.place(field.name)))
        elif field.enum_type is not None:
            for index, number in enumerate(value if is_repeated(field) else [value]):
                if number >= FORKS:
                    found.append((owner, field.name, definition.place(field.name, index)))
        elif field.message_type is not None:
            for index in range(len(value) if is_repeated(field) else 1):
                found += fork_fields(definition.child(field.name, index))
    return found


def to_text(message: Any) -> str:
    """A message in protobuf's text format, with two spaces per level, as Caffe prints it: 1, not 1.0."""
    return WHOLE_FLOAT.sub(r"\1", text_format.MessageToString(message))


def from_bytes(raw: bytes, name: str, file: str | None = None) -> Definition:
    """Reads a message saved as bytes. What the schema does not know is kept, and saved again."""
    try:
        return Definition.of(message(name).FromString(raw), file)
    except DecodeError:
        raise SnapshotError(f"this is no {name} as bytes, or it is damaged.", Place(file)) from None


def raise_all(reader: Reader) -> None:
    """Raises what a reader found wrong: one error as it is, several as one that carries them in ``errors``."""
    errors = [DefinitionError(message, reader.source.place(offset)) for offset, message in reader.errors]
    if reader.syntax_errors >= MANY:
        errors.append(DefinitionError("there are too many mistakes: the rest was not read.", Place(reader.source.file)))
    if len(errors) == 1:
        raise errors[0]
    together = DefinitionError("\n".join(str(error) for error in errors))
    together.errors = errors  # type: ignore[attr-defined]
    raise together


def _other_root(name: str, reader: Reader) -> str | None:
    """The kind of file this is instead, if all that stands at its top belongs there and not here."""
    for other in ROOTS:
        if other != name and name in ROOTS and reader.top_names:
            fields = message(other).DESCRIPTOR.fields_by_name
            here = message(name).DESCRIPTOR.fields_by_name
            if all(top in fields for top in reader.top_names) and any(top not in here for top in reader.top_names):
                return other
    return None
