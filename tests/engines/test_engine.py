"""What every engine answers, and what one that can do no more refuses."""

import numpy as np
import pytest

from layerforge import engines
from layerforge.engines import Geometry, Im2col
from layerforge.errors import KernelError

G = Geometry(2, 16, 32, 1, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), (9, 9))


@pytest.mark.parametrize("device", engines.ENGINES)
def test_answers(device):
    for engine in engines.ENGINES[device]:
        if engine.supports(G, np.float32):
            check(engine)


def check(engine):
    assert engine.scratch(G) >= 0 and engine.kept(G) >= 0
    assert engine.channels(np.float32) in (1, 8, 16)
    assert {type(engine.rectifies(G, True)), type(engine.follows(G)), type(engine.adds(G))} == {bool}
    assert not engine.adds_in_place(G)  # y is plain


def test_does_no_more_than_it_must():
    engine = Im2col()
    assert (engine.block, engine.takes_blocks) == ((1, 1), False)
    assert (engine.channels(np.float32), engine.gain(G, np.float32), engine.kept(G)) == (1, None, 0)
    assert not (engine.rectifies(G, True) or engine.follows(G) or engine.adds(G) or engine.adds_in_place(G))
    assert not (engine.joins_neighbours or engine.differentiates_rectifiers)


@pytest.mark.parametrize("function, arguments, question", [
    ("forward_and_on", 7, "follows"), ("forward_between", 6, "joins_neighbours"), ("backward", 8, "joins_neighbours"),
])  # fmt: skip
def test_refuses(function, arguments, question):
    also = {"rectify": False} if function == "forward_and_on" else {}
    with pytest.raises(KernelError) as caught:
        getattr(Im2col(), function)(*[None] * arguments, **also)
    assert str(caught.value) == f"engine CAFFE has no {function}: ask {question} first"
