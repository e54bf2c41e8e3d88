import numpy as np
import pytest

from layerforge.errors import ShapeError
from layerforge.testing import Bench, assert_close, check_layer

LOSS = 'name: "loss" type: "ContrastiveLoss"'
ALIKE = np.array([1, 0, 0, 1, 0, 1])


def contrastive(margin=1.0, legacy=False):
    def formula(a, b, alike):
        square = ((a - b) ** 2).reshape(len(a), -1).sum(1)
        apart = np.maximum(0, margin - square) if legacy else np.maximum(0, margin - np.sqrt(square)) ** 2
        return np.where(alike.ravel() != 0, square, apart).sum() / (2 * len(a))

    return formula


@pytest.mark.parametrize(
    "options, alike, expected",
    [
        ("", np.ones(6), contrastive()),
        ("legacy_version: true", ALIKE, contrastive(legacy=True)),
        ("margin: 4.5 legacy_version: true", ALIKE, contrastive(4.5, True)),
        ("margin: 20 legacy_version: true", np.zeros(6), contrastive(20, True)),
    ],
)
@pytest.mark.parametrize("shapes", [[(6, 4), (6, 4), (6,)], [(6, 2, 2), (6, 4, 1), (6, 1)], [(6, 30), (6, 30), (6,)]])
def test_contrastive_loss(options, alike, expected, shapes):
    def formula(a, b, alike):
        return expected(a, b.reshape(a.shape), alike)

    definition = f"{LOSS} contrastive_loss_param {{ {options} }}"
    check_layer(definition, shapes, formula, bottoms=[None, None, alike.reshape(shapes[2])])


def test_far_apart():
    """1e-4 is added to the distance that is divided by: with distances this large, the derivative does not show it."""
    far = (-2000.0, 2000.0)
    definition = f"{LOSS} contrastive_loss_param {{ margin: 6000 }}"
    check_layer(definition, [(6, 4), (6, 4), (6,)], contrastive(6000), bottoms=[far, far, ALIKE])


def test_the_gradient_of_pairs_that_differ():
    bench = Bench(f"{LOSS} contrastive_loss_param {{ margin: 2 }}", [(4, 3), (4, 3), (4,)])
    a, b = np.random.default_rng(0).uniform(-0.8, 0.8, (2, 4, 3))
    b[3] = a[3]  # no direction to go to
    bench.forward([a, b, np.zeros(4)], {})
    (da, db, _), _ = bench.backward([3])
    distance = np.linalg.norm(a - b, axis=1, keepdims=True)
    expected = -3 / 4 * (a - b) * np.maximum(0, 2 - distance) / (distance + 1e-4)
    assert (distance > 0.3).sum() == 3 and not da[3].any()
    assert_close(da, expected, 1e-12)
    assert_close(db, -expected, 1e-12)


def test_fractions_are_cut_off():
    bench = Bench(LOSS, [(2, 1), (2, 1), (2,)])
    assert bench.forward([[[3], [3]], [[1], [1]], [0.9, 1.9]], {}) == [1]


@pytest.mark.parametrize(
    "shapes, text",
    [
        (
            [(6, 4), (6, 3), (6,)],
            ':2:13: layer "loss" (ContrastiveLoss): bottom "b" (6, 3) must have the size of axis 0 and the count of'
            ' bottom "a" (6, 4)',
        ),
        (
            [(6, 4), (6, 4), (5,)],
            ':2:25: layer "loss" (ContrastiveLoss): bottom "s" (5,) must hold one number for each of the 6 pairs',
        ),
        ([(), (), ()], ':2:1: layer "loss" (ContrastiveLoss): bottom "a" () must have an axis of pairs'),
    ],
)
def test_bad_shapes(shapes, text):
    with pytest.raises(ShapeError) as caught:
        Bench(f'{LOSS}\nbottom: "a" bottom: "b" bottom: "s"', shapes)
    assert str(caught.value) == f"<text>{text}"
