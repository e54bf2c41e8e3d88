import cv2
import numpy as np
import pytest

from layerforge import TEST, TRAIN, schema, wire
from layerforge.data import Transformer
from layerforge.data.decode import Image, decode
from layerforge.data.source import BadRecord
from layerforge.datum import Datum
from layerforge.errors import DataError, DefinitionError, LayerForgeError, ShapeError
from layerforge.kernels import Kernels
from layerforge.random import philox


def transformer(text="", phase=TEST, **key):
    return Transformer(schema.parse(text, "TransformationParameter").message, phase, **key)


def picture(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, kind=".png"):
    return Datum(data=cv2.imencode(kind, pixels)[1].tobytes(), encoded=True)


def run(made, image, index=0):
    out = np.full(made.output_shape(image), np.nan, np.float32)
    made(image, out, index)
    return out


# Decoding.


@pytest.mark.parametrize("kind", [".png", ".bmp"])
def test_colour_files(kind):
    pixels = picture(0, 5, 7, 3)
    image = decode(encoded(pixels, kind))
    assert image.shape == (3, 5, 7)
    assert np.array_equal(image.pixels, pixels)
    grey = decode(encoded(pixels, kind), color=False)
    assert grey.shape == (1, 5, 7)
    luminance = pixels @ [0.114, 0.587, 0.299]
    assert np.abs(grey.pixels[:, :, 0] - luminance).max() < 2  # codecs round in their own ways


def test_grey_files():
    pixels = picture(1, 5, 7)
    assert decode(encoded(pixels)).shape == (1, 5, 7)
    coloured = decode(encoded(pixels), color=True)
    assert coloured.shape == (3, 5, 7)
    assert np.array_equal(coloured.pixels, np.stack([pixels] * 3, axis=2))


def test_raw_records():
    pixels = picture(2, 3, 4, 5)
    image = decode(Datum(3, 4, 5, pixels.tobytes()), color=False)  # what is not encoded keeps its channels
    assert image.shape == (3, 4, 5)
    assert np.array_equal(image.pixels, pixels)


def test_float_records():
    values = np.random.default_rng(3).standard_normal((2, 3, 4)).astype(np.float32)
    image = decode(Datum(2, 3, 4, float_data=values.reshape(-1)))
    assert image.shape == (2, 3, 4)
    assert np.array_equal(image.pixels, values)


@pytest.mark.parametrize(
    "datum, text",
    [
        (Datum(data=b"no image", encoded=True), "its 8 bytes cannot be decoded as an image"),
        (Datum(encoded=True), "its 0 bytes cannot be decoded as an image"),
        (
            encoded(np.zeros((2, 2), np.uint16)),
            "it is an image of uint16; images with 8 bits per channel are wanted",
        ),
        (Datum(3, 2, 2, b"12345"), "it has 5 bytes of data, but its shape (3, 2, 2) needs 12"),
        (Datum(3, 2, 2), "it has 0 values in float_data, but its shape (3, 2, 2) needs 12"),
        (
            Datum(1, 2, 2, float_data=np.zeros(3, np.float32)),
            "it has 3 values in float_data, but its shape (1, 2, 2) needs 4",
        ),
        (Datum(data=b"123"), "it has no pixels: channels, height and width are (0, 0, 0)"),
    ],
)
def test_records_without_an_image(datum, text):
    with pytest.raises(BadRecord) as error:
        decode(datum)
    assert str(error.value) == text


# The kernel: its hand-tuned version, its portable one, and numpy.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("mean", ["none", "channel", "image"])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("channels, crop", [
    (1, (5, 6)), (3, (9, 67)), (3, (20, 101)), (4, (3, 70)), (2, (1, 1)),
    (3, (119, 97)), (4, (91, 93)), (2, (128, 130)),
])  # fmt: skip
def test_kernel(dtype, mirror, mean, interleaved, channels, crop):
    kernels = Kernels("transform.h")
    assert kernels.tuned() == ["transform_image"]
    rng = np.random.default_rng(4)
    height, width = (20, 101) if crop[0] <= 20 else (crop[0] + 10, crop[1] + 7)  # those go past the caches
    planes = rng.integers(0, 256, (channels, height, width), dtype=np.uint8)
    top, left = (height - crop[0]) // 2, width - crop[1]
    values = rng.standard_normal(channels).astype(dtype) if mean == "channel" else None
    image = rng.standard_normal((channels, height, width)).astype(dtype) if mean == "image" else None
    subtracted = image if mean == "image" else values[:, None, None] if mean == "channel" else dtype(0)
    expected = ((planes - subtracted) * dtype(0.7))[:, top : top + crop[0], left : left + crop[1]].astype(dtype)
    if mirror:
        expected = expected[:, :, ::-1]
    pixels = np.ascontiguousarray(planes.transpose(1, 2, 0)) if interleaved else planes
    for family in (kernels, kernels.portable):
        y = np.full((channels, *crop), np.nan, dtype)
        family.transform_image(
            pixels, y, image, values, 0.7, channels, *crop, height, width, top, left, interleaved, mirror
        )
        assert np.array_equal(y, expected)


