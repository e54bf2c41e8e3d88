"""What users see of a net's arrays: those themselves on the CPU, and copies of those that lie on another device.

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
    """A parameter as a user sees it: ``data`` and ``diff`` are numpy arrays, to read and to write.

    On the CPU they are the parameter's own, and its arena knows as long as somebody holds ``data``.
    """

    __slots__ = ("_mirrors", "parameter")
    parameter: Parameter
    _mirrors: Mirrors

    def __init__(self, parameter: Parameter, mirrors: Mirrors):
        object.__setattr__(self, "parameter", parameter)
        object.__setattr__(self, "_mirrors", mirrors)

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.parameter.shape

    def __getattr__(self, name: str) -> Any:
        if name in self.__slots__:  # in a copy that is being made
            raise AttributeError(name)
        return getattr(self.parameter, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("data", "diff", *self.__slots__):
            object.__setattr__(self, name, value)
        else:
            setattr(self.parameter, name, value)

    def __eq__(self, other: object) -> bool:
        return (other.parameter if isinstance(other, ShownParameter) else other) is self.parameter

    def __hash__(self) -> int:
        return hash(self.parameter)

    @property
    def data(self) -> np.ndarray:
        if self._mirrors.device.is_host:
            return self._held()
        return self._mirrors.show((id(self.parameter), "data"), lambda: self.parameter.data)

    @data.setter
    def data(self, values: Any) -> None:
        self.data[...] = values

    def _held(self) -> Any:
        array, home = self.parameter.data, self.parameter.home
        if home is None:
            return array
        # Views of an array that is made from a buffer hold it, and not what lies behind the buffer.
        array = np.asarray(memoryview(array))
        home[0].hold(array)
        return array

    @property
    def diff(self) -> np.ndarray:
        if self._mirrors.device.is_host:
            return self.parameter.diff
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
