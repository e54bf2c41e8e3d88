"""NVRTC, NVIDIA's compiler for kernels: C++ text in, machine code for one GPU architecture out.

Called through ctypes, so that a machine without GPU, driver and CuPy compiles what one with them runs. The library
comes with a CUDA toolkit or the wheel nvidia-cuda-nvrtc.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DeviceError, KernelError
from .libraries import load

SUCCESS = 0


@dataclass(frozen=True)
class Program:
    """Compiled kernels: the machine code, their names within it, and what the compiler said."""

    cubin: bytes
    names: dict[str, str]  # as they were asked for -> as the machine code calls them
    log: str


@functools.cache
def library() -> ctypes.CDLL:
    """The library. DeviceError where there is none."""
    try:
        return load("nvrtc")
    except OSError as error:
        raise DeviceError(
            f"kernels for a GPU need NVIDIA's compiler NVRTC ({error}); install it with"
            " `pip install nvidia-cuda-nvrtc`, or `pip install nvidia-cuda-nvrtc-cu12` for a driver of CUDA 12"
        ) from None


def version() -> tuple[int, int]:
    """The compiler's CUDA version, (13, 0) say."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def architectures() -> list[int]:
    """What the compiler can compile for: 75, 80, 90 and so on."""
    number = ctypes.c_int()
    library().nvrtcGetNumSupportedArchs(ctypes.byref(number))
    found = (ctypes.c_int * number.value)()
    library().nvrtcGetSupportedArchs(found)
    return list(found)


def compile(
    source: str,
    names: Iterable[str],
    architecture: int,
    *,
    include: Sequence[Path] = (),
    options: Sequence[str] = (),
    title: str = "kernels",
) -> Program:
    """Compiles ``source`` for ``architecture``; ``names`` are the instances of templates that are wanted.

    Raises KernelError with the compiler's first error, which names ``title`` or a header, and the line.
    """
    lib = library()
    program = ctypes.c_void_p()
    _check(lib.nvrtcCreateProgram(ctypes.byref(program), source.encode(), title.encode(), 0, None, None), title)
    try:
        wanted = list(names)
        for name in wanted:
            _check(lib.nvrtcAddNameExpression(program, name.encode()), title)
        given = [f"--gpu-architecture=sm_{architecture}", "--std=c++17", *(f"-I{path}" for path in include), *options]
        status = lib.nvrtcCompileProgram(
            program, len(given), (ctypes.c_char_p * len(given))(*(each.encode() for each in given))
        )
        log = _bytes(program, lib.nvrtcGetProgramLogSize, lib.nvrtcGetProgramLog).rstrip(b"\0").decode(errors="replace")
        if status != SUCCESS:
            raise KernelError(f"{title} does not compile for sm_{architecture}: {first_error(log) or _reason(status)}")
        lowered = {}
        for name in wanted:
            found = ctypes.c_char_p()
            _check(lib.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(found)), title)
            lowered[name] = (found.value or b"").decode()
        cubin = _bytes(program, lib.nvrtcGetCUBINSize, lib.nvrtcGetCUBIN)
        return Program(cubin, lowered, log)
    finally:
        lib.nvrtcDestroyProgram(ctypes.byref(program))


def first_error(log: str) -> str:
    """The first error that a compiler's log tells of, on one line."""
    return next((line.strip() for line in log.splitlines() if "error" in line.lower()), "")


def _bytes(program: Any, size: Callable[..., int], get: Callable[..., int]) -> bytes:
    length = ctypes.c_size_t()
    size(program, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    get(program, buffer)
    return buffer.raw


def _reason(status: int) -> str:
    text = library().nvrtcGetErrorString
    text.restype = ctypes.c_char_p
    return (text(status) or b"").decode()


def _check(status: int, title: str) -> None:
    if status != SUCCESS:
        raise KernelError(f"{title} cannot be compiled for a GPU: {_reason(status)}")