# The transformer.


def test_nothing_to_do():
    pixels = picture(5, 3, 4, 5)
    assert np.array_equal(run(transformer(), Image(pixels, False)), pixels.astype(np.float32))


def test_mean_and_scale():
    pixels = picture(6, 4, 5, 3)
    y = run(transformer("mean_value: [104, 117, 123] scale: 0.5"), Image(pixels, True))
    mean = np.array([104, 117, 123], np.float32)[:, None, None]
    assert np.array_equal(y, (pixels.transpose(2, 0, 1).astype(np.float32) - mean) * np.float32(0.5))


def test_one_mean_for_all_channels():
    pixels = picture(7, 4, 5, 3)
    y = run(transformer("mean_value: 100"), Image(pixels, True))
    assert np.array_equal(y, pixels.transpose(2, 0, 1).astype(np.float32) - 100)


@pytest.mark.parametrize("text, shape, corner", [
    ("crop_size: 4", (4, 4), (1, 2)),
    ("crop_size: 3", (3, 3), (1, 2)),
    ("crop_h: 2 crop_w: 7", (2, 7), (2, 1)),
    ("crop_h: 6 crop_w: 9", (6, 9), (0, 0)),
])  # fmt: skip
def test_the_crop_of_a_test_is_in_the_middle(text, shape, corner):
    pixels = picture(8, 3, 6, 9)
    if text == "crop_size: 3":
        corner = (1, 3)
    y = run(transformer(text), Image(pixels, False))
    (top, left), (height, width) = corner, shape
    assert np.array_equal(y, pixels[:, top : top + height, left : left + width].astype(np.float32))


def test_the_crop_of_training_is_anywhere():
    """Every corner comes up as often as any other: 12 corners, 6000 draws, chi-square within 5 sigma."""
    height, width, side = 6, 7, 4
    pixels = np.arange(height * width, dtype=np.uint8).reshape(1, height, width)
    made = transformer("crop_size: 4", TRAIN, seed=1)
    seen = np.zeros((height, width))
    for index in range(6000):
        y = run(made, Image(pixels, False), index)
        top, left = divmod(int(y[0, 0, 0]), width)
        assert np.array_equal(y, pixels[:, top : top + side, left : left + side].astype(np.float32))
        seen[top, left] += 1
    corners = seen[: height - side + 1, : width - side + 1]
    assert corners.sum() == 6000
    chi_square = ((corners - 500) ** 2 / 500).sum()  # 11 degrees of freedom: mean 11, variance 22
    assert abs(chi_square - 11) < 5 * np.sqrt(22)


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_every_second_image_is_mirrored_in_both_phases(phase):
    pixels = picture(9, 3, 4, 5)
    made = transformer("mirror: true", phase, seed=2)
    straight, mirrored = pixels.astype(np.float32), pixels[:, :, ::-1].astype(np.float32)
    count = 0
    for index in range(1000):
        y = run(made, Image(pixels, False), index)
        count += np.array_equal(y, mirrored)
        assert np.array_equal(y, mirrored) or np.array_equal(y, straight)
    assert abs(count - 500) < 5 * np.sqrt(250)


def test_chance_follows_from_the_key_alone():
    image = Image(picture(10, 8, 8, 3), True)

    def draws(order, **key):
        made = transformer("mirror: true crop_size: 3", TRAIN, **key)
        found = {index: run(made, image, index).tobytes() for index in order}
        return [found[index] for index in sorted(found)]

    forwards = draws(range(20), seed=3, stream=4)
    assert draws(range(19, -1, -1), seed=3, stream=4) == forwards
    assert draws(range(20), seed=4, stream=4) != forwards
    assert draws(range(20), seed=3, stream=5) != forwards


