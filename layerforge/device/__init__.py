"""Devices: where arrays live and kernels run.

>>> device = get("cpu")
>>> device.zeros((2, 3), np.float32).shape
(2, 3)
"""

from __future__ import annotations

import numpy as np  # noqa: F401  (for the example above)

from ..errors import DeviceError, did_you_mean
from .base import Device
from .cpu import cpu

__all__ = ["Device", "cpu", "default", "get", "set_default"]

_devices: dict[str, Device] = {"cpu": cpu}


def get(name: str) -> Device:
    """The device called ``name``: "cpu". DeviceError for one that this machine or this build does not have."""
    if name in _devices:
        return _devices[name]
    if name.partition(":")[0] in ("gpu", "cuda"):
        raise DeviceError(f'device "{name}": this version of LayerForge computes on the CPU only; use device "cpu"')
    raise DeviceError(f'no device "{name}"; there is: {", ".join(_devices)}.{did_you_mean(name, _devices)}')


_default = "cpu"


def default() -> str:
    """The device of nets that name none. pycaffe's ``set_mode_cpu`` and ``set_mode_gpu`` change it."""
    return _default


def set_default(name: str) -> None:
    """Changes the device of the nets that are made from now on. DeviceError as from `get`."""
    global _default
    get(name)
    _default = name
