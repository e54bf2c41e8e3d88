"""Engines: ways to compute a convolution, behind one small interface, chosen by ``engine:`` as in Caffe.

An engine has four functions. ``scratch(geometry)`` is the number of elements of scratch memory that the others need
with the present number of threads. ``forward`` overwrites y, ``backward_data`` overwrites dx, ``backward_weights`` adds
to dw and db. A deconvolution is the same engine with its directions exchanged: its forward is ``backward_data``.

>>> geometry = Geometry(batch=1, channels=3, num_output=8, group=1, spatial=(5, 5), kernel=(3, 3), stride=(2, 2),
...                     pad=(1, 1), dilation=(1, 1), output=(3, 3))
>>> geometry.weight_shape
(8, 3, 3, 3)
"""

from __future__ import annotations

from typing import Any

from ..device import Device
from ..errors import DefinitionError, did_you_mean
from .geometry import Geometry, output_shape
from .im2col import Im2col

__all__ = ["Geometry", "Im2col", "convolution", "output_shape"]

#: The engines of each device by name, the best first; the names that are not here mean the best.
ENGINES: dict[str, dict[str, type[Im2col]]] = {"cpu": {"CAFFE": Im2col}}

#: What may be written: Caffe's engines, and those of Intel's and NVIDIA's forks.
NAMES = ("DEFAULT", "CAFFE", "CUDNN", "MKL2017", "MKLDNN")


def convolution(device: Device, name: str = "DEFAULT") -> Any:
    """The engine called ``name`` on ``device``; one that the device does not have means its best one."""
    if name not in NAMES:
        raise DefinitionError(f'no engine "{name}"; there are: {", ".join(NAMES)}.{did_you_mean(name, NAMES)}')
    engines = ENGINES[device.name]
    return engines.get(name, next(iter(engines.values())))()
