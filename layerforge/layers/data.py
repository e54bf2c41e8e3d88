"""Data."""

from __future__ import annotations

from ..blob import Shape
from ..data import Loader, open_source
from ..layer import Layer
from ._batches import Batches


class Data(Batches, Layer):
    """Batches of records from a database, decoded and transformed by threads that work ahead of the net.

    Tops: data (batch_size, C, H, W), of the shape that the first record has after its crop; label (batch_size), which
    may be left out. Records come in the order of their keys, over and over; ``shuffle: true`` gives every epoch its own
    order. With ``batch_size: 1`` and no crop, the shape follows the record. ``rand_skip`` starts somewhere in the
    first so many records. ``threads`` (0: as many as compute) work up to ``prefetch`` batches ahead. ``skip_bad: true``
    replaces a damaged record by the next good one, and logs it.

    Raises DataError for a source that is missing, empty or damaged, naming the record, and ShapeError where
    ``transform_param`` does not fit a record.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        options = self.options
        self.require_batch_size()
        with self.explained():
            self.source = open_source(options.source, options.backend, readahead=not options.shuffle)
        transformer = self.transformer()
        if options.force_encoded_color:
            transformer.color = True
        self.loader: Loader = Loader(
            self.source,
            transformer,
            options.batch_size,
            threads=options.threads or None,
            prefetch=options.prefetch,
            start=self.first(),
            shuffle=options.shuffle,
            seed=self.seed,
            stream=self.stream,
            skip_bad=options.skip_bad,
        )
        # Asked for the next shape before each pass, because every record may have its own.
        self.dynamic = options.batch_size == 1 and transformer.crop is None  # type: ignore[misc]
        self.send_bytes()

    @property
    def skipped(self) -> int:
        """How many damaged records were skipped, if that was asked for."""
        return self.loader.skipped
