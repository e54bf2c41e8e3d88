"""Prototxt in the manner of this folder: a message as text, a comment on top, and notes behind single lines."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

WIDTH = 120
#: Messages that are written on lines of their own; all others fit on one.
LONG = {
    f"{kind}_param" for kind in ("convolution", "data", "hdf5_data", "inner_product", "lrn", "pooling", "transform")
}


def comment(text: str) -> str:
    """Paragraphs as a comment, lines filled; in one that is indented, at double spaces only."""
    lines: list[str] = []
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        if lines:
            lines.append("#")
        fill = columns if paragraph.startswith(" ") else textwrap.wrap
        lines += [f"# {line}" for line in fill(paragraph, WIDTH - 2)]
    return "\n".join(lines) + "\n"


def columns(text: str, width: int) -> list[str]:
    """Words that two spaces part, as many on an indented line as fit."""
    lines: list[str] = []
    for words in text.split("  "):
        if words and lines and len(lines[-1]) + 2 + len(words) <= width:
            lines[-1] += f"  {words}"
        elif words:
            lines.append(f"  {words}")
    return lines


def value(field: Any, given: Any) -> str:
    """One scalar: floats as short as they can be, enumerators by name."""
    if field.type == field.TYPE_STRING:
        return json.dumps(given)
    if field.type == field.TYPE_BOOL:
        return str(given).lower()
    if field.type == field.TYPE_ENUM:
        return field.enum_type.values_by_number[given].name
    if field.type == field.TYPE_FLOAT:
        return np.format_float_positional(np.float32(given), trim="-")
    return str(given)


def entries(message: Any) -> list[tuple[str, Any]]:
    """(name, text or message) of every field, in the order of the schema; numbers of a list together."""
    found: list[tuple[str, Any]] = []
    for field, given in message.ListFields():
        several = list(given) if hasattr(given, "append") else [given]
        if field.message_type:
            found += [(field.name, one) for one in several]
            continue
        texts = [value(field, one) for one in several]
        if len(texts) > 1 and field.type == field.TYPE_FLOAT:
            texts = [f"[{', '.join(texts)}]"]
        found += [(field.name, text) for text in texts]
    return found


def inline(message: Any) -> str:
    """A message without its braces, on one line."""
    return " ".join(
        f"{name}: {given}" if isinstance(given, str) else f"{name} {{ {inline(given)} }}"
        for name, given in entries(message)
    )


def block(name: str, message: Any, indent: str = "") -> list[str]:
    """A message as the lines of a block."""
    lines = [f"{indent}{name} {{"]
    for inner, given in entries(message):
        if isinstance(given, str):
            lines.append(f"{indent}  {inner}: {given}")
            continue
        line = f"{indent}  {inner} {{ {inline(given)} }}"
        lines += [line] if len(line) <= WIDTH and inner not in LONG else block(inner, given, indent + "  ")
    return [*lines, indent + "}"]


def short_block(name: str, message: Any, indent: str = "") -> list[str]:
    """A message on as few lines as its width allows: for a net of thousands of layers."""
    line = f"{indent}{name} {{ {inline(message)} }}"
    if len(line) <= WIDTH:
        return [line]
    scalars = [f"{inner}: {given}" for inner, given in entries(message) if isinstance(given, str)]
    lines = [f"{indent}{name} {{", f"{indent}  {' '.join(scalars)}"]
    for inner, given in entries(message):
        if not isinstance(given, str):
            lines += short_block(inner, given, indent + "  ")
    return [*lines, indent + "}"]


def net(name: str, about: str, message: Any, notes: Mapping[str, str] | None = None, *, short: bool = False) -> str:
    """A net as the text of a file. ``notes`` are comments behind the lines that begin with their keys."""
    lines = [line for layer in message.layer for line in (short_block if short else block)("layer", layer)]
    for i, line in enumerate(lines):
        for start, note in (notes or {}).items():
            if line.lstrip().startswith(start):
                lines[i] += f"  # {note}"
    return f"{comment(about)}name: {json.dumps(name)}\n" + "\n".join(lines) + "\n"
