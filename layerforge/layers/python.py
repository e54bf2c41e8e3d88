"""Python: a layer of pycaffe's kind, written by the user."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .. import as_caffe
from ..blob import Dimensions, Shape, View
from ..device import Device, cpu
from ..errors import DefinitionError, did_you_mean
from ..layer import Layer
from ..mirrors import Mirrors, ShownParameter


class Python(Layer):
    """Runs a class of the user's own, with pycaffe's four methods: ``python_param { module layer param_str }``.

    The module is found in the current folder, beside the prototxt, or where Python looks. The class derives from
    ``layerforge.Layer`` and answers ``setup(bottom, top)`` once, ``reshape(bottom, top)`` before each forward,
    ``forward(bottom, top)`` and ``backward(top, propagate_down, bottom)``. ``top[i].reshape(...)`` gives a top its
    shape, in any of the first three. It may use ``self.param_str``, ``self.phase``, and ``self.blobs``, where
    ``self.blobs.add_blob(2, 3)`` in setup makes a parameter. The module may ``import caffe``.

    On a GPU the class sees copies of all arrays on the host, which are taken back after each call. With ``on_device =
    True`` in the class it gets the arrays of the device (CuPy's) themselves.

    Bottoms and tops: any number, any shapes; top 0 may be bottom 0. What the class raises reaches the caller as it is.
    The diff of a bottom is 0 until backward writes it. Raises DefinitionError if there is no such module or class.
    """

    in_place = True
    dynamic = True
    records = False
    bottoms = (0, None)
    tops = (0, None)

    def setup(self, *bottom_shapes):
        with self.import_path() as folders, as_caffe.aliased():
            cls = self.find_class(folders)
            self.copies = not ((self.device or cpu).is_host or getattr(cls, "on_device", False))
            if self.copies:
                cls = type(cls.__name__, (WithCopies, cls), {})
            self.user = cls(self.definition, self.phase, self.device, self.dtype, self.seed)
            self.user.params = self.params
            # A net shows this object as the layer, so it is called as that; param_str_ is pycaffe's name of old.
            self.user.type = self.type
            self.user.param_str = self.user.param_str_ = self.options.param_str
            self.bottom = [PythonBlob(name, self.dtype) for name in self.param.bottom]
            self.top = [PythonBlob(name, self.dtype) for name in self.param.top]
            for x, shape in zip(self.bottom, bottom_shapes, strict=True):
                x.reshape(*shape)
            self.user.setup(self.bottom, self.top)
            self.user.mirrors = Mirrors(self.device)

    @property
    def shown(self):
        return self.user

    def top_shapes(self, *bottom_shapes):
        for x, shape in zip(self.bottom, bottom_shapes, strict=True):
            x.reshape(*shape)
        self.user.reshape(self.bottom, self.top)
        return [y.shape for y in self.top]

    def forward(self, bottom, top):
        self.show(bottom, top)
        self.user.step = int(self.step)
        self.user.forward(self.bottom, self.top)
        for mine, view in zip(self.top, top, strict=True):
            mine.give(view, self.device, self.copies)
        self.take_back((*self.bottom, *self.top), (*bottom, *top), "data")

    def backward(self, bottom, top):
        in_place = any(x.diff is y.diff for x in bottom for y in top)
        for x in bottom:
            if x.needs_diff and not in_place:
                x.diff[...] = 0
        self.show(bottom, top)
        self.user.backward(self.top, [x.needs_diff for x in bottom], self.bottom)
        self.take_back(self.bottom, [x if x.needs_diff else None for x in bottom], "diff")

    def show(self, bottom: Sequence[View], top: Sequence[View]) -> None:
        """Lays the net's arrays, or copies of them, into what the user's class sees."""
        for mine, view in zip((*self.bottom, *self.top), (*bottom, *top), strict=True):
            mine.take(view, self.device if self.copies else None)

    def take_back(self, mine: Sequence[PythonBlob], views: Sequence[View | None], kind: str) -> None:
        """Copies what the user's class saw to the device, where it saw copies."""
        if not self.copies:
            return
        self.user.mirrors.send()
        for blob, view in zip(mine, views, strict=True):
            if view is not None:
                self.device.from_numpy(getattr(view, kind), blob.arrays[kind])

    @contextlib.contextmanager
    def import_path(self) -> Iterator[list[str]]:
        """The folders where modules are looked for first, on Python's path for a while."""
        beside = os.path.dirname(os.path.abspath(self.definition.file)) if self.definition.file else os.getcwd()
        folders = list(dict.fromkeys([os.getcwd(), beside]))
        before = list(sys.path)
        sys.path[:0] = folders
        try:
            yield folders
        finally:
            sys.path[:] = before

    def find_class(self, folders: list[str]) -> Any:
        module_name, class_name = self.options.module, self.options.layer
        try:
            importlib.invalidate_caches()
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # found, but what it imports is not
            message = f'module: there is no Python module "{module_name}" in {" or ".join(folders)}, nor on PYTHONPATH'
            raise self.error(message, "module", kind=DefinitionError) from None
        cls = getattr(module, class_name, None)
        if cls is None:
            hint = did_you_mean(class_name, [name for name in vars(module) if not name.startswith("_")])
            message = f'layer: module "{module_name}" ({module.__file__}) has no class "{class_name}".{hint}'
            raise self.error(message, "layer", kind=DefinitionError)
        if not (isinstance(cls, type) and issubclass(cls, Layer) and cls.is_pycaffe()):
            message = (
                f'layer: "{class_name}" of module "{module_name}" must be a class derived from layerforge.Layer,'
                " with the methods setup, reshape, forward and backward"
            )
            raise self.error(message, "layer", kind=DefinitionError)
        return cls


class WithCopies:
    """Mixed into a user's class where the net's arrays are not on the host: its parameters are copies as well."""

    mirrors: Mirrors | None = None  # none yet in setup, which makes the parameters

    @property
    def blobs(self):
        made = super().blobs  # type: ignore[misc]
        return made if self.mirrors is None else [ShownParameter(each, self.mirrors) for each in made]


class PythonBlob(Dimensions):
    """A bottom or a top as pycaffe shows it: the net's arrays, or zeros where the net has none of this shape (yet)."""

    def __init__(self, name: str, dtype: Any):
        self.name = name
        self.dtype = dtype
        self.shape: Shape = ()
        self.arrays: dict[str, Any] = {}

    @property
    def data(self) -> np.ndarray:
        return self.array("data")

    @property
    def diff(self) -> np.ndarray:
        return self.array("diff")

    def array(self, kind: str) -> np.ndarray:
        array = self.arrays.get(kind)
        if array is None or array.shape != self.shape:
            array = self.arrays[kind] = np.zeros(self.shape, self.dtype)
        return array

    def reshape(self, *shape: int) -> None:
        """Gives the blob another shape. Its values are then unknown."""
        self.shape = tuple(int(n) for n in shape)

    def take(self, view: View, device: Device | None = None) -> None:
        """Shows a net's arrays from now on, or copies of them where a device is given."""
        self.shape = view.shape
        self.arrays = {"data": view.data, "diff": view.diff}
        if device is not None:
            self.arrays = {k: None if array is None else device.to_numpy(array) for k, array in self.arrays.items()}

    def give(self, view: View, device: Device, copies: bool) -> None:
        """Hands over what forward computed, if it chose another shape than the net's."""
        if self.shape != view.shape:
            view.reshape(*self.shape)
            values: Any = self.data
            if isinstance(values, np.ndarray):
                device.from_numpy(view.data, values)
            else:
                view.data[...] = values
            self.take(view, device if copies else None)

    def __repr__(self) -> str:
        return f"PythonBlob({self.name!r}, {self.shape})"
