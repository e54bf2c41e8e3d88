"""Drawings of nets: Graphviz dot text, SVG, PNG and PDF.

A box is a layer, with its type and the options that matter; layers that work in place are rows of the box whose blob
they change. Lines are blobs, named where the name is not the layer's; a rounded end is an output of the net. Dot and
SVG need nothing else; PNG and PDF need matplotlib, the extra ``[plot]``.

`draw_net` and `draw_net_to_file` are pycaffe's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import draw_formats, files, graph, layer, upgrade
from .draw_formats import Arrow, Box, Drawing, Row
from .errors import DefinitionError, Problems
from .net import as_definition
from .proto import caffe_pb2  # noqa: F401 (pycaffe's scripts look for it here too)
from .textformat import is_repeated

RANKDIRS = ("TB", "LR", "BT", "RL")

#: Fill and line of the boxes, by what a type does. `FAMILIES` says which types that are.
COLOURS = {
    "data": ("#e3e9f0", "#7f93aa"),
    "convolution": ("#cfe2fd", "#5687d6"),
    "product": ("#ddd6fa", "#8570d8"),
    "pooling": ("#d2efd6", "#55a868"),
    "activation": ("#ffe6c9", "#dd9540"),
    "normalisation": ("#cdeeea", "#3d9f98"),
    "dropout": ("#fbf2c4", "#bfa22c"),
    "loss": ("#fdd7d5", "#d9625d"),
    "score": ("#fadcea", "#c8659b"),
    "other": ("#ececec", "#8f8f8f"),
}
FAMILIES = {
    "data": "Data DummyData HDF5Data HDF5Output ImageData Input MemoryData Parameter WindowData",
    "convolution": "Convolution Deconvolution Im2col",
    "product": "Embed InnerProduct LSTM LSTMUnit RNN",
    "pooling": "Pooling SPP",
    "activation": "AbsVal BNLL Clip ELU Exp Log Power PReLU ReLU Sigmoid Softmax Swish TanH Threshold",
    "normalisation": "BatchNorm Bias LRN MVN Scale",
    "dropout": "Dropout",
    "score": "Accuracy ArgMax",
}
FAMILY = {type_name: family for family, names in FAMILIES.items() for type_name in names.split()}

#: Options that say how or from where, not what: left out.
UNSAID = {
    *("backend", "bias_term", "engine", "fg_threshold", "force_nd_im2col", "mean_file", "param_str", "prefetch"),
    *("rand_skip", "root_folder", "shuffle", "source", "stable_prod_grad"),
}
#: Options whose value says enough.
BARE = {"num_output", "pool", "operation", "module", "layer", "dropout_ratio", "norm_region"}
SHORT = {"batch_size": "batch", "negative_slope": "slope", "kernel_size": "kernel", "global_pooling": "global"}
WINDOW = ("kernel", "stride", "pad", "dilation")


def draw_net(
    caffe_net: Any,
    rankdir: str = "LR",
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,
    *,
    level: int = 0,
    stages: Sequence[str] = (),
) -> bytes:
    """The picture of a net, a NetParameter or the path of its prototxt, as the bytes of a file.

    ``ext`` is dot, svg, png or pdf. ``phase`` draws the layers of TRAIN or TEST only, with those of ``level`` and
    ``stages``; None draws all. ``display_lrm`` adds the multipliers of the learning rate. Raises DefinitionError for
    another direction or format, and where PNG or PDF are asked for without matplotlib.
    """
    if rankdir not in RANKDIRS:
        raise DefinitionError(f'rankdir: "{rankdir}" is none of {", ".join(RANKDIRS)}')
    drawn = drawing(caffe_net, phase, display_lrm, level=level, stages=stages)
    return draw_formats.render(drawn, rankdir, ext)


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,
    *,
    level: int = 0,
    stages: Sequence[str] = (),
) -> None:
    """Writes what `draw_net` gives; the file's extension says the format."""
    ext = os.path.splitext(os.fspath(filename))[1].removeprefix(".").lower()
    raw = draw_net(caffe_net, rankdir, ext, phase, display_lrm, level=level, stages=stages)
    with files.atomic(filename) as file:
        file.write(raw)


@dataclass
class _Blobs:
    """Which boxes hold a blob at the moment, and who reads it."""

    writers: dict[str, list[int]] = field(default_factory=dict)
    read: set[tuple[int, str]] = field(default_factory=set)


def drawing(
    net: Any, phase: int | None = None, display_lrm: bool = False, *, level: int = 0, stages: Sequence[str] = ()
) -> Drawing:
    """What is drawn: boxes and arrows, without places."""
    definition = upgrade.net(as_definition(net, "NetParameter"))
    layers = definition.children("layer")
    if phase is not None:
        problems = Problems()
        layers = graph.filter_layers(layers, graph.net_state(definition.message, phase, level, stages), problems)
        problems.raise_any()
    drawn = Drawing(definition.message.name, [], [])
    blobs = _Blobs()
    for made in layers:
        _add(drawn, blobs, made.message, display_lrm)
    outputs: dict[str, list[int]] = {}
    for name, writers in blobs.writers.items():
        for box in writers:
            if (box, name) not in blobs.read:
                outputs.setdefault(name, []).append(box)
    for name, writers in outputs.items():
        drawn.boxes.append(Box([Row(name, "", "", *COLOURS["other"])], is_blob=True))
        drawn.arrows += [Arrow(box, len(drawn.boxes) - 1, name) for box in writers]
    return drawn


