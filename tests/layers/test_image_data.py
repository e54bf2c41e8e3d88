import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

IMAGES = Path(__file__).parents[1] / "golden" / "data" / "images"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten images, 6x8; image i is full of 20 i in blue, 20 i + 1 in green and 20 i + 2 in red, with label i."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for i in range(10):
        cv2.imwrite(f"images/{i}.png", np.full((6, 8, 3), (20 * i, 20 * i + 1, 20 * i + 2), np.uint8))
    write("".join(f"{i}.png {i}\n" for i in range(10)))
    return tmp_path


def write(text):
    Path("list.txt").write_text(text)


def bench(
    text="batch_size: 4",
    transform="",
    tops='top: "data" top: "label"',
    more="",
    source="list.txt",
    root="images/",
    **options,
):
    return Bench(
        f'name: "data" type: "ImageData" {tops} {more}\ntransform_param {{ {transform} }}\n'
        f'image_data_param {{ source: "{source}" root_folder: "{root}" {text} }}',
        [],
        **{"dtype": np.float32, **options},
    )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "text, transform, tops, expected",
    [
        ("", "", 2, lambda x: x),
        ("", "crop_size: 4 mean_value: 2 scale: 0.5", 2, lambda x: (x[:, :, :4, :4] - 2) / 2),
        ("new_height: 3 new_width: 5", "", 1, lambda x: x[:, :, :3, :5]),
    ],
)
def test_image_data(text, transform, tops, expected):
    """A batch of all images: every pass is the same."""
    x = np.broadcast_to((20 * np.arange(10)[:, None] + np.arange(3))[:, :, None, None], (10, 3, 6, 8))
    named = " ".join(['top: "data"', 'top: "label"'][:tops])
    check_layer(
        f'type: "ImageData" {named} transform_param {{ {transform} }} '
        f'image_data_param {{ source: "list.txt" root_folder: "images/" batch_size: 10 {text} }}',
        [],
        lambda: (expected(x), np.arange(10))[:tops],
        phase=lf.TEST,
    )


def run(made, passes):
    """The labels of every batch, each image's pixels checked against its label."""
    found = []
    for _ in range(passes):
        data, labels = made.forward([], {})
        assert (data == 20 * labels[:, None, None, None] + np.arange(3)[:, None, None]).all()
        found.append(labels.astype(int).tolist())
    made.layer.close()
    return found


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches(dtype):
    made = bench(dtype=dtype)
    assert [top.shape for top in made.top] == [(4, 3, 6, 8), (4,)]
    assert run(made, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5]]


@pytest.mark.usefixtures("folder")
def test_several_labels_and_floats():
    write("0.png 0.5 -1 7\n1.png 1e-3 0 2147483647\n")
    made = bench("batch_size: 2", dtype=np.float64)
    assert [top.shape for top in made.top] == [(2, 3, 6, 8), (2, 3)]
    assert made.forward([], {})[1].tolist() == [[0.5, -1, 7], [0.001, 0, 2147483647]]
    made.layer.close()


@pytest.mark.usefixtures("folder")
def test_without_labels():
    made = bench(tops='top: "data"')
    assert [top.shape for top in made.top] == [(4, 3, 6, 8)]
    assert made.forward([], {})[0][:, 0, 0, 0].tolist() == [0, 20, 40, 60]
    made.layer.close()


@pytest.mark.usefixtures("folder")
def test_grey_and_resized():
    made = bench("batch_size: 1 is_color: false new_height: 3 new_width: 2", "scale: 0.5 mean_value: 1")
    assert made.top[0].shape == (1, 1, 3, 2)
    made.forward([], {})
    data, _ = made.forward([], {})
    assert (data == (cv2.imread("images/1.png", cv2.IMREAD_GRAYSCALE)[0, 0] - 1) * 0.5).all()
    made.layer.close()


def test_resizing_is_opencvs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(IMAGES, tmp_path / "images")
    write("img_00.jpg 0\nimg_01.png 1\n")
    made = bench("batch_size: 2 new_height: 100 new_width: 31")
    data, _ = made.forward([], {})
    made.layer.close()
    for pixels, name in zip(data, ("img_00.jpg", "img_01.png"), strict=True):
        assert np.array_equal(pixels.transpose(1, 2, 0), cv2.resize(cv2.imread(f"images/{name}"), (31, 100)))


@pytest.mark.usefixtures("folder")
def test_with_batches_of_one_the_shape_follows_the_image():
    cv2.imwrite("images/1.png", np.full((2, 3, 3), (20, 21, 22), np.uint8))
    Path("net.prototxt").write_text(
        'layer { name: "data" type: "ImageData" top: "data" top: "label"'
        ' image_data_param { source: "list.txt" root_folder: "images/" } }'
    )
    net = lf.Net("net.prototxt", lf.TEST)
    shapes = [net.forward()["data"].shape for _ in range(3)]
    net.close()
    assert shapes == [(1, 3, 6, 8), (1, 3, 2, 3), (1, 3, 6, 8)]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["", "shuffle: true", "rand_skip: 7", "threads: 1", "cache: true"])
