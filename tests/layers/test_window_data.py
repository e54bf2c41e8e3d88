from pathlib import Path

import cv2
import numpy as np
import pytest

import layerforge as lf
from layerforge import wire
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer

CROP = 8


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Two noisy images, a.png of 30x40 and b.png of 50x20, each with two objects and two windows of background."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name, height, width in (("a.png", 30, 40), ("b.png", 50, 20)):
        cv2.imwrite(f"images/{name}", rng.integers(0, 256, (height, width, 3), np.uint8))
    write(
        "# 0\na.png\n3\n30\n40\n5\n1 0.9 2 3 9 10\n2 0.5 20 10 35 29\n3 0.4 0 0 5 5\n0 0.1 30 0 39 9\n2 0 5 5 20 20\n"
        "# 1\nb.png\n3\n50\n20\n2\n4 1 0 0 19 49\n0 0 3 3 10 10\n"
    )
    return tmp_path


def write(text):
    Path("windows.txt").write_text(text)


def bench(
    text="", transform=f"crop_size: {CROP}", batch=4, source="windows.txt", tops='top: "data" top: "label"', **options
):
    return Bench(
        f'name: "data" type: "WindowData" {tops}\ntransform_param {{ {transform} }}\n'
        f'window_data_param {{ source: "{source}" root_folder: "images/" batch_size: {batch} bg_threshold: 0.3 '
        f"{text} }}",
        [],
        **{"dtype": np.float32, "phase": lf.TEST, **options},
    )  # fmt: skip


@pytest.mark.parametrize(
    "text, transform, expected",
    [("", "", lambda x: x), ("cache_images: true", "mean_value: 2 scale: 0.5", lambda x: (x - 2) / 2)],
)
@pytest.mark.parametrize("tops", [1, 2])
def test_window_data(text, transform, expected, tops):
    """With one window of each kind, every pass is the same."""
    write("# 0\na.png\n3\n30\n40\n2\n1 0.9 2 3 9 10\n2 0 5 5 20 20\n")
    windows = np.stack([warped("a.png", 5, 5, 20, 20)] * 3 + [warped("a.png", 2, 3, 9, 10)])
    named = " ".join(['top: "data"', 'top: "label"'][:tops])
    check_layer(
        f'type: "WindowData" {named} transform_param {{ crop_size: {CROP} {transform} }} window_data_param {{ '
        f'source: "windows.txt" root_folder: "images/" batch_size: 4 bg_threshold: 0.3 {text} }}',
        [],
        lambda: (expected(windows), np.array([0, 0, 0, 1]))[:tops],
    )


def run(made, passes=1):
    found = [[top.copy() for top in made.forward([], {})] for _ in range(passes)]
    made.layer.close()
    return found


# Label -> image, x1, y1, x2, y2 of the windows that may be drawn; background has three.
FOREGROUND = {1: ("a.png", 2, 3, 9, 10), 2: ("a.png", 20, 10, 35, 29), 4: ("b.png", 0, 0, 19, 49)}
BACKGROUND = [("a.png", 30, 0, 39, 9), ("a.png", 5, 5, 20, 20), ("b.png", 3, 3, 10, 10)]


def warped(image, x1, y1, x2, y2):
    part = cv2.imread(f"images/{image}")[y1 : y2 + 1, x1 : x2 + 1]
    return cv2.resize(part, (CROP, CROP)).transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_warped_windows(dtype):
    """Each row is one of the windows, resized; background first, then a quarter of foreground."""
    seen = set()
    for data, labels in run(bench(batch=8, dtype=dtype), 30):
        assert labels[:6].tolist() == [0] * 6
        for row, label in zip(data, labels.astype(int).tolist(), strict=True):
            windows = BACKGROUND if not label else [FOREGROUND[label]]
            (which,) = (window for window in windows if np.array_equal(row, warped(*window)))
            seen.add(which)
    assert seen == {*BACKGROUND, *FOREGROUND.values()}


@pytest.mark.parametrize("fraction, foreground", [(0, 0), (0.25, 1), (0.49, 2), (0.6, 3), (1, 5)])
def test_the_part_that_is_foreground(fraction, foreground):
    ((_, labels),) = run(bench(f"fg_fraction: {fraction}", batch=5))
    assert (labels > 0).tolist() == [False] * (5 - foreground) + [True] * foreground


def test_mirrored_windows():
    data, labels = run(bench("fg_fraction: 1", f"crop_size: {CROP} mirror: true", batch=400))[0]
    for label, window in FOREGROUND.items():
        rows = data[labels == label]
        plain = np.array([np.array_equal(row, warped(*window)) for row in rows])
        turned = np.array([np.array_equal(row, warped(*window)[:, :, ::-1]) for row in rows])
        assert (plain ^ turned).all()
    all_plain = sum(np.array_equal(r, warped(*FOREGROUND[int(i)])) for r, i in zip(data, labels, strict=True))
    assert abs(all_plain - 200) < 50  # 5 sigma


