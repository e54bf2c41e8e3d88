"""LayerForge: Caffe rebuilt for today. Networks are text, layers are Python, kernels are C++.

``import layerforge as lf`` gives `Net`, `get_solver`, `Layer` and the rest of pycaffe's names; ``import layerforge as
caffe`` serves a pycaffe script. Names are loaded when they are first used, so the import itself is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

TRAIN, TEST = 0, 1

#: public name -> the module that has it
_HOMES = {
    "Net": "net",
    "Layer": "layer",
    "Blob": "blob",
    "Solver": "solver",
    "get_solver": "solver",
    "SGDSolver": "pycaffe",
    "set_mode_cpu": "pycaffe",
    "set_mode_gpu": "pycaffe",
    "set_device": "pycaffe",
    "set_random_seed": "pycaffe",
    "layer_type_list": "pycaffe",
    "Kernels": "kernels",
    "set_threads": "kernels",
    "get_threads": "kernels",
    "LayerForgeError": "errors",
    "DefinitionError": "errors",
    "ShapeError": "errors",
    "DataError": "errors",
    "DeviceError": "errors",
    "KernelError": "errors",
    "SnapshotError": "errors",
    "NotFiniteError": "errors",
}

__all__ = ["TEST", "TRAIN", "__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