def test_exact_resume(text):
    def make(seed=5):
        return bench(f"batch_size: 4 {text}", "mirror: true", seed=seed)

    expected = run(make(), 12)
    first = make()
    assert run(first, 5) == expected[:5]
    second = make(seed=6)
    second.layer.seed = 5
    second.layer.set_data_state(first.layer.data_state())
    assert run(second, 7) == expected[5:]
    third = make()
    third.layer.skip(9)
    assert run(third, 3) == expected[9:]


@pytest.mark.usefixtures("folder")
def test_shuffling_takes_every_image_once_an_epoch():
    epochs = run(bench("batch_size: 10 shuffle: true"), 3)
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.usefixtures("folder")
def test_rand_skip():
    starts = [run(bench("batch_size: 1 rand_skip: 4", seed=seed), 1)[0][0] for seed in range(30)]
    assert set(starts) == {0, 1, 2, 3}


@pytest.mark.usefixtures("folder")
def test_prefetch_is_that_of_data_param():
    made = bench(more="data_param { prefetch: 9 }")
    assert made.layer.loader._ring._count == 9


@pytest.mark.usefixtures("folder")
def test_an_image_that_is_damaged_is_skipped_if_asked(caplog):
    Path("images/2.png").write_bytes(b"")
    Path("images/5.png").unlink()
    made = bench("batch_size: 4 skip_bad: true")
    assert run(made, 2) == [[0, 1, 3, 3], [4, 6, 6, 7]]
    assert made.layer.skipped >= 2
    assert sorted(caplog.messages) == [
        'Skipped: list.txt:3: "images/2.png": its 0 bytes cannot be decoded as an image',
        'Skipped: list.txt:6: "images/5.png": No such file or directory',
    ]


# What is wrong.


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "options, kind, expected",
    [
        ({"text": "batch_size: 0"}, DefinitionError, ":3:62: {}: batch_size must be at least 1"),
        (
            {"text": "new_height: 5"},
            DefinitionError,
            ":3:62: {}: new_height is 5 and new_width is 0: give both, or none",
        ),
        (
            {"text": "new_width: 5"},
            DefinitionError,
            ":3:62: {}: new_height is 0 and new_width is 5: give both, or none",
        ),
        ({"source": "none.txt"}, DataError, ':3:20: {}: source "none.txt" cannot be read: No such file or directory'),
        (
            {"root": "x/"},
            DataError,
            ':3:20: {}: list.txt:1: "x/0.png": No such file or directory',
        ),
    ],
)
def test_options_that_are_wrong(options, kind, expected):
    with pytest.raises(kind) as error:
        bench(**options)
    assert str(error.value) == "<text>" + expected.format('layer "data" (ImageData)')


@pytest.mark.usefixtures("folder")
def test_a_line_without_a_label():
    write("0.png 0\n1.png\n")
    with pytest.raises(DataError) as error:
        bench()
    assert str(error.value) == (
        '<text>:3:20: layer "data" (ImageData): list.txt:2: "1.png" must end with a label. '
        "Write a path, a space and a number"
    )


@pytest.mark.usefixtures("folder")
def test_an_image_that_cannot_be_decoded():
    Path("images/5.png").write_bytes(b"no image")
    made = bench()
    made.forward([], {})
    with pytest.raises(DataError) as error:
        made.forward([], {})
    assert str(error.value) == (
        '<text>:3:20: layer "data" (ImageData): list.txt:6: "images/5.png": its 8 bytes cannot be decoded as an image'
    )
    made.layer.close()


@pytest.mark.usefixtures("folder")
def test_images_of_several_sizes():
    cv2.imwrite("images/2.png", np.zeros((7, 8, 3), np.uint8))
    made = bench()
    with pytest.raises(ShapeError) as error:
        made.forward([], {})
    assert str(error.value) == (
        '<text>:2:1: layer "data" (ImageData): list.txt:3: "images/2.png": it becomes (3, 7, 8), the first record '
        "(3, 6, 8), but a batch needs one shape: write new_height and new_width, or batch_size: 1"
    )
    made.layer.close()


@pytest.mark.usefixtures("folder")
def test_a_crop_that_does_not_fit():
    with pytest.raises(ShapeError) as error:
        bench(transform="crop_size: 7")
    assert str(error.value) == (
        '<text>:2:1: layer "data" (ImageData): list.txt:1: "images/0.png": '
        "a crop of 7x7 is larger than a record of 6x8: crop less, or make the records larger"
    )
