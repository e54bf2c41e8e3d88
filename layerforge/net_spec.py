"""Nets written in Python: pycaffe's NetSpec, whose result is an ordinary NetParameter.

>>> n = NetSpec()
>>> n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
>>> n.conv1 = L.Convolution(n.data, kernel_size=3, num_output=4, weight_filler=dict(type="xavier"))
>>> n.relu1 = L.ReLU(n.conv1, in_place=True)
>>> [layer.type for layer in n.to_proto().layer]
['Input', 'Convolution', 'ReLU']

``L.Type(bottoms, options)`` makes a layer; an option goes to the type's own message if that has such a field, else to
the layer. ``P.Pooling.MAX`` names an enumerator. ``ntop``, ``in_place`` and ``name`` are pycaffe's.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Any

from . import layer, schema
from .errors import DefinitionError, did_you_mean

Layers = OrderedDict[int, Any]  # id of a Function -> its LayerParameter


class Top:
    """An output of a layer; the input of others."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> Any:
        """The net that computes this top."""
        return to_proto(self)

    def _add(self, layers: Layers, names: dict[int, str], automatic: Counter[str]) -> None:
        self.fn._add(layers, names, automatic)


class Function:
    """A layer: a type, its bottoms and its options. Its ``tops`` are what other layers take."""

    def __init__(self, type_name: str, inputs: tuple[Any, ...], params: dict[str, Any]):
        for index, given in enumerate(inputs):
            if not isinstance(given, Top):
                raise TypeError(f"{type_name} input {index} is a {type(given).__name__}, not a Top")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _add(self, layers: Layers, names: dict[int, str], automatic: Counter[str]) -> None:
        """Adds this layer and all that it depends on."""
        if id(self) in layers:
            return
        bottoms = []
        for given in self.inputs:
            given._add(layers, names, automatic)
            bottoms.append(layers[id(given.fn)].top[given.n])
        made = schema.message("LayerParameter")(type=self.type_name)
        made.bottom.extend(bottoms)
        if self.in_place:
            made.top.extend(bottoms)
        else:
            made.top.extend(self._name(top, names, automatic) for top in self.tops)
        if id(self) not in names:
            names[id(self)] = (
                self._name(self.tops[0], names, automatic) if self.tops else _automatic(self.type_name, automatic)
            )
        made.name = names[id(self)]
        field = _options_field(self.type_name)
        for key, value in self.params.items():
            own = getattr(made, field) if field else None
            if own is not None and key in own.DESCRIPTOR.fields_by_name:
                _assign(own, key, value)
            else:
                _assign(made, key, value, known=own)
        layers[id(self)] = made

    def _name(self, top: Top, names: dict[int, str], automatic: Counter[str]) -> str:
        if id(top) not in names:
            names[id(top)] = _automatic(self.type_name, automatic)
        return names[id(top)]

    def to_proto(self) -> Any:
        """The net that ends in this layer."""
        return to_proto(self)


def _automatic(type_name: str, automatic: Counter[str]) -> str:
    automatic[type_name] += 1
    return f"{type_name}{automatic[type_name]}"


def _options_field(type_name: str) -> str:
    layer.load_layers()
    if type_name in layer.registry:
        return layer.options_field(layer.registry[type_name])
    return ""


def _assign(message: Any, name: str, value: Any, known: Any = None) -> None:
    """Sets a field from a Python value: dicts become messages, single values of repeated fields become lists."""
    if name not in message.DESCRIPTOR.fields_by_name:
        options = [own.DESCRIPTOR for own in (known, message) if own is not None]
        fields = [field for descriptor in options for field in descriptor.fields_by_name]
        kinds = " nor ".join(descriptor.name for descriptor in options)
        raise DefinitionError(f'"{name}" is no field of {kinds}.{did_you_mean(name, fields)}')
    target = getattr(message, name)
    if hasattr(target, "extend"):
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, dict):
                added = target.add()
                for key, inner in item.items():
                    _assign(added, key, inner)
            elif hasattr(item, "DESCRIPTOR"):
                target.add().CopyFrom(item)
            else:
                target.append(item)
    elif isinstance(value, dict):
        target.SetInParent()
        for key, inner in value.items():
            _assign(target, key, inner)
    elif hasattr(value, "DESCRIPTOR"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)


def to_proto(*tops: Top | Function) -> Any:
    """The NetParameter of all layers that these tops depend on, named by their types."""
    layers: Layers = OrderedDict()
    automatic: Counter[str] = Counter()
    for top in tops:
        top._add(layers, {}, automatic)
    return schema.message("NetParameter")(layer=layers.values())


class NetSpec:
    """A net under construction: attributes (or items) are tops, and give the blobs their names."""

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    tops: OrderedDict[str, Top | Function]

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.tops[name]
        except KeyError:
            raise AttributeError(f'this net has no top "{name}".{did_you_mean(name, self.tops)}') from None

    def __setitem__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tops)

    def __contains__(self, name: object) -> bool:
        return name in self.tops

    def to_proto(self) -> Any:
        """The NetParameter of the net, layers in the order in which they were assigned."""
        names = {id(top): name for name, top in self.tops.items()}
        layers: Layers = OrderedDict()
        automatic: Counter[str] = Counter()
        for top in self.tops.values():
            top._add(layers, names, automatic)
        return schema.message("NetParameter")(layer=layers.values())


class _Layers:
    """``L.Convolution(bottom, num_output=20, ...)``: a top, several, or for ``ntop=0`` the layer itself."""

    def __getattr__(self, type_name: str) -> Any:
        if type_name.startswith("__"):
            raise AttributeError(type_name)

        def make(*inputs: Any, **params: Any) -> Any:
            fn = Function(type_name, inputs, params)
            return fn if fn.ntop == 0 else fn.tops[0] if fn.ntop == 1 else fn.tops

        return make


class _Parameters:
    """``P.Pooling.MAX``: an enumerator of PoolingParameter."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return schema.message(f"{name}Parameter")
        except KeyError:
            raise AttributeError(f"there is no message {name}Parameter") from None


layers = _Layers()
params = _Parameters()
L = layers
P = params
