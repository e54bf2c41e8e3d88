import numpy as np
import pytest

from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize(
    "text, expected",
    [
        ("shape { dim: 2 dim: 3 }", lambda: (np.zeros((2, 3)), np.zeros((2, 3)))),
        ("shape { dim: 2 } data_filler { value: 7 }", lambda: (np.full(2, 7), np.full(2, 7))),
        (
            "shape { dim: 2 } shape { } data_filler { value: 7 } data_filler { value: 1 }",
            lambda: (np.full(2, 7), np.ones(())),
        ),
        ("num: 2 channels: 3 height: 4 width: 5", lambda: (np.zeros((2, 3, 4, 5)),) * 2),
        ('shape { dim: 2 } data_filler { type: "gaussian" }', None),
    ],
)
def test_dummy_data(text, expected):
    check_layer(f'type: "DummyData" top: "a" top: "b" dummy_data_param {{ {text} }}', [], expected)


def bench(text, tops=1, **options):
    named = " ".join(f'top: "{name}"' for name in "abc"[:tops])
    return Bench(f'name: "dummy" type: "DummyData" {named}\ndummy_data_param {{ {text} }}', [], **options)


def test_zeros_by_default():
    made = bench("shape { dim: 2 dim: 3 }")
    assert made.forward([], {})[0].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_one_shape_and_filler_for_all():
    made = bench('shape { dim: 2 } data_filler { type: "constant" value: 7 }', tops=3)
    assert [y.tolist() for y in made.forward([], {})] == [[7, 7]] * 3


def test_one_for_each():
    made = bench(
        "shape { dim: 2 } shape { dim: 1 dim: 4 } data_filler { value: 1 } "
        'data_filler { type: "uniform" min: 2 max: 3 }',
        tops=2,
    )
    a, b = made.forward([], {})
    assert a.tolist() == [1, 1]
    assert b.shape == (1, 4)
    assert (b >= 2).all()
    assert (b < 3).all()


def test_the_old_dimensions():
    made = bench("num: 2 num: 3 channels: 4 height: 1 height: 5 width: 6", tops=2)
    assert [top.shape for top in made.top] == [(2, 4, 1, 6), (3, 4, 5, 6)]


def test_a_scalar():
    assert bench("shape { } data_filler { value: 3 }").forward([], {})[0].tolist() == 3


def test_a_constant_is_filled_once_and_the_rest_anew():
    made = bench('shape { dim: 50 } data_filler { value: 1 } data_filler { type: "gaussian" std: 1 }', tops=2)
    made.layer.step = 0
    first = [y.copy() for y in made.forward([], {})]
    made.top[0].data[0] = 9
    made.layer.step = 1
    second = made.forward([], {})
    assert second[0].tolist() == [9] + [1] * 49
    assert not np.array_equal(first[1], second[1])
    made.layer.step = 0
    assert np.array_equal(made.forward([], {})[1], first[1])
    made.resize(made.top[0], (50,))  # new memory needs its constant
    assert made.forward([], {})[0].tolist() == [1] * 50


def test_tops_of_one_kind_differ():
    a, b = bench('shape { dim: 50 } data_filler { type: "gaussian" }', tops=2).forward([], {})
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    "text, tops, message",
    [
        ("", 1, "shape is given 0 times for 1 top: give it once for all, or once for each"),
        ("", 2, "shape is given 0 times for 2 tops: give it once for all, or once for each"),
        (
            "shape { dim: 1 } shape { dim: 1 }",
            3,
            "shape is given 2 times for 3 tops: give it once for all, or once for each",
        ),
        (
            "shape { dim: 1 } data_filler { } data_filler { }",
            3,
            "data_filler is given 2 times for 3 tops: give it once for all, or once for each",
        ),
        (
            "num: 1 channels: 2 height: 3",
            1,
            "width is given 0 times for 1 top: give it once for all, or once for each",
        ),
        (
            "shape { dim: 1 } num: 1",
            1,
            "shape excludes num, channels, height and width: write shape alone",
        ),
    ],
)
def test_numbers_that_do_not_fit(text, tops, message):
    with pytest.raises(DefinitionError) as error:
        bench(text, tops)
    place, _, said = str(error.value).partition(": ")
    assert place.startswith("<text>:2:")
    assert said == f'layer "dummy" (DummyData): {message}'


def test_an_unknown_filler():
    made = bench('shape { dim: 1 } data_filler { value: 1 }\ndata_filler { type: "gausian" }', tops=2)
    with pytest.raises(DefinitionError) as error:
        made.forward([], {})
    assert str(error.value) == (
        '<text>:3:15: unknown filler type "gausian". Did you mean "gaussian"? '
        "Known: bilinear, constant, gaussian, msra, positive_unitball, uniform, xavier"
    )
