"""Every check of check_layer finds the mistake that it is there for."""

import re

import numpy as np
import pytest

from layerforge import layer as layers
from layerforge.layer import Layer
from layerforge.testing import assert_close, check_gradient, check_layer, pairtest


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Takes the layers of these tests out again."""
    layers.load_layers()
    monkeypatch.setattr(layers, "registry", dict(layers.registry))


def square(**wrong):
    """A layer y = w x^2, right but for the methods and attributes given."""

    def setup(self, x):
        self.parameter("weight", (1,))

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        y.data[...] = self.params["weight"].data * x.data**2

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        weight = self.params["weight"]
        if weight.needs_diff:
            weight.diff += (y.diff * x.data**2).sum()
        if x.needs_diff:
            x.diff[...] = 2 * weight.data * x.data * y.diff

    made = {"setup": setup, "forward": forward, "backward": backward, **wrong}
    return type("Square", (Layer,), made)


def formula(x, weight):
    return weight * x**2


def test_a_right_layer_passes():
    square()
    check_layer('type: "Square"', [(2, 3)], formula)
    check_layer('type: "Square"', [(2, 3)])
    check_gradient('type: "Square"', [(2, 3)])


def failure(expected=formula, **options):
    with pytest.raises(AssertionError) as caught:
        check_layer('type: "Square"', [(2, 3)], expected, **options)
    return str(caught.value)


def test_what_is_needed_of_a_top():
    """A layer that says that signs will do, though its backward reads values."""

    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        y.data[...] = np.exp(x.data)

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        x.diff[...] = y.data * y.diff

    parts = {"setup": lambda self, x: None, "forward": forward, "backward": backward, "in_place": True}
    for said, name in (({"needs_top": "signs"}, "needs_top"), ({"needs_top_in_place": "signs"}, "needs_top_in_place")):
        square(**parts, **said)
        text = failure(np.exp, in_place=True)
        assert text == f'Square: {name} says "signs", but backward needs the values of its tops'
    for said in ({}, {"needs_top": "values"}):  # a layer need not say anything
        square(**parts, **said)
        check_layer('type: "Square"', [(2, 3)], np.exp, in_place=True)


@pytest.mark.parametrize("leaves", ["signs", "values"])
def test_what_is_left_in_place(leaves):
    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        y.data[...] = x.data - 0.25

    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        x.diff[...] = y.diff

    square(setup=lambda self, x: None, forward=forward, backward=backward, in_place=True, leaves=leaves)
    text = failure(lambda x: x - 0.25, in_place=True, bottoms=[np.linspace(-0.5, 0.4, 6).reshape(2, 3)])
    assert text == f'Square: leaves says "{leaves}", but in place these change where the gradient is not 0'


def test_shapes():
    square(top_shapes=lambda self, x: [(*x, 1)])
    assert failure() == "Square: top_shapes gives [(2, 3, 1)], the formula [(2, 3)]"


def test_forward():
    square()
    text = failure(
        lambda x, weight: weight * np.array([[0, 1, 4], [9, 16, 25.5]]), bottoms=[np.arange(6).reshape(2, 3)]
    )
    assert text == (
        "Square: forward in float32: top 0: 3.14325547 at (1, 2), expected 3.20612052"
        " (off by 0.063; 1e-05 of the largest, 3.21, is allowed)"
    )


def test_forward_in_float64():
    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        y.data[...] = np.float32(self.params["weight"].data) * np.float32(x.data) ** 2

    square(forward=forward)
    assert failure(tolerance=1e-6).startswith("Square: forward in float64: top 0: ")


def test_a_bottom_that_is_changed():
    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        y.data[...] = self.params["weight"].data * x.data**2
        x.data[0, 0] = 0

    square(forward=forward)
    assert failure() == "Square: bottom 0 is changed, though not in place"


@pytest.mark.parametrize("kind", ["data", "diff"])
def test_a_top_that_backward_changes(kind):
    right = square().backward

    def backward(self, bottom, top):
        right(self, bottom, top)
        getattr(top[0], kind)[0, 0] = 0

    square(backward=backward)
    assert failure() == f"Square: backward changes the {kind} of top 0"


def test_a_pass_that_does_not_repeat():
    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.count = getattr(self, "count", 0) + 1
        y.data[...] = self.params["weight"].data * x.data**2
        y.data[0, 0] *= 1 + 1e-12 * self.count

    square(forward=forward)
    assert failure().startswith("Square: repeated: top 0: ")


def test_in_place():
    square(in_place=True)
    assert failure(in_place=True).startswith("Square: in place: diff of bottom 0: ")


def test_a_wrong_gradient():
    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.params["weight"].diff += (y.diff * x.data**2).sum()
        x.diff[...] = 2 * self.params["weight"].data * x.data * y.diff
        x.diff[1, 1] *= 1.001

    square(backward=backward)
    assert re.fullmatch(
        r"Square: backward's slope along a random direction is -0.770210\d+, that of forward is -0.770222\d+", failure()
    )


def test_a_kink_everywhere():
    def forward(self, bottom, top):
        top[0].data[...] = abs(bottom[0].data)

    def backward(self, bottom, top):
        bottom[0].diff[...] = top[0].diff

    square(setup=Layer.setup, forward=forward, backward=backward)
    check_gradient('type: "Square"', [(50,)], bottoms=[(0.5, 1)])
    with pytest.raises(AssertionError) as caught:
        check_gradient('type: "Square"', [(50,)], bottoms=[np.arange(50)])
    assert str(caught.value) == (
        "Square: forward has a kink in every one of 20 directions: choose other values for the bottoms"
    )


def test_a_diff_that_is_added_to():
    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.params["weight"].diff += (y.diff * x.data**2).sum()
        x.diff[...] = np.nan_to_num(x.diff) + 2 * self.params["weight"].data * x.data * y.diff
        x.diff[0, 0] += np.nan

    square(backward=backward)
    assert "slope along a random direction is nan" in failure()


def test_a_parameter_diff_that_is_overwritten():
    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.params["weight"].diff[...] = (y.diff * x.data**2).sum()
        x.diff[...] = 2 * self.params["weight"].data * x.data * y.diff

    square(backward=backward)
    assert failure().startswith('Square: diff of parameter "weight", which held 3,: ')


def test_a_diff_that_nobody_needs():
    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        self.params["weight"].diff += (y.diff * x.data**2).sum()
        if x.needs_diff:
            x.diff[...] = 2 * self.params["weight"].data * x.data * y.diff

    square(backward=backward)
    assert failure() == 'Square: backward changes the diff of parameter "weight", which needs none'


def test_a_strided_array_that_is_lost():
    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        np.ascontiguousarray(y.data)[...] = self.params["weight"].data * x.data**2

    square(forward=forward)
    assert failure().startswith("Square: with the data of top 0 not contiguous: top 0: nan at (0, 0), expected ")


def test_a_nan_that_is_lost():
    def forward(self, bottom, top):
        (x,), (y,) = bottom, top
        y.data[...] = self.params["weight"].data * np.nan_to_num(x.data) ** 2

    square(forward=forward)
    assert failure().startswith("Square: with NaN in bottom 0: top 0: 0 at ")
    assert failure(expected=None) == "Square: with NaN in bottom 0: no top has one"


def test_an_empty_batch():
    def backward(self, bottom, top):
        (x,), (y,) = bottom, top
        if self.params["weight"].needs_diff:
            self.params["weight"].diff += (y.diff * x.data**2).sum() if x.count else 1
        if x.needs_diff:
            x.diff[...] = 2 * self.params["weight"].data * x.data * y.diff

    square(backward=backward)
    assert failure() == 'Square: an empty batch changes the diff of parameter "weight"'


def test_pairtest():
    pairtest('type: "ReLU"', 'type: "ReLU" relu_param { engine: CUDNN }', [(2, 3)])
    square()
    type("Cube", (Layer,), {"setup": lambda self, x: self.parameter("weight", (1,)), "forward": cube_forward})
    with pytest.raises(AssertionError) as caught:
        pairtest('type: "Square"', 'type: "Cube"', [(2,)], bottoms=[np.array([1, 2])], parameters={"weight": 3})
    assert str(caught.value) == (
        "Cube against Square: top 0: 24 at (1,), expected 12 (off by 12; 1e-05 of the largest, 12, is allowed)"
    )


def cube_forward(self, bottom, top):
    top[0].data[...] = self.params["weight"].data * bottom[0].data ** 3


def test_assert_close():
    assert_close([1, np.nan, np.inf], [1, np.nan, np.inf], 0)
    assert_close([], [], 0)
    assert_close([1000, 1e-6], [1000, 0], 1e-8)
    for actual, expected, text in (
        ([1, 2], [1], "array: shape (2,), expected (1,)"),
        (2, 1, "array: 2, expected 1 (off by 1; 1e-05 of the largest, 1, is allowed)"),
        ([1, np.nan], [1, 2], "array: nan at (1,), expected 2 (off by inf; 1e-05 of the largest, 2, is allowed)"),
        (
            [1, np.inf],
            [1, -np.inf],
            "array: inf at (1,), expected -inf (off by inf; 1e-05 of the largest, 1, is allowed)",
        ),
    ):
        with pytest.raises(AssertionError) as caught:
            assert_close(actual, expected, 1e-5)
        assert str(caught.value) == text
