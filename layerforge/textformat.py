"""Reads protobuf's text format and remembers where everything was written.

protobuf's own parser tells the line of an error, but not of a field that is found wrong later, and it stops at the
first mistake. This one fills messages by reflection, keeps a tree of places beside them, and collects all mistakes.

The grammar is that of protobuf's C++ parser, which Caffe used: ``name: value``, ``name { ... }`` or ``name < ... >``
with an optional colon, ``name: [a, b]``, ``,`` or ``;`` between fields, ``#`` comments, adjacent strings joined.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from .errors import Place, did_you_mean, nearest

TOKEN = re.compile(
    r"""
      \$\#\w+\#\$                                          # a template's placeholder, for what follows it is no comment
    | \#[^\n]*                                            # a comment
    | [A-Za-z_]\w*                                        # a name
    | \.?\d[\w.]*(?:(?<=[eE])[+-]\w+)?                    # a number, well formed or not
    | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'           # a string
    | \S                                                  # { } < > : ; , [ ] - and what does not belong here
    """,
    re.VERBOSE | re.ASCII,
)
WORD = re.compile(r"[^\s{}<>\[\];,]+")
INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|\d+")
FLOAT = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?")
ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
KNOWN_ESCAPES = frozenset(ESCAPED) | frozenset("\\'\"?")
BOOLEANS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}
SPECIAL_FLOATS = {"inf": float("inf"), "infinity": float("inf"), "nan": float("nan")}
STARTS_VALUE = re.compile(r"""[-\d."']""")
CLOSING = {"{": "}", "<": ">"}
# What a template has where its filled form has a value: $#batch_size#$, ${batch_size}, {{ batch_size }}, @batch_size@,
# %(batch_size)s, %d.
PLACEHOLDER = re.compile(r"\$\#\w+\#\$|\$\{\w+\}|\{\{\s*\w+\s*\}\}|@\w+@|%\(\w+\)[sdfgi]|%[sdfgi]\b|\$\w+")
# So many syntax errors, and it is no prototxt at all.
MANY = 50

INT, FLOATING, BOOL, STRING, BYTES, ENUM, MESSAGE = range(7)
KINDS = {
    FieldDescriptor.TYPE_INT32: INT,
    FieldDescriptor.TYPE_INT64: INT,
    FieldDescriptor.TYPE_UINT32: INT,
    FieldDescriptor.TYPE_UINT64: INT,
    FieldDescriptor.TYPE_FLOAT: FLOATING,
    FieldDescriptor.TYPE_DOUBLE: FLOATING,
    FieldDescriptor.TYPE_BOOL: BOOL,
    FieldDescriptor.TYPE_STRING: STRING,
    FieldDescriptor.TYPE_BYTES: BYTES,
    FieldDescriptor.TYPE_ENUM: ENUM,
    FieldDescriptor.TYPE_MESSAGE: MESSAGE,
}
RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


class Source:
    """A text, with the line and column of each position in it."""

    def __init__(self, text: str, file: str | None = None):
        self.text = text
        self.file = file

    @cached_property
    def lines(self) -> list[int]:
        return [0] + [match.end() for match in re.finditer("\n", self.text)]

    def line(self, offset: int) -> int:
        return bisect_right(self.lines, offset)

    def place(self, offset: int) -> Place:
        line = self.line(offset)
        return Place(self.file, line, offset - self.lines[line - 1] + 1)


class Node:
    """Where a message was written, and where each of its fields.

    ``fields`` has a list for each field's name, in the order of the values: the position of a scalar's name (within
    ``[a, b]``, of the value), or the Node of a message.
    """

    __slots__ = ("fields", "offset", "source")

    def __init__(self, source: Source | None = None, offset: int | None = None):
        self.source = source
        self.offset = offset
        self.fields: dict[str, list[int | Node]] = {}

    def place(self) -> Place:
        if self.source is None or self.offset is None:
            return Place(self.source.file if self.source else None)
        return self.source.place(self.offset)


