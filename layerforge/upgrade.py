"""Old definitions -> today's.

Caffe's format changed four times, and files of every age are around. In the order in which Caffe does it:

- V0 (2013): ``layers { layer { ... } }`` with all options in one message, and padding in layers of its own;
- data layers with ``scale``, ``mean_file``, ``crop_size`` and ``mirror`` of their own, now in ``transform_param``;
- V1 (to July 2014): ``layers`` with an enum as type, ``blobs_lr`` and ``weight_decay``, and names of shared parameters;
- ``input`` with ``input_dim`` or ``input_shape`` beside the layers, now an Input layer;
- BatchNorm with three ``param``s, none of which may learn;
- Intel's layers that run along with the one before, with ``fuse_type``, and the scale and shift within NVIDIA's
  BatchNorm, which become layers of their own;
- a solver's ``solver_type``, now ``type``.

What comes out has ``layer`` only. Places are carried along: an error about a converted layer names the line in the old
file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from . import schema
from .errors import DefinitionError, Problems, did_you_mean
from .schema import Definition
from .textformat import Node

log = logging.getLogger(__name__)

V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "ELTWISE": "Eltwise",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "SLICE": "Slice",
    "TANH": "TanH",
    "WINDOW_DATA": "WindowData",
    "THRESHOLD": "Threshold",
}

V0_TYPES = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}

CONVOLUTION, INNER_PRODUCT, POOLING, LRN = "convolution_param", "inner_product_param", "pooling_param", "lrn_param"
DATA, IMAGES, WINDOWS, HDF5 = "data_param", "image_data_param", "window_data_param", "hdf5_data_param"
TRANSFORM = "transform_param"

# Old option -> its new name, and for each old type the message that has it. "" stands for any type.
V0_OPTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "num_output": ("num_output", {"conv": CONVOLUTION, "innerproduct": INNER_PRODUCT}),
    "biasterm": ("bias_term", {"conv": CONVOLUTION, "innerproduct": INNER_PRODUCT}),
    "weight_filler": ("weight_filler", {"conv": CONVOLUTION, "innerproduct": INNER_PRODUCT}),
    "bias_filler": ("bias_filler", {"conv": CONVOLUTION, "innerproduct": INNER_PRODUCT}),
    "pad": ("pad", {"conv": CONVOLUTION, "pool": POOLING}),
    "kernelsize": ("kernel_size", {"conv": CONVOLUTION, "im2col": CONVOLUTION, "pool": POOLING}),
    "group": ("group", {"conv": CONVOLUTION}),
    "stride": ("stride", {"conv": CONVOLUTION, "im2col": CONVOLUTION, "pool": POOLING}),
    "pool": ("pool", {"pool": POOLING}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", {"lrn": LRN}),
    "alpha": ("alpha", {"lrn": LRN}),
    "beta": ("beta", {"lrn": LRN}),
    "k": ("k", {"lrn": LRN}),
    "source": (
        "source",
        {
            "data": DATA,
            "images": IMAGES,
            "window_data": WINDOWS,
            "hdf5_data": HDF5,
            "infogain_loss": "infogain_loss_param",
        },
    ),
    "scale": ("scale", {"": TRANSFORM}),
    "meanfile": ("mean_file", {"": TRANSFORM}),
    "cropsize": ("crop_size", {"": TRANSFORM}),
    "mirror": ("mirror", {"": TRANSFORM}),
    "batchsize": ("batch_size", {"data": DATA, "images": IMAGES, "window_data": WINDOWS, "hdf5_data": HDF5}),
    "rand_skip": ("rand_skip", {"data": DATA, "images": IMAGES}),
    "shuffle_images": ("shuffle", {"images": IMAGES}),
    "new_height": ("new_height", {"images": IMAGES}),
    "new_width": ("new_width", {"images": IMAGES}),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", {"window_data": WINDOWS}),
    "det_bg_threshold": ("bg_threshold", {"window_data": WINDOWS}),
    "det_fg_fraction": ("fg_fraction", {"window_data": WINDOWS}),
    "det_context_pad": ("context_pad", {"window_data": WINDOWS}),
    "det_crop_mode": ("crop_mode", {"window_data": WINDOWS}),
}
# Options that were the type's own message already, and fields of every layer.
V0_KEPT = ("name", "blobs", "hdf5_output_param")

# Data layers' options that are transform_param's today.
TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")
DATA_TYPES = {"Data": DATA, "ImageData": IMAGES, "WindowData": WINDOWS}


def net(definition: Definition) -> Definition:
    """A net of any age as one of today, with ``layer`` only. The one given is left as it is.

    Raises DefinitionError, with every mistake, where an old field cannot be converted.
    """
    definition = definition.today()
    problems = Problems()
    layers = definition.children("layer")
    old = [Definition(layer.message, _copy(layer.node)) for layer in definition.children("layers")]
    if old and layers:
        problems.add(
            DefinitionError(
                f'a net has "layer" or, in old files, "layers"; this one has {len(layers)} of the one and {len(old)} of'
                " the other. Write layer { ... } throughout.",
                definition.place("layers"),
            )
        )
    elif old:
        layers = [_from_old(layer, problems) for layer in _without_padding(old, problems)]
    if definition.message.input:
        layers = [_input_layer(definition, problems), *layers]
    problems.raise_any()
    layers = [_moved_options(one, problems) for layer in layers for one in _parted(layer)]
    layers = [_fixed_batch_norm(layer) for layer in layers]
    problems.raise_any()
    return definition.with_children("layer", layers, without=("layers", "input", "input_shape", "input_dim"))


def is_old(definition: Definition) -> bool:
    """Whether `net` would change more than a copy."""
    message = definition.message
    return bool(
        message.layers
        or message.input
        or any(
            _needs_fixed_batch_norm(layer)
            or _fused(layer.message)
            or _scales(layer.message)
            or _misplaced_options(layer.message)
            for layer in definition.children("layer")
        )
    )


def solver(definition: Definition) -> Definition:
    """A solver of any age as one of today: ``solver_type`` becomes ``type``. The one given is left as it is.

    Raises DefinitionError if it has both.
    """
    definition = definition.today()
    message = type(definition.message)()
    message.CopyFrom(definition.message)
    if not message.HasField("solver_type"):
        return definition.replace(message)
    if message.HasField("type"):
        raise DefinitionError(
            f'type: "{message.type}" and solver_type, its old form, are both given. Take solver_type out.',
            definition.place("solver_type"),
        )
    names = {"NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp", "ADADELTA": "AdaDelta", "ADAM": "Adam"}
    name = _enum_name(message, "solver_type")
    message.type = names.get(name, name)
    message.ClearField("solver_type")
    node = _copy(definition.node)
    _move(node, "solver_type", node, "type")
    return Definition(message, node)


def _from_old(layer: Definition, problems: Problems) -> Definition:
    return _from_v0(layer, problems) if layer.message.HasField("layer") else _moved_transforms(_from_v1(layer))


# V0


def _without_padding(layers: Sequence[Definition], problems: Problems) -> list[Definition]:
    """Folds padding layers into the convolutions and poolings that read them."""
    producers: dict[str, Definition] = {}
    result = []
    for layer in layers:
        message = type(layer.message)()
        message.CopyFrom(layer.message)
        node = _copy(layer.node)
        for index, bottom in enumerate(message.bottom):
            padding = producers.get(bottom)
            if padding is None or padding.message.layer.type != "padding":
                continue
            name, kind = message.layer.name, message.layer.type
            if kind not in ("conv", "pool") or len(message.bottom) != 1 or len(padding.message.bottom) != 1:
                problems.add(
                    DefinitionError(
                        f'layer "{name}" ({kind}) reads padding layer "{padding.message.layer.name}": only conv and'
                        " pool with one bottom can, and the padding must have one bottom too.",
                        layer.place("bottom", index),
                    )
                )
                continue
            message.layer.pad = padding.message.layer.pad
            message.bottom[index] = padding.message.bottom[0]
            _move(_inner(padding.node, "layer"), "pad", _inner(node, "layer"), "pad")
        for top in message.top:
            producers[top] = layer
        if message.layer.type != "padding":
            result.append(Definition(message, node))
    return result


def _from_v0(old: Definition, problems: Problems) -> Definition:
    """``layers { layer { ... } bottom top }`` -> ``layer { ... }``."""
    inner, options = old.message.layer, old.child("layer")
    new = schema.message("LayerParameter")()
    node = Node(old.node.source, old.node.offset)
    new.bottom.extend(old.message.bottom)
    new.top.extend(old.message.top)
    _move(old.node, "bottom", node, "bottom")
    _move(old.node, "top", node, "top")
    if inner.type in V0_TYPES:
        new.type = V0_TYPES[inner.type]
    elif inner.type:
        problems.add(
            DefinitionError(
                f'layer "{inner.name}": unknown layer type "{inner.type}" in a net of 2013.'
                f"{did_you_mean(inner.type, V0_TYPES)}",
                options.place("type"),
            )
        )
    _move(options.node, "type", node, "type")
    for field, value in inner.ListFields():
        if field.name in V0_KEPT:
            _put(new, field.name, value)
            _move(options.node, field.name, node, field.name)
        elif field.name in V0_OPTIONS:
            name, homes = V0_OPTIONS[field.name]
            home = homes.get("") or homes.get(inner.type)
            if home is None and inner.type not in V0_TYPES:
                continue  # that is an error already
            if home is None:
                log.warning(
                    '%s: layer "%s": %s has no meaning for type "%s", and is left out.',
                    options.place(field.name),
                    inner.name,
                    field.name,
                    inner.type,
                )
                continue
            _put(getattr(new, home), name, value)
            _move(options.node, field.name, _inner(node, home), name)
    _learning(inner, options.node, new, node)
    return Definition(new, node)


# V1


def _from_v1(old: Definition) -> Definition:
    """``layers { type: CONVOLUTION blobs_lr: 1 }`` -> ``layer { type: "Convolution" param { lr_mult: 1 } }``."""
    message = old.message
    new = schema.message("LayerParameter")()
    node = Node(old.node.source, old.node.offset)
    for field, value in message.ListFields():
        if field.name in LEARNING:
            continue
        if field.name == "type":
            new.type = V1_TYPES[_enum_name(message, "type")]
        else:
            _put(new, field.name, value)
        _move(old.node, field.name, node, field.name)
    _learning(message, old.node, new, node)
    return Definition(new, node)


# For each parameter blob, the old field of a layer and the field of ParamSpec.
LEARNING = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}


def _learning(old: Any, old_node: Node, new: Any, node: Node) -> None:
    """One ``param`` per blob from lists of their names, share modes, rates and decays."""
    for name, today in LEARNING.items():
        if name not in old.DESCRIPTOR.fields_by_name:
            continue
        places = old_node.fields.get(name, [])
        for index, value in enumerate(getattr(old, name)):
            while len(new.param) <= index:
                new.param.add()
            setattr(new.param[index], today, value)
            specs = node.fields.setdefault("param", [])
            if len(specs) == index and index < len(places):
                at = places[index]
                specs.append(Node(old_node.source, at if isinstance(at, int) else at.offset))
            if index < len(specs) and index < len(places):
                spec = specs[index]
                if isinstance(spec, Node):
                    spec.fields[today] = [places[index]]


def _moved_transforms(layer: Definition) -> Definition:
    """``data_param { crop_size: 227 }`` -> ``transform_param { crop_size: 227 }``. Changes the layer."""
    home = DATA_TYPES.get(layer.message.type)
    if home is None:
        return layer
    options = getattr(layer.message, home)
    for name in TRANSFORMS:
        if options.HasField(name):
            setattr(layer.message.transform_param, name, getattr(options, name))
            options.ClearField(name)
            _move(_inner(layer.node, home), name, _inner(layer.node, TRANSFORM), name)
    return layer


# Fields of today's nets


def _input_layer(definition: Definition, problems: Problems) -> Definition:
    """``input: "data" input_dim: ...`` -> one Input layer, named "input", with a top for each."""
    message = definition.message
    inputs, shapes, dims = len(message.input), list(message.input_shape), list(message.input_dim)
    field = "input_shape" if shapes else "input_dim"
    if shapes and len(shapes) != inputs:
        problems.add(
            DefinitionError(
                f"{inputs} input and {len(shapes)} input_shape: there must be as many of the one as of the other.",
                definition.place("input_shape", len(shapes) - 1),
            )
        )
    elif dims and not shapes and len(dims) != 4 * inputs:
        problems.add(
            DefinitionError(
                f"{inputs} input and {len(dims)} input_dim: there must be 4 input_dim for each input,"
                f" {4 * inputs} in all. For other than four axes, write input_shape {{ dim: ... }}.",
                definition.place("input_dim", len(dims) - 1),
            )
        )
    layer = schema.message("LayerParameter")(name="input", type="Input", top=message.input)
    blob_shape = schema.message("BlobShape")
    if not shapes:
        shapes = [blob_shape(dim=dims[4 * i : 4 * i + 4]) for i in range(inputs)] if dims else []
    layer.input_param.shape.extend(shapes)

    places = definition.node.fields.get("input", [])
    source = definition.node.source
    first = places[0] if places and isinstance(places[0], int) else definition.node.offset
    node = Node(source, first)
    node.fields["top"] = list(places)
    options = _inner(node, "input_param")
    at = definition.node.fields.get(field, [])
    if field == "input_shape":
        options.fields["shape"] = list(at)
    else:
        for i in range(0, len(at), 4):
            start = at[i]
            shape = Node(source, start if isinstance(start, int) else start.offset)
            shape.fields["dim"] = list(at[i : i + 4])
            options.fields.setdefault("shape", []).append(shape)
    return Definition(layer, node)


def _needs_fixed_batch_norm(layer: Definition) -> bool:
    return layer.message.type == "BatchNorm" and len(layer.message.param) == 3


def _fixed_batch_norm(layer: Definition) -> Definition:
    """A BatchNorm with three ``param``s gets rates of 0: mean, variance and factor are counted, not learnt."""
    if not _needs_fixed_batch_norm(layer):
        return layer
    message = type(layer.message)()
    message.CopyFrom(layer.message)
    for spec in message.param:
        spec.lr_mult = spec.decay_mult = 0
    return layer.replace(message)


def _misplaced_options(message: Any) -> str:
    """The options within which ``transform_param`` stands, as it did for a while in the spring of 2014; "" for none."""
    home = DATA_TYPES.get(message.type, "")
    return home if home and message.HasField(home) and getattr(message, home).HasField(TRANSFORM) else ""


def _moved_options(layer: Definition, problems: Problems) -> Definition:
    """``data_param { transform_param { ... } }`` -> ``transform_param { ... }``."""
    home = _misplaced_options(layer.message)
    if not home:
        return layer
    if layer.message.HasField(TRANSFORM):
        problems.add(
            DefinitionError(
                f'layer "{layer.message.name}" has transform_param in its {home} too. Keep the one outside.',
                layer.place(home, TRANSFORM),
            )
        )
        return layer
    message = type(layer.message)()
    message.CopyFrom(layer.message)
    node = _copy(layer.node)
    message.transform_param.CopyFrom(getattr(message, home).transform_param)
    getattr(message, home).ClearField(TRANSFORM)
    _move(_inner(node, home), TRANSFORM, node, TRANSFORM)
    return Definition(message, node)


# Layers of Intel's fork that run along with the one before: its type and options, and what fuse_type says -> the type
# of the other layer, its options, what its name ends with, and whether it works in place.
FUSED = {
    ("Convolution", CONVOLUTION, "FUSED_CONV_RELU"): ("ReLU", "relu_param", "relu", True),
    ("Deconvolution", CONVOLUTION, "FUSED_CONV_RELU"): ("ReLU", "relu_param", "relu", True),
    ("LRN", LRN, "FUSED_POOL_MAX"): ("Pooling", POOLING, "pool", False),
}


def _fused(message: Any) -> tuple[str, tuple[str, str, str, bool] | None] | None:
    """The options of a layer that has ``fuse_type``, and the layer that runs along with it, if it says so."""
    for (kind, options, value), other in FUSED.items():
        if message.type == kind and getattr(message, options).HasField("fuse_type"):
            return options, other if _enum_name(getattr(message, options), "fuse_type") == value else None
    return None


def _parted(layer: Definition) -> list[Definition]:
    """A layer, and what stands in it though it is another layer in Caffe."""
    return _without_scale(layer) if _scales(layer.message) else _unfused(layer)


SCALE = "_scale"  # what the name of a Scale ends with that was part of a BatchNorm


def _scales(message: Any) -> bool:
    """Whether this is a BatchNorm with a scale and a shift of its own, as NVIDIA's fork has it."""
    return message.type == "BatchNorm" and message.batch_norm_param.scale_bias and len(message.top) == 1


