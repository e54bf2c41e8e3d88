import cv2
import numpy as np
import pytest

import layerforge as lf
from layerforge import io, layer
from layerforge.datum import Datum, datum_bytes
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.layers.memory_data import MemoryData
from layerforge.testing import Bench, check_layer

SIZE = "batch_size: 2 channels: 3 height: 4 width: 5"


def bench(transform=None, size=SIZE, tops='top: "data" top: "label"', **options):
    more = "" if transform is None else f"transform_param {{ {transform} }}"
    return Bench(
        f'name: "data" type: "MemoryData" {tops}\n{more}\nmemory_data_param {{ {size} }}',
        [],
        **{"dtype": np.float32, "phase": lf.TEST, **options},
    )


def items(count=6, shape=(3, 4, 5), dtype=np.float32):
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(dtype)


def run(made, passes):
    return [[top.copy() for top in made.forward([], {})] for _ in range(passes)]


@pytest.mark.parametrize(
    "text, expected",
    [
        (f"memory_data_param {{ {SIZE} }}", lambda x: x),
        (
            f"transform_param {{ mean_value: 1 scale: 0.5 }} memory_data_param {{ {SIZE} }}",
            lambda x: (x - 1) / 2,
        ),
        (
            "transform_param { crop_size: 2 } memory_data_param { batch_size: 2 channels: 3 height: 2 width: 2 }",
            lambda x: x[:, :, 1:3, 1:3],
        ),
    ],
)
@pytest.mark.parametrize("tops", [1, 2])
def test_memory_data(monkeypatch, text, expected, tops):
    """A layer that was handed one batch: every pass is the same."""

    class Handed(MemoryData, register=False):
        type = "MemoryData"

        def setup(self, *bottom_shapes):
            super().setup(*bottom_shapes)
            self.set_input_arrays(items(2), [3, 4])

    monkeypatch.setitem(layer.registry, "MemoryData", Handed)
    named = " ".join(['top: "data"', 'top: "label"'][:tops])
    check_layer(
        f'type: "MemoryData" {named} {text}', [], lambda: (expected(items(2)), np.array([3, 4]))[:tops], phase=lf.TEST
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int64, bool])
def test_arrays(dtype, kind):
    made = bench(dtype=dtype)
    assert [top.shape for top in made.top] == [(2, 3, 4, 5), (2,)]
    data, labels = items(dtype=kind), np.arange(6) * 10
    made.layer.set_input_arrays(data, labels)
    for i, (x, y) in enumerate(run(made, 7)):
        at = slice(2 * i % 6, 2 * i % 6 + 2)
        assert np.array_equal(x, data[at])
        assert np.array_equal(y, labels[at])


def test_from_a_net(tmp_path):
    """pycaffe's call; its labels may have four axes."""
    text = f'layer {{ name: "data" type: "MemoryData" top: "data" top: "label" memory_data_param {{ {SIZE} }} }}'
    (tmp_path / "net.prototxt").write_text(text)
    net = lf.Net(str(tmp_path / "net.prototxt"), lf.TRAIN)
    data = items()
    net.set_input_arrays(data, np.arange(6, dtype=np.float32).reshape(6, 1, 1, 1))
    net.forward()
    assert net.forward()["label"].tolist() == [2, 3]
    assert np.array_equal(net.blobs["data"].data, data[2:4])
    net.set_input_arrays(data)
    assert net.forward()["label"].tolist() == [0, 0]
    net.close()


def test_a_net_without_such_a_layer(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
    )
    with pytest.raises(DefinitionError) as error:
        lf.Net(str(tmp_path / "net.prototxt"), lf.TEST).set_input_arrays(items())
    assert str(error.value) == "this net has no MemoryData layer, so it takes no input arrays. Set its input blobs"


def test_arrays_are_not_copied():
    made = bench(tops='top: "data"')
    data = items()
    made.layer.set_input_arrays(data)
    run(made, 1)
    data[2:4] = 7
    assert (run(made, 1)[0][0] == 7).all()