class Field:
    """What the reader needs to know about a field, looked up once per text."""

    __slots__ = ("descriptor", "high", "kind", "low", "name", "owner", "repeated", "values")

    def __init__(self, descriptor: FieldDescriptor):
        self.descriptor = descriptor
        self.name: str = descriptor.name
        self.owner: str = descriptor.containing_type.name
        self.kind = KINDS[descriptor.type]
        self.repeated = is_repeated(descriptor)
        self.low, self.high = RANGES.get(descriptor.type, (0, 0))
        self.values: dict[str, int] = {}
        if self.kind == ENUM:
            self.values = {value.name: value.number for value in descriptor.enum_type.values}

    def expected(self) -> str:
        """What a value must look like, for a message about one that does not."""
        if self.kind == INT:
            within = "" if self.low == -(2**63) else f" from {self.low} to {self.high}"
            return f"a whole number{within}"
        if self.kind == FLOATING:
            return "a number"
        if self.kind == BOOL:
            return "true or false"
        if self.kind == ENUM:
            *names, last = self.values
            return f"{', '.join(names)} or {last}" if names else last
        if self.kind == MESSAGE:
            return f"{self.name} {{ ... }}"
        return "text in quotation marks"


def is_repeated(descriptor: FieldDescriptor) -> bool:
    """Whether a field may stand several times; protobuf 6 renamed the attribute."""
    if hasattr(descriptor, "is_repeated"):
        return bool(descriptor.is_repeated)
    return bool(descriptor.label == FieldDescriptor.LABEL_REPEATED)


class _StillOpen(Exception):
    """A top-level field stands inside a message, so a closing brace is missing: go on at the top."""


class _Hopeless(Exception):
    """There are too many syntax errors for a prototxt."""


