"""Parts of a blob, one behind the other along an axis: Concat and Slice."""

from collections.abc import Iterator, Sequence

from ..blob import View
from ..layer import count


def places(whole: View, parts: Sequence[View], axis: int) -> Iterator[tuple[View, tuple[int, int, int]]]:
    """Each part with its place in the whole: width, distance and offset, as csrc/kernels/parts.h has them."""
    channels_last = axis == 1 and whole.block == whole.shape[1]
    inner, offset = 1 if channels_last else count(whole.shape, axis + 1), 0
    for part in parts:
        width = part.shape[axis] * inner
        yield part, (width, whole.shape[axis] * inner, offset)
        offset += width