def test_new_arrays_begin_anew():
    made = bench()
    made.layer.set_input_arrays(items(), range(6))
    run(made, 2)
    made.layer.set_input_arrays(items(4), range(4))
    assert [labels.tolist() for _, labels in run(made, 3)] == [[0, 1], [2, 3], [0, 1]]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_arrays_are_transformed_too(kind):
    made = bench("crop_size: 2 mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5", f"{SIZE[:-18]}height: 2 width: 2")
    data = items(2, (3, 6, 5), kind)
    made.layer.set_input_arrays(data, [0, 1])
    ((x, _),) = run(made, 1)
    expected = (data[:, :, 2:4, 1:3].astype(np.float32) - np.array([1, 2, 3], np.float32)[:, None, None]) * 0.5
    assert np.array_equal(x, expected)


def test_arrays_that_are_strided():
    data = items(8)[::2].transpose(0, 1, 2, 3)
    for transform in (None, "scale: 1"):
        made = bench(transform)
        made.layer.set_input_arrays(data)
        assert np.array_equal(run(made, 2)[1][0], data[2:])


@pytest.mark.parametrize("form", ["message", "bytes", "record"])
def test_records(form):
    data = items(4, dtype=np.uint8)
    records = [Datum(3, 4, 5, pixels.tobytes(), i + 7) for i, pixels in enumerate(data)]
    if form == "bytes":
        records = [datum_bytes(record) for record in records]
    if form == "message":
        records = [io.array_to_datum(pixels, i + 7) for i, pixels in enumerate(data)]
    made = bench()
    made.layer.add_datum_vector(records)
    (a, b) = run(made, 2)
    assert np.array_equal(np.concatenate([a[0], b[0]]), data)
    assert [a[1].tolist(), b[1].tolist()] == [[7, 8], [9, 10]]


def test_encoded_records():
    data = items(2, dtype=np.uint8)
    files = [cv2.imencode(".png", pixels.transpose(1, 2, 0))[1].tobytes() for pixels in data]
    made = bench("force_color: true")
    made.layer.add_datum_vector([Datum(data=file, encoded=True) for file in files])
    assert np.array_equal(run(made, 1)[0][0], data)


def test_images():
    data = items(4, dtype=np.uint8)
    made = bench()
    made.layer.add_mat_vector([pixels.transpose(1, 2, 0) for pixels in data], [5, 6, 7, 8])
    _, (x, y) = run(made, 2)
    assert np.array_equal(x, data[2:])
    assert y.tolist() == [7, 8]


def test_grey_images_of_two_axes():
    data = items(2, (4, 5), np.uint8)
    made = bench(size="batch_size: 2 channels: 1 height: 4 width: 5")
    made.layer.add_mat_vector(list(data))
    assert np.array_equal(run(made, 1)[0][0][:, 0], data)


def test_crops_are_drawn_anew_each_time_and_resumed():
    def make(seed):
        made = bench("crop_size: 4 mirror: true", "batch_size: 2 channels: 3 height: 4 width: 4", phase=0, seed=seed)
        made.layer.set_input_arrays(items(2, (3, 7, 7), np.uint8))
        return made

    expected = run(make(1), 20)
    assert len({x.tobytes() for x, _ in expected}) > 15
    second = make(2)
    second.layer.seed = 1
    second.layer.set_data_state({"position": 20})
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(run(second, 10), expected[10:], strict=True))


def test_another_batch_size(tmp_path):
    text = f'layer {{ name: "data" type: "MemoryData" top: "data" top: "label" memory_data_param {{ {SIZE} }} }}'
    (tmp_path / "net.prototxt").write_text(text)
    net = lf.Net(str(tmp_path / "net.prototxt"), lf.TEST)
    net.set_input_arrays(items(12), range(12))
    labels = [net.forward()["label"].tolist() for _ in range(4)]
    net.layers[0].set_batch_size(3)
    labels += [net.forward()["label"].tolist() for _ in range(3)]
    assert labels == [[0, 1], [2, 3], [4, 5], [6, 7], [6, 7, 8], [9, 10, 11], [0, 1, 2]]


def test_exact_resume():
    one, two = bench(), bench()
    for made in (one, two):
        made.layer.set_input_arrays(items(), range(6))
    run(one, 4)
    two.layer.set_data_state(one.layer.data_state())
    assert run(two, 1)[0][1].tolist() == [2, 3]
    two.layer.skip(2)
    assert run(two, 1)[0][1].tolist() == [4, 5]