def _without_scale(layer: Definition) -> list[Definition]:
    """``batch_norm_param { scale_bias: true }`` -> that layer, and a Scale in place behind it."""
    first = type(layer.message)()
    first.CopyFrom(layer.message)
    node = _copy(layer.node)
    places = Node(node.source, node.offset)
    top = first.top[0]
    second = type(first)(name=first.name + SCALE, type="Scale", bottom=[top], top=[top])
    _copy_rules(first, second)
    options, written = first.batch_norm_param, _inner(node, "batch_norm_param")
    second.scale_param.bias_term = True
    for old, new in (("scale_filler", "filler"), ("bias_filler", "bias_filler")):
        if options.HasField(old):
            getattr(second.scale_param, new).CopyFrom(getattr(options, old))
            options.ClearField(old)
            _move(written, old, _inner(places, "scale_param"), new)
    options.ClearField("scale_bias")
    second.param.extend(first.param[3:])
    del first.param[3:]
    specs = node.fields.get("param", [])
    node.fields["param"], places.fields["param"] = specs[:3], specs[3:]
    _move(node, "top", places, "top")
    return [Definition(first, node), Definition(second, places)]


def _copy_rules(old: Any, new: Any) -> None:
    """Lets a layer take part where another one does."""
    for field in ("include", "exclude"):
        getattr(new, field).extend(getattr(old, field))
    if old.HasField("phase"):
        new.phase = old.phase


