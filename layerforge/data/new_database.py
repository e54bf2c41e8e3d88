"""Databases and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DataError
from .leveldb_writer import LevelDbWriter
from .lmdb_writer import LmdbWriter

WRITERS: dict[str, Callable[[Path], Any]] = {"lmdb": LmdbWriter, "leveldb": LevelDbWriter}


@contextlib.contextmanager
def new_database(
    path: str | os.PathLike[str], backend: str = "lmdb"
) -> Iterator[Callable[[bytes, bytes | memoryview], None]]:
    """A function that puts a key and a value, in the order of the keys, into a database made beside ``path``.

    At the end of the ``with`` block it is on the disk and takes its name; after an error or an interrupt nothing is
    left of it. Raises DataError, with what to do, where ``path`` exists already or cannot be written.
    """
    import lmdb

    target = Path(path)
    refuse_existing(target)
    temporary = None
    writer = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        temporary.chmod(0o777 & ~_umask())
        writer = WRITERS[backend](temporary)
        yield writer.put
        writer.finish()
        refuse_existing(target)
        os.rename(temporary, target)
        temporary = None
    except BrokenPipeError:  # of a progress line
        raise
    except (OSError, lmdb.Error) as error:
        raise not_written(target, error) from error
    finally:
        if writer is not None:
            writer.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """The name of a file beside ``path``, which takes that name at the end of the ``with`` block, as `new_database`."""
    target = Path(path)
    refuse_existing(target)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        os.chmod(temporary, 0o666 & ~_umask())
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        refuse_existing(target)
        os.rename(temporary, target)
        temporary = None
    except BrokenPipeError:
        raise
    except OSError as error:
        raise not_written(target, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def refuse_existing(path: str | os.PathLike[str]) -> None:
    """Raises DataError where something has that name already."""
    if os.path.lexists(path):
        raise DataError(
            f'"{path}" exists already and is not overwritten. Take another name, or remove it: '
            f"rm -r {shlex.quote(os.fspath(path))}"
        )


def not_written(path: Path, error: Exception) -> DataError:
    """The error for something that could not be written, with what to do about it."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else str(error)
    if number in (errno.ENOENT, errno.ENOTDIR):
        return DataError(f'cannot write "{path}": there is no folder "{path.parent}". Make it first')
    if number == errno.ENOSPC or os.strerror(errno.ENOSPC) in reason:
        return DataError(f'cannot write "{path}": the disk is full. Nothing is left of what was begun')
    return DataError(f'cannot write "{path}": {reason}')


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
