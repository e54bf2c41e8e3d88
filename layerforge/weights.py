"""Weights: from files into a net by layer name, and back.

Caffe's two formats, told apart by their content: the binary NetParameter (``.caffemodel``) and HDF5
(``.caffemodel.h5``: group ``/data/<layer>/<index>``, ``/diff/...`` beside it).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import files, wire
from .errors import MissingWeights, SnapshotError, nearest
from .upgrade import SCALE

if TYPE_CHECKING:
    from .blob import Parameter
    from .layer import Layer
    from .net import Net

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass
class LoadReport:
    """What became of the layers of a weights file and of the net."""

    path: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # the net learns them, the file has none: they keep their fillers
    unused: list[str] = field(default_factory=list)  # in the file, but the net has no such layer

    def __str__(self) -> str:
        lines = [f"Loaded {len(self.loaded)} layer{'' if len(self.loaded) == 1 else 's'} from {self.path}"]
        if self.missing:
            lines.append(f"Not in the file, so left as they were filled: {', '.join(self.missing)}")
        if self.unused:
            lines.append(f"In the file, but not in the net: {', '.join(self.unused)}")
        return "\n".join(lines)


def paths(text: Any) -> list[str]:
    """The files that a comma-separated list names; one with a comma in its name counts as itself where it exists."""
    if text is None:
        return []
    path = os.fspath(text)
    return [path] if os.path.exists(path) else [part.strip() for part in path.split(",")]


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file's first bytes are HDF5's. Raises SnapshotError for a file that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    except OSError as error:
        raise MissingWeights(f"cannot read weights from {os.fspath(path)}: {error.strerror}") from None


def read(path: str | os.PathLike[str]) -> list[wire.LayerWeights]:
    """The arrays of a weights file of either format, layer by layer."""
    return _read_hdf5(os.fspath(path)) if is_hdf5(path) else wire.read_weights(path)


def load(net: Net, path: str | os.PathLike[str], *, strict: bool = False) -> LoadReport:
    """Copies a file's weights into the layers of the same name. See `Net.copy_from`."""
    report = LoadReport(os.fspath(path))
    by_name = _by_name(net)
    copies: list[tuple[Parameter, Any]] = []
    for record in _records_of(path, by_name):
        made = by_name.get(record.name)
        if made is not None and record.blobs:
            copies += _match(made, report.path, record)
            report.loaded.append(record.name)
        elif record.blobs:
            report.unused.append(record.name)
    known = set(report.loaded)
    report.missing = [
        name
        for name, made in by_name.items()
        if name not in known and any(parameter.owner is None for parameter in made.blobs)
    ]
    _check(report, strict)
    _copy(net, copies)
    return report


def load_made(net: Net, path: str | os.PathLike[str]) -> None:
    """As `load`, but only into parameters that are the net's own, not shared with another; what is missing is left."""
    made = {id(parameter) for parameter in net.arena.made}
    by_name = _by_name(net) if made else {}
    copies: list[tuple[Parameter, Any]] = []
    for record in _records_of(path, by_name) if made else []:
        own = by_name.get(record.name)
        if own is not None and record.blobs and any(id(parameter) in made for parameter in own.blobs):
            copies += _match(own, os.fspath(path), record)
    _copy(net, [(parameter, array) for parameter, array in copies if id(parameter) in made])


def _by_name(net: Net) -> dict[str, Layer]:
    """The layers by name; of several with one name, as in Caffe, the first."""
    layers: dict[str, Layer] = {}
    for made in (node.layer for node in net.nodes):
        layers.setdefault(made.name, made)
    return layers


def _records_of(path: str | os.PathLike[str], by_name: dict[str, Layer]) -> Iterable[wire.LayerWeights]:
    """A file's layers; of a BatchNorm with a scale and a shift of its own, as NVIDIA's fork has it, the two that
    `layerforge.upgrade` makes of it."""
    for record in read(path):
        made, scale = by_name.get(record.name), by_name.get(record.name + SCALE)
        if made is None or scale is None or made.type != "BatchNorm" or len(record.blobs) != 5:
            yield record
            continue
        yield dataclasses.replace(record, blobs=record.blobs[:3])
        yield dataclasses.replace(record, name=scale.name, type=scale.type, blobs=record.blobs[3:])


def _copy(net: Net, copies: Sequence[tuple[Parameter, Any]]) -> None:
    for parameter, array in copies:
        net.device.from_numpy(parameter.data, array.reshape(parameter.shape))
    net.arena.changed()


def _check(report: LoadReport, strict: bool) -> None:
    """Raises SnapshotError where nothing fits and, with ``strict``, where anything is missing."""
    if strict and report.missing:
        raise SnapshotError(
            f"{report.path}: it lacks the weights of {', '.join(report.missing)}, which strict loading asks for"
        )
    if not report.loaded and report.missing:
        own = report.missing[0]
        like = nearest(own, report.unused)
        hint = f'. Layers go by name: "{like}" is like "{own}"' if like else ""
        raise SnapshotError(
            f"{report.path}: no layer of it has a name of this net's; it holds {_some(report.unused)},"
            f" the net learns {_some(report.missing)}{hint}"
        )


