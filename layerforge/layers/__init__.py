"""The layers: one file per type, or per family of a few lines each. Defining a class registers it.

In a pycaffe script, ``from layerforge import layers as L`` makes layers of a `NetSpec`: ``L.Convolution(...)``.
"""

from __future__ import annotations

import importlib
from typing import Any

from .. import layer


def __getattr__(name: str) -> Any:
    if name[:1].isupper() or name in layer.registry:  # a type; files have small letters
        return getattr(importlib.import_module("layerforge.net_spec").layers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
