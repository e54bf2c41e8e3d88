"""The engine that is always there: columns of patches, and one matrix product for a tile of them.

y (M, P) = W (M, K) @ columns (K, P), where K = channels / group * kernel... and P are output positions; the gradients
are the products dcolumns = W^T @ dy and dW = dy @ columns^T. csrc/cpu/convolution.cpp says how tiles and threads are
chosen. K. Chellapilla, S. Puri, P. Simard: High performance convolutional neural networks, 2006.
"""

from __future__ import annotations

import numpy as np

from .. import _csrc
from ..errors import KernelError
from .geometry import Geometry

FORWARD, DATA, WEIGHTS = range(3)


class Im2col:
    """Convolution on the CPU by im2col and OpenBLAS. One way of adding up: the same threads give the same bits."""

    name = "CAFFE"

    def scratch(self, geometry: Geometry) -> int:
        """Elements of scratch memory for any of the three functions, with the present number of threads."""
        return int(_csrc.convolution_scratch(geometry.numbers))

    def forward(
        self,
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None,
        y: np.ndarray,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        """y = w * x + b; ``b`` may be None."""
        self._check(geometry, scratch, x=x, w=w, b=b, y=y)
        _csrc.convolution(FORWARD, geometry.numbers, x, w, b, y, scratch)

    def backward_data(
        self, dy: np.ndarray, w: np.ndarray, dx: np.ndarray, geometry: Geometry, scratch: np.ndarray
    ) -> None:
        """dx = the gradient of the input, overwritten."""
        self._check(geometry, scratch, dy=dy, w=w, dx=dx)
        _csrc.convolution(DATA, geometry.numbers, dy, w, dx, None, scratch)

    def backward_weights(
        self,
        x: np.ndarray,
        dy: np.ndarray,
        dw: np.ndarray,
        db: np.ndarray | None,
        geometry: Geometry,
        scratch: np.ndarray,
    ) -> None:
        """dw += the gradient of the weights, db += that of the bias; ``db`` may be None."""
        self._check(geometry, scratch, x=x, dy=dy, dw=dw, db=db)
        _csrc.convolution(WEIGHTS, geometry.numbers, x, dy, dw, db, scratch)

    def _check(self, geometry: Geometry, scratch: np.ndarray, **arrays: np.ndarray | None) -> None:
        shapes = {
            "x": geometry.input_shape,
            "y": geometry.output_shape,
            "w": geometry.weight_shape,
            "b": (geometry.num_output,),
        }
        dtype = scratch.dtype
        if dtype not in (np.float32, np.float64) or not scratch.flags.c_contiguous or not scratch.flags.writeable:
            raise KernelError(f"convolution: scratch must be a flat float32 or float64 array, not {_describe(scratch)}")
        if scratch.size < (least := self.scratch(geometry)):
            raise KernelError(
                f"convolution: scratch must have {least} elements with {_csrc.get_threads()} threads, "
                f"not {scratch.size}; set the number of threads before the net is made"
            )
        for name, array in arrays.items():
            shape = shapes[name.removeprefix("d")]
            if array is None:
                continue
            if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
                expected = f"a C-contiguous {dtype} array of shape {shape}"
                raise KernelError(f"convolution: argument {name}: expected {expected}, received {_describe(array)}")


def _describe(array: np.ndarray) -> str:
    layout = "" if array.flags.c_contiguous else ", not C-contiguous,"
    return f"{array.dtype} array{layout} of shape {array.shape}"
