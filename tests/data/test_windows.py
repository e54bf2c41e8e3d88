import numpy as np
import pytest

from layerforge.data.windows import Cut, cut


def test_a_window_alone_fills_the_crop():
    assert cut((10, 20, 29, 59), (100, 100), 24) == Cut((10, 20, 20, 40), (24, 24), 0, 0)
    assert cut((0, 0, 99, 99), (100, 100), 24) == Cut((0, 0, 100, 100), (24, 24), 0, 0)


@pytest.mark.parametrize(
    "box", [(-1, 0, 5, 5), (0, -1, 5, 5), (5, 5, 100, 9), (5, 5, 9, 100), (5, 5, 4, 9), (5, 5, 9, 4)]
)
def test_a_window_beyond_its_image(box):
    assert cut(box, (100, 100), 24) is None


# By hand. The window from 40 to 59, 20 pixels, has its centre at 50. With context 4 in a crop of 24 its half grows by
# 24 / 16 from 10 to 15: from 35 to 65, 31 pixels, are resized to 24.
ROW = (35, 31)


def test_context_widens_a_window():
    assert cut((40, 40, 59, 59), (100, 100), 24, context=4) == Cut((35, 35, 31, 31), (24, 24), 0, 0)


@pytest.mark.parametrize(
    "size, mirror, expected",
    [
        # 6 of the 31 columns, 60 to 65, are beyond the right side: 25 * 24 / 31 = 19.4 -> 19 are left, 4.6 -> 5 empty.
        ((100, 60), False, Cut((35, 35, 25, 31), (24, 19), 0, 0)),
        ((100, 60), True, Cut((35, 35, 25, 31), (24, 19), 0, 5)),
        ((60, 100), False, Cut((35, 35, 31, 25), (19, 24), 0, 0)),
        ((60, 60), True, Cut((35, 35, 25, 25), (19, 19), 0, 5)),
    ],
)
def test_what_is_beyond_the_image_stays_empty(size, mirror, expected):
    assert cut((40, 40, 59, 59), size, 24, context=4, mirror=mirror) == expected


@pytest.mark.parametrize("mirror", [False, True])
def test_before_the_image(mirror):
    # From -10 to 9 with its centre at 0: -15 to 15. 15 of 31 are before it: 11.6 -> 12 empty, 16 -> 12.4 -> 12 left.
    expected = Cut((0, 0, 16, 16), (12, 12), 12, 0 if mirror else 12)
    assert cut((-10, -10, 9, 9), (100, 100), 24, context=4, mirror=mirror) == expected


def test_a_square_takes_the_longer_side():
    # 10 wide, 40 high, centre at (25, 40): 20 to each side.
    assert cut((20, 20, 29, 59), (100, 100), 24, square=True) == Cut((5, 20, 41, 41), (24, 24), 0, 0)
    assert cut((20, 20, 59, 29), (100, 100), 24, square=True) == Cut((20, 5, 41, 41), (24, 24), 0, 0)


def test_halves_go_away_from_zero():
    # 3 wide at 0 with its centre at 1.5: -0.0 to 3.0; 5 high at -4 with its centre at -1.5: -4 to 1.
    # context 1 in a crop of 6 stretches by 1.5: x -0.75 to 3.75 -> -1 to 4, y -5.25 to 2.25 -> -5 to 2.
    found = cut((0, -4, 2, 0), (50, 50), 6, context=1)
    assert found == Cut((0, 0, 5, 3), (2, 5), 4, 1)


def test_the_crop_is_never_left():
    """Rounding could make what is empty and what is not add up to one pixel too many."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        height, width = rng.integers(5, 60, 2).tolist()
        x1, y1 = rng.integers(-20, 60, 2).tolist()
        x2, y2 = x1 + int(rng.integers(0, 50)), y1 + int(rng.integers(0, 50))
        crop = int(rng.integers(9, 40))
        for mirror in (False, True):
            how = {"context": int(rng.integers(0, 5)), "square": bool(rng.integers(2)), "mirror": mirror}
            found = cut((x1, y1, x2, y2), (height, width), crop, **how)
            if found is None:
                continue
            x, y, wide, tall = found.part
            assert 0 <= x < x + wide <= width
            assert 0 <= y < y + tall <= height
            assert 0 <= found.top <= crop
            assert 0 <= found.left <= crop
            assert found.top + found.size[0] <= crop
            assert found.left + found.size[1] <= crop
