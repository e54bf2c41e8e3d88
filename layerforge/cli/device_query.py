"""Tells what there is to compute on, and with which libraries.

examples:
  layerforge device_query
  layerforge device_query --gpu 0
"""

from __future__ import annotations

import os
import platform
from argparse import Namespace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DeviceError
from . import flags, machine
from .table import memory


def add_flags(parser: flags.Parser) -> None:
    parser.add_argument("--gpu", metavar="N|all", help="tell of this GPU; it must be there")
    flags.add_always(parser)


def run(args: Namespace, handler: Any) -> int:
    if args.gpu is not None:
        print(machine.choose_device(args.gpu).summary)
        return 0
    from .. import kernels

    rows = {
        "LayerForge": __version__,
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "CPU": cpu_name(),
        "Cores": f"{cores()} for this process, of {os.cpu_count()}",
        "Threads": f"{kernels.get_threads()} by default",
        "Memory": memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "GPU": gpu(),
    }
    for name, value in rows.items():
        print(f"{name:12}{value}")
    return 0


def cpu_name() -> str:
    """The processor's name as Linux tells it, or what Python knows of it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu() -> str:
    try:
        return machine.choose_device("gpu").summary
    except DeviceError as error:
        return f"none: {error}"
