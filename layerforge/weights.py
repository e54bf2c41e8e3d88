"""Weights: from files into a net by layer name, and back.

Caffe's two formats, told apart by their content: the binary NetParameter (``.caffemodel``) and HDF5
(``.caffemodel.h5``: group ``/data/<layer>/<index>``, ``/diff/...`` beside it).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import files, wire
from .errors import SnapshotError, nearest

if TYPE_CHECKING:
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
        lines = [f"Loaded {_layers(self.loaded)} from {self.path}"]
        if self.missing:
            lines.append(f"Not in the file, so left as they were filled: {', '.join(self.missing)}")
        if self.unused:
            lines.append(f"In the file, but not in the net: {', '.join(self.unused)}")
        return "\n".join(lines)


def _layers(names: list[str]) -> str:
    return f"{len(names)} layer{'s' if len(names) != 1 else ''}"


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file's first bytes are HDF5's. Raises SnapshotError for a file that is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    except OSError as error:
        raise SnapshotError(f"cannot read weights from {path}: {error.strerror}") from error


def load(net: Net, path: str | os.PathLike[str], *, strict: bool = False) -> LoadReport:
    """Copies a file's weights into the layers of the same name. See `Net.copy_from`."""
    path = os.fspath(path)
    stored = _read_hdf5(path) if is_hdf5(path) else wire.read_weights(path)
    params = net.params
    names = set(net.layer_dict)
    report = LoadReport(path)
    copies = []
    for record in stored:
        if record.name not in names:
            if record.blobs:
                report.unused.append(record.name)
            continue
        mine = params.get(record.name, [])
        if not record.blobs and not mine:
            continue
        if not record.blobs:
            continue
        copies.append((mine, _match(net, path, record, mine)))
        report.loaded.append(record.name)
    for mine, arrays in copies:  # nothing is touched until everything is known to fit
        for parameter, array in zip(mine, arrays, strict=True):
            if array is not None:
                net.device.from_numpy(parameter.data, array.reshape(parameter.shape))
    report.missing = [name for name in params if name not in set(report.loaded)]
    if strict and report.missing:
        raise SnapshotError(
            f"{path}: it lacks the weights of {', '.join(report.missing)}, which strict loading asks for"
        )
    if not report.loaded and params:
        own = next(iter(params))
        like = nearest(own, report.unused)
        hint = f'. Layers go by name: "{like}" is like "{own}"' if like else ""
        raise SnapshotError(
            f"{path}: no layer of it has a name of this net's; it holds {_some(report.unused)},"
            f" the net learns {_some(list(params))}{hint}"
        )
    return report


def _some(names: list[str], most: int = 4) -> str:
    if not names:
        return "nothing"
    quoted = ", ".join(f'"{name}"' for name in names[:most])
    return quoted + (f" and {len(names) - most} more" if len(names) > most else "")


def _match(net: Net, path: str, record: wire.LayerWeights, mine: list[Any]) -> list[Any]:
    title = net.layer_dict[record.name].title
    if len(record.blobs) != len(mine):
        raise SnapshotError(
            f"{path}: {title} has {len(mine)} parameters, the file has {len(record.blobs)} for it."
            " Rename the layer in the prototxt to leave its weights out"
        )
    arrays: list[Any] = []
    for parameter, weights in zip(mine, record.blobs, strict=True):
        if weights is None:
            arrays.append(None)
            continue
        if not _same_shape(parameter.shape, weights.shape):
            raise SnapshotError(
                f'{path}: {title}, parameter "{parameter.name}": the net has shape {parameter.shape}, the file'
                f" {tuple(weights.shape)}. Rename the layer in the prototxt to leave its weights out"
            )
        if weights.data.size != parameter.count:
            raise SnapshotError(
                f'{path}: {title}, parameter "{parameter.name}": shape {tuple(weights.shape)} has {parameter.count}'
                f" values,"
                f" the file holds {weights.data.size}: it is damaged"
            )
        arrays.append(weights.data)
    return arrays


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
            layers = []
            for name, stored in found.items():
                # An index that is not there is shared with another layer, which has it.
                blobs = [
                    wire.Weights(tuple(stored[i].shape), stored[i], None) if i in stored else None
                    for i in range(max(stored) + 1)
                ]
                layers.append(wire.LayerWeights(name, "", blobs))
            return layers
    except (OSError, ValueError, KeyError) as error:
        raise SnapshotError(f"{path}: damaged HDF5 file: {error}") from error


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
            for node in net.nodes:
                group = top.create_group(node.layer.name)
                for index, parameter in enumerate(node.layer.blobs):
                    if parameter.owner is None:
                        array = parameter.data if kind == "data" else parameter.diff
                        group.create_dataset(str(index), data=net.device.to_numpy(array))


def _records(net: Net, diff: bool) -> Iterable[tuple[Any, list[Any]]]:
    for node in net.nodes:
        blobs = []
        for parameter in node.layer.blobs:
            data = net.device.to_numpy(parameter.data)
            blobs.append((data, net.device.to_numpy(parameter.diff)) if diff else data)
        yield node.layer.param, blobs
