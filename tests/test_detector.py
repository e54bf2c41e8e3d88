"""The Detector: what its net sees of a window, with and without its surroundings, and files of windows."""

import cv2
import numpy as np
import pytest

import layerforge as caffe
from layerforge import io
from layerforge.detector import read_windows
from layerforge.errors import DataError, DefinitionError, ShapeError

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return str(path)


@pytest.fixture
def picture(tmp_path):
    """An image file of 20 x 30 pixels, red in its left half and black in its right one."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15, 2] = 255
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), image)
    return str(path)


def test_windows_in_order(model, picture):
    """More windows than a batch, from several images; records keep the caller's order."""
    net = caffe.Detector(model, None)
    windows = np.array([[0, 0, 20, 15], [0, 15, 20, 30], [5, 5, 9, 25]])
    found = net.detect_windows([(picture, windows), (picture, windows[:1]), (picture, [])])
    assert [record["filename"] for record in found] == [picture] * 4
    assert [list(record["window"]) for record in found] == [*windows.tolist(), windows[0].tolist()]
    predictions = np.stack([record["prediction"] for record in found])
    assert predictions.shape == (4, 3, 1, 1)
    assert np.allclose(predictions[:, :, 0, 0], [[1, 0, 0], [0, 0, 0], [0.5, 0, 0], [1, 0, 0]], atol=1e-5)
    assert net.detect_windows([]) == []


def test_the_transformer_is_the_classifiers(model, picture):
    net = caffe.Detector(model, None, mean=np.array([1, 2, 3]), raw_scale=255, channel_swap=(2, 1, 0), input_scale=2)
    (record,) = net.detect_windows([(picture, [[0, 0, 20, 15]])])
    assert np.allclose(record["prediction"].ravel(), [2 * -1, 2 * -2, 2 * (255 - 3)], atol=1e-3)


def test_a_window_without_context_is_a_part_of_the_image(model):
    net = caffe.Detector(model, None)
    image = np.random.default_rng(1).random((20, 30, 3), np.float32)
    assert np.array_equal(net.crop(image, (3, 4, 10, 12)), image[3:10, 4:12])
    assert np.array_equal(net.crop(image, (-5, 25, 10, 99)), image[0:10, 25:30])


def test_context(model):
    """A window of 4 x 4 with 2 of 8 pixels of context on each side shows 9 x 9 pixels: Caffe counts both ends."""
    net = caffe.Detector(model, None, context_pad=2)
    image = np.random.default_rng(1).random((20, 30, 3), np.float32)
    assert np.array_equal(net.crop(image, (6, 7, 10, 11)), io.resize_image(image[4:13, 5:14], (8, 8)))


def test_context_outside_the_image_is_the_mean(model):
    """What the transformer makes zeros of; in the channels and the scale of images, not of inputs."""
    net = caffe.Detector(model, None, np.array([10, 20, 30]), raw_scale=100, channel_swap=(2, 1, 0), context_pad=2)
    image = np.ones((20, 30, 3), np.float32)
    crop = net.crop(image, (0, 26, 4, 30))
    assert crop.shape == (8, 8, 3)
    assert np.allclose(crop[2:, :5], 1)
    assert np.allclose(crop[:2], [0.3, 0.2, 0.1]) and np.allclose(crop[:, 5:], [0.3, 0.2, 0.1])
    made = net.transformer.preprocess("data", crop)
    assert np.allclose(made[:, :2], 0, atol=1e-5) and np.allclose(made[:, :, 5:], 0, atol=1e-5)


def test_context_of_a_mean_image(model):
    mean = np.random.default_rng(1).random((3, 8, 8))
    net = caffe.Detector(model, None, mean, context_pad=3)
    assert np.allclose(net.crop(np.zeros((50, 50, 3), np.float32), (0, 0, 2, 2))[:3], mean.transpose(1, 2, 0)[:3])


@pytest.mark.parametrize("window", [(0, 0, 1, 1), (19, 29, 20, 30), (0, 0, 20, 30), (3, 2, 4, 30), (-4, -4, 3, 3)])
@pytest.mark.parametrize("pad", [1, 2, 3])
def test_context_of_odd_windows(model, window, pad):
    net = caffe.Detector(model, None, context_pad=pad)
    crop = net.crop(np.ones((20, 30, 3), np.float32), window)
    assert crop.shape == (8, 8, 3)
    assert crop.min() >= 0 and crop.max() == 1


