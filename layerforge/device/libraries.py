"""Finds CUDA's libraries, in NVIDIA's wheels first, then where the system looks."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator
from pathlib import Path

#: The major versions that a library may have, the newest first.
VERSIONS = {"nvrtc": (13, 12), "cublas": (13, 12), "cublasLt": (13, 12), "cudnn": (9,)}


def in_wheels(name: str) -> Iterator[Path]:
    """Where NVIDIA's wheels have a library: nvidia/cu13/lib, or of old nvidia/cuda_nvrtc/lib and so on."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or [] if spec else []:
        for version in VERSIONS[name]:
            yield from sorted(Path(folder).glob(f"*/lib/lib{name}.so.{version}"))


def load(name: str) -> ctypes.CDLL:
    """The library; OSError, which says where it was looked for, if there is none."""
    for path in in_wheels(name):
        return ctypes.CDLL(str(path))
    files = [f"lib{name}.so.{version}" for version in VERSIONS[name]]
    for file in files:
        try:
            return ctypes.CDLL(file)
        except OSError:
            continue
    raise OSError(f"there is no {' or '.join(files)} in NVIDIA's wheels or where the system looks")
