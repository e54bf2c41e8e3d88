"""Finds CUDA's libraries, in NVIDIA's wheels first, then where the system looks."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

#: The major versions that a library may have, the newest first.
VERSIONS = {"nvrtc": (13, 12), "cublas": (13, 12), "cublasLt": (13, 12), "cudnn": (9,)}

#: The CUDA that the driver is for, once a GPU was asked for: libraries of a later one, and what they make, do not run
#: with it. Both may be installed, because cuDNN's package brings libraries of its own CUDA.
driver: int | None = None


def fitting(name: str) -> tuple[int, ...]:
    """The versions of a library that run with the driver, the newest first. cuDNN counts its own versions."""
    return tuple(each for each in VERSIONS[name] if name == "cudnn" or driver is None or each <= driver)


def in_wheels(name: str, versions: Sequence[int]) -> Iterator[Path]:
    """Where NVIDIA's wheels have a library: nvidia/cu13/lib, or of old nvidia/cuda_nvrtc/lib and so on."""
    spec = importlib.util.find_spec("nvidia")
    for version in versions:
        for folder in spec.submodule_search_locations or [] if spec else []:
            yield from sorted(Path(folder).glob(f"*/lib/lib{name}.so.{version}"))


def load(name: str, version: int | None = None) -> ctypes.CDLL:
    """The library, of that version or of one that fits; OSError, which says where it was looked for, without one."""
    versions = fitting(name) if version is None else (version,)
    for path in in_wheels(name, versions):
        return ctypes.CDLL(str(path))
    files = [f"lib{name}.so.{each}" for each in versions]
    for file in files:
        try:
            return ctypes.CDLL(file)
        except OSError:
            continue
    raise OSError(f"there is no {' or '.join(files)} in NVIDIA's wheels or where the system looks")