@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("mirror", ["", "mirror: true"])
def test_the_windows_of_a_run_are_those_of_its_records(phase, mirror):
    made = transformer(f"crop_size: 4 {mirror}", phase, seed=2**64 - 1, stream=7)
    for image, first, interleaved in [((3, 9, 6), 2**40, True), ((1, 4, 4), 0, False), ((2, 5, 4), 2**64 - 9, True)]:
        numbers = np.full((9, 6), -1, np.int32)
        made.windows(numbers, image, interleaved, (4, 4), first)
        for i, found in enumerate(numbers.tolist()):
            words = philox(made.seed, made.stream, first + i, 3).tolist()
            room = [image[1] - 4, image[2] - 4]
            corner = [words[k] * (room[k] + 1) >> 32 if phase == TRAIN else room[k] // 2 for k in range(2)]
            turned = int(bool(mirror) and words[2] >= 2**31)
            assert found == [*image[1:], *corner, interleaved, turned]
            assert made.window(image, (4, 4), first + i) == (*corner, bool(turned))


def mean_file(path, mean):
    with open(path, "wb") as file:
        wire.write_blob(file, mean)
    return f'mean_file: "{path}"'


def test_every_pixel_loses_the_mean_of_its_own_place(tmp_path):
    rng = np.random.default_rng(11)
    mean = rng.uniform(0, 255, (1, 3, 6, 7)).astype(np.float32)
    pixels = picture(12, 6, 7, 3)
    made = transformer(f"{mean_file(tmp_path / 'mean.binaryproto', mean)} crop_size: 4 mirror: true scale: 2", TRAIN)
    whole = (pixels.transpose(2, 0, 1).astype(np.float32) - mean[0]) * 2
    crops = {
        way(whole[:, top : top + 4, left : left + 4]).tobytes()
        for top in range(3)
        for left in range(4)
        for way in (lambda x: x, lambda x: x[:, :, ::-1])
    }
    assert len(crops) == 24
    assert {run(made, Image(pixels, True), index).tobytes() for index in range(300)} == crops


@pytest.mark.parametrize("text", ["", "mean_value: 0.5", "mean_value: [0.5, 1]", "mean_file"])
def test_floats_go_the_same_way(text, tmp_path):
    rng = np.random.default_rng(13)
    values = rng.integers(0, 256, (2, 6, 7)).astype(np.float32)
    if text == "mean_file":
        text = mean_file(tmp_path / "mean.binaryproto", rng.uniform(0, 255, (1, 2, 6, 7)).astype(np.float32))
    made = transformer(f"{text} crop_size: 4 mirror: true scale: 0.25", TRAIN, seed=5)
    for index in range(20):
        floats = run(made, Datum(2, 6, 7, float_data=values.reshape(-1)), index)
        assert np.array_equal(floats, run(made, Image(values.astype(np.uint8), False), index))


def test_colour_and_grey():
    colour = encoded(picture(14, 4, 5, 3))
    assert run(transformer("force_gray: true"), colour).shape == (1, 4, 5)
    assert run(transformer(), colour).shape == (3, 4, 5)
    grey = encoded(picture(15, 4, 5))
    assert run(transformer("force_color: true"), grey).shape == (3, 4, 5)
    assert run(transformer(), grey).shape == (1, 4, 5)


# What is wrong.


@pytest.mark.parametrize(
    "text, kind, message",
    [
        (
            'mean_file: "mean.binaryproto" mean_value: 1',
            DefinitionError,
            "mean_file and mean_value exclude each other: write one of them",
        ),
        (
            "force_color: true force_gray: true",
            DefinitionError,
            "force_color and force_gray exclude each other: write one of them",
        ),
        (
            "crop_size: 3 crop_h: 2 crop_w: 2",
            DefinitionError,
            "crop_size and crop_h, crop_w exclude each other: write crop_size, or both of the others",
        ),
        ("crop_h: 3", DefinitionError, "crop_h is 3 and crop_w is 0: give both"),
        (
            "mean_value: [1, 2]",
            ShapeError,
            "mean_value is given 2 times for 3 channels: give it once, or once for each channel",
        ),
        (
            "crop_size: 7",
            ShapeError,
            "a crop of 7x7 is larger than a record of 6x9: crop less, or make the records larger",
        ),
    ],
)
def test_options_that_do_not_fit(text, kind, message):
    with pytest.raises(LayerForgeError) as error:
        transformer(text).output_shape(Image(picture(16, 6, 9, 3), True))
    assert type(error.value) is kind
    assert str(error.value) == message


def test_a_mean_of_another_shape(tmp_path):
    text = mean_file(tmp_path / "mean.binaryproto", np.zeros((1, 3, 5, 9), np.float32))
    with pytest.raises(ShapeError) as error:
        transformer(text).output_shape(Image(picture(17, 6, 9, 3), True))
    assert str(error.value) == f"{text.replace(': ', ' ')} is (3, 5, 9), but a record is (3, 6, 9)"


def test_several_means(tmp_path):
    text = mean_file(tmp_path / "mean.binaryproto", np.zeros((2, 3, 5, 9), np.float32))
    with pytest.raises(DataError) as error:
        transformer(text)
    assert str(error.value) == (f"{text.replace(': ', ' ')} has shape (2, 3, 5, 9); one image, (1, C, H, W), is wanted")
