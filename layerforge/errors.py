"""The tree of errors. Each one is written for the person who made the mistake.

The text of an error reads ``place: subject: what must hold, with both values``, then what to type. The command line
prints it and ends with status 1; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where something was written: a file, and a line and a column in it, counted from 1."""

    file: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.file or "<text>"]
        if self.line is not None:
            parts.append(str(self.line))
            if self.column is not None:
                parts.append(str(self.column))
        return ":".join(parts)


class LayerForgeError(Exception):
    """Any mistake that LayerForge explains to its user."""

    def __init__(self, message: str, place: Place | None = None):
        super().__init__(message)
        self.message = message
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class DefinitionError(LayerForgeError):
    """The prototxt: syntax, an unknown type or field, a dangling bottom."""


class MissingDefinition(DefinitionError, RuntimeError):
    """A prototxt that is not there. A RuntimeError too, as pycaffe's ``caffe.Net`` raised for it."""


class ShapeError(LayerForgeError, ValueError):
    """Shapes that do not fit a layer. A ValueError, as pycaffe's ``caffe.io`` raised for such arrays."""


class DataError(LayerForgeError):
    """A source that is missing, empty or corrupt, or a label out of range."""


class DeviceError(LayerForgeError):
    """No such device, or not enough of its memory."""

    out_of_memory = False  # whether it is the memory that is missing


class KernelError(LayerForgeError):
    """A kernel that was not built, or that got an array of the wrong type, size or layout."""


class SnapshotError(LayerForgeError):
    """Weights or solver state that are damaged or do not match the net."""


class MissingWeights(SnapshotError, RuntimeError):
    """A file of weights that cannot be opened. A RuntimeError too, as in pycaffe."""


class NotFiniteError(LayerForgeError):
    """The loss became infinite or not a number."""


class Problems:
    """Collects errors, so that one look at a file reports all of them.

    >>> problems = Problems()
    >>> problems.add(DefinitionError("first"))
    >>> problems.add(DefinitionError("second"))
    >>> problems.raise_any()
    Traceback (most recent call last):
    layerforge.errors.DefinitionError: first
    second
    """

    def __init__(self) -> None:
        self.errors: list[LayerForgeError] = []

    def add(self, error: LayerForgeError) -> None:
        for one in getattr(error, "errors", [error]):
            if str(one) not in {str(known) for known in self.errors}:
                self.errors.append(one)

    def raise_any(self) -> None:
        """Raises what was collected: one error as it is, several as one that carries them in ``errors``."""
        if not self.errors:
            return
        if len(self.errors) == 1:
            raise self.errors[0]
        first = type(self.errors[0])
        together = first("\n".join(str(error) for error in self.errors))
        together.errors = list(self.errors)  # type: ignore[attr-defined]
        raise together


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that looks most like a misspelling of ``word``, if any does."""
    names = list(candidates)
    folded = {name.lower(): name for name in names}
    if word.lower() in folded:
        return folded[word.lower()]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`` Did you mean "pool4"?``, with its leading space, or nothing."""
    name = nearest(word, candidates)
    return f' Did you mean "{name}"?' if name else ""


def number(count: int, what: str) -> str:
    """``no tops``, ``1 top``, ``2 tops``."""
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def times(count: int) -> str:
    """``once``, ``2 times``."""
    return "once" if count == 1 else f"{count} times"
