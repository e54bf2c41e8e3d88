"""The name ``caffe`` for LayerForge: for scripts and modules that say ``import caffe`` and cannot be edited.

``python -m layerforge.as_caffe SCRIPT ARGS`` runs a script; `install_as_caffe` does the same for the process it is
called in. Submodules go along: ``import caffe.io``, ``from caffe.proto import caffe_pb2``, ``from caffe import layers``
are LayerForge's own modules, loaded once, whatever the name under which they are asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .errors import LayerForgeError

NAME = "caffe"
PACKAGE = __name__.rpartition(".")[0]
USAGE = "usage: python -m layerforge.as_caffe SCRIPT [ARGS ...]"

#: A folder with a module of the name, which is LayerForge when it is imported.
SHIMS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shims")

#: Modules that have another name here.
RENAMED = {"_caffe": "pycaffe"}


class Alias:
    """Finds ``caffe`` and everything below it here, before Python looks for it anywhere else."""

    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec | None] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        top, _, rest = name.partition(".")
        if top != NAME:
            return None
        ours = f"{PACKAGE}.{RENAMED.get(rest, rest)}".rstrip(".")
        if importlib.util.find_spec(ours) is None:
            return None
        return ModuleSpec(name, self, origin=ours)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        assert spec.origin is not None
        module = importlib.import_module(spec.origin)
        self.specs[spec.origin] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module ran when it was imported under its own name, whose spec it gets back."""
        module.__spec__ = self.specs[module.__name__]


_alias = Alias()


def install_as_caffe() -> None:
    """Lets ``import caffe`` mean LayerForge, in this process and from now on.

    Raises LayerForgeError where Caffe itself is installed: two packages cannot have one name.
    """
    if is_installed():
        return
    real = real_caffe()
    if real is not None:
        raise LayerForgeError(
            f"Caffe itself is here, as {real}: the name caffe is taken. Remove it from this environment or from"
            " PYTHONPATH, or write: import layerforge as caffe"
        )
    _install()


def _install() -> None:
    sys.meta_path.insert(0, _alias)
    sys.modules[NAME] = sys.modules[PACKAGE]


def uninstall() -> None:
    """Undoes `install_as_caffe`. What was imported under the name stays usable."""
    if not is_installed():
        return
    sys.meta_path.remove(_alias)
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def is_installed() -> bool:
    """Whether ``caffe`` means LayerForge in this process."""
    return any(finder is _alias for finder in sys.meta_path)


def real_caffe() -> str | None:
    """Where Caffe itself would be imported from, or None. Sources of Caffe that were never built do not count."""
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        return None if loaded is sys.modules[PACKAGE] else str(getattr(loaded, "__file__", None) or NAME)
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.origin is None:  # a mere folder of that name
        return None
    if os.path.dirname(spec.origin) == SHIMS:
        return None
    for folder in spec.submodule_search_locations or ():
        with contextlib.suppress(OSError):
            if not any(name.startswith("_caffe.") for name in os.listdir(folder)):
                return None
    return spec.origin


@contextlib.contextmanager
def aliased() -> Iterator[None]:
    """For importing a user's module that may ``import caffe``: the name means LayerForge.

    It stays so, as such a module may import it later, unless Caffe itself is installed. One that is imported already
    is left alone.
    """
    if is_installed() or NAME in sys.modules:
        yield
        return
    keep = real_caffe() is None
    _install()
    try:
        yield
    finally:
        if not keep:
            uninstall()


def log_to_stderr() -> None:
    """Logs as Caffe does, from the first line on; the script may still set GLOG_minloglevel."""
    from . import logs

    handler = logs.start(sys.stderr)
    logs.ROOT.setLevel(logging.INFO)
    handler.addFilter(lambda record: record.levelno >= logs.least_level())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a script whose ``caffe`` is LayerForge. Returns 2 without one, 1 where the name is taken."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0].startswith("-"):
        wants_help = bool(argv) and argv[0] in ("-h", "--help")
        (sys.stdout if wants_help else sys.stderr).write(f"{USAGE}\n")
        return 0 if wants_help else 2
    script = argv[0]
    if not os.path.exists(script):
        sys.stderr.write(f"{script}: there is no such script.\n{USAGE}\n")
        return 2
    sys.argv = list(argv)
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    try:
        install_as_caffe()
    except LayerForgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.path.append(SHIMS)  # which multiprocessing hands on to new processes
    log_to_stderr()
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    # The one module of this name, not its copy that Python runs as __main__.
    sys.exit(importlib.import_module("layerforge.as_caffe").main())