# What is wrong.

TITLE = 'layer "data" (MemoryData): '


@pytest.mark.parametrize("field", ["batch_size", "channels", "height", "width"])
def test_a_size_that_is_missing(field):
    words = SIZE.split()
    at = words.index(f"{field}:")
    with pytest.raises(DefinitionError) as error:
        bench(size=" ".join(words[:at] + words[at + 2 :]))
    assert str(error.value) == f"<text>:3:1: {TITLE}{field} must be at least 1"


def test_a_transformation_that_contradicts_itself():
    with pytest.raises(DefinitionError) as error:
        bench("force_gray: true force_color: true")
    assert str(error.value) == f"<text>:2:1: {TITLE}force_color and force_gray exclude each other: write one of them"


def test_no_data():
    with pytest.raises(DataError) as error:
        bench().forward([], {})
    assert str(error.value) == f"<text>: {TITLE}it has no data yet: call net.set_input_arrays(data, labels)"


@pytest.mark.parametrize(
    "data, labels, kind, text",
    [
        (items()[0], None, ShapeError, "data must be an array of numbers, (N, C, H, W); it is (3, 4, 5) of float32"),
        (["a", "b"], None, ShapeError, "data must be an array of numbers, (N, C, H, W); it is (2,) of <U1"),
        (
            items(2, (3, 5, 5)),
            None,
            ShapeError,
            "data is (2, 3, 5, 5); without transform_param it must be (N, 3, 4, 5)",
        ),
        (
            items(4),
            [1, 2, 3],
            ShapeError,
            "there must be one label for each of the 4 items; they are (3,) of int64",
        ),
        (items(2), [1, np.nan], DataError, "label 1 is nan; it must be a number"),
    ],
)
def test_arrays_that_do_not_fit(data, labels, kind, text):
    with pytest.raises(kind) as error:
        bench().layer.set_input_arrays(data, labels)
    assert str(error.value) == f"<text>: {TITLE}{text}"


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_number_that_is_no_multiple(count):
    with pytest.raises(ShapeError) as error:
        bench().layer.set_input_arrays(items(count))
    assert str(error.value) == (
        f"<text>:3:21: {TITLE}the number of items, {count}, must be a multiple of batch_size: 2"
    )


def test_a_batch_size_that_does_not_divide():
    made = bench()
    made.layer.set_input_arrays(items())
    for size in (4, 0):
        with pytest.raises(ShapeError) as error:
            made.layer.set_batch_size(size)
        assert str(error.value) == (
            f"<text>:3:21: {TITLE}the number of items, 6, must be a multiple of batch_size: {size}"
        )


def test_items_that_become_something_else():
    made = bench("crop_size: 4")
    with pytest.raises(ShapeError) as error:
        made.layer.set_input_arrays(items(2, (3, 6, 6)))
    assert str(error.value) == f"<text>: {TITLE}item 0 becomes (3, 4, 4); memory_data_param says (3, 4, 5)"
    with pytest.raises(ShapeError) as error:
        made.layer.set_input_arrays(items(2, (3, 3, 6)))
    assert str(error.value) == (
        f"<text>:2:1: {TITLE}item 0: a crop of 4x4 is larger than a record of 3x6: "
        "crop less, or make the records larger"
    )
    with pytest.raises(ShapeError) as error:
        bench().layer.add_datum_vector([Datum(3, 4, 5, bytes(60)), Datum(3, 4, 4, bytes(48))])
    assert str(error.value) == f"<text>: {TITLE}item 1 becomes (3, 4, 4); memory_data_param says (3, 4, 5)"


def test_a_record_that_is_damaged():
    with pytest.raises(DataError) as error:
        bench().layer.add_datum_vector([Datum(3, 4, 5, bytes(60)), Datum(3, 4, 5, bytes(1))])
    assert str(error.value) == (f"<text>: {TITLE}record 1: it has 1 bytes of data, but its shape (3, 4, 5) needs 60")


def test_an_image_of_another_type():
    with pytest.raises(ShapeError) as error:
        bench().layer.add_mat_vector([np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 3))])
    assert str(error.value) == (
        f"<text>: {TITLE}image 1 must be uint8, (H, W) or (H, W, C); it is (4, 5, 3) of float64"
    )
