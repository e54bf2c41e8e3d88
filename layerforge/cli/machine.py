"""What a command runs on, and with whose layers, as its flags say."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DefinitionError, DeviceError, LayerForgeError, Place

if TYPE_CHECKING:
    from argparse import Namespace

    from ..device import Device

log = logging.getLogger("layerforge.cli")


def prepare(args: Namespace, solver_mode: str | None = None) -> Device:
    """Does what the flags of `flags.add_machine` say, and returns the device.

    ``solver_mode`` is CPU or GPU where a solver names it.
    """
    if args.cache:
        os.environ["LAYERFORGE_CACHE"] = args.cache
    device = choose_device(args.gpu if args.gpu is not None else args.device, solver_mode)
    from .. import kernels

    if args.threads:
        kernels.set_threads(args.threads)
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # before it is imported: images are read in threads of ours
    threads = kernels.get_threads()
    log.info("Use %s with %d thread%s.", device.name.upper(), threads, "" if threads == 1 else "s")
    return device


def choose_device(asked: str, solver_mode: str | None = None) -> Device:
    """The device that ``--device auto|cpu|gpu|N``, or Caffe's ``--gpu N|all``, asks for.

    Raises DeviceError where it is not there; "auto" takes the CPU then, and says why if a GPU could be expected.
    """
    from .. import device as devices

    if asked == "cpu" or (asked == "auto" and solver_mode == "CPU"):
        return devices.get("cpu")
    if asked == "auto":
        try:
            return devices.get("gpu")
        except DeviceError as error:
            if solver_mode == "GPU":
                log.warning("The solver says solver_mode: GPU, but it trains on the CPU: %s", error)
            elif devices.has_driver():
                log.warning("NVIDIA's driver is installed, but the CPU is used: %s", error)
            return devices.get("cpu")
    if asked in ("gpu", "all"):
        return devices.get("gpu")
    number = asked.removeprefix("gpu:").removeprefix("cuda:")
    if number.isdigit():
        return devices.get(f"gpu:{int(number)}")
    if all(part.strip().isdigit() for part in asked.split(",")):
        raise DeviceError(f'device "{asked}": a run takes one GPU; name one of them')
    raise DeviceError(f'device "{asked}": it must be auto, cpu, gpu or the number of a GPU')


def import_layers(imports: list[str]) -> None:
    """Imports files, or modules, of a user's layers, which register themselves."""
    for one in imports:
        for name in one.split(","):
            import_one(name.strip())


def import_one(name: str) -> Any:
    """Imports ``my_layers.py`` by its path, or ``my_package.layers`` by its name."""
    place = Place(f"--import {name}")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python my_script.py` would find it
    is_file = name.endswith(".py") or os.sep in name
    if is_file and not Path(name).is_file():
        raise DefinitionError("there is no such file", place)
    try:
        if not is_file:
            return importlib.import_module(name)
        module_name = Path(name).stem
        known = sys.modules.get(module_name)
        if known is not None and getattr(known, "__file__", None) == str(Path(name).resolve()):
            return known
        spec = importlib.util.spec_from_file_location(module_name, Path(name).resolve())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
        return module
    except LayerForgeError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0] and not is_file:
            raise DefinitionError(f'there is no module "{name}" here or where Python looks', place) from error
        raise DefinitionError(f"{where(error)}{type(error).__name__}: {error}", place) from error


def where(error: BaseException) -> str:
    """``my_layers.py:12: ``, the line of a user's code that raised, or "" where it was not the user's."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: "
    package = str(Path(__file__).resolve().parent.parent)
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((package, "<frozen")) and "importlib" not in file:
            found = f"{os.path.relpath(file)}:{trace.tb_lineno}: "
        trace = trace.tb_next
    return found
