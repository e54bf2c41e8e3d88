"""pycaffe's Classifier: images in, class scores out, averaged over ten crops if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import io
from .layer import TEST
from .net import Net


class Classifier(Net):
    """A net that classifies images, with the transformation of its one input.

    ``image_dims`` is the size (H, W) to which images are brought before cropping: the input's own where none is given.
    The other options are those of `layerforge.io.Transformer`; images have their channels last.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: Any = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        **options: Any,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file, **options)
        self.transformer = transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = image_dims if image_dims is not None else tuple(int(n) for n in self.crop_dims)

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Class scores (N, classes) of images (H, W, C): of the centre crop, or the mean over ten crops."""
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        height, width = (int(n) for n in self.crop_dims)
        if oversample:
            crops = io.oversample(list(images), (height, width))
        else:
            top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
            crops = images[:, top : top + height, left : left + width]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        scores = self.forward_all(**{name: batch})[self.outputs[0]]
        scores = scores.reshape(len(scores), -1)
        return scores.reshape(len(inputs), 10, -1).mean(1) if oversample else scores


def transformer(
    net: Net, mean: Any, input_scale: float | None, raw_scale: float | None, channel_swap: Sequence[int] | None
) -> io.Transformer:
    """The transformer of a net's inputs, from channels-last images, with the settings that are given."""
    made = io.Transformer({name: net.blobs[name].shape for name in net.inputs})
    name = net.inputs[0]
    made.set_transpose(name, (2, 0, 1))
    for value, use in (
        (mean, made.set_mean),
        (input_scale, made.set_input_scale),
        (raw_scale, made.set_raw_scale),
        (channel_swap, made.set_channel_swap),
    ):
        if value is not None:
            use(name, value)
    return made
