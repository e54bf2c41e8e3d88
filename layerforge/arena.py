"""The parameters of a net, in flat arenas: one behind the other, in whole blocks of 64 elements.

So one sweep moves all of them, one call clears their diffs, and a table of multipliers has one entry per block. Data
and diffs are laid out alike. Where a net shares parameters with another, their data lie in the other's arena, and the
sweep becomes a few: see `Parameters.runs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import memory
from .blob import Parameter
from .errors import ShapeError
from .kernels import Kernels
from .layer import Layer

K = Kernels("eltwise.h")


class Run(NamedTuple):
    """A piece of the layout whose data lie in one piece: ``blocks`` of it, ``data`` and ``diff`` flat and alike."""

    data: Any
    diff: Any
    within: slice  # of arrays laid out as the diffs
    blocks: slice  # of tables with an entry per block


class Parameters:
    """The parameters of a net's layers: each once, at the layer that owns it, in the order of the net.

    ``shared`` has, for a parameter whose data are another net's, that net's parameter.
    """

    def __init__(self, layers: Sequence[Layer], device: Any, dtype: Any):
        self.layers = layers
        self.device = device
        self.owned = [p for layer in layers for p in layer.blobs if p.owner is None]
        self.offsets, self.size = memory.sequence([p.count for p in self.owned])
        self.diffs = memory.Arena(device, self.size, dtype)
        self.dtype = dtype
        self.made: list[Parameter] = []  # whose data are this net's own
        self._arenas: list[memory.Arena] = []  # in which the data lie
        self._rebound = 0
        self._shown = False
        self._runs: list[Run] | None = None

    def allocate(self, shared: Mapping[int, Parameter]) -> None:
        """Takes memory for the data that are not ``shared``: by the id of a parameter, whose data to use."""
        self.made = [p for p in self.owned if id(p) not in shared]
        offsets, total = memory.sequence([p.count for p in self.made])
        arena = memory.Arena(self.device, total, self.dtype)
        for parameter, offset in zip(self.made, offsets, strict=True):
            given = parameter.data  # by a pycaffe layer, in its setup
            parameter.move(arena, offset)
            if given is not None:
                self.device.from_numpy(parameter.data, given)
        for parameter, offset in zip(self.owned, self.offsets, strict=True):
            parameter.diff_home = (self.diffs, offset)
        self._bind(shared)

    def share(self, shared: Mapping[int, Parameter]) -> None:
        """Lets data be those of another net's parameters from now on."""
        self.made = [p for p in self.made if id(p) not in shared]
        self._bind(shared)

    def _bind(self, shared: Mapping[int, Parameter]) -> None:
        for layer in self.layers:
            for parameter in layer.blobs:
                source = shared.get(id(parameter)) or parameter.owner
                if source is not None:
                    parameter.follow(source)
        self._arenas = list({id(p.home[0]): p.home[0] for p in self.owned if p.home is not None}.values())
        self._runs = None
        self._rebound += 1
        if self._shown:
            self.show()

    def matching(self, other: Sequence[Layer]) -> dict[int, Parameter]:
        """What is shared with another net, by layer name: see `allocate`. Raises ShapeError where shapes differ."""
        theirs: dict[str, Layer] = {}
        for layer in other:
            theirs.setdefault(layer.name, layer)
        shared = {}
        for layer in self.layers:
            source = theirs.get(layer.name)
            if source is None or not (layer.params and source.params):
                continue
            if len(layer.params) != len(source.params):
                raise ShapeError(
                    f"{layer.title} has {len(layer.params)} parameters, and {len(source.params)} in the net it shares"
                    " them with: the layers must be alike, or have different names"
                )
            if layer.dtype != source.dtype:
                raise ShapeError(
                    f"{layer.title} has parameters of {layer.dtype}, and of {source.dtype} in the net it shares them"
                    " with: make both nets with one dtype"
                )
            for mine, its in zip(layer.blobs, source.blobs, strict=True):
                if mine.shape != its.shape:
                    raise ShapeError(
                        f'{layer.title}: parameter "{mine.name}" is {mine.shape}, and {its.shape} in the net it shares'
                        " it with: the layers must be alike, or have different names"
                    )
                shared[id(mine)] = its
        return shared

    @property
    def diff(self) -> Any:
        """All diffs as one flat array, zeros between parameters."""
        return self.diffs.array

    @property
    def runs(self) -> list[Run]:
        """The layout in as few pieces as the data lie in: one, unless another net's parameters are shared."""
        if self._runs is None:
            pieces: list[list[Any]] = []  # arena, offset there, offset here, size
            for parameter, offset in zip(self.owned, self.offsets, strict=True):
                assert parameter.home is not None
                arena, there = parameter.home
                size = memory.aligned(parameter.count)
                if pieces:
                    last = pieces[-1]
                    if last[0] is arena and last[1] + last[3] == there and last[2] + last[3] == offset:
                        last[3] += size
                        continue
                pieces.append([arena, there, offset, size])
            self._runs = [
                Run(
                    arena.array[there : there + size],
                    self.diff[here : here + size],
                    slice(here, here + size),
                    slice(here // memory.ALIGNMENT, (here + size) // memory.ALIGNMENT),
                )
                for arena, there, here, size in pieces
            ]
        return self._runs

    def clear_diffs(self) -> None:
        """Sets every diff to 0."""
        if self.diffs.taken:
            K.clear(self.diffs.array)

    @property
    def version(self) -> int:
        """Another number after every change of data that was reported, here or by a net that shares them."""
        return self._rebound + sum(arena.version for arena in self._arenas)

    def seen(self) -> int | None:
        """As `version`, but also after every change by people who hold an array; None while somebody does."""
        total = self._rebound
        for arena in self._arenas:
            number = arena.seen()
            if number is None:
                return None
            total += number
        return total

    def touch(self) -> None:
        """Says that a pass may have written to parameters, to running averages say."""
        for arena in self._arenas:
            arena.touch()

    def show(self) -> None:
        """Says that from now on somebody may write to parameters unseen."""
        self._shown = True
        for arena in self._arenas:
            arena.show()

    def changed(self) -> None:
        """Reports that data were written."""
        for arena in self._arenas:
            arena.version += 1

    def bytes(self) -> tuple[int, int]:
        """What the data that are this net's own take, and the diffs."""
        return sum(p.home[0].bytes for p in self.made[:1] if p.home), self.diffs.bytes
