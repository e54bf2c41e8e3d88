"""Snapshots: weights, solver state, and the sidecar that makes a resumed run end with the same bits.

There are three files, each of which appears whole or not at all: ``<prefix>_iter_<N>.caffemodel`` and ``.solverstate``
are Caffe's (or both with ``.h5``); ``<prefix>_iter_<N>.resume.json`` holds what Caffe's files forget (the seed, how
many passes the net has run, where each source stands) and the checksums of the other two, so that a snapshot cut short
is told from a good one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files, weights, wire
from .errors import SnapshotError

if TYPE_CHECKING:
    from .solver import Solver

VERSION = 1
STATE = re.compile(r"^(?P<stem>.+_iter_(?P<iter>\d+))\.solverstate(?P<hdf5>\.h5)?$")


@dataclass
class Names:
    """The files of one snapshot."""

    model: Path
    state: Path
    sidecar: Path

    @classmethod
    def of(cls, stem: str | Path, hdf5: bool) -> Names:
        ending = ".h5" if hdf5 else ""
        return cls(Path(f"{stem}.caffemodel{ending}"), Path(f"{stem}.solverstate{ending}"), Path(f"{stem}.resume.json"))


def write(solver: Solver) -> Names:
    """Writes a snapshot of the solver as it stands, and returns the names of its files.

    All three are on the disk before the first takes its name: the sidecar, then the weights, then the state. So a state
    never stands without a sidecar, whose checksums tell whether the weights and the state there belong together.
    """
    hdf5 = solver.param.snapshot_format == 0
    names = Names.of(f"{solver.snapshot_prefix}_iter_{solver.iter}", hdf5)
    state = wire.SolverState(
        iter=solver.iter,
        learned_net=str(names.model),
        current_step=solver.current_step,
        history=solver.rule.history(),
    )
    with files.together([names.sidecar, names.model, names.state]) as (sidecar_part, model_part, state_part):
        with files.explained(names.model):
            (weights.write_hdf5 if hdf5 else weights.write)(solver.net, model_part, solver.param.snapshot_diff)
        with files.explained(names.state):
            (_write_state_hdf5 if hdf5 else wire.write_state)(state_part, state)
        record = {
            "version": VERSION,
            "iter": solver.iter,
            "files": {names.model.name: _checksum(model_part), names.state.name: _checksum(state_part)},
            **solver.memory(),
        }
        with files.explained(names.sidecar):
            Path(sidecar_part).write_text(json.dumps(record, indent=1))
    return names


def _write_state_hdf5(path: str, state: wire.SolverState) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("iter", data=np.array([state.iter], np.int32))
        file.create_dataset("current_step", data=np.array([state.current_step], np.int32))
        text = state.learned_net.encode() + b"\0"  # which Caffe's reader needs, and numpy's strings do not keep
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(len(text))
        kind.set_strpad(h5py.h5t.STR_NULLTERM)
        place = h5py.h5d.create(file.id, b"learned_net", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        place.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(text, f"S{len(text)}"), mtype=kind)
        group = file.create_group("history")
        for index, array in enumerate(state.history):
            group.create_dataset(str(index), data=array)


def read_state(path: str | os.PathLike[str]) -> wire.SolverState:
    """Reads a solver state of either format. Raises SnapshotError for a damaged file."""
    name = os.fspath(path)
    if not weights.is_hdf5(name):
        return wire.read_state(name)
    import h5py

    try:
        with h5py.File(name, "r") as file:
            learned = np.asarray(file["learned_net"][()]).item()
            history = file["history"]
            return wire.SolverState(
                iter=int(np.asarray(file["iter"][()]).item()),
                learned_net=learned.decode() if isinstance(learned, bytes) else str(learned),
                current_step=int(np.asarray(file["current_step"][()]).item()) if "current_step" in file else 0,
                history=[history[str(i)][...] for i in range(len(history))],
            )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise SnapshotError(f"{name}: damaged solver state: {error}") from error


def find_model(state_path: Path, learned_net: str) -> Path:
    """The weights that a solver state goes with: beside it, for both may have been moved, or else where it says."""
    candidates = [state_path.with_name(Path(learned_net).name), Path(learned_net)] if learned_net else []
    match = STATE.match(state_path.name)
    if match:
        candidates.append(state_path.with_name(f"{match['stem']}.caffemodel{match['hdf5'] or ''}"))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SnapshotError(
        f'{state_path}: its weights "{learned_net}" are not there, nor beside it in "{state_path.parent}".'
        " Put the caffemodel beside the solverstate"
    )


def state_of(path: str | os.PathLike[str]) -> Path:
    """The solver state that a user means, who may have named the caffemodel or the sidecar of a snapshot."""
    given = Path(path)
    name = given.name
    for ending, state in ((".caffemodel", ".solverstate"), (".caffemodel.h5", ".solverstate.h5")):
        if name.endswith(ending):
            partner = given.with_name(name[: -len(ending)] + state)
            if not partner.is_file():
                raise SnapshotError(
                    f"{given} holds weights, and its solver state {partner} is not there. To start from the weights"
                    f" alone, use --weights {given}"
                )
            return partner
    if name.endswith(".resume.json"):
        stem = name[: -len(".resume.json")]
        for hdf5 in (False, True):
            partner = Names.of(given.with_name(stem), hdf5).state
            if partner.is_file():
                return partner
    if not given.is_file():
        raise SnapshotError(f"there is no snapshot {given}")
    return given


def read_sidecar(state_path: Path) -> dict[str, Any] | None:
    """What was remembered beside a solver state, or None where there is nothing: it is Caffe's."""
    match = STATE.match(state_path.name)
    if not match:
        return None
    path = state_path.with_name(f"{match['stem']}.resume.json")
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes())
        if record["version"] != VERSION:
            raise SnapshotError(
                f"{path}: version {record['version']} of the sidecar; this LayerForge reads version {VERSION}"
            )
        missing = {"iter", "files", "seed", "losses", "nets"} - set(record)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return dict(record) if state_path.name in record["files"] else None
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"{path}: damaged: {error}. Delete it to resume without the position in the data"
        ) from error


