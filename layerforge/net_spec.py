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
from collections.abc import Iterable, Iterator
from typing import Any

from . import layer, schema
from .errors import DefinitionError, did_you_mean
from .proto import caffe_pb2  # noqa: F401 (pycaffe's scripts look for it here too)
from .textformat import is_repeated

Layers = OrderedDict[int, Any]  # id of a Function -> its LayerParameter


class Top:
    """An output of a layer; the input of others."""

    def __init__(self, fn: Function, n: int):
        self.fn = fn
        self.n = n

    def to_proto(self) -> Any:
        """The net that computes this top."""
        return to_proto(self)


class Function:
    """A layer: a type, its bottoms and its options. Its ``tops`` are what other layers take."""

    def __init__(self, type_name: str, inputs: tuple[Any, ...], params: dict[str, Any]):
        for index, given in enumerate(inputs):
            if not isinstance(given, Top):
                hint = f": write L.{type_name}(*tops)" if isinstance(given, (list, tuple)) else ""
                raise TypeError(f"{type_name} input {index} is a {type(given).__name__}, not a Top{hint}")
        self.type_name = type_name
        self.inputs = inputs
        self.params = dict(params)
        self.ntop: int = self.params.pop("ntop", 1)
        self.in_place: bool = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))

    def _make(self, layers: Layers, names: dict[int, str], automatic: Counter[str]) -> Any:
        """The LayerParameter of this layer, once those that it depends on are there."""
        made = schema.message("LayerParameter")(type=self.type_name)
        made.bottom.extend(layers[id(given.fn)].top[given.n] for given in self.inputs)
        if self.in_place:
            made.top.extend(made.bottom)
        else:
            made.top.extend(self._name(top, names, automatic) for top in self.tops)
        # A layer is called as its first top; without one, by a name that it was assigned to itself.
        made.name = self._name(self.tops[0] if self.tops else self, names, automatic)
        own = self._own_options()
        for key, value in self.params.items():
            where = getattr(made, own) if own else None
            try:
                whole = key.endswith("param") and key in made.DESCRIPTOR.fields_by_name  # as in pycaffe
                if where is not None and key in where.DESCRIPTOR.fields_by_name and not whole:
                    _assign(where, key, value)
                else:
                    _assign(made, key, value, instead=where)
            except DefinitionError as error:
                raise DefinitionError(f'layer "{made.name}" ({self.type_name}): {error}') from None
        return made

    def _own_options(self) -> str:
        """The field with the options of this type, or "". Types that only have options, and no class, are known too."""
        layer.load_layers()
        if self.type_name in layer.registry:
            return layer.options_field(layer.registry[self.type_name])
        for field in schema.message("LayerParameter").DESCRIPTOR.fields:
            if field.message_type is not None and field.message_type.name == f"{self.type_name}Parameter":
                return str(field.name)
        if set(self.params) - set(schema.message("LayerParameter").DESCRIPTOR.fields_by_name):
            raise DefinitionError(
                f'unknown layer type "{self.type_name}".{did_you_mean(self.type_name, layer.registry)}'
            )
        return ""

    def _name(self, named: Top | Function, names: dict[int, str], automatic: Counter[str]) -> str:
        if id(named) not in names:
            automatic[self.type_name] += 1
            names[id(named)] = f"{self.type_name}{automatic[self.type_name]}"
        return names[id(named)]

    def to_proto(self) -> Any:
        """The net that ends in this layer."""
        return to_proto(self)


def param_name_dict() -> dict[str, str]:
    """pycaffe's: type -> the name of its options without "_param", for every type that has options."""
    layer.load_layers()
    fields = {kind: layer.options_field(cls) for kind, cls in layer.registry.items()}
    return {kind: field.removesuffix("_param") for kind, field in sorted(fields.items()) if field}


def assign_proto(proto: Any, name: str, val: Any) -> None:
    """pycaffe's: sets a field of a message from a Python value; dicts become messages, in lists if need be."""
    _assign(proto, name, val)


