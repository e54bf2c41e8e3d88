import math

import numpy as np
import pytest

from layerforge.errors import DefinitionError, ShapeError
from layerforge.layer import TEST, TRAIN
from layerforge.testing import Bench, check_layer

IMAGE = (2, 3, 6, 7)


def pooling(method, kernel, stride=1, pad=0, floor=False, counts_padding=True):
    """The formula, window by window. Options: a number, or one for each axis; kernel 0 is the whole image."""

    def formula(x):
        axes = x.ndim - 2
        k, s, p = (np.broadcast_to(option, axes) for option in (kernel, stride, pad))
        k = [k[a] or x.shape[2 + a] for a in range(axes)]
        rounded = math.floor if floor else math.ceil
        windows = []
        for a, size in enumerate(x.shape[2:]):
            number = rounded((size + 2 * p[a] - k[a]) / s[a]) + 1
            starts = [o * s[a] - p[a] for o in range(number)]
            windows.append([(b, min(b + k[a], size + p[a]), size) for b in starts if b < size])
        y = np.zeros((*x.shape[:2], *map(len, windows)))
        mask = np.zeros(y.shape)
        for o in np.ndindex(y.shape[2:]):
            window = [windows[a][o[a]] for a in range(axes)]
            inside = tuple(slice(max(b, 0), min(e, size)) for b, e, size in window)
            seen = x[(..., *inside)]
            if method in ("MAX", "MASK"):
                first = seen.reshape(*x.shape[:2], -1).argmax(-1)  # the first of several; NaN counts as the largest
                y[(..., *o)] = np.take_along_axis(seen.reshape(*x.shape[:2], -1), first[..., None], -1)[..., 0]
                at = np.unravel_index(first, seen.shape[2:])
                mask[(..., *o)] = np.ravel_multi_index(
                    [i + part.start for i, part in zip(at, inside, strict=True)], x.shape[2:]
                )
            elif method == "AVE":
                whole = math.prod(e - b for b, e, _ in window)
                y[(..., *o)] = seen.sum(tuple(range(2, x.ndim))) / (whole if counts_padding else seen[0, 0].size)
            else:
                total = seen.sum(tuple(range(2, x.ndim)))
                squares = (seen**2).sum(tuple(range(2, x.ndim)))
                y[(..., *o)] = np.divide(squares, total, out=np.zeros_like(total), where=total != 0)
        return (y, mask) if method == "MASK" else y

    return formula


TABLE = [
    ("kernel_size: 2 stride: 2", (2, 2)),
    ("kernel_size: 3 stride: 2", (3, 2)),
    ("kernel_size: 3 stride: 2 pad: 1", (3, 2, 1)),
    ("kernel_size: 3", (3,)),
    ("kernel_size: 3 pad: 2 stride: 3", (3, 3, 2)),
    ("kernel_size: 5 pad: 2 stride: 3", (5, 3, 2)),
    ("kernel_size: 1", (1,)),
    ("kernel_size: 2 stride: 5", (2, 5)),
    ("kernel_size: 1 stride: 4", (1, 4)),
    ("kernel_size: 7 stride: 2", (7, 2)),
    ("kernel_size: 3 stride: 2 round_mode: FLOOR", (3, 2, 0, True)),
    ("kernel_size: 4 stride: 3 pad: 1 round_mode: FLOOR", (4, 3, 1, True)),
    ("kernel_size: 3 stride: 2 ceil_mode: false", (3, 2, 0, True)),
    ("kernel_size: 3 stride: 2 ceil_mode: true", (3, 2)),
    ("kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0", ((3, 2), (1, 2), (1, 0))),
    ("kernel_h: 2 kernel_w: 5 pad_w: 3", ((2, 5), 1, (0, 3))),
    ("global_pooling: true", (0,)),
    ("kernel_size: 3 stride: 2 engine: CUDNN", (3, 2)),
    ("kernel_h: 6 kernel_w: 7 stride: 9 pad: 2", ((6, 7), 9, 2)),  # one window, as large as the image but not on it
]


@pytest.mark.parametrize("options, numbers", TABLE)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_pooling(phase, method, options, numbers):
    definition = f'type: "Pooling" pooling_param {{ pool: {method} {options} }}'
    check_layer(definition, [IMAGE], pooling(method, *numbers), phase=phase)


