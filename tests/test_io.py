"""pycaffe's caffe.io: blobs and records to arrays and back, images to network inputs and back."""

import cv2
import numpy as np
import pytest

from layerforge import io, schema
from layerforge.errors import DataError, DefinitionError, ShapeError


def blob(**fields):
    return schema.message("BlobProto")(**fields)


# Blobs.


@pytest.mark.parametrize(
    "proto, expected",
    [
        (blob(data=range(6), num=1, channels=2, height=3, width=1), np.arange(6).reshape(1, 2, 3, 1)),
        (blob(data=range(6), shape={"dim": [2, 3]}), np.arange(6).reshape(2, 3)),
        (blob(data=[7], shape={"dim": []}), np.array(7)),
        (blob(data=[7]), np.array(7)),
        (blob(double_data=[0.1, 0.2], shape={"dim": [2]}), np.array([0.1, 0.2])),
        (blob(shape={"dim": [0, 3]}), np.zeros((0, 3))),
    ],
)
def test_blobproto_to_array(proto, expected):
    array = io.blobproto_to_array(proto)
    assert array.shape == expected.shape
    assert array.tolist() == expected.tolist()


def test_blobproto_to_array_of_diffs():
    proto = blob(data=[1, 2], diff=[3, 4], shape={"dim": [2]})
    assert io.blobproto_to_array(proto, return_diff=True).tolist() == [3, 4]
    proto = blob(double_data=[1, 2], double_diff=[0.1, 4], shape={"dim": [2]})
    assert io.blobproto_to_array(proto, True).tolist() == [0.1, 4]


@pytest.mark.parametrize(
    "proto, text",
    [
        (blob(data=[1, 2, 3]), "this BlobProto says that its shape is (), but it holds 3 values"),
        (
            blob(data=[1, 2, 3], num=1, channels=2, height=1, width=1),
            "this BlobProto says that its shape is (1, 2, 1, 1), but it holds 3 values",
        ),
    ],
)
def test_blobproto_of_another_size(proto, text):
    with pytest.raises(DataError) as error:
        io.blobproto_to_array(proto)
    assert str(error.value) == text


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 2, 3, 4, 5)])
def test_there_and_back(shape):
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    proto = io.array_to_blobproto(array, diff=2 * array)
    assert tuple(proto.shape.dim) == shape
    assert np.array_equal(io.blobproto_to_array(proto), array)
    assert np.array_equal(io.blobproto_to_array(proto, True), 2 * array)


def test_lists_of_arrays_as_bytes():
    arrays = [np.ones((2, 3)), np.zeros(4)]
    back = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
    assert [array.tolist() for array in back] == [array.tolist() for array in arrays]


# Records.


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_datum(dtype):
    array = np.random.default_rng(1).integers(0, 255, (3, 4, 5)).astype(dtype)
    datum = io.array_to_datum(array, label=7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (3, 4, 5, 7)
    back = io.datum_to_array(datum)
    assert back.dtype == dtype and np.array_equal(back, array)
    back[...] = 0  # it may be written to


def test_datum_without_a_label():
    array = np.zeros((1, 1, 1), np.uint8)
    assert not io.array_to_datum(array).HasField("label")
    assert io.array_to_datum(array, 0).HasField("label")
    assert len(io.array_to_datum(array).SerializeToString()) < len(io.array_to_datum(array, 0).SerializeToString())


def test_datum_mistakes():
    with pytest.raises(ShapeError) as error:
        io.array_to_datum(np.zeros((4, 5)))
    assert str(error.value) == ("a Datum has three axes, channels, height and width; this array has shape (4, 5)")
    assert isinstance(error.value, ValueError)  # which pycaffe raised
    with pytest.raises(DataError) as error:
        io.datum_to_array(schema.message("Datum")(data=b"\xff\xd8", encoded=True))
    assert str(error.value) == "this Datum holds an encoded image: decode its data with cv2.imdecode"
    with pytest.raises(DataError) as error:
        io.datum_to_array(schema.message("Datum")(data=b"ab", channels=1, height=1, width=3))
    assert str(error.value) == "this Datum says that its shape is (1, 1, 3), but it holds 2 values"


# Images.


@pytest.fixture
def picture(tmp_path):
    """A file of 2 x 3 pixels, red, green, blue above black, grey, white."""
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [51, 51, 51], [255, 255, 255]]], np.uint8)
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), rgb[:, :, ::-1])
    return path, rgb