def check_whole(state_path: Path, record: dict[str, Any]) -> None:
    """Compares the files of a snapshot with the checksums in its sidecar. Raises SnapshotError where they differ."""
    for name, known in record["files"].items():
        path = state_path.with_name(name)
        found = _checksum(path) if path.is_file() else known  # a file that was moved is looked for elsewhere
        if found != known:
            raise SnapshotError(
                f"{path}: damaged, or written by another run: it has {found['size']} bytes and checksum"
                f" {found['crc32']:08x}, its sidecar says {known['size']} bytes and {known['crc32']:08x}."
                " Use an older snapshot; --resume finds the newest good one"
            )


def clear_left_over(prefix: str, seconds: float = 600) -> None:
    """Deletes what a run that was killed while it wrote a snapshot left behind, once it is so old."""
    path = Path(prefix)
    for part in path.parent.glob(f".{glob.escape(path.name)}_iter_*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > seconds:
                part.unlink()


def newest(prefix: str) -> Path | None:
    """The newest good snapshot under a prefix: the highest iteration whose files are whole. None where there is none.

    One without a sidecar (Caffe's) counts as good if both its files can be read.
    """
    folder = Path(prefix).parent
    start = Path(prefix).name + "_iter_"
    found = []
    if folder.is_dir():
        for path in folder.iterdir():
            match = STATE.match(path.name)
            if match and path.name.startswith(start) and path.name[len(start) :].split(".")[0].isdigit():
                found.append((int(match["iter"]), path))
    for _, path in sorted(found, reverse=True):
        if is_good(path):
            return path
    return None


def is_good(state_path: Path) -> bool:
    """Whether a snapshot's files are there and whole."""
    try:
        record = read_sidecar(state_path)
        if record is None:
            weights.read(find_model(state_path, read_state(state_path).learned_net))
            return True
        return all(_checksum(state_path.with_name(name)) == known for name, known in record["files"].items())
    except (SnapshotError, OSError):
        return False


def _checksum(path: str | os.PathLike[str]) -> dict[str, int]:
    """Size in bytes and CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            crc = zlib.crc32(chunk, crc)
    return {"size": os.path.getsize(path), "crc32": crc}