def _assign(message: Any, name: str, value: Any, instead: Any = None) -> None:
    """Sets a field from a Python value: dicts become messages, single values of repeated fields become lists.

    ``instead`` is another message in which the field might have been, for the error.
    """
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        known = [own.DESCRIPTOR for own in (instead, message) if own is not None]
        fields = [one for descriptor in known for one in descriptor.fields_by_name]
        kinds = " nor ".join(descriptor.name for descriptor in known)
        raise DefinitionError(f'"{name}" is no field of {kinds}.{did_you_mean(name, fields)}')
    if hasattr(value, "tolist"):  # numpy's
        value = value.tolist()
    if not is_repeated(field):
        if field.message_type is None:
            setattr(message, name, _scalar(message, field, value))
        else:
            _fill(getattr(message, name), name, value)
        return
    target = getattr(message, name)
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if field.message_type is None:
            target.append(_scalar(message, field, item))
        else:
            _fill(target.add(), name, item)


def _fill(message: Any, name: str, value: Any) -> None:
    """Fills a message from a dict or from another message."""
    if isinstance(value, dict):
        message.SetInParent()
        for key, inner in value.items():
            _assign(message, key, inner)
    elif hasattr(value, "DESCRIPTOR"):
        message.CopyFrom(value)
    else:
        raise DefinitionError(f"{name}: {value!r} must be a dict with fields of {message.DESCRIPTOR.name}")


def _scalar(message: Any, field: Any, value: Any) -> Any:
    """A value that fits a field; enumerators may be given by name."""
    if field.enum_type is not None and isinstance(value, str):
        if value not in field.enum_type.values_by_name:
            names = ", ".join(field.enum_type.values_by_name)
            raise DefinitionError(f"{field.name}: {value!r} is none of {names}")
        return field.enum_type.values_by_name[value].number
    try:
        probe = type(message)()
        if is_repeated(field):
            getattr(probe, field.name).append(value)
        else:
            setattr(probe, field.name, value)
    except (TypeError, ValueError):
        raise DefinitionError(f"{field.name}: {value!r} is no value for a field of {message.DESCRIPTOR.name}") from None
    return value


def to_proto(*tops: Top | Function) -> Any:
    """The NetParameter of all layers that these tops depend on, named by their types."""
    return _net(tops, {})


def _net(tops: Iterable[Top | Function], names: dict[int, str]) -> Any:
    """Layers in the order of the tops, each behind those that it depends on."""
    layers: Layers = OrderedDict()
    automatic: Counter[str] = Counter()
    for top in tops:
        waiting = [top.fn if isinstance(top, Top) else top]
        while waiting:  # not by recursion: a net may be a thousand layers deep
            fn = waiting[-1]
            missing = next((given.fn for given in fn.inputs if id(given.fn) not in layers), None)
            if missing is not None:
                waiting.append(missing)
                continue
            if id(fn) not in layers:
                layers[id(fn)] = fn._make(layers, names, automatic)
            waiting.pop()
    return schema.message("NetParameter")(layer=layers.values())


class NetSpec:
    """A net under construction: attributes (or items) are tops, and give the blobs their names."""

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    tops: OrderedDict[str, Top | Function]

    def __setattr__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name == "tops":  # a copy in the making has none
            raise AttributeError(name)
        try:
            return self.tops[name]
        except KeyError:
            raise AttributeError(f'this net has no top "{name}".{did_you_mean(name, self.tops)}') from None

    def __setitem__(self, name: str, value: Top | Function) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __delattr__(self, name: str) -> None:
        self[name]
        del self.tops[name]

    def __delitem__(self, name: str) -> None:
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tops)

    def __contains__(self, name: object) -> bool:
        return name in self.tops

    def to_proto(self) -> Any:
        """The NetParameter of the net, layers in the order in which they were assigned."""
        return _net(self.tops.values(), {id(top): name for name, top in self.tops.items()})


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
