"""Random numbers by counter: the same for the same (seed, stream, step, element), on every device, in any order.

Philox 4x32-10 of csrc/portable.h. A seed belongs to a run, a stream to a layer, a step to an iteration.
"""

from __future__ import annotations

import numpy as np

from .kernels import Kernels

K = Kernels("random.h")


def philox(seed: int, stream: int, step: int, count: int) -> np.ndarray:
    """32 random bits for each of the elements 0 to count - 1, as uint32 (count,). Each of seed and step has 64 bits."""
    bits = np.empty(count, np.uint32)
    K.fill_bits(bits, seed, stream, step)
    return bits