def context_by_hand(image, x1, y1, x2, y2, pad, mirror):
    """As R-CNN describes it: the pixels beyond the image are 0, the rest is resized."""
    pixels = cv2.imread(f"images/{image}")
    scale = CROP / (CROP - 2 * pad)
    half_w, half_h = (x2 - x1 + 1) / 2 * scale, (y2 - y1 + 1) / 2 * scale
    cx, cy = x1 + (x2 - x1 + 1) / 2, y1 + (y2 - y1 + 1) / 2
    away = lambda v: int(np.sign(v) * np.floor(abs(v) + 0.5))  # noqa: E731
    x1, x2, y1, y2 = away(cx - half_w), away(cx + half_w), away(cy - half_h), away(cy + half_h)
    sx, sy = CROP / (x2 - x1 + 1), CROP / (y2 - y1 + 1)
    before, above = max(0, -x1), max(0, -y1)
    after = max(0, x2 - pixels.shape[1] + 1)
    part = pixels[max(y1, 0) : y2 + 1, max(x1, 0) : x2 + 1]
    top, left = away(above * sy), away((after if mirror else before) * sx)
    high, wide = min(away(part.shape[0] * sy), CROP - top), min(away(part.shape[1] * sx), CROP - left)
    part = cv2.resize(part, (wide, high))
    out = np.zeros((CROP, CROP, 3), np.float32)
    out[top : top + high, left : left + wide] = part[:, ::-1] if mirror else part
    return out.transpose(2, 0, 1)


def test_windows_with_context():
    transform = f"crop_size: {CROP} mirror: true"
    found = set()
    for data, labels in run(bench("context_pad: 2 fg_fraction: 1", transform, batch=20), 10):
        for row, label in zip(data, labels.astype(int).tolist(), strict=True):
            for mirror in (False, True):
                if np.array_equal(row, context_by_hand(*FOREGROUND[label], 2, mirror)):
                    found.add((label, mirror))
                    break
            else:
                pytest.fail(f"a window of class {label} is not as expected")
    assert found == {(label, mirror) for label in FOREGROUND for mirror in (False, True)}


def test_square_windows():
    """b.png's object is 20 wide and 50 high: its square is 51 wide, 31 of which are beyond the image."""
    made = bench('crop_mode: "square" fg_fraction: 1', "crop_size: 51", batch=50)
    data, labels = run(made)[0]
    row = data[labels == 4][0]
    assert (row[:, :, :15] == 0).all()
    assert (row[:, :, 36:] == 0).all()
    assert np.array_equal(row[:, :50, 15:35], cv2.imread("images/b.png").transpose(2, 0, 1))


def test_the_mean_is_that_of_the_place_in_the_crop():
    mean = np.random.default_rng(1).random((1, 3, CROP + 4, CROP + 4), np.float32) * 100
    with open("mean.binaryproto", "wb") as file:
        wire.write_blob(file, mean)
    plain = run(bench("context_pad: 2", seed=3), 5)
    for text, value in (
        ('mean_file: "mean.binaryproto"', mean[0, :, 2:-2, 2:-2]),
        ("mean_value: 5", np.float32(5)),
        ("mean_value: 1 mean_value: 2 mean_value: 3", np.arange(1, 4, dtype=np.float32)[:, None, None]),
    ):
        made = bench("context_pad: 2", f"crop_size: {CROP} scale: 0.5 {text}", seed=3)
        for (data, _), (expected, _) in zip(run(made, 5), plain, strict=True):
            inside = expected != 0
            assert (data[~inside] == 0).mean() > 0.9  # beyond the image; a pixel may be 0 too
            assert np.array_equal(data[inside], ((expected - value) * np.float32(0.5))[inside])


def test_grey_images():
    write("# 0\na.png\n1\n30\n40\n2\n1 0.9 2 3 9 10\n0 0.1 30 0 37 7\n")
    data, _ = run(bench(batch=4))[0]
    assert np.array_equal(data[3, 0], cv2.imread("images/a.png", cv2.IMREAD_GRAYSCALE)[3:11, 2:10])


def test_the_seed_decides():
    def batches(seed, start=0, passes=6):
        made = bench("cache_images: true" if seed == 1 else "", "crop_size: 8 mirror: true", seed=seed)
        made.layer.set_data_state({"position": 4 * start})
        return run(made, passes)

    first = batches(1)
    again, other = batches(1, 2, 4), batches(2)
    assert all(
        np.array_equal(a, b) for one, two in zip(first[2:], again, strict=True) for a, b in zip(one, two, strict=True)
    )
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_exact_resume():
    whole = run(bench(seed=1), 8)
    first, second = bench(seed=1), bench(seed=2)
    run(first, 3)
    second.layer.seed = 1
    second.layer.set_data_state(first.layer.data_state())
    third = bench(seed=1)
    third.layer.skip(3)
    for made in (second, third):
        for got, expected in zip(run(made, 5), whole[3:], strict=True):
            assert np.array_equal(got[0], expected[0])


def test_cached_images_are_read_once():
    made = bench("cache_images: true", batch=40)
    made.forward([], {})
    for path in Path("images").iterdir():
        path.unlink()
    run(made, 3)