@pytest.mark.parametrize(
    "options, numbers",
    [
        ("kernel_size: 3 stride: 2 pad: 1 avg_include_pad: false", (3, 2, 1, False, False)),
        ("kernel_size: 3 stride: 2 pad: 1 torch_pooling: true", (3, 2, 1, True, False)),
        ("kernel_size: 5 stride: 3 pad: 2 avg_include_pad: false round_mode: FLOOR", (5, 3, 2, True, False)),
    ],
)
def test_the_averages_of_forks(options, numbers):
    check_layer(f'type: "Pooling" pooling_param {{ pool: AVE {options} }}', [IMAGE], pooling("AVE", *numbers))


@pytest.mark.parametrize(
    "options, shape, numbers",
    [
        ("kernel_size: 3 stride: 2", (2, 3, 8), (3, 2)),
        ("kernel_size: 3 stride: 2 pad: 1", (2, 3, 8), (3, 2, 1)),
        ("kernel_size: 2 stride: 2", (2, 2, 4, 5, 3), (2, 2)),
        ("kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR", (2, 2, 4, 5, 3), (3, 2, 1, True)),
        ("global_pooling: true", (2, 2, 4, 5, 3), (0,)),
    ],
)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_one_and_three_spatial_axes(method, options, shape, numbers):
    check_layer(f'type: "Pooling" pooling_param {{ pool: {method} {options} }}', [shape], pooling(method, *numbers))


@pytest.mark.parametrize("options, numbers", [TABLE[0], TABLE[2], TABLE[12], TABLE[14], TABLE[16]])
def test_the_second_top_tells_where(options, numbers):
    definition = f'type: "Pooling" top: "y" top: "mask" pooling_param {{ {options} }}'
    for phase in (TRAIN, TEST):
        check_layer(definition, [IMAGE], pooling("MASK", *numbers), through=[0], phase=phase)


