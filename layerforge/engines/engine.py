"""What an engine is: one way to compute convolutions."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..errors import KernelError
from .geometry import Geometry, check_arrays

LANES = 16  # at most so many channels in one vector


class Engine(abc.ABC):
    """Computes convolutions of x to y with weights w and bias b, and their gradients.

    Arrays have the shapes of the `Geometry` g; b and db may be None. ``scratch`` is a flat array of at least
    `Engine.scratch` elements. A deconvolution is the same with its directions exchanged: its forward is
    `backward_data`. What an engine can do beside that it says before it is asked to: by default, nothing. What the
    arguments are is said here, and not in each engine again.
    """

    name: str
    dtypes: tuple[Any, ...] = (np.float32,)
    #: Whether there is such an engine for arrays in blocks of channels, made with their ``block``.
    takes_blocks = False
    #: Whether `backward_data` takes ``rectified``.
    differentiates_rectifiers = False
    #: Whether `backward_weights` takes ``add``, for dw and for db: whether it is added to, or overwritten.
    writes_diffs = False
    #: Whether it also computes what lies before and behind: `forward_between` and `backward`.
    joins_neighbours = False

    def __init__(self, block: tuple[int, int] = (1, 1)):
        """``block``: x and y lie in blocks of so many channels: 1 for plain order, all for those of a position."""
        self.block = block

    @abc.abstractmethod
    def supports(self, g: Geometry, dtype: Any) -> bool:
        """Whether it computes that geometry, and not slower than those behind it in `layerforge.engines.ENGINES`."""

    @abc.abstractmethod
    def scratch(self, g: Geometry) -> int:
        """Elements of scratch memory for any of its functions, with the present number of threads."""

    @abc.abstractmethod
    def forward(
        self, x: Any, w: Any, b: Any, y: Any, g: Geometry, scratch: Any, kept: Any = None, *, rectify: bool = False
    ) -> Callable[[], Any] | None:
        """y = w * x + b, overwritten. With ``rectify``, where it `rectifies`, max(0, that), where NaN stays NaN.

        ``kept``: `Engine.kept` elements, zeros at first, in which the weights stay in the engine's order from call to
        call. They are made again where a fingerprint says that w has changed.

        Returns what computes it again in the same arrays, as long as w is the same; None if there is nothing quicker
        than to ask anew.
        """

    @abc.abstractmethod
    def backward_data(
        self, dy: Any, w: Any, dx: Any, g: Geometry, scratch: Any, *, rectified: Any = None, slope: float = 1.0
    ) -> None:
        """dx = the gradient of the input, overwritten. With ``rectified``, the input, which a rectifier with that slope
        made: the gradient of what it made it of."""

    @abc.abstractmethod
    def backward_weights(self, x: Any, dy: Any, dw: Any, db: Any, g: Geometry, scratch: Any) -> None:
        """dw += the gradient of the weights, db += that of the bias."""

    # What it may do beside.

    def lying(self, block: tuple[int, int]) -> Engine:
        """Such an engine for arrays in those blocks, where it `takes_blocks`."""
        return type(self)(block)

    def channels(self, dtype: Any) -> int:
        """How many channels it likes to have side by side; 1 where it does not care."""
        return 1

    def gain(self, g: Geometry, dtype: Any) -> float | None:
        """What forward gains, in multiplications, where all channels of a position lie side by side, and not 16 at a
        time; below 0 what it loses. None leaves that to the next engine."""
        return None

    def kept(self, g: Geometry) -> int:
        """How many elements weights take that stay in its own order from one forward pass to the next."""
        return 0

    def rectifies(self, g: Geometry, bias: bool) -> bool:
        """Whether `forward` takes ``rectify``."""
        return False

    def follows(self, g: Geometry) -> bool:
        """Whether it computes `forward_and_on`."""
        return False

    def adds(self, g: Geometry) -> bool:
        """Whether `forward_and_on` also adds a term."""
        return False

    def adds_in_place(self, g: Geometry) -> bool:
        """Whether that term may lie in y, with weights that are kept."""
        return False

    def forward_and_on(
        self,
        x: Any,
        w: Any,
        factor: Any,
        shift: Any,
        y: Any,
        g: Geometry,
        scratch: Any,
        kept: Any = None,
        *,
        rectify: bool,
        term: Any = None,
    ) -> Callable[[], Any]:
        """y = factor * (w * x) + shift for each output channel, and ``term``; with ``rectify``, max(0, that).

        ``term`` may be y itself where it `adds_in_place`; elsewhere it must not lie there. Where weights are ``kept``,
        they are kept multiplied by the factor. Returns as `forward` does.
        """
        self._refuse("forward_and_on", "follows")

    def forward_between(
        self, x: Any, w: Any, b: Any, y: Any, g: Geometry, scratch: Any, before: Any = None, moments: Any = None
    ) -> None:
        """y = w * x + b, with x normalised as ``before`` says, a `layerforge.fusion.Pending`.

        ``moments`` (2, batch channels) gets the mean of each channel of an image of y, and its sum of squares about it.
        """
        self._refuse("forward_between", "joins_neighbours")

    def backward(
        self,
        x: Any,
        dy: Any,
        w: Any,
        dx: Any,
        dw: Any,
        db: Any,
        g: Geometry,
        scratch: Any,
        before: Any = None,
        sums: Any = None,
        behind: Any = None,
    ) -> None:
        """dx = the gradient of what was convolved, dw += and db += those of the weights and the bias; each may be None.

        With ``before``, ``sums`` (2, batch channels) gets the sums over each channel of an image of dz and of dz
        (x - mean), with dz the gradient before the rectifier. ``behind``, a `layerforge.fusion.Behind`, makes the
        gradient of y of dy.
        """
        self._refuse("backward", "joins_neighbours")

    def _refuse(self, function: str, question: str) -> NoReturn:
        raise KernelError(f"engine {self.name} has no {function}: ask {question} first")

    def _check(self, g: Geometry, scratch: Any, **arrays: Any) -> None:
        check_arrays(g, self.scratch(g), scratch, self.dtypes, **arrays)