def _add(drawn: Drawing, blobs: _Blobs, message: Any, display_lrm: bool) -> None:
    row = Row(message.name, message.type, ", ".join(details(message, display_lrm)), *colour(message.type))
    here = blobs.writers.get(message.bottom[0], []) if message.bottom else []
    if list(message.bottom) == list(message.top) and len(message.top) == 1 and len(here) == 1:
        drawn.boxes[here[0]].rows.append(row)  # in place, with no other input
        return
    box = len(drawn.boxes)
    drawn.boxes.append(Box([row]))
    for name in dict.fromkeys(message.bottom):
        for source in blobs.writers.get(name, []):
            blobs.read.add((source, name))
            hidden = name in {row.name for row in drawn.boxes[source].rows}
            drawn.arrows.append(Arrow(source, box, name, "" if hidden else name))
    for name in message.top:
        others = [] if name in message.bottom else blobs.writers.get(name, [])
        # A name that is written anew belongs to another phase: both are drawn.
        blobs.writers[name] = [*others, box]


def colour(type_name: str) -> tuple[str, str]:
    """Fill and line of a type's row."""
    family = "loss" if type_name.endswith("Loss") else FAMILY.get(type_name, "other")
    return COLOURS[family]


def details(message: Any, display_lrm: bool = False) -> list[str]:
    """What a row says of a layer's options: ``["96", "11×11", "stride 4"]``.

    >>> from layerforge import schema
    >>> layer = schema.parse('type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }', "LayerParameter")
    >>> details(layer.message)
    ['AVE', '3×3', 'stride 2']
    """
    found: list[str] = []
    options = _options(message)
    if options is not None:
        found += _said(options)
        if message.type in ("Input", "DummyData", "Parameter"):
            shapes = options.shape if is_repeated(options.DESCRIPTOR.fields_by_name["shape"]) else [options.shape]
            found = ["×".join(map(str, shape.dim)) for shape in shapes]
    if display_lrm:
        rates = [f"{spec.lr_mult:g}" for spec in message.param]
        if rates:
            found.append(f"lr {' '.join(f'×{rate}' for rate in rates)}")
    return found


def _options(message: Any) -> Any:
    """The message of a layer's own options, or None."""
    layer.load_layers()
    cls = layer.registry.get(message.type)
    name = layer.options_field(cls) if cls else ""
    if name and message.HasField(name):
        return getattr(message, name)
    others = {"transform_param", "loss_param"}
    given = [field.name for field, _ in message.ListFields() if field.name.endswith("_param")]
    return next((getattr(message, name) for name in given if name not in others and not cls), None)


def _said(options: Any) -> list[str]:
    said = []
    windows = _windows(options)
    for spec, value in options.ListFields():
        name = spec.name
        if name in UNSAID or spec.message_type is not None or name.startswith(WINDOW):
            continue
        if spec.enum_type is not None:
            value = spec.enum_type.values_by_number[value].name
        elif is_repeated(spec):
            value = " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
        elif isinstance(value, float):
            value = f"{value:g}"
        elif isinstance(value, bool):
            said += [SHORT.get(name, name.replace("_", " "))] if value else []
            continue
        said.append(str(value) if name in BARE else f"{SHORT.get(name, name.replace('_', ' '))} {value}")
    at = next((i + 1 for i, word in enumerate(said) if word.isdigit() or word.isupper()), 0)
    return said[:at] + windows + said[at:]


def _windows(options: Any) -> list[str]:
    """``3×3``, ``stride 2``, ``pad 1``, in the order of `WINDOW`."""
    known = options.DESCRIPTOR.fields_by_name
    said = []
    for what in WINDOW:
        whole = "kernel_size" if what == "kernel" else what
        values: list[int] = []
        if whole in known:
            value = getattr(options, whole)
            values = list(value) if is_repeated(known[whole]) else [value] if options.HasField(whole) else []
        if not values and f"{what}_h" in known and (options.HasField(f"{what}_h") or options.HasField(f"{what}_w")):
            values = [getattr(options, f"{what}_h"), getattr(options, f"{what}_w")]
        usual = 0 if what == "pad" else 1
        if what == "kernel" and values:
            said.append("×".join(map(str, values * 2 if len(values) == 1 else values)))
        elif any(value != usual for value in values):
            said.append(f"{what} {'×'.join(map(str, values if len(set(values)) > 1 else values[:1]))}")
    return said
