"""layerforge classify: images, folders and arrays to scores and to the best classes."""

import cv2
import numpy as np
import pytest

import layerforge as caffe
from layerforge import io, schema

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 4 dim: 4 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
layer { name: "flat" type: "Flatten" bottom: "mean" top: "flat" }
"""
MODEL = ("--model_def", "net.prototxt", "--pretrained_model", "net.caffemodel")


@pytest.fixture
def shop(lab):
    """A net whose scores are the means of its input's three channels: blue, green and red."""
    lab.write("net.prototxt", NET)
    caffe.Net("net.prototxt", caffe.TEST, seed=1).save("net.caffemodel")
    (lab.folder / "images").mkdir()
    for name, colour in (("b.jpg", (200, 0, 0)), ("a.JPG", (0, 0, 100)), ("c.png", (1, 2, 3))):
        image = np.full((6, 9, 3), colour, np.uint8)
        cv2.imwrite(str(lab.folder / "images" / name), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return lab


def scores(lab, *argv):
    ran = lab.run("classify", *argv, *MODEL)
    assert (ran.status, ran.err) == (0, "")
    return np.load(lab.folder / argv[1])


def test_an_image(shop):
    assert np.allclose(scores(shop, "images/c.png", "out.npy"), [[1, 2, 3]], atol=1e-3)


def test_a_folder(shop):
    """By name, by extension; of Caffe's order of channels."""
    assert np.allclose(scores(shop, "images", "out.npy"), [[0, 0, 100], [200, 0, 0]], atol=3)
    assert np.allclose(scores(shop, "images", "out.npy", "--ext", "png", "--center_only"), [[1, 2, 3]], atol=1e-3)


def test_an_array(shop):
    images = np.random.default_rng(1).random((6, 4, 4, 3), np.float32)
    np.save(shop.folder / "in.npy", images)
    found = scores(shop, "in.npy", "out.npy", "--images_dim", "4,4", "--raw_scale", "1", "--center_only")
    assert np.allclose(found, images[..., ::-1].mean((1, 2)), atol=1e-5)
    assert np.allclose(scores(shop, "in.npy", "out.npy", "--images_dim=4,4", "--raw_scale=1"), found, atol=1e-5)


@pytest.mark.parametrize("form", ["npy", "binaryproto"])
def test_transformation(shop, form):
    mean = np.array([10, 20, 30], np.float32)
    if form == "npy":
        np.save(shop.folder / "mean.npy", mean)
    else:
        image = np.broadcast_to(mean[:, None, None], (3, 4, 4))
        blob = schema.message("BlobProto")(num=1, channels=3, height=4, width=4, data=image.ravel().tolist())
        (shop.folder / "mean.binaryproto").write_bytes(blob.SerializeToString())
    flags = ["--mean_file", f"mean.{form}", "--input_scale", "0.5", "--channel_swap", "0,1,2", "--raw_scale", "510"]
    found = scores(shop, "images/c.png", "out.npy", *flags)
    assert np.allclose(found, [[(6 - 10) / 2, (4 - 20) / 2, (2 - 30) / 2]], atol=1e-3)


def test_labels(shop):
    shop.write("labels.txt", "sky\ngrass\nbrick\n")
    ran = shop.run("classify", "images", *MODEL, "--labels", "labels.txt", "--ext", ".png")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "images/c.png\n  3.0000  brick\n  2.0000  grass\n  1.0000  sky\n"
    assert "Classifying 1 inputs." in ran.log
    both = shop.run("classify", "images", "out.npy", *MODEL, "--labels", "labels.txt")
    assert both.out.count("\n\n") == 1
    assert both.log[-1] == "The scores, 2x3, are in out.npy."


def test_grey(lab):
    lab.write("net.prototxt", NET.replace("dim: 4 dim: 3", "dim: 1 dim: 1"))
    caffe.Net("net.prototxt", caffe.TEST, seed=1).save("net.caffemodel")
    cv2.imwrite(str(lab.folder / "grey.png"), np.full((4, 4), 51, np.uint8))
    assert np.allclose(scores(lab, "grey.png", "out.npy"), [[51]], atol=1e-3)


ARRAY = "this is no array of numpy"


@pytest.mark.parametrize(
    "argv, status, text",
    [
        (
            ["images"],
            2,
            "layerforge classify: name a file OUT for the scores, or give --labels to print the best classes",
        ),
        (
            ["images", "o.npy", "--images-dim", "4"],
            2,
            'layerforge classify: argument --images-dim: "4" is no height,width',
        ),
        (
            ["images", "o.npy", "--channel-swap", "a"],
            2,
            'layerforge classify: argument --channel-swap: "a" is no list of whole numbers',
        ),
        (["none.jpg", "o.npy"], 1, "none.jpg: there is no such image, folder or array"),
        (["none.npy", "o.npy"], 1, "none.npy: there is no such array"),
        (["text.npy", "o.npy"], 1, "text.npy: this is no array of numpy"),
        (["flat.npy", "o.npy"], 1, "flat.npy: images are (N, H, W, C); this array has shape (3,)"),
        (
            ["images", "o.npy", "--ext", "gif"],
            1,
            "images: no image .gif is in this folder. --ext tells another extension",
        ),
        (["labels.txt", "o.npy"], 1, "cannot read an image from labels.txt: it is no image, or damaged"),
        (["images", "o.npy", "--mean-file", "m.npy"], 1, "m.npy: there is no such file of a mean"),
        (["images", "o.npy", "--mean-file", "text.npy"], 1, "text.npy: cannot be read: it is no array of numpy"),
        (
            ["images", "o.npy", "--mean-file", "labels.txt"],
            1,
            "labels.txt: this is neither .npy nor a BlobProto: no mean",
        ),
        (["images", "--labels", "none.txt"], 1, "none.txt: no labels can be read: No such file or directory"),
        (["images", "--labels", "labels.txt"], 1, "--labels: 2 names for the 3 scores of the net"),
        (
            ["images", "o.npy", "--images-dim", "3,3"],
            1,
            "image_dims: (3, 3) must not be smaller than the net's input (4, 4)",
        ),
    ],
)
def test_mistakes(shop, argv, status, text):
    shop.write("labels.txt", "a\nb\n")
    shop.write("text.npy", "no array")
    np.save(shop.folder / "flat.npy", np.zeros(3))
    ran = shop.run("classify", *argv, *MODEL)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines()[0] == text
    assert not (shop.folder / "o.npy").exists()


def test_the_same_as_the_classifier(shop):
    net = caffe.Classifier("net.prototxt", "net.caffemodel", (256, 256), raw_scale=255, channel_swap=(2, 1, 0))
    images = [io.load_image("images/b.jpg")]
    assert np.array_equal(scores(shop, "images/b.jpg", "out.npy"), net.predict(images))