def _some(names: Sequence[str], most: int = 4) -> str:
    if not names:
        return "nothing"
    quoted = ", ".join(f'"{name}"' for name in names[:most])
    return quoted + (f" and {len(names) - most} more" if len(names) > most else "")


def _match(made: Layer, path: str, record: wire.LayerWeights) -> list[tuple[Parameter, Any]]:
    """The parameters of a layer, each with its array of a file."""
    mine, blobs = made.blobs, list(record.blobs)
    hint = "Rename the layer in the prototxt to leave its weights out"
    if all(parameter.owner is not None for parameter in mine[len(blobs) :]):
        blobs += [None] * (len(mine) - len(blobs))  # other layers have those, and HDF5 files do not repeat them
    if len(blobs) != len(mine):
        raise SnapshotError(
            f"{path}: {made.title} has {_parameters(len(mine))}, the file has {len(record.blobs)} for it. {hint}"
        )
    copies = []
    for parameter, weights in zip(mine, blobs, strict=True):
        title = f'{path}: {made.title}, parameter "{parameter.name}"'
        if weights is None:
            if parameter.owner is None:
                raise SnapshotError(f"{title}: the file lacks it. {hint}")
            continue  # another layer has it
        if not _same_shape(parameter.shape, weights.shape):
            raise SnapshotError(
                f"{title}: the net has shape {parameter.shape}, the file {tuple(weights.shape)}. {hint}"
            )
        if weights.data.size != parameter.count:
            raise SnapshotError(
                f"{title}: shape {tuple(weights.shape)} has {parameter.count} values, the file holds"
                f" {weights.data.size}: it is damaged"
            )
        copies.append((parameter, weights.data))
    return copies


def _parameters(count: int) -> str:
    return f"{count} parameter{'' if count == 1 else 's'}" if count else "no parameters"


def _same_shape(mine: tuple[int, ...], stored: Iterable[int]) -> bool:
    """Equal, or equal but for the ones in front that Caffe's old four-dimensional blobs have."""
    theirs = tuple(stored)
    if mine == theirs:
        return True
    return len(theirs) == 4 and len(mine) <= 4 and (1,) * (4 - len(mine)) + mine == theirs


def _read_hdf5(path: str) -> list[wire.LayerWeights]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "data" not in file:
                raise SnapshotError(f'{path}: an HDF5 file, but not of weights: it has no group "data"')
            found: dict[str, dict[int, Any]] = {}

            def visit(name: str, item: Any) -> None:
                layer, _, index = name.rpartition("/")
                if isinstance(item, h5py.Dataset) and index.isdigit():
                    found.setdefault(layer, {})[int(index)] = item[...]

            file["data"].visititems(visit)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SnapshotError(f"{path}: damaged HDF5 file: {error}") from error
    layers = []
    for name, stored in found.items():
        # An index that is not there is shared with another layer, which has it.
        blobs = [
            wire.Weights(tuple(stored[i].shape), stored[i]) if i in stored else None for i in range(max(stored) + 1)
        ]
        layers.append(wire.LayerWeights(name, "", blobs))
    return layers


def save(net: Net, path: str | os.PathLike[str], *, diff: bool = False) -> None:
    """Writes a caffemodel: every layer with its definition and its weights, as Caffe does."""
    with files.atomic_path(path) as temporary:
        write(net, temporary, diff)


def save_hdf5(net: Net, path: str | os.PathLike[str], *, diff: bool = False) -> None:
    """Writes HDF5; a parameter that several layers share is stored once, with the first."""
    with files.atomic_path(path) as temporary:
        write_hdf5(net, temporary, diff)


def write(net: Net, path: str | os.PathLike[str], diff: bool = False) -> None:
    """As `save`, but straight into the file: for one that takes its name later."""
    wire.write_weights(path, net.name, _records(net, diff))


def write_hdf5(net: Net, path: str | os.PathLike[str], diff: bool = False) -> None:
    """As `save_hdf5`, but straight into the file: for one that takes its name later."""
    import h5py

    with h5py.File(path, "w") as file:
        for kind in ("data", "diff") if diff else ("data",):
            top = file.create_group(kind)
            for made in (node.layer for node in net.nodes):
                group = top.require_group(made.name)
                for index, parameter in enumerate(made.blobs):
                    if parameter.owner is None:
                        array = parameter.data if kind == "data" else parameter.diff
                        group.create_dataset(str(index), data=net.device.to_numpy(array))


def _records(net: Net, diff: bool) -> Iterable[tuple[Any, list[Any]]]:
    for made in (node.layer for node in net.nodes):
        blobs = []
        for parameter in made.blobs:
            data = net.device.to_numpy(parameter.data)
            blobs.append((data, net.device.to_numpy(parameter.diff)) if diff else data)
        yield made.param, blobs
