"""Launches kernels on arrays that lie on another device than the CPU: checks the arguments, packs them as CUDA does.

The one way for a GPU and for the emulated device. What does not fit raises the same KernelError as on the CPU.
"""

from __future__ import annotations

import ctypes
import functools
import math
import operator
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import device as devices
from .device.base import Device, Number
from .errors import KernelError
from .kernel_source import Parameter, Signature, grid_name, grid_source, signatures

WIDTH = 2**31  # of 32-bit indices

DTYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "int32_t": np.dtype(np.int32),
    "int64_t": np.dtype(np.int64),
    "uint8_t": np.dtype(np.uint8),
    "uint32_t": np.dtype(np.uint32),
    "uint64_t": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}

#: How the numbers that are no csrc/grid.h Number are packed; those that are: value, padding, and an address or 0.
FORMATS = {"int32_t": "i", "int64_t": "q", "uint8_t": "B", "uint32_t": "I", "bool": "?"}
NUMBERS = {"float": "f4xQ", "double": "dQ", "uint64_t": "QQ"}
SLOT = 16  # bytes for each argument


#: Terms for each element of the result from which on a reduction is the work of teams of threads.
LONG = 32


class Form:
    """A kernel in one of its forms: for T = ``element``, "float" or "double", and a width of index.

    ``team``: each index has several threads, see REDUCTION in csrc/portable.h.
    """

    def __init__(self, header: Header, signature: Signature, element: str, wide: bool, team: bool = False):
        self.header = header
        self.signature = signature
        self.element = element
        self.wide = wide
        self.team = team
        self.key = self._key(signature)

    family = property(lambda self: self.header.path.stem)
    include = property(lambda self: self.header.path.parent.parent)

    def _key(self, signature: Signature) -> str:
        """A name for it: ``activation/relu_forward/float/narrow``."""
        width = "wide" if self.wide else "narrow"
        return f"{self.family}/{signature.name}/{self.element}/{width}{'/team' * self.team}"

    @property
    def source(self) -> str:
        """The C++ source from which the device's compiler makes it, and all others of the header."""
        return grid_source(self.header.path.name, self.wide, self.team)

    def siblings(self) -> dict[str, str]:
        """The kernels of the header in the same form, itself among them: key -> the name of csrc/grid.h's instance."""
        made = [each for each in self.header.signatures if each.reduces or not self.team]
        return {self._key(each): grid_name(each, self.element) for each in made}


