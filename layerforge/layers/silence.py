"""Silence."""

from ..layer import Layer


class Silence(Layer):
    """Reads blobs that nobody else does, so that they are not outputs of the net. Their gradient is 0.

    Bottoms: any number, of any shapes. No tops.
    """

    bottoms = (1, None)
    tops = 0

    def top_shapes(self, *bottom_shapes):
        return []

    def forward(self, bottom, top):
        pass

    def backward(self, bottom, top):
        for x in bottom:
            if x.needs_diff:
                x.diff[...] = 0