def test_old_fields(tmp_path):
    """V1, and the transformation in window_data_param: upgraded as it is read."""
    (tmp_path / "net.prototxt").write_text(
        'layers { name: "data" type: WINDOW_DATA top: "data" top: "label" window_data_param { source: "windows.txt" '
        'root_folder: "images/" batch_size: 3 crop_size: 8 mirror: true scale: 0.5 } }'
    )
    net = lf.Net(str(tmp_path / "net.prototxt"), lf.TEST)
    assert net.forward()["data"].shape == (3, 3, 8, 8)
    assert net.blobs["data"].data.max() <= 127.5
    net.close()


# What is wrong.

TITLE = 'layer "data" (WindowData): '


@pytest.mark.parametrize(
    "options, kind, text",
    [
        ({"batch": 0}, DefinitionError, "<text>:3:66: {}batch_size must be at least 1"),
        (
            {"transform": "mirror: true"},
            DefinitionError,
            "<text>:2:1: {}crop_size must be at least 1: every window is resized to it",
        ),
        (
            {"text": "context_pad: 4"},
            DefinitionError,
            "<text>:3:98: {}context_pad: 4 on both sides leaves nothing of crop_size: 8",
        ),
        (
            {"text": 'crop_mode: "sqare"'},
            DefinitionError,
            '<text>:3:98: {}unknown crop_mode "sqare". Did you mean "square"? There are warp, square',
        ),
        (
            {"text": "fg_fraction: 1.5"},
            DefinitionError,
            "<text>:3:98: {}fg_fraction: 1.5 must be from 0 to 1",
        ),
        (
            {"transform": "crop_size: 8 mean_value: 1 mean_value: 2"},
            ShapeError,
            "<text>:2:1: {}mean_value is given 2 times for 3 channels: give it once, or once for each channel",
        ),
        (
            {"transform": 'crop_size: 8 mean_file: "small"'},
            ShapeError,
            '<text>:2:1: {}mean_file "small" is (3, 9, 7); it must have 3 channels and be at least as large as '
            "crop_size: 8",
        ),
        (
            {"source": "none.txt"},
            DataError,
            '<text>:3:21: {}source "none.txt" cannot be read: No such file or directory',
        ),
        (
            {"text": "fg_threshold: 2"},
            DataError,
            '<text>:3:21: {}source "windows.txt" has no window with an overlap of fg_threshold: 2 or more, '
            "and 1 of the 4 in a batch must be such",
        ),
    ],
)  # fmt: skip
def test_options_that_are_wrong(options, kind, text):
    with open("small", "wb") as file:
        wire.write_blob(file, np.zeros((1, 3, 9, 7), np.float32))
    with pytest.raises(kind) as error:
        bench(**options)
    assert str(error.value) == text.format(TITLE)


def test_no_background():
    write("# 0\na.png\n3\n30\n40\n1\n1 0.9 2 3 9 10\n")
    with pytest.raises(DataError) as error:
        bench()
    assert str(error.value) == (
        f'<text>:3:21: {TITLE}source "windows.txt" has no window with an overlap below bg_threshold: 0.3, '
        "and 3 of the 4 in a batch must be such"
    )
    assert run(bench("fg_fraction: 1"))[0][1].tolist() == [1, 1, 1, 1]


def test_foreground_without_a_class():
    write("# 0\na.png\n3\n30\n40\n2\n0 0.1 0 0 1 1\n0 0.9 2 3 9 10\n")
    with pytest.raises(DataError) as error:
        bench()
    assert str(error.value) == (
        f"<text>:3:21: {TITLE}windows.txt:8: a foreground window, of overlap 0.9, has class 0; "
        "classes of objects are from 1"
    )


@pytest.mark.parametrize("context", [0, 2])
def test_a_window_beyond_its_image(context):
    write("# 0\na.png\n3\n30\n40\n2\n0 0.1 0 0 1 1\n1 0.9 50 50 60 60\n")
    made = bench(f"context_pad: {context}")
    with pytest.raises(DataError) as error:
        made.forward([], {})
    made.layer.close()
    assert str(error.value) == (
        f"<text>:3:21: {TITLE}windows.txt:8: the window from (50, 50) to (60, 60) must lie in "
        '"images/a.png", which is 40 pixels wide and 30 high'
    )


@pytest.mark.parametrize(
    "content, text", [(None, "No such file or directory"), (b"no", "its 2 bytes cannot be decoded as an image")]
)
def test_images_that_cannot_be_read(content, text):
    write("# 0\na.png\n3\n30\n40\n2\n0 0.1 0 0 1 1\n1 0.9 2 3 9 10\n")
    Path("images/a.png").unlink()
    if content:
        Path("images/a.png").write_bytes(content)
    made = bench()
    with pytest.raises(DataError) as error:
        made.forward([], {})
    made.layer.close()
    assert str(error.value) == f'<text>:3:21: {TITLE}windows.txt:2: "images/a.png": {text}'