def test_the_first_of_several_is_the_largest():
    bench = Bench('type: "Pooling" top: "y" top: "mask" pooling_param { kernel_size: 2 }', [(1, 1, 3, 3)])
    y, mask = bench.forward([np.ones((1, 1, 3, 3))], {})
    assert y.ravel().tolist() == [1, 1, 1, 1]
    assert mask.ravel().tolist() == [0, 1, 3, 4]
    (dx,), _ = bench.backward([[[[[1, 2], [3, 4]]]], None])
    assert dx.ravel().tolist() == [1, 2, 0, 3, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("options, numbers", [TABLE[1], TABLE[3], TABLE[7], TABLE[10]])
def test_stochastic_pooling_on_average(options, numbers):
    definition = f'type: "Pooling" pooling_param {{ pool: STOCHASTIC {options} }}'
    check_layer(definition, [IMAGE], pooling("STOCHASTIC", *numbers), phase=TEST, bottoms=[(0, 1)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stochastic_pooling_draws_in_proportion(dtype):
    bench = Bench(
        'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }',
        [(1, 10_000, 2, 2)],
        phase=TRAIN,
        dtype=dtype,
        seed=5,
    )
    x = np.tile([[0.0, 1.0], [3.0, 4.0]], (1, 10_000, 1, 1))
    (y,) = bench.forward([x], {})
    for value in (0, 1, 3, 4):
        p, n = value / 8, y.size
        assert abs((y == value).sum() - n * p) <= 5 * math.sqrt(n * p * (1 - p))
    (dx,), _ = bench.backward([np.full(y.shape, 2)])
    np.testing.assert_array_equal(dx, np.where(x == y, 2, 0))
    (again,) = bench.forward([x], {})
    np.testing.assert_array_equal(again, y)
    bench.layer.step = 1
    assert (bench.forward([x], {})[0] != y).any()


@pytest.mark.parametrize(
    "phase, options, kept",
    [
        (TRAIN, "", ["mask"]),
        (TEST, "", []),
        (TRAIN, "pool: STOCHASTIC", ["mask"]),
        (TEST, "pool: STOCHASTIC", []),
    ],
)
def test_only_what_learns_keeps_places(phase, options, kept):
    layer = Bench(f'type: "Pooling" pooling_param {{ kernel_size: 2 {options} }}', [IMAGE], phase=phase).layer
    assert [*layer.state_shapes(IMAGE)] == kept


def test_stochastic_pooling_of_zeros():
    for phase in (TRAIN, TEST):
        bench = Bench('type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }', [(1, 1, 3, 3)], phase=phase)
        (y,) = bench.forward([np.zeros((1, 1, 3, 3))], {})
        assert not y.any()
        (dx,), _ = bench.backward([np.ones((1, 1, 2, 2))])
        assert np.isfinite(dx).all()


@pytest.mark.parametrize(
    "options, expected", [("global_pooling: true", (1, 2, 1, 1)), ("kernel_size: 3 stride: 2", (1, 2, 2, 3))]
)
def test_shapes_that_change(options, expected):
    layer = Bench(f'type: "Pooling" pooling_param {{ pool: AVE {options} }}', [IMAGE]).layer
    assert layer.top_shapes((1, 2, 5, 7)) == [expected]


@pytest.mark.parametrize(
    "kind, options, shape, text",
    [
        (DefinitionError, "", IMAGE, "kernel_size is missing: write kernel_size: 3, say"),
        (DefinitionError, "kernel_size: 0", IMAGE, "kernel_size: 0 must be at least 1"),
        (DefinitionError, "kernel_size: 3 stride: 0", IMAGE, "stride: 0 must be at least 1"),
        (
            DefinitionError,
            "kernel_size: 3 kernel_w: 3",
            IMAGE,
            "kernel_size and kernel_w are two spellings of one option: keep kernel_size, or kernel_h and kernel_w",
        ),
        (DefinitionError, "kernel_h: 3", IMAGE, "kernel_h is given without kernel_w: give both, or kernel_size"),
        (
            DefinitionError,
            "kernel_size: 3 stride_w: 2",
            IMAGE,
            "stride_w is given without stride_h: give both, or stride",
        ),
        (DefinitionError, "kernel_size: 2 pad: 2", IMAGE, "pad: 2 must be less than kernel_size: 2"),
        (DefinitionError, "kernel_size: 2 pad_w: 3", IMAGE, "pad: 3 must be less than kernel_size: 2"),
        (
            DefinitionError,
            "global_pooling: true kernel_h: 2",
            IMAGE,
            "kernel_h: 2 contradicts global_pooling: take one of them out",
        ),
        (
            DefinitionError,
            "global_pooling: true stride: 2",
            IMAGE,
            "stride: 2 contradicts global_pooling: take one of them out",
        ),
        (
            DefinitionError,
            "kernel_size: 2 ceil_mode: true round_mode: CEIL",
            IMAGE,
            "ceil_mode and round_mode are two spellings of one option: keep round_mode",
        ),
        (
            ShapeError,
            "kernel_size: 9 stride: 2",
            IMAGE,
            'a window of 9 is larger than the 6 that bottom "conv1" (2, 3, 6, 7) has with its padding:'
            " lower kernel_size, or raise pad",
        ),
        (
            ShapeError,
            "kernel_size: 2",
            (2, 3),
            'bottom "conv1" (2, 3) must have one to three spatial axes: (N, C, H, W), say',
        ),
        (ShapeError, "kernel_size: 2", (2, 3, 0, 4), 'bottom "conv1" (2, 3, 0, 4) holds no pixel'),
    ],
)
def test_what_does_not_fit(kind, options, shape, text):
    with pytest.raises(kind) as error:
        Bench(f'name: "pool1" type: "Pooling" bottom: "conv1" pooling_param {{ {options} }}', [shape])
    assert error.value.message == f'layer "pool1" (Pooling): {text}'


def test_only_the_largest_has_a_place():
    with pytest.raises(DefinitionError) as error:
        Bench('name: "p" type: "Pooling" top: "y" top: "mask"\npooling_param { kernel_size: 2 pool: AVE }', [IMAGE])
    assert str(error.value) == (
        '<text>:2:32: layer "p" (Pooling): pool: AVE has no second top: only MAX tells where its value was'
    )


def test_another_rank_later():
    layer = Bench('name: "p" type: "Pooling" bottom: "x" pooling_param { kernel_size: 2 }', [IMAGE]).layer
    layer.bottom_shapes = ((2, 3, 4),)
    with pytest.raises(ShapeError) as error:
        layer.top_shapes((2, 3, 4))
    assert str(error.value) == (
        '<text>:1:27: layer "p" (Pooling): bottom "x" (2, 3, 4) must have 2 spatial axes, as it had at first'
    )
