"""Where the boxes of drawings go: no overlaps, lines downwards, chains straight."""

import itertools
import random

import pytest

from layerforge.draw_layout import GAP, Link, _apart, _crossings, _order, _rank, arrange


def boxes(layout, sizes):
    return [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(layout.centres, sizes, strict=True)]


def overlap(a, b):
    return a[0] < b[2] - 1e-6 and b[0] < a[2] - 1e-6 and a[1] < b[3] - 1e-6 and b[1] < a[3] - 1e-6


def check(sizes, links):
    """What must hold of every layout."""
    layout = arrange(sizes, links)
    placed = boxes(layout, sizes)
    assert not any(overlap(a, b) for a, b in itertools.combinations(placed, 2))
    for left, top, right, bottom in placed:
        assert left >= -1e-6 and right <= layout.width + 1e-6
        assert top >= -1e-6 and bottom <= layout.height + 1e-6
    for link, way in zip(links, layout.ways, strict=True):
        source, target = placed[link.source], placed[link.target]
        assert source[0] < way[0][0] < source[2] and target[0] < way[-1][0] < target[2]
        assert way[0][1] == pytest.approx(source[3]) and way[-1][1] == pytest.approx(target[1])
        heights = [y for _, y in way]
        assert all(below - above > -1e-6 for above, below in itertools.pairwise(heights))
        for before, after in zip(way[::2], way[1::2], strict=True):
            assert before[0] == after[0]  # every other piece is straight
    return layout


def test_nothing():
    layout = arrange([], [])
    assert (layout.centres, layout.ways, layout.width, layout.height) == ([], [], 0, 0)


def test_one_box():
    assert check([(30, 20)], []).centres == [(15, 10)]


def test_a_chain_is_straight():
    layout = check([(30, 20), (80, 20), (50, 40)], [Link(0, 1), Link(1, 2)])
    assert [x for x, _ in layout.centres] == [40, 40, 40]
    assert [x for way in layout.ways for x, _ in way] == [40] * 8


def test_branches_stand_side_by_side_below_their_middle():
    layout = check([(40, 20)] * 4, [Link(0, 1), Link(0, 2), Link(1, 3), Link(2, 3)])
    (top, _), (left, _), (right, _), (bottom, _) = layout.centres
    assert top == bottom == (left + right) / 2
    assert right - left == pytest.approx(40 + GAP)


def test_a_long_line_runs_beside_the_boxes():
    """A shortcut past a chain: straight, and the chain stays where it is."""
    sizes = [(40, 20)] * 5
    links = [Link(0, 1), Link(1, 2), Link(2, 3), Link(3, 4), Link(0, 4)]
    layout = check(sizes, links)
    assert len({round(x, 1) for x, _ in layout.centres}) == 1
    way = layout.ways[4]
    assert len({round(x, 6) for x, _ in way[2:-2]}) == 1
    assert abs(way[2][0] - layout.centres[1][0]) > 20


def test_lines_of_one_blob_share_their_way():
    sizes = [(40, 20)] * 6
    chain = [Link(i, i + 1) for i in range(5)]
    layout = check(sizes, [*chain, Link(0, 3, "label"), Link(0, 5, "label")])
    short, long = layout.ways[5:]
    assert long[: len(short) - 2] == short[:-2]


def test_a_source_stands_just_above_its_first_reader():
    layout = check([(40, 20)] * 5, [Link(0, 1), Link(1, 2), Link(2, 4), Link(3, 4)])
    assert layout.centres[3][1] == layout.centres[2][1]


def test_order_takes_crossings_out():
    links = [Link(0, 4), Link(0, 5), Link(1, 3), Link(2, 3), Link(1, 6), Link(2, 6)]
    ranks, _ = _rank([(10, 10)] * 7, links)
    before = _crossings(ranks)
    _order(ranks)
    assert (before, _crossings(ranks)) == (5, 1)


@pytest.mark.parametrize("seed", range(20))
def test_any_graph(seed):
    rng = random.Random(seed)
    count = rng.randint(2, 40)
    sizes = [(rng.uniform(20, 200), rng.uniform(10, 60)) for _ in range(count)]
    links = []
    for target in range(1, count):
        for source in rng.sample(range(target), min(target, rng.randint(0, 3))):
            links.append(Link(source, target, rng.choice(["a", "b"])))
    check(sizes, links)


def test_apart():
    """Least squares with gaps: by hand, and no better one near it."""
    assert _apart([0, 0, 0], [1, 1, 1], [2, 2]) == [-2, 0, 2]
    assert _apart([5, 0], [3, 1], [2]) == [pytest.approx(3.25), pytest.approx(5.25)]
    assert _apart([0, 10], [1, 1], [2]) == [0, 10]
    rng = random.Random(1)
    for _ in range(20):
        wanted = [rng.uniform(0, 10) for _ in range(6)]
        weights = [rng.uniform(0.1, 3) for _ in range(6)]
        gaps = [rng.uniform(0, 3) for _ in range(5)]
        found = _apart(wanted, weights, gaps)
        cost = sum(w * (x - d) ** 2 for w, x, d in zip(weights, found, wanted, strict=True))
        apart = [b - a for a, b in itertools.pairwise(found)]
        assert all(have >= gap - 1e-9 for have, gap in zip(apart, gaps, strict=True))
        for _ in range(50):
            moved = [x + rng.gauss(0, 0.1) for x in found]
            for i, gap in enumerate(gaps):
                moved[i + 1] = max(moved[i + 1], moved[i] + gap)
            assert sum(w * (x - d) ** 2 for w, x, d in zip(weights, moved, wanted, strict=True)) >= cost - 1e-9
