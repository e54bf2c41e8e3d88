"""What users see of a net's arrays: those themselves on the CPU, and copies of those that lie on another device.

As in pycaffe, ``net.blobs["fc7"].data`` is a numpy array, whatever the device. Looking copies the array from the
device; what is then written to it goes back before the net next runs, loads or saves. After that the copy is old: who
wants the new values, or wants to write again, looks again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from . import order
from .blob import Dimensions, Parameter, Shape
from .device import Device


class Mirrors:
    """The copies of the arrays of a net, and of those that share its parameters. On the CPU there are none."""

    def __init__(self, device: Device):
        self.device = device
        self._copies: dict[Any, np.ndarray] = {}
        # key -> the array, how it lies, and what it holds
        self._shown: dict[Any, tuple[Callable[[], Any], Callable[[], int], np.ndarray]] = {}
        self._inputs: dict[Any, Input] = {}

    def show(self, key: Any, get: Callable[[], Any], block: Callable[[], int] = lambda: 1) -> np.ndarray:
        """The copy of the array that ``get`` gives, as it is now, to read and to write.

        ``block``: the array lies in blocks of so many channels, see `layerforge.layout`; the copy is plain.
        """
        copy = self._copies.get(key)
        if key not in self._shown or copy is None or copy.shape != get().shape:
            values = order.plain(self.device.to_numpy(get()), block())
            if copy is None or copy.shape != values.shape:
                copy = self._copies[key] = values.copy()
            copy[...] = values
            self._shown[key] = (get, block, values)
        return copy

    def show_input(self, key: Any, get: Callable[[], Any]) -> np.ndarray:
        """The same for an array to which nothing on the device writes. So the copy does not get old."""
        shown = self._inputs.get(key)
        if shown is None or shown.copy.shape != get().shape:
            shown = self._inputs[key] = Input(get, self.device.to_numpy(get()).copy())
        return shown.lend()

    def send(self, *, inputs: bool = False) -> None:
        """Takes what users have written to the device, before anything runs there; the copies are old from then on.

        ``inputs``: also to the inputs, which only the net itself reads.
        """
        for key, (get, block, values) in self._shown.items():
            copy, array = self._copies[key], get()
            if copy.shape == array.shape and not np.array_equal(_bits(copy), _bits(values)):
                self.device.from_numpy(array, order.in_blocks(copy, block()))
        self._shown.clear()
        for shown in self._inputs.values() if inputs else ():
            if shown.lent and shown.copy.shape == shown.get().shape:
                self.device.from_numpy(shown.get(), shown.copy)
                shown.take_back()


class Input:
    """The copy of an input, and whether somebody may write to it: who has an array of it, or a view of that."""

    def __init__(self, get: Callable[[], Any], copy: np.ndarray):
        self.get = get
        self.copy = copy
        self.lent = False
        self._to: weakref.ref[np.ndarray] | None = None

    def lend(self) -> np.ndarray:
        """The copy, as an array by which we know whether somebody still has it."""
        found = self._to() if self._to is not None else None
        if found is None:
            found = held(self.copy)
            self._to = weakref.ref(found)
        self.lent = True
        return found

    def take_back(self) -> None:
        """Notes that the copy was sent: it need not be sent again if nobody has it any more."""
        self.lent = self._to is not None and self._to() is not None


def held(array: np.ndarray) -> np.ndarray:
    """The same array as another object, which lives as long as anybody holds it or a view of it."""
    # Views of an array that is made from a buffer hold it, and not what lies behind the buffer.
    buffer: Any = array
    return np.asarray(memoryview(buffer))


def _bits(array: np.ndarray) -> np.ndarray:
    """By which NaN is equal to itself."""
    return array.reshape(-1).view(f"u{array.itemsize}")


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
        array = held(array)
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
