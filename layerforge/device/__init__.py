"""Devices: where arrays live and kernels run.

>>> device = get("cpu")
>>> device.zeros((2, 3), np.float32).shape
(2, 3)
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..errors import DeviceError, did_you_mean
from .base import Device, Number, homes
from .cpu import cpu

__all__ = ["Device", "Number", "cpu", "default", "get", "home", "of", "set_default"]

NAMES = ("cpu", "gpu", "emulated")


def get(name: str) -> Device:
    """The device called ``name``: "cpu", "gpu", "gpu:1" (also "cuda:1"), or "emulated", a GPU that the CPU plays.

    DeviceError for one that this machine does not have, which says what is missing.
    """
    kind, _, number = name.partition(":")
    if name == "cpu":
        return cpu
    if name == "emulated":
        return importlib.import_module(f"{__name__}.emulated").emulated
    if kind in ("gpu", "cuda") and (number.isdigit() or not number):
        return importlib.import_module(f"{__name__}.cuda").get(int(number or 0))
    raise DeviceError(f'no device "{name}"; there are: {", ".join(NAMES)}.{did_you_mean(name, NAMES)}')


def has_driver() -> bool:
    """Whether a GPU could be expected: NVIDIA's driver is installed."""
    try:
        importlib.import_module(f"{__name__}.cuda").libcuda()
    except DeviceError:
        return False
    return True


def home(value: Any) -> Device | None:
    """The device on which an array lies; None for what is no array."""
    if isinstance(value, np.ndarray):
        return cpu
    found = homes.get(type(value))
    return None if found is None else found(value)


def of(array: Any) -> Device:
    """The device on which an array lies. DeviceError for what is no array."""
    device = home(array)
    if device is None:
        raise DeviceError(f"an array of a device is wanted, not {type(array).__name__}")
    return device


_default = "cpu"


def default() -> str:
    """The device of nets that name none. pycaffe's ``set_mode_cpu`` and ``set_mode_gpu`` change it."""
    return _default


def set_default(name: str) -> None:
    """Changes the device of the nets that are made from now on. DeviceError as from `get`."""
    global _default
    get(name)
    _default = name