def test_a_callable_proposes(model, picture):
    net = caffe.Detector(model, None)
    asked = []
    found = net.detect_selective_search([picture], lambda name: asked.append(name) or [(0, 0, 20, 15)])
    assert asked == [picture]
    assert np.allclose(found[0]["prediction"].ravel(), [1, 0, 0])


def test_mistakes(model, picture):
    net = caffe.Detector(model, None)
    with pytest.raises(DefinitionError) as error:
        net.detect_selective_search([picture])
    assert str(error.value) == (
        "selective search is a MATLAB program that does not come along. Give a callable that proposes windows:"
        " detect_selective_search(files, propose); or windows of a file: detect_windows(read_windows(file))"
    )
    with pytest.raises(DataError) as error:
        net.detect_windows([(picture, [(0, 30, 5, 40)])])
    assert str(error.value) == (f"{picture}: window (0, 30, 5, 40) has no pixel of the image, whose size is (20, 30)")
    with pytest.raises(ShapeError) as error:
        net.configure_crop(4)
    assert str(error.value) == "context_pad: 4 on each side leaves no room in an input of (8, 8)"
    net.blobs["data"].reshape(2, 3, 8, 9)
    with pytest.raises(ShapeError) as error:
        net.configure_crop(1)
    assert str(error.value) == "context_pad: 1 needs an input that is a square; this one is (8, 9)"


# Files of windows.


def test_csv(tmp_path):
    path = tmp_path / "windows.csv"
    path.write_text("filename,xmin,ymin,xmax,ymax,note\na.jpg,1,2,3,4,x\nb c.jpg,0,0,9,9.5,\na.jpg,5,6,7,8,\n")
    (a, of_a), (b, of_b) = read_windows(path)
    assert (a, of_a.tolist()) == ("a.jpg", [[2, 1, 4, 3], [6, 5, 8, 7]])
    assert (b, of_b.tolist()) == ("b c.jpg", [[0, 0, 9.5, 9]])


def test_window_file(tmp_path):
    """Caffe's: x before y, and the last pixel counts."""
    path = tmp_path / "windows.txt"
    path.write_text("# 0\n/a b.jpg\n3\n375\n500\n2\n1 0.8 10 20 99 119\n0 0.1 0 0 4 5\n# 1\nc.jpg\n3\n10\n10\n0\n\n")
    (a, of_a), (c, of_c) = read_windows(path)
    assert (a, of_a.tolist()) == ("/a b.jpg", [[20, 10, 120, 100], [0, 0, 6, 5]])
    assert (c, of_c.shape) == ("c.jpg", (0, 4))


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "file,ymin,xmin,ymax\n",
            ": the first line must name the columns filename, ymin, xmin, ymax, xmax; filename, xmax is missing",
        ),
        (
            "",
            ": the first line must name the columns filename, ymin, xmin, ymax, xmax; filename, ymin, xmin, ymax, xmax"
            " is missing",
        ),
        (
            "filename,ymin,xmin,ymax,xmax\na.jpg,1,2,3,4\na.jpg,1,2,x\n",
            ":3: a window has four numbers; this line has ymin: '1', xmin: '2', ymax: 'x', xmax: None",
        ),
    ],
)
def test_files_that_are_neither(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_text(text)
    with pytest.raises(DataError) as error:
        read_windows("w")
    assert str(error.value) == f"w{expected}"


def test_a_window_file_that_is_damaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_text("# 0\na.jpg\n3\n4\n4\n1\n1 1 0 0 3\n")
    with pytest.raises(DataError) as error:
        read_windows("w")
    assert str(error.value) == 'w:7: "1 1 0 0 3" is no window: it must be class, overlap, x1, y1, x2, y2'


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        read_windows("w")
    assert str(error.value) == "w: there is no such file of windows"
    (tmp_path / "w").mkdir()
    with pytest.raises(DataError) as error:
        read_windows("w")
    assert str(error.value) == "w: cannot be read: Is a directory"