def test_load_image(picture):
    path, rgb = picture
    image = io.load_image(path)
    assert image.dtype == np.float32
    assert np.allclose(image, rgb / 255)
    grey = io.load_image(str(path), color=False)
    assert grey.shape == (2, 3, 1)
    assert np.allclose(grey[1, :, 0], [0, 0.2, 1])


def test_load_image_of_16_bits_and_with_alpha(tmp_path):
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), np.full((2, 2, 3), 13107, np.uint16))
    assert np.allclose(io.load_image(deep), 0.2)
    clear = tmp_path / "clear.png"
    cv2.imwrite(str(clear), np.full((2, 2, 4), 51, np.uint8))
    assert io.load_image(clear).shape == (2, 2, 3)


def test_load_image_mistakes(tmp_path):
    with pytest.raises(DataError) as error:
        io.load_image(tmp_path / "none.png")
    assert str(error.value) == f"cannot read an image from {tmp_path}/none.png: there is no such file"
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError) as error:
        io.load_image(tmp_path / "text.png")
    assert str(error.value) == f"cannot read an image from {tmp_path}/text.png: it is no image, or damaged"


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resize_image(channels, order):
    """A plane stays a plane in whatever order, and each channel is by itself."""
    image = np.full((4, 6, channels), 3, np.float32) + np.arange(channels, dtype=np.float32)
    resized = io.resize_image(image, (7, 5), order)
    assert resized.shape == (7, 5, channels)
    assert np.allclose(resized, 3 + np.arange(channels))


def test_resize_image_is_bilinear():
    """Pixel centres: twice the width, values a quarter and three quarters between the two, the border repeated."""
    assert np.allclose(io.resize_image(np.array([[[0.0], [8.0]]]), (1, 4))[0, :, 0], [0, 2, 6, 8])


@pytest.mark.parametrize(
    "image, order, kind, text",
    [
        (np.zeros((2, 2, 1)), 2, DefinitionError, "interp_order: 2 is none of 0 (nearest), 1 (bilinear), 3 (bicubic)"),
        (
            np.zeros((2, 2)),
            1,
            ShapeError,
            "an image has three axes, height, width and channels; this one has shape (2, 2)",
        ),
        (
            np.zeros((0, 2, 3)),
            1,
            ShapeError,
            "an image has three axes, height, width and channels; this one has shape (0, 2, 3)",
        ),
    ],
)
def test_resize_image_mistakes(image, order, kind, text):
    with pytest.raises(kind) as error:
        io.resize_image(image, (3, 3), order)
    assert str(error.value) == text


def test_oversample():
    """Four corners and the centre, then the same five mirrored; image by image."""
    image = np.arange(4 * 6, dtype=np.float32).reshape(4, 6, 1)
    crops = io.oversample([image, -image], (2, 2))
    assert crops.shape == (20, 2, 2, 1)
    corners = crops[:5, 0, 0, 0].tolist()
    assert corners == [0, 4, 12, 16, 8]
    assert np.array_equal(crops[5:10], crops[:5, :, ::-1])
    assert np.array_equal(crops[10:], -crops[:10])
    with pytest.raises(ShapeError) as error:
        io.oversample([image], (5, 2))
    assert str(error.value) == "crops of (5, 2) do not fit images of (4, 6)"


# The transformer.


@pytest.fixture
def transformer():
    made = io.Transformer({"data": (10, 3, 4, 5)})
    made.set_transpose("data", (2, 0, 1))
    return made


