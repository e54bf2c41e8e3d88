"""What layers keep for backward in memory that diffs have later; what that is to nets is said in test_storage.py."""

from types import SimpleNamespace

import pytest

from layerforge import lending
from layerforge.memory import Interval


@pytest.mark.parametrize("leaves, last", [(False, 3), (True, 4)])
def test_it_stays_for_the_last_who_reads_it(leaves, last):
    """That is the layer before, where the first leaves the gradient to it."""
    first, maker = (SimpleNamespace(bottom=[SimpleNamespace(count=5)]) for _ in range(2))
    group = SimpleNamespace(first=first, maker=maker, leaves_gradient=leaves)
    assert lending.stays([group], [(3, first), (4, maker)], -7) == [Interval(5, -7, last)]