def _unfused(layer: Definition) -> list[Definition]:
    """``convolution_param { fuse_type: FUSED_CONV_RELU }`` -> that layer, and a ReLU in place behind it."""
    found = _fused(layer.message)
    if found is None:
        return [layer]
    options, other = found
    first = type(layer.message)()
    first.CopyFrom(layer.message)
    node = _copy(layer.node)
    written = _inner(node, options)
    getattr(first, options).ClearField("fuse_type")
    if other is None:
        return [Definition(first, node)]
    kind, theirs, ending, in_place = other
    layers = []
    for index, top in enumerate(layer.message.top):
        between = top if in_place else f"{top}_{layer.message.name}"
        first.top[index] = between
        second = type(first)(name=f"{first.name}_{ending}", type=kind, bottom=[between], top=[top])
        _copy_rules(first, second)
        if getattr(first, options).HasField(theirs):
            getattr(second, theirs).CopyFrom(getattr(getattr(first, options), theirs))
        places = Node(node.source, node.offset)
        _move(node, "top", places, "top")
        _move(written, theirs, places, theirs)
        layers.append(Definition(second, places))
    getattr(first, options).ClearField(theirs)
    return [Definition(first, node), *layers]


# Messages and places


def _put(message: Any, name: str, value: Any) -> None:
    """Sets a field to a value as another message has it: a number, a message, a list of either, or one for a list."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if schema.is_repeated(field):
        listed = not isinstance(value, (int, float, str, bytes))
        getattr(message, name).extend(value if listed else [value])
    elif field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _enum_name(message: Any, name: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    return str(values[getattr(message, name)].name)


def _copy(node: Node) -> Node:
    """A copy of a message's places down to the messages in it, whose fields may then be moved."""
    new = Node(node.source, node.offset)
    for name, entries in node.fields.items():
        new.fields[name] = [_copy(entry) if isinstance(entry, Node) else entry for entry in entries]
    return new


def _inner(node: Node, name: str) -> Node:
    """The places of a message within; if it was not written, it lies where the one around it does."""
    entries = node.fields.setdefault(name, [])
    if not entries:
        entries.append(Node(node.source, node.offset))
    entry = entries[0]
    if not isinstance(entry, Node):
        entry = entries[0] = Node(node.source, entry)
    return entry


def _move(old: Node, name: str, new: Node, today: str) -> None:
    """Carries the places of a field along, under its name of today."""
    if name in old.fields:
        new.fields[today] = old.fields[name]