def test_preprocess_in_the_order_of_pycaffe(transformer):
    image = np.random.default_rng(1).random((4, 5, 3), np.float32)
    before = image.copy()
    assert np.array_equal(transformer.preprocess("data", image), image.transpose(2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([104, 117, 123]))
    transformer.set_input_scale("data", 0.017)
    expected = (255 * image.transpose(2, 0, 1)[::-1] - np.array([104, 117, 123])[:, None, None]) * 0.017
    made = transformer.preprocess("data", image)
    assert made.dtype == np.float32
    assert np.allclose(made, expected, atol=1e-5)
    assert np.array_equal(image, before)


def test_preprocess_resizes_first(transformer):
    assert transformer.preprocess("data", np.full((9, 9, 3), 2)).tolist() == np.full((3, 4, 5), 2).tolist()


def test_deprocess_goes_back(transformer):
    image = np.random.default_rng(1).random((4, 5, 3), np.float32)
    transformer.set_channel_swap("data", (1, 2, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.random.default_rng(2).random((3, 4, 5)) * 100)
    transformer.set_input_scale("data", 0.5)
    made = transformer.preprocess("data", image)
    assert np.allclose(transformer.deprocess("data", made), image, atol=1e-5)
    assert np.allclose(transformer.deprocess("data", made[np.newaxis]), image, atol=1e-5)


def test_what_broadcasts_to_the_input_will_do(transformer):
    """Scripts on digits give images (H, W); others transpose by hand, or give a grey image to a net of colours."""
    plain = io.Transformer({"data": (1, 1, 4, 5)})
    plain.set_raw_scale("data", 2)
    image = np.random.default_rng(1).random((4, 5), np.float32)
    assert np.array_equal(plain.preprocess("data", image), 2 * image)
    by_hand = io.Transformer({"data": (1, 3, 4, 5)})
    image = np.random.default_rng(2).random((4, 5, 3), np.float32)
    assert np.array_equal(by_hand.preprocess("data", image), image)
    assert np.array_equal(transformer.preprocess("data", image[:, :, :1]), image[np.newaxis, :, :, 0])


def test_grey_goes_there_and_back():
    made = io.Transformer({"data": (1, 1, 1, 5)})
    made.set_transpose("data", (2, 0, 1))
    image = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    assert np.array_equal(made.deprocess("data", made.preprocess("data", image)), image)


def test_means(transformer):
    transformer.set_mean("data", np.ones(3))
    assert transformer.mean["data"].shape == (3, 1, 1)
    transformer.set_mean("data", np.full((3, 8, 8), 5))  # of another size: resized
    assert transformer.mean["data"].tolist() == np.full((3, 4, 5), 5).tolist()
    grey = io.Transformer({"data": (1, 1, 2, 2)})
    grey.set_mean("data", [[1, 2], [3, 4]])
    assert grey.mean["data"].tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    "use, kind, text",
    [
        (
            lambda t: t.set_mean("dat", [1]),
            DefinitionError,
            '"dat" is no input of this transformer. Did you mean "data"?',
        ),
        (lambda t: t.deprocess("x", 0), DefinitionError, '"x" is no input of this transformer.'),
        (
            lambda t: t.set_transpose("data", (1, 0)),
            ShapeError,
            "transpose: (1, 0) must name 3 axes, as the input has without its first",
        ),
        (
            lambda t: t.set_channel_swap("data", (0,)),
            ShapeError,
            "channel_swap: (0,) must name the 3 channels of the input",
        ),
        (lambda t: t.set_mean("data", [1, 2]), ShapeError, "mean: 2 values for the 3 channels of the input"),
        (
            lambda t: t.set_mean("data", np.zeros((1, 3, 4, 5))),
            ShapeError,
            "mean: its shape (1, 3, 4, 5) must have the 3 channels of the input, and three axes",
        ),
        (
            lambda t: t.set_mean("data", np.zeros((4, 5))),
            ShapeError,
            "mean: its shape (1, 4, 5) must have the 3 channels of the input, and three axes",
        ),
        (
            lambda t: t.preprocess("data", np.zeros((4, 5, 4))),
            ShapeError,
            '"data" takes (3, 4, 5); the image gives (4, 4, 5). Is set_transpose as it should be?',
        ),
        (
            lambda t: (t.set_channel_swap("data", (2, 1, 0)), t.preprocess("data", np.zeros((4, 5, 1)))),
            ShapeError,
            '"data" takes (3, 4, 5); the image gives (1, 4, 5). Is set_transpose as it should be?',
        ),
        (
            lambda t: t.preprocess("data", np.zeros((9, 9))),
            ShapeError,
            "an image has three axes, height, width and channels; this one has shape (9, 9)",
        ),
        (
            lambda t: t.deprocess("data", np.zeros((2, 3, 4, 5))),
            ShapeError,
            "deprocess takes one input, of 3 axes; it was given an array of shape (2, 3, 4, 5)",
        ),
    ],
)
def test_transformer_mistakes(transformer, use, kind, text):
    with pytest.raises(kind) as error:
        use(transformer)
    assert str(error.value) == text
