"""pycaffe's Classifier: images in, class scores out, averaged over ten crops if asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import io
from .errors import DefinitionError, ShapeError
from .layer import TEST
from .net import Net


class Classifier(Net):
    """A net that classifies images, with the transformation of its first input.

    ``image_dims`` is the size (H, W) to which images are brought before cropping: the input's own where none is given.
    The other options are those of `layerforge.io.Transformer`; images have their channels last. Further ``options`` are
    those of `Net`.
    """

    def __init__(
        self,
        model_file: Any,
        pretrained_file: Any,
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
        self.image_dims = tuple(int(n) for n in (self.crop_dims if image_dims is None else image_dims))

    def predict(self, inputs: Sequence[np.ndarray], oversample: bool = True) -> np.ndarray:
        """Class scores of images (H, W, C): the mean (N, classes) over ten crops of each, or the net's own output for
        the centre crop.

        Raises ShapeError where there are no images, or `image_dims` is smaller than the net's input.
        """
        if not len(inputs):
            raise ShapeError("there are no images to classify")
        images = np.stack([io.resize_image(image, self.image_dims) for image in inputs])
        height, width = (int(n) for n in self.crop_dims)
        if self.image_dims[0] < height or self.image_dims[1] < width:
            raise ShapeError(f"image_dims: {self.image_dims} must not be smaller than the net's input {height, width}")
        if oversample:
            crops = io.oversample(list(images), (height, width))
        else:
            top, left = (self.image_dims[0] - height) // 2, (self.image_dims[1] - width) // 2
            crops = images[:, top : top + height, left : left + width]
        name = self.inputs[0]
        batch = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        scores = self.forward_all(**{name: batch})[self.outputs[0]]
        return scores.reshape(len(inputs), 10, -1).mean(1) if oversample else scores


def transformer(
    net: Net, mean: Any, input_scale: float | None, raw_scale: float | None, channel_swap: Sequence[int] | None
) -> io.Transformer:
    """The transformer of a net's first input, from images with their channels last, with the settings that are given.

    Raises DefinitionError for a net without an input of four axes.
    """
    name = net.inputs[0] if net.inputs else None
    if name is None or len(net.blobs[name].shape) != 4:
        said = f'"{name}" {net.blobs[name].shape}' if name is not None else "none"
        raise DefinitionError(f"the net's input must be images, (N, C, H, W), from an Input layer; it has {said}")
    made = io.Transformer({name: net.blobs[name].shape})
    made.set_transpose(name, (2, 0, 1))
    settings: list[tuple[Any, Callable[[str, Any], None]]] = [
        (mean, made.set_mean),
        (input_scale, made.set_input_scale),
        (raw_scale, made.set_raw_scale),
        (channel_swap, made.set_channel_swap),
    ]
    for value, use in settings:
        if value is not None:
            use(name, value)
    return made
