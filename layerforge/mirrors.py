"""What users see of a net whose arrays lie on another device: copies on the host that they may read and write.

As in pycaffe, ``net.blobs["fc7"].data`` is a numpy array, whatever the device. Looking copies the array from the
device; what is then written to it goes back before the net next runs, loads or saves. After that the copy is old: who
wants the new values, or wants to write again, looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .blob import Dimensions, Parameter, Shape
from .device import Device


class Mirrors:
    """The copies of the arrays of a net, and of those that share its parameters. On the CPU there are none."""

    def __init__(self, device: Device):
        self.device = device
        self._copies: dict[Any, np.ndarray] = {}
        self._shown: dict[Any, tuple[Callable[[], Any], np.ndarray]] = {}  # key -> the array, and what it holds
        self._lasting: set[Any] = set()

    def show(self, key: Any, get: Callable[[], Any], *, lasting: bool = False) -> np.ndarray:
        """The copy of the array that ``get`` gives, as it is now, to read and to write.

        ``lasting``: nothing on the device writes to it, as is the case for the inputs of a net. So it does not get old.
        """
        array = get()
        if self.device.is_host:
            return array
        copy = self._copies.get(key)
        if key not in self._shown or copy is None or copy.shape != array.shape:
            values = self.device.to_numpy(array)
            if copy is None or copy.shape != values.shape:
                copy = self._copies[key] = values.copy()
            copy[...] = values
            self._shown[key] = (get, values)
            if lasting:
                self._lasting.add(key)
        return copy

    def send(self) -> None:
        """Takes what users have written to the device, before anything runs there; the copies are old from then on."""
        if not self._shown:
            return
        kept = {}
        for key, (get, values) in self._shown.items():
            copy, array = self._copies[key], get()
            if copy.shape != array.shape:
                continue
            if not np.array_equal(copy, values, equal_nan=True):
                self.device.from_numpy(array, copy)
                values[...] = copy
            if key in self._lasting:
                kept[key] = (get, values)
        self._shown = kept


class ShownParameter(Dimensions):
    """A parameter as a user sees it where arrays lie on another device: ``data`` and ``diff`` are numpy arrays."""

    def __init__(self, parameter: Parameter, mirrors: Mirrors):
        self.parameter = parameter
        self._mirrors = mirrors

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.parameter.shape

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parameter, name)

    @property
    def data(self) -> np.ndarray:
        return self._mirrors.show((id(self.parameter), "data"), lambda: self.parameter.data)

    @data.setter
    def data(self, values: Any) -> None:
        self.data[...] = values

    @property
    def diff(self) -> np.ndarray:
        return self._mirrors.show((id(self.parameter), "diff"), lambda: self.parameter.diff)

    @diff.setter
    def diff(self, values: Any) -> None:
        self.diff[...] = values

    def reshape(self, *shape: int) -> None:
        """Gives the parameter another shape of the same count."""
        self._mirrors.send()
        self.parameter.reshape(*shape)

    def __repr__(self) -> str:
        return repr(self.parameter)
