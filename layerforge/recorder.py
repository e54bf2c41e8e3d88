"""What a net does again and again on a GPU: recorded once, then replayed by a single call.

A pass is a sequence of steps. The first time they run as they are, so that every kernel is compiled and all memory is
there. If they come again unchanged, steps that need nothing of the host are recorded (on a GPU, as one CUDA graph) and
replayed from then on. A step that cannot be recorded, a data layer or one that computes on the host, runs as it is and
divides the others: in front of it and behind it are records of their own.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .device import Device

log = logging.getLogger("layerforge.net")


@dataclass(frozen=True)
class Step:
    """``run`` computes; ``records``: whether it may be recorded at all; ``subject``: how messages name it."""

    run: Callable[[], None]
    records: bool = True
    subject: str = ""


class Piece:
    """Steps that are replayed together, or one that runs as it is."""

    def __init__(self, steps: Sequence[Step], records: bool):
        self.steps = list(steps)
        self.records = records
        self.replay: Callable[[], None] | None = None


class Recorder:
    """Runs a sequence of steps, and recalls it.

    ``steps()`` makes them; ``uses()`` lists all objects that they use and somebody may exchange: arrays, seeds. While
    these are the same objects, a record is good.
    """

    def __init__(
        self,
        device: Device,
        steps: Callable[[], Sequence[Step]],
        uses: Callable[[], list[Any]],
        apart: dict[str, str] | None = None,
    ):
        self.device = device
        self.apart = {} if apart is None else apart  # the subjects of steps that cannot be recorded, and why
        self._steps = steps
        self._uses = uses
        self._made_with: list[Any] | None = None
        self.pieces: list[Piece] | None = None  # None before the second run

    @property
    def records(self) -> int:
        """How many records take part: 0 before the second run."""
        return sum(piece.replay is not None for piece in self.pieces or ())

    def forget(self) -> None:
        """Lets go of the records, and of what they use, when the device has done with them."""
        if self.records:
            self.device.synchronize()
        self._made_with = self.pieces = None

    def run(self) -> None:
        """Runs all steps, by replaying what can be."""
        if not self._is_good():
            self.forget()
            steps = self._steps()
            for step in steps:
                step.run()
            self._made_with = self._uses()
            return
        if self.pieces is None:
            self.pieces = divide(self._steps(), self.apart)
        at = 0
        while at < len(self.pieces):
            piece = self.pieces[at]
            if piece.records and piece.replay is None:
                self.pieces[at : at + 1] = self._record(piece)
                continue
            at += 1
            if piece.replay is not None:
                piece.replay()
                continue
            for step in piece.steps:
                step.run()
            if not self._is_good():  # it changed a shape
                rest = [step for later in self.pieces[at:] for step in later.steps]
                self.forget()
                for step in rest:
                    step.run()
                return

    def _is_good(self) -> bool:
        before = self._made_with
        if before is None:
            return False
        now = self._uses()
        return len(now) == len(before) and all(map(operator.is_, now, before))

    def _record(self, piece: Piece) -> list[Piece]:
        """The piece with its record; or, where a step cannot be recorded, the pieces before, with and behind that."""
        at = 0

        def work() -> None:
            nonlocal at
            for step in piece.steps:
                step.run()
                at += 1

        try:
            piece.replay = self.device.record(work)
        except Exception as error:
            if at == len(piece.steps):  # no step is to blame: none of them is recorded
                log.info("Launches cannot be recorded (%s)", error)
                piece.records = False
                return [piece]
            step = piece.steps[at]
            self.apart[step.subject] = str(error)
            log.info("%s is not recorded (%s)", step.subject, error)
            return divide(piece.steps, self.apart)
        return [piece]


def divide(steps: Sequence[Step], apart: dict[str, str]) -> list[Piece]:
    """Pieces as large as possible; the steps that are not recorded are pieces of their own."""
    pieces: list[Piece] = []
    for step in steps:
        records = step.records and step.subject not in apart
        if records and pieces and pieces[-1].records:
            pieces[-1].steps.append(step)
        else:
            pieces.append(Piece([step], records))
    return pieces
