"""What losses share: `loss_param`, which says what counts and what the sum is divided by, and the mean over rows."""

from __future__ import annotations

from typing import Any

from ..blob import View
from ..errors import DefinitionError
from ..layer import Layer
from . import _labels


class Normalization:
    """A layer's ``loss_param``: the divisor, ``normalization`` or the older ``normalize``, and ``ignore_label``.

    Raises DefinitionError for what only forks of Caffe have.
    """

    def __init__(self, layer: Layer, default: str = "VALID"):
        options = layer.param.loss_param
        self.ignored: int | None = options.ignore_label if options.HasField("ignore_label") else None
        self.fixed: float = max(0.0, options.pre_fixed_normalizer)
        self.mode = default
        if options.HasField("normalization"):
            self.mode = type(options).NormalizationMode.Name(options.normalization)
        elif options.HasField("normalize"):
            self.mode = "VALID" if options.normalize else "BATCH_SIZE"
        for field in ("label_smoothing", "weight_by_label_freqs", "class_weighting", "only_care_label"):
            if getattr(options, field) or (field == "only_care_label" and options.HasField(field)):
                message = f"{field}: only forks of Caffe weigh the loss in this way; take the line out"
                raise layer.error(message, "loss_param", field, kind=DefinitionError)

    @property
    def ignore(self) -> tuple[bool, int]:
        """For kernels: whether a label is ignored, and which."""
        return self.ignored is not None, self.ignored or 0

    def divisor(self, outer: int, inner: int) -> float:
        """What the sum over outer * inner rows is divided by; -1 if that is the number of rows that count."""
        return {"VALID": -1, "FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1, "PRE_FIXED": self.fixed}[self.mode]


def scratch_size(rows: int) -> int:
    """The scratch that `values` and `mean` need together."""
    return rows + _labels.mean_size(rows)


def values(layer: Layer, rows: int) -> Any:
    """Where a kernel writes the loss of each row: the first part of the layer's scratch."""
    return layer.scratch[:rows]


def mean(layer: Layer, rows: int, loss: View, divisor: float) -> None:
    """The loss from its rows' values, and the state "divisor", an array of one, for backward; see `_labels.mean`.

    ``divisor`` is what the sum is divided by, though never less than 1; negative, it is the number of rows that count.
    """
    scratch = layer.scratch[rows:]
    _labels.mean(values(layer, rows), scratch, loss.data, layer.state["divisor"], divisor, layer.told)
