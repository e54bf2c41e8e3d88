"""ImageData."""

from __future__ import annotations

from ..blob import Shape
from ..data import Loader
from ..data.image_list import ImageList
from ..errors import DefinitionError
from ..layer import Layer
from ._batches import Batches


class ImageData(Batches, Layer):
    """Batches of image files that a list names, decoded, resized and transformed by threads that work ahead of the net.

    Each line of ``source`` has a path, before which ``root_folder`` is put as it is, a space and a label: any number,
    or several. Tops: data (batch_size, C, H, W), C = 3 in the order blue, green, red, or 1 for ``is_color: false``;
    label (batch_size), or (batch_size, labels) if a line has several. Images are resized to ``new_height`` and
    ``new_width``, bilinearly, then ``transform_param`` applies. With ``batch_size: 1`` and neither of both nor a crop,
    the shape follows the image.

    Images come in the order of the list, over and over; ``shuffle: true`` gives every epoch its own order.
    ``rand_skip`` starts somewhere in the first so many. ``threads`` (0: as many as compute) work up to
    ``data_param.prefetch`` batches ahead. ``skip_bad: true`` replaces an image that cannot be read by the next good
    one, and logs it; ``cache: true`` keeps the files in memory.

    Raises DataError for a list that is missing or wrong, and for an image that cannot be read, naming the line.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        options = self.options
        self.require_batch_size()
        size = (options.new_height, options.new_width)
        if bool(size[0]) != bool(size[1]):
            field = "new_height" if size[0] else "new_width"
            raise DefinitionError(
                f"{self.title}: new_height is {size[0]} and new_width is {size[1]}: give both, or none",
                self.place(field),
            )
        with self.explained():
            self.source = ImageList(options.source, options.root_folder, cache=options.cache)
        transformer = self.transformer()
        transformer.color = options.is_color
        transformer.size = size if size[0] else None
        self.loader: Loader = Loader(
            self.source,
            transformer,
            options.batch_size,
            threads=options.threads or None,
            prefetch=self.param.data_param.prefetch,
            start=self.first(),
            shuffle=options.shuffle,
            seed=self.seed,
            stream=self.stream,
            skip_bad=options.skip_bad,
        )
        self.dynamic = options.batch_size == 1 and transformer.crop is None and not size[0]  # type: ignore[misc]
        self.send_bytes()

    @property
    def skipped(self) -> int:
        """How many images were skipped because they cannot be read, if that was asked for."""
        return self.loader.skipped
