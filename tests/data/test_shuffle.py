import numpy as np

from layerforge.data.shuffle import Order, permutation


def test_without_shuffling_records_come_as_they_lie():
    order = Order(5, shuffle=False)
    assert [order(i) for i in range(12)] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_every_epoch_has_every_record_once_in_an_order_of_its_own():
    order = Order(50, shuffle=True, seed=1, stream=2)
    epochs = [[order(i) for i in range(start, start + 50)] for start in range(0, 500, 50)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10


def test_any_place_can_be_asked_for_first():
    order, again = Order(50, True, 1, 2), Order(50, True, 1, 2)
    forwards = [order(i) for i in range(200)]
    assert [again(i) for i in range(199, -1, -1)] == forwards[::-1]
    assert [Order(50, True, 2, 2)(i) for i in range(50)] != forwards[:50]
    assert [Order(50, True, 1, 3)(i) for i in range(50)] != forwards[:50]
    again.reseed(2)
    assert [again(i) for i in range(50)] == [Order(50, True, 2, 2)(i) for i in range(50)]


def test_permutations_are_uniform():
    """Each of 4 elements stands in each of 4 places as often: 16 counts of 2000 draws, within 5 sigma."""
    counts = np.zeros((4, 4))
    for step in range(2000):
        counts[np.arange(4), permutation(3, 0, step, 4)] += 1
    assert np.abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)
