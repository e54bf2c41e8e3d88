"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import SnapshotError


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file to write; it takes its name once its bytes are on the disk, so a kill leaves the old file or none.

    Raises SnapshotError, with what the system said, where the folder cannot be written or the disk is full; what stood
    under the name before is untouched then.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """As `atomic`, for writers that take a path: the temporary file's, which is renamed in the end."""
    with together([path]) as (temporary,), explained(path):
        yield temporary


@contextlib.contextmanager
def together(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[str]]:
    """Temporary files that take their names one after the other, in the order given, once all are on the disk.

    A kill leaves none of them, or the first ones under their names; an error in the ``with`` block leaves none.
    """
    targets = [Path(path) for path in paths]
    temporaries: list[str] = []
    try:
        for target in targets:
            with explained(target):
                handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
                os.close(handle)
                temporaries.append(temporary)
                os.chmod(temporary, 0o666 & ~_umask())
        yield temporaries
        for target, temporary in zip(targets, temporaries, strict=True):
            with explained(target), open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for target, temporary in zip(targets, list(temporaries), strict=True):
            with explained(target):
                os.replace(temporary, target)
                temporaries.remove(temporary)
                _sync_folder(target.parent)
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what the system says about writing a file into a SnapshotError that names it."""
    try:
        yield
    except OSError as error:
        raise not_written(Path(path), error) from error
    except RuntimeError as error:  # so h5py reports what the system said
        said = re.search(r"errno = (\d+)", str(error))
        if said is None:
            raise
        raise not_written(Path(path), OSError(int(said[1]), os.strerror(int(said[1])))) from error


def not_written(path: Path, error: OSError) -> SnapshotError:
    """The error for a file that could not be written, with what to do about it."""
    if error.errno == errno.ENOSPC:
        remedy = "the disk is full. Free some space; what was written before is untouched"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        remedy = f'there is no folder "{path.parent}". Make it, or choose another one'
    elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        remedy = f'the folder "{path.parent}" cannot be written to. Choose another one, or change that'
    else:
        remedy = f"{os.strerror(error.errno) if error.errno else error}"
    return SnapshotError(f"cannot write {path}: {remedy}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems have no such thing
        handle: Any = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def find(path: str, near: str | None) -> str | None:
    """A file that a definition names: from the current folder, as Caffe does, or else from that of the definition."""
    if os.path.exists(path):
        return path
    if near and not os.path.isabs(path):
        beside = os.path.join(os.path.dirname(near), path)
        if os.path.exists(beside):
            return beside
    return None


def missing(kind: str, path: str, near: str | None) -> str:
    """Says that `find` found no such file, and whether one of that name lies beside the definition."""
    message = f'there is no {kind} file "{path}"'
    name = os.path.basename(path)
    if near and os.path.exists(os.path.join(os.path.dirname(near), name)):
        message += f', here or beside {near}; there is a "{name}" beside it: name that, or run where "{path}" is'
    return message