class Reader:
    """Fills one message from a text. ``errors`` has (position, message) of every mistake."""

    def __init__(self, source: Source):
        self.source = source
        self.errors: list[tuple[int, str]] = []
        self.tokens: list[str] = []
        self.starts: list[int] = []
        for match in TOKEN.finditer(source.text):
            token = match.group()
            if token[0] != "#":
                self.tokens.append(token)
                self.starts.append(match.start())
        # Enough for looking two tokens ahead anywhere.
        self.tokens += ["", "", ""]
        self.starts += [len(source.text)] * 3
        self.i = 0
        self.known: dict[str, dict[str, Field]] = {}
        self.open: list[tuple[Descriptor, int]] = []
        self.syntax_errors = 0
        self.top_names: set[str] = set()

    def read(self, message: Any) -> Node:
        """Reads the whole text into ``message``."""
        node = Node(self.source)
        while self.tokens[self.i]:
            try:
                self.message(message, node, "")
            except _StillOpen:
                del self.open[:]
            except _Hopeless:
                break
        self.top_names.update(node.fields)
        self.errors.sort(key=lambda error: error[0])
        return node

    def fields(self, descriptor: Descriptor) -> dict[str, Field]:
        name = descriptor.full_name
        if name not in self.known:
            self.known[name] = {field.name: Field(field) for field in descriptor.fields}
        return self.known[name]

    def error(self, offset: int, message: str) -> None:
        self.errors.append((offset, message))

    def message(self, message: Any, node: Node, closing: str) -> None:
        """Reads fields up to and with the closing brace; at the top, to the end."""
        tokens, starts = self.tokens, self.starts
        descriptor = message.DESCRIPTOR
        fields = self.fields(descriptor)
        places = node.fields
        self.open.append((descriptor, starts[self.i - 1] if closing else 0))
        while True:
            token = tokens[self.i]
            field = fields.get(token)
            if field is None:
                if token == closing:
                    break
                if not token or not self.recover(descriptor, closing):
                    break
                continue
            offset = starts[self.i]
            self.i += 1
            here = places.get(token)
            if here is None:
                here = places[token] = []
            elif here and not field.repeated:
                self.twice(field, offset, here[0])
            if field.kind == MESSAGE:
                self.sub_message(message, field, offset, here)
            else:
                self.scalar_field(message, field, offset, here)
            if tokens[self.i] in (",", ";"):
                self.i += 1
                if STARTS_VALUE.match(tokens[self.i]):
                    self.values_in_a_row(field)
        if closing:
            if tokens[self.i]:
                self.i += 1
            else:
                self.error(self.open[-1][1], f'this "{chr(ord(closing) - 2)}" is never closed.')
        self.open.pop()

    def sub_message(self, message: Any, field: Field, offset: int, here: list[int | Node]) -> None:
        tokens = self.tokens
        if tokens[self.i] == ":":
            self.i += 1
        if tokens[self.i] == "[":
            self.message_list(message, field, here)
            return
        self.one_message(message, field, offset, here)

    def one_message(self, message: Any, field: Field, offset: int, here: list[int | Node]) -> None:
        token = self.tokens[self.i]
        if token not in CLOSING:
            self.wrong_value(field)
            return
        self.i += 1
        node = Node(self.source, offset)
        here.append(node)
        if field.repeated:
            inner = getattr(message, field.name).add()
        else:
            inner = getattr(message, field.name)
            inner.SetInParent()
        self.message(inner, node, CLOSING[token])

    def message_list(self, message: Any, field: Field, here: list[int | Node]) -> None:
        for offset in self.items(field):
            self.one_message(message, field, offset, here)

    def scalar_field(self, message: Any, field: Field, offset: int, here: list[int | Node]) -> None:
        tokens = self.tokens
        if tokens[self.i] == ":":
            self.i += 1
        elif tokens[self.i] not in CLOSING:
            self.syntax_error(offset, f'":" is missing after "{field.name}".')
        if tokens[self.i] == "[":
            for at in self.items(field):
                value = self.scalar(field)
                if value is not None and field.repeated:
                    getattr(message, field.name).append(value)
                    here.append(at)
            return
        value = self.scalar(field)
        here.append(offset)
        if value is None:
            return
        if field.repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)

    def items(self, field: Field) -> Any:
        """The position of each item between ``[`` and ``]``; whoever asks reads the item."""
        tokens, starts = self.tokens, self.starts
        if not field.repeated:
            self.error(starts[self.i], f'"{field.name}" of {field.owner} takes one value, not a list.')
        self.i += 1
        while tokens[self.i] != "]":
            yield starts[self.i]
            if tokens[self.i] == ",":
                self.i += 1
            elif tokens[self.i] != "]":
                found = tokens[self.i] or "the end of the text"
                self.syntax_error(starts[self.i], f'"," or "]" is expected here, not {found}.')
                while tokens[self.i] not in ("", "]", "}", ">") and tokens[self.i + 1] not in (":", "{", "<"):
                    self.i += 1
                if tokens[self.i] != "]":
                    return
        self.i += 1

    def scalar(self, field: Field) -> Any:
        """Reads one value; None, and an error noted, if it is none for this field."""
        kind = field.kind
        token = self.tokens[self.i]
        value: Any = None
        if kind in (STRING, BYTES):
            if token[:1] in ('"', "'") and len(token) > 1:
                return self.string(field)
        elif kind in (INT, FLOATING):
            sign = 1
            if token == "-":
                sign, token = -1, self.tokens[self.i + 1]
            if kind == INT:
                if INTEGER.fullmatch(token):
                    value = sign * whole(token)
                    if not field.low <= value <= field.high:
                        value = None
            elif FLOAT.fullmatch(token):
                value = sign * float(token.rstrip("fF"))
            elif token.lower() in SPECIAL_FLOATS:
                value = sign * SPECIAL_FLOATS[token.lower()]
            if value is not None:
                self.i += 1 if sign == 1 else 2
                return value
        elif kind == BOOL:
            value = BOOLEANS.get(token)
        elif kind == ENUM:
            value = field.values.get(token)
            if value is None:
                value = self.numeric_enum(field)
        if value is None:
            self.wrong_value(field)
            return None
        self.i += 1
        return value

    def numeric_enum(self, field: Field) -> int | None:
        token = self.tokens[self.i]
        if INTEGER.fullmatch(token) and whole(token) in field.values.values():
            return whole(token)
        return None

    def string(self, field: Field) -> Any:
        """Joins adjacent strings and undoes their escapes."""
        tokens = self.tokens
        offset = self.starts[self.i]
        parts = []
        while tokens[self.i][:1] in ('"', "'") and len(tokens[self.i]) > 1:
            parts.append(tokens[self.i][1:-1])
            self.i += 1
        text = parts[0] if len(parts) == 1 else "".join(parts)
        if "\\" not in text and text.isascii() and field.kind == STRING:
            return text
        for part in parts:
            for match in ESCAPE.finditer(part):
                if match[5] and match[5] not in KNOWN_ESCAPES:
                    self.error(
                        offset, f"{match[0]} stands for nothing in a string; a backslash itself is written \\\\."
                    )
                    return None
        raw = b"".join(unescaped(part) for part in parts)
        if field.kind == BYTES:
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.error(offset, f'"{field.name}" of {field.owner} must be text in UTF-8.')
            return None

    # What is wrong, and where to go on.

    def syntax_error(self, offset: int, message: str) -> None:
        self.error(offset, message)
        self.syntax_errors += 1
        if self.syntax_errors == MANY:
            raise _Hopeless

    def twice(self, field: Field, offset: int, first: int | Node) -> None:
        at = first.offset if isinstance(first, Node) else first
        line = self.source.line(at or 0)
        self.error(
            offset,
            f'Non-repeated field "{field.name}" of {field.owner} is specified multiple times, first on line {line}.',
        )

    def values_in_a_row(self, field: Field) -> None:
        """Notes ``name: 1, 2`` and steps over what follows the comma."""
        if field.repeated:
            message = f'values of "{field.name}" stand in brackets: {field.name}: [a, b]'
        else:
            message = f'"{field.name}" of {field.owner} takes one value, not a list'
        self.error(self.starts[self.i], f"{message}.")
        while STARTS_VALUE.match(self.tokens[self.i]):
            self.skip_value()
            if self.tokens[self.i] == ",":
                self.i += 1

    def wrong_value(self, field: Field) -> None:
        """Notes a value of the wrong type, or none at all, and steps over it."""
        offset, token, after = self.starts[self.i], self.tokens[self.i], self.tokens[self.i + 1]
        if self.placeholder(field.expected()):
            return
        missing = not token or token in "}>],;" or (is_name(token) and after in (":", "{"))
        if missing:
            self.syntax_error(self.starts[self.i - 1], f'"{field.name}" of {field.owner} has no value.')
            return
        if token in "\"'":
            self.syntax_error(offset, "this text is not closed on its line.")
            self.skip_line()
            return
        if token == "-":
            self.i += 1
        found = "a { } block" if token in CLOSING else self.word(self.i - (token == "-"))
        quoted = token[0] in "\"'"
        hint = ""
        if field.kind == ENUM and quoted and token[1:-1] in field.values:
            hint = f" Write {token[1:-1]}, without quotation marks."
        elif field.kind == ENUM:
            hint = did_you_mean(token.strip("\"'"), field.values)
        elif field.kind == STRING and is_name(token):
            hint = f' Write "{token}".'
        self.error(offset, f'"{field.name}" of {field.owner} must be {field.expected()}, not {found}.{hint}')
        self.skip_value()
        while token not in CLOSING and not quoted and self.tokens[self.i] and self.starts[self.i] < offset + len(found):
            self.i += 1

    def recover(self, descriptor: Descriptor, closing: str) -> bool:
        """Deals with a token that is no field of this message. Returns False where the message ends with it."""
        token, offset = self.tokens[self.i], self.starts[self.i]
        if self.placeholder("fields"):
            return True
        if is_name(token):
            if not closing:
                self.top_names.add(token)
            self.unknown_field(token, offset, descriptor)
            return True
        if token in ("}", ">"):
            if closing:
                opened = self.source.line(self.open[-1][1])
                self.syntax_error(offset, f'"{closing}" is missing here: this "{token}" does not fit line {opened}.')
                return False
            self.syntax_error(offset, f'this "{token}" closes nothing.')
            self.i += 1
            return True
        if token in ",;":
            self.syntax_error(offset, f'this "{token}" separates nothing.')
            self.i += 1
            return True
        self.syntax_error(offset, f"the name of a field is expected here, not {self.word(self.i)}.")
        self.skip_line()
        return True

    def unknown_field(self, name: str, offset: int, descriptor: Descriptor) -> None:
        top, opened = self.open[0][0], self.open[-1][1]
        after = self.tokens[self.i + 1]
        block = after in CLOSING or (after == ":" and self.tokens[self.i + 2] in CLOSING)
        if block and len(self.open) > 1 and name in self.fields(top) and self.fields(top)[name].repeated:
            line = self.source.line(opened)
            self.syntax_error(offset, f'"{name}" starts here, but the "{{" of line {line} is still open.')
            raise _StillOpen
        hint = self.like(name, descriptor)
        for outer, _ in reversed(self.open[:-1]):
            if name in self.fields(outer):
                hint = f" It belongs to {outer.name}, outside these braces."
                break
        self.error(offset, f'"{name}" is no field of {descriptor.name}.{hint}')
        self.i += 1
        if after == ":":
            self.i += 1
            self.skip_value()
        elif after in CLOSING:
            self.skip_value()
        else:
            self.skip_line()
        if self.tokens[self.i] in (",", ";"):
            self.i += 1

    def placeholder(self, expected: str) -> bool:
        """Notes a template's placeholder in the place of something else, and steps over it; False if there is none."""
        offset = self.starts[self.i]
        match = PLACEHOLDER.match(self.source.text, offset)
        if match is None:
            return False
        self.error(offset, f"{match[0]} is to be filled in: this file is a template. Write {expected} in its place.")
        while self.tokens[self.i] and self.starts[self.i] < match.end():
            self.i += 1
        return True

    def word(self, i: int) -> str:
        """What a reader of the text would call token ``i``: with all that follows it without a space."""
        token = self.tokens[i]
        if token[0] in "\"'":
            return token
        match = WORD.match(self.source.text, self.starts[i])
        return match[0] if match else token

    def like(self, name: str, descriptor: Descriptor) -> str:
        """What to write instead of an unknown field's name, as far as that is known."""
        fields, end = self.fields(descriptor), "_param"
        if not name.endswith(end):
            return did_you_mean(name, fields)
        # That they all end alike says nothing.
        stem = nearest(name.removesuffix(end), [field.removesuffix(end) for field in fields if field.endswith(end)])
        if stem:
            return f' Did you mean "{stem}{end}"?'
        own = descriptor.name == "LayerParameter"
        return " The options of layers of your own come in with --import." if own else ""

    def skip_value(self) -> None:
        """Steps over a value of any kind."""
        token = self.tokens[self.i]
        if token in ("{", "<", "["):
            depth = 0
            while self.tokens[self.i]:
                token = self.tokens[self.i]
                depth += (token in ("{", "<", "[")) - (token in ("}", ">", "]"))
                self.i += 1
                if depth == 0:
                    return
        elif token[:1] in ('"', "'"):
            while self.tokens[self.i][:1] in ('"', "'"):
                self.i += 1
        elif token == "-":
            self.i += 2
        elif token and token not in "}>]":
            self.i += 1

    def skip_line(self) -> None:
        """Steps over the rest of the line, but not over a closing brace."""
        line = self.source.line(self.starts[self.i])
        while self.tokens[self.i] and self.tokens[self.i] not in ("}", ">"):
            if self.source.line(self.starts[self.i]) != line:
                return
            self.i += 1


def is_name(token: str) -> bool:
    return token.isidentifier()


def whole(token: str) -> int:
    """A whole number in decimal, 0x1f or 017.

    >>> whole("20"), whole("0x14"), whole("024")
    (20, 20, 20)
    """
    if token[:2] in ("0x", "0X"):
        return int(token, 16)
    if token[0] == "0" and token.strip("01234567") == "":
        return int(token, 8)
    return int(token)


def unescaped(text: str) -> bytes:
    """The bytes of a string literal without its quotes."""

    def one(match: re.Match[str]) -> str:
        octal, hexadecimal, short, long, other = match.groups()
        if octal or hexadecimal:
            byte = (int(octal, 8) if octal else int(hexadecimal, 16)) & 255
            return chr(byte) if byte < 128 else chr(0xDC00 + byte)
        if short or long:
            return chr(int(short or long, 16))
        return ESCAPED.get(other, other)

    # Bytes that are no text travel as lone surrogates, as when a file is read.
    return ESCAPE.sub(one, text).encode("utf-8", "surrogateescape")
