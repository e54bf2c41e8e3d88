"""LayerForge: Caffe rebuilt for today. Networks are text, layers are Python, kernels are C++.

``import layerforge as lf`` gives `Net`, `get_solver`, `Layer` and the rest of pycaffe's names; ``import layerforge as
caffe`` serves a pycaffe script. Names are loaded when they are first used, so the import itself is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

TRAIN, TEST = 0, 1

#: module -> the public names that it has
_MODULES = {
    "as_caffe": ["install_as_caffe"],
    "blob": ["Blob"],
    "classifier": ["Classifier"],
    "detector": ["Detector"],
    "errors": [
        "DataError",
        "DefinitionError",
        "DeviceError",
        "KernelError",
        "LayerForgeError",
        "NotFiniteError",
        "ShapeError",
        "SnapshotError",
    ],
    "kernels": ["Kernels", "get_threads", "set_threads"],
    "layer": ["Layer"],
    "net": ["Net"],
    "net_spec": ["L", "NetSpec", "P", "params", "to_proto"],
    "pycaffe": [
        "AdaDeltaSolver",
        "AdaGradSolver",
        "AdamSolver",
        "NCCL",
        "NesterovSolver",
        "RMSPropSolver",
        "SGDSolver",
        "Timer",
        "get_solver",
        "has_nccl",
        "init_log",
        "layer_type_list",
        "log",
        "set_device",
        "set_mode_cpu",
        "set_mode_gpu",
        "set_multiprocess",
        "set_random_seed",
        "set_solver_count",
        "set_solver_rank",
        "solver_count",
        "solver_rank",
    ],
    "solver": ["Solver"],
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

#: Modules that are public themselves: ``layerforge.io.load_image``; `layers` is pycaffe's too.
_PUBLIC = ("classifier", "coord_map", "detector", "draw", "io", "layers", "net_spec", "proto", "pycaffe", "testing")

__all__ = ["TEST", "TRAIN", "__version__", *sorted(_HOMES), *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_PUBLIC})
