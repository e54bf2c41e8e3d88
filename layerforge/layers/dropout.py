"""Dropout."""

from ..errors import DefinitionError
from ..kernels import Kernels
from ..layer import TRAIN, Layer, count

K = Kernels("dropout.h")


class Dropout(Layer):
    """y = x * mask / (1 - ratio) in TRAIN, each element of mask 0 with probability ratio, else 1; y = x in TEST.

    Bottom x and top y: one shape, any rank; they may be the same blob. The mask is a function of the layer's random key
    and the element, so backward draws it again instead of keeping it, and float and double drop the same elements.
    dropout_ratio is from 0 (y = x) to 1 (y = 0). Srivastava et al., JMLR 2014, scaled in training as in Caffe.

    Forks' words: ``scale_train: false`` scales in TEST instead: y = x * mask in TRAIN, y = x * (1 - ratio) in TEST;
    ``sample_weights_test: true`` drops in TEST as in TRAIN.
    """

    in_place = True
    blocks = "alike"

    def setup(self, *bottom_shapes):
        ratio = self.options.dropout_ratio
        if not 0 <= ratio <= 1:
            raise self.error(f"dropout_ratio: {ratio:g} must be from 0 to 1", "dropout_ratio", kind=DefinitionError)
        self.threshold = min(round(ratio * 2**32), 2**32 - 1)  # an element is dropped if its 32 random bits are below
        self.drops = self.phase == TRAIN or self.options.sample_weights_test
        if not self.drops:
            self.threshold = 0
        kept = 1 - ratio
        if self.options.scale_train:
            self.scale = (1 / kept if kept else 0.0) if self.drops else 1.0
        else:
            self.scale = 1.0 if self.drops else kept

        self.leaves = "values" if self.scale == 1 else "signs"

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.apply(x, x.data, y.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.apply(x, y.diff, x.diff)

    def apply(self, x, source, target):
        """target = source * mask * scale: the same in both directions, for the layer is linear in x."""
        if self.drops or self.scale != 1:
            draws = (x.count + 3) // 4  # one makes four masks
            lies = (count(x.shape, 2), x.block)
            K.dropout(source, target, x.count, *lies, self.threshold, self.scale, *self.random_key(), count=draws)
        elif target is not source:
            target[...] = source
