"""Reads kernel headers: the names and parameters that the build registers, and a GPU needs to launch.

Only the standard library is imported, because ``setup.py`` runs this file before the package is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: ``template <class T> KERNEL void name(index_t i, parameters) {``; the template line may be missing. Or REDUCTION, or
#: ``REDUCTION ACROSS(parameter)``.
KERNEL = re.compile(
    r"(template\s*<\s*(?:class|typename)\s+T\s*>\s*)?\b(KERNEL|REDUCTION)(?:\s+ACROSS\((\w+)\))?"
    r"\s+void\s+(\w+)\s*\(([^)]*)\)\s*\{",
    re.S,
)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
PARAMETER = re.compile(r"(const\s+)?(\w+)\s*(\*?)\s*(\w+)")
TYPES = ("T", "float", "double", "int32_t", "int", "int64_t", "uint8_t", "uint32_t", "uint64_t", "index_t", "bool")


@dataclass(frozen=True)
class Parameter:
    """A kernel's parameter: ``const T* x`` is ``Parameter("x", "T", pointer=True, constant=True)``."""

    name: str
    type: str
    pointer: bool
    constant: bool


@dataclass(frozen=True)
class Signature:
    """A kernel as its header declares it. ``typed``: it is a template over T. ``reduces``: it is a REDUCTION.

    ``across``: which parameter says of how many neighbouring rows a reduction's terms lie side by side.
    """

    name: str
    typed: bool
    parameters: tuple[Parameter, ...]
    reduces: bool = False
    across: int | None = None


def parameter(text: str, kernel: str) -> Parameter:
    """The parameter that ``text`` declares; ValueError for one that cannot come from Python."""
    match = PARAMETER.fullmatch(" ".join(text.split()))
    if match is None or match[2] not in TYPES or (match[3] and match[2] == "index_t"):
        raise ValueError(
            f"kernel {kernel}: parameter `{text.strip()}` is of no type a kernel may have: {', '.join(TYPES)}"
        )
    return Parameter(match[4], "int32_t" if match[2] == "int" else match[2], bool(match[3]), bool(match[1]))


def signatures(source: str) -> list[Signature]:
    """The kernels that a header's text defines. Helpers (no void, or no ``index_t i`` in front) are left out."""
    found = []
    for template, kind, side, name, parameters in KERNEL.findall(COMMENT.sub("", source)):
        first, *rest = parameters.split(",")
        if first.split() != ["index_t", "i"]:
            continue
        given = tuple(parameter(text, name) for text in rest)
        across = [each.name for each in given].index(side) if side else None
        found.append(Signature(name, bool(template), given, kind == "REDUCTION", across))
    return found


def registration(header: Path, wide: bool) -> str:
    """The C++ source that registers a header's kernels, for 32-bit indices or for 64-bit ones."""
    family = header.stem
    lines = ["// Written by the build; see layerforge/kernel_source.py.", "#define LAYERFORGE_WIDE_INDEX"][: 1 + wide]
    lines += [f'#include "kernels/{header.name}"', '#include "range.h"', "", "static const bool registered = [] {"]
    for kernel in signatures(header.read_text(encoding="utf-8")):
        forms = [f"{kernel.name}<float>", f"{kernel.name}<double>"] if kernel.typed else [kernel.name]
        names = ", ".join(f'"{each.name}"' for each in kernel.parameters)
        lines.append(f'  add<{", ".join(forms)}>("{family}", "{kernel.name}", {{{names}}});')
    return "\n".join([*lines, "  return true;", "}();", ""])


def grid_source(header: str, wide: bool, team: bool = False) -> str:
    """The C++ source from which a GPU's compiler makes the kernels of a header; see csrc/grid.h.

    ``team``: its reductions, with a team of threads for each index.
    """
    lines = _defined(wide, team) + [f'#include "kernels/{header}"', '#include "grid.h"']
    return "\n".join([*lines, ""])


def _defined(wide: bool, team: bool) -> list[str]:
    return ["#define LAYERFORGE_GRID"] + ["#define LAYERFORGE_WIDE_INDEX"] * wide + ["#define LAYERFORGE_TEAM"] * team


def grid_name(kernel: Signature, element: str) -> str:
    """The instance of csrc/grid.h's template that runs a kernel, for T = ``element``, "float" or "double".

    >>> grid_name(signatures("template <class T> KERNEL void negate(index_t i, const T* x, T* y) {")[0], "float")
    'over_grid<negate<float>, const float*, float*>'
    """
    of = [f"{kernel.name}<{element}>" if kernel.typed else kernel.name]
    for each in kernel.parameters:
        name = element if each.type == "T" else each.type
        of.append(("const " if each.constant else "") + name + ("*" if each.pointer else ""))
    return f"over_grid<{', '.join(of)}>"


def emulation(header: Path, wide: bool, team: bool = False) -> str:
    """The C++ source that registers a header's kernels, or its reductions by teams, with the emulated device.

    See csrc/emulate.h.
    """
    lines = ["// Written by the build; see layerforge/kernel_source.py.", *_defined(wide, team)]
    lines += [f'#include "kernels/{header.name}"', '#include "emulate.h"', "", "static const bool registered = [] {"]
    width = "wide" if wide else "narrow"
    for kernel in signatures(header.read_text(encoding="utf-8")):
        if team and not kernel.reduces:
            continue
        for element in ("float", "double") if kernel.typed else ("float",):
            form = f"{kernel.name}<{element}>" if kernel.typed else kernel.name
            name = f"{header.stem}/{kernel.name}/{element}/{width}{'/team' * team}"
            lines.append(f'  add_body("{name}", Emulated<{form}>::run);')
    return "\n".join([*lines, "  return true;", "}();", ""])