class Launcher:
    """One kernel, to be called with its arguments."""

    def __init__(self, header: Header, signature: Signature):
        self.family = header.path.stem
        self.signature = signature
        self.forms = {
            (element, wide, team): Form(header, signature, element, wide, team)
            for element in ("float", "double")
            for wide in (False, True)
            for team in (False, True)
        }

    def fail(self, parameter: Parameter, expected: str, value: Any) -> NoReturn:
        self.refuse(f"argument {parameter.name}: expected {expected}, received {describe(value)}")

    def refuse(self, message: str) -> NoReturn:
        raise KernelError(f"kernel {self.signature.name} ({self.family}.h): {message}")

    def __call__(self, arguments: Sequence[Any], count: int | None, wide: bool) -> None:
        parameters = self.signature.parameters
        element, device = self._element(arguments)
        sizes = [0]
        written: int | None = None
        for parameter, value in zip(parameters, arguments, strict=True):
            if parameter.pointer and value is not None:
                sizes.append(self._check_array(parameter, value, element, device))
                if written is None and not parameter.constant:
                    written = sizes[-1]
        if count is None:
            count = written
        if count is None:
            self.refuse("needs count=, because it got no array to write to")
        elif not isinstance(count, int) or count < 0:
            self.refuse(f"argument count: expected a number of elements, received {describe(count)}")
        if not count:
            for parameter, value in zip(parameters, arguments, strict=True):
                self._pack(parameter, value, element, True)
            return
        team = self.signature.reduces and max(sizes) >= LONG * count
        if team:
            blocks, threads = device.grid_of_teams(count, max(sizes) // count, self._side(arguments))
        else:
            blocks, threads = device.grid(count)
        wide = wide or max(*sizes, count + blocks * math.prod(threads)) >= WIDTH or self._has_large_index(arguments)
        packed = [struct.pack("q" if wide else "i", count)]
        packed += [self._pack(p, value, element, wide) for p, value in zip(parameters, arguments, strict=True)]
        memory = ctypes.create_string_buffer(b"".join(each.ljust(SLOT, b"\0") for each in packed), SLOT * len(packed))
        base = ctypes.addressof(memory)
        places = (ctypes.c_void_p * len(packed))(*range(base, base + SLOT * len(packed), SLOT))
        device.launch(self.forms[element, wide, team], blocks, threads, ctypes.addressof(places))

    def _element(self, arguments: Sequence[Any]) -> tuple[str, Device]:
        """T, and the device, both those of the first array that is declared with it."""
        given = list(zip(self.signature.parameters, arguments, strict=True))
        device = devices.of(next(value for parameter, value in given if parameter.pointer and value is not None))
        element = "float"
        for parameter, value in given:
            if parameter.pointer and parameter.type == "T" and value is not None:
                dtype = getattr(value, "dtype", None)
                if dtype not in (np.float32, np.float64):
                    self.fail(parameter, _expected(parameter, "float32 or float64"), value)
                element = "float" if dtype == np.float32 else "double"
                break
        return element, device

    def _check_array(self, parameter: Parameter, value: Any, element: str, device: Device) -> int:
        """Raises KernelError unless it is an array of the right type, on the right device; its size."""
        dtype = DTYPES[element if parameter.type == "T" else parameter.type]
        home = devices.home(value)
        if home is not device or value.dtype != dtype or not value.flags.c_contiguous:
            self.fail(parameter, _expected(parameter, dtype.name), value)
        return int(value.size)

    def _side(self, arguments: Sequence[Any]) -> int:
        """How many neighbouring rows have their terms side by side."""
        side = 1 if self.signature.across is None else arguments[self.signature.across]
        return side if isinstance(side, int) else 1

    def _has_large_index(self, arguments: Sequence[Any]) -> bool:
        return any(
            parameter.type == "index_t" and isinstance(value, int) and not -WIDTH <= value < WIDTH
            for parameter, value in zip(self.signature.parameters, arguments, strict=True)
        )

    def _pack(self, parameter: Parameter, value: Any, element: str, wide: bool) -> bytes:
        """The bytes that the kernel gets. Raises KernelError for a number that is none or does not fit."""
        if parameter.pointer:
            return struct.pack("Q", 0 if value is None else value.data.ptr)
        name = element if parameter.type == "T" else parameter.type
        if name == "index_t":
            name = "int64_t" if wide else "int32_t"
        real = name in ("float", "double")
        if isinstance(value, Number) and name in NUMBERS:
            if value.dtype != DTYPES[name]:
                self.fail(parameter, f"a number of type {DTYPES[name].name}", value)
            return struct.pack(NUMBERS[name], 0, value.pointer)
        try:
            if name == "bool":
                return struct.pack("?", bool(value))
            number = float(value) if real else operator.index(value)
        except (TypeError, ValueError):
            self.fail(parameter, "a number" if real else "an integer", value)
        try:
            if name in NUMBERS:
                return struct.pack(NUMBERS[name], _single(number) if name == "float" else number, 0)
            return struct.pack(FORMATS[name], number)
        except struct.error:
            self.fail(parameter, f"an integer of type {DTYPES[name].name}", value)


def _single(number: float) -> float:
    """The nearest float32; beyond its range, infinity, as in C++."""
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def _expected(parameter: Parameter, dtype: str) -> str:
    return f"{'a' if parameter.constant else 'a writable'} C-contiguous {dtype} array"


def describe(value: Any) -> str:
    """How messages name an argument."""
    if value is None:
        return "None"
    device = devices.home(value)
    if device is not None:
        layout = "" if value.flags.c_contiguous else ", not C-contiguous,"
        return f'{value.dtype} array{layout} of shape {value.shape} on device "{device.name}"'
    return f"{type(value).__name__} {value!r}"


class Header:
    """A kernel header, and its kernels by name."""

    def __init__(self, path: Path):
        self.path = path
        self.signatures = signatures(path.read_text(encoding="utf-8"))
        self.launchers = {each.name: Launcher(self, each) for each in self.signatures}


header = functools.cache(Header)


def elsewhere(kernels: dict[int, tuple[str, str]], include: Path) -> Callable[[int, Sequence[Any], int | None], None]:
    """What the compiled part calls for a kernel whose first array is not the CPU's; ``kernels``: handle -> names."""

    def launch(handle: int, arguments: Sequence[Any], count: int | None) -> None:
        family, name = kernels[handle & ~3]
        header(include / "kernels" / f"{family}.h").launchers[name](arguments, count, bool(handle & 2))

    return launch
