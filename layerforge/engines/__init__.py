"""Engines: ways to compute a convolution or a fully connected layer, chosen by ``engine:`` as in Caffe.

What each of them does is said in `layerforge.engines.engine`; what computes the products of a fully connected layer
is in `layerforge.engines.products`.

>>> geometry = Geometry(batch=1, channels=3, num_output=8, group=1, spatial=(5, 5), kernel=(3, 3), stride=(2, 2),
...                     pad=(1, 1), dilation=(1, 1), output=(3, 3))
>>> geometry.weight_shape
(8, 3, 3, 3)
>>> convolution("cpu", "CAFFE", geometry, np.float32).name
'CAFFE'
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..errors import DefinitionError, did_you_mean
from .columns import Columns
from .cudnn import CuDnn
from .depthwise import Depthwise
from .engine import Engine
from .geometry import Geometry, output_shape
from .im2col import Im2col
from .onednn import OneDnn
from .products import FewProducts, OneDnnProducts, Products
from .turned import Turned
from .winograd import Winograd

__all__ = [
    "CuDnn",
    "Depthwise",
    "Engine",
    "FewProducts",
    "Geometry",
    "Im2col",
    "OneDnn",
    "OneDnnProducts",
    "Products",
    "Turned",
    "Winograd",
    "convolution",
    "output_shape",
    "products",
]

#: The engines of each device, the best first. The last one supports everything.
ENGINES: dict[str, tuple[Engine, ...]] = {
    "cpu": (Winograd(), Depthwise(), OneDnn(), Im2col()),
    "gpu": (CuDnn(Columns(4 << 20)), Columns(4 << 20)),  # 16 MiB of float32
    "emulated": (Turned(Columns(1 << 12)), Columns(1 << 12)),
}

#: The same for fully connected layers.
PRODUCTS: dict[str, tuple[Products, ...]] = {
    "cpu": (OneDnnProducts(), Products()),
    "gpu": (FewProducts(),),
    "emulated": (FewProducts(),),
}

#: What may be written: Caffe's engines, and those of Intel's and NVIDIA's forks. CAFFE is im2col; the others mean the
#: best that the device has for a geometry.
NAMES = ("DEFAULT", "CAFFE", "CUDNN", "MKL2017", "MKLDNN")


@functools.lru_cache(maxsize=4096)
def convolution(
    device: str, name: str, geometry: Geometry, dtype: Any = np.float32, block: tuple[int, int] = (1, 1)
) -> Engine | None:
    """The engine for a convolution on the device of that name: ``name`` as written, one of `NAMES`.

    ``block``: x and y lie in blocks of so many channels, see `layerforge.layout`. None where no engine takes them so.
    """
    engines = _named(ENGINES, device, name)
    if block != (1, 1):
        engines = [engine.lying(block) for engine in engines if engine.takes_blocks]
    return next((engine for engine in engines if engine.supports(geometry, dtype)), None)


@functools.lru_cache(maxsize=64)
def products(device: str, name: str, dtype: Any = np.float32) -> Products:
    """The engine for a fully connected layer on the device of that name."""
    return next(engine for engine in _named(PRODUCTS, device, name) if engine.supports(dtype))


def _named(engines: dict[str, tuple[Any, ...]], device: str, name: str) -> list[Any]:
    """Those of a device that ``name`` means, one of `NAMES`."""
    if name not in NAMES:
        raise DefinitionError(f'no engine "{name}"; there are: {", ".join(NAMES)}.{did_you_mean(name, NAMES)}')
    return [engine for engine in engines[device.partition(":")[0]] if name != "CAFFE" or engine.name == name]


def gain_by_whole(device: str, geometry: Geometry, dtype: Any) -> float:
    """What a forward convolution gains, in multiplications, where a block is all channels: see `Engine.gain`."""
    gains = (engine.gain(geometry, dtype) for engine in ENGINES[device.partition(":")[0]])
    return next((gain for gain in gains if gain is not None), 0.0)


def block(device: str, dtype: Any) -> int:
    """How many channels the engines of a device like to have side by side; 1 where they do not care."""
    return max(engine.channels(dtype) for engine in ENGINES[device.partition(":")[0]])
