"""layerforge detect: windows of files and of functions to scores."""

import csv
import sys

import cv2
import h5py
import numpy as np
import pytest

import layerforge as caffe

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean" pooling_param { pool: AVE global_pooling: true } }
"""
MODEL = ("--model-def", "net.prototxt", "--pretrained-model", "net.caffemodel")


@pytest.fixture
def shop(lab):
    """A net that gives the means of blue, green and red; an image, red on its left; its two halves as windows."""
    lab.write("net.prototxt", NET)
    caffe.Net("net.prototxt", caffe.TEST, seed=1).save("net.caffemodel")
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, :15, 2] = 100
    cv2.imwrite(str(lab.folder / "image.png"), image)
    lab.write("windows.csv", "filename,ymin,xmin,ymax,xmax\nimage.png,0,0,20,15\nimage.png,0,15,20,30\n")
    yield lab
    sys.modules.pop("my_windows", None)


def test_csv(shop):
    ran = shop.run("detect", "windows.csv", "out.csv", *MODEL, "--context_pad=0")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert (shop.folder / "out.csv").read_text() == (
        "filename,ymin,xmin,ymax,xmax,class0,class1,class2\nimage.png,0,0,20,15,0,0,100\nimage.png,0,15,20,30,0,0,0\n"
    )
    assert ran.log[-1] == "The scores are in out.csv."


def test_hdf5_of_a_window_file(shop):
    shop.write("windows.txt", "# 0\nimage.png\n3\n20\n30\n1\n1 0.8 0 0 14 19\n")
    assert shop.run("detect", "windows.txt", "out.h5", *MODEL, "--context-pad", "0").status == 0
    with h5py.File(shop.folder / "out.h5") as file:
        assert file["filename"].asstr()[...].tolist() == ["image.png"]
        assert file["window"][...].tolist() == [[0, 0, 20, 15]]
        assert np.allclose(file["prediction"], [[0, 0, 100]], atol=1e-3)


def test_context_is_shown(shop):
    shop.run("detect", "windows.csv", "out.csv", *MODEL, "--context-pad", "2")
    rows = list(csv.DictReader((shop.folder / "out.csv").read_text().splitlines()))
    reds = [float(row["class2"]) for row in rows]
    assert 20 < reds[0] < 30 and 8 < reds[1] < 18  # twice the width and the height; half of that is no image


@pytest.mark.parametrize("mode", [[], ["--crop_mode", "selective_search"]])
def test_a_function_proposes(shop, mode):
    shop.write("my_windows.py", "def propose(name):\n    return [(0, 0, 10, 10)] if name == 'image.png' else []\n")
    shop.write("images.txt", "image.png\n\n")
    flags = ["--proposals", "my_windows:propose", "--context-pad", "0", *mode]
    assert shop.run("detect", "images.txt", "out.csv", *MODEL, *flags).status == 0
    assert (shop.folder / "out.csv").read_text().splitlines()[1:] == ["image.png,0,0,10,10,0,0,100"]


def test_no_windows(shop):
    shop.write("windows.csv", "filename,ymin,xmin,ymax,xmax\n")
    assert shop.run("detect", "windows.csv", "out.csv", *MODEL, "--context-pad", "0").status == 0
    assert (shop.folder / "out.csv").read_text() == "filename,ymin,xmin,ymax,xmax\n"


@pytest.mark.parametrize(
    "argv, status, text",
    [
        (["windows.csv", "out.txt"], 2, 'layerforge detect: "out.txt" must end with .csv or .h5'),
        (
            ["windows.csv", "out.csv", "--crop-mode", "selective_search"],
            2,
            "layerforge detect: selective search does not come along: give a function of your own, --proposals"
            " MODULE:FUNCTION, or a file of windows",
        ),
        (
            ["windows.csv", "out.csv", "--crop-mode", "all"],
            2,
            'layerforge detect: argument --crop-mode: "all" is none of list, selective_search',
        ),
        (
            ["windows.csv", "out.csv", "--proposals", "no_such_module:f"],
            1,
            '--proposals no_such_module:f: there is no module "no_such_module" here or where Python looks',
        ),
        (
            ["windows.csv", "out.csv", "--proposals", "json:decoder"],
            1,
            '--proposals json:decoder: module "json" has no function "decoder". Write MODULE:FUNCTION',
        ),
        (
            ["windows.csv", "out.csv", "--proposals", "json"],
            1,
            '--proposals json: module "json" has no function "". Write MODULE:FUNCTION',
        ),
        (
            ["none.txt", "out.csv", "--proposals", "json:dumps"],
            1,
            "none.txt: no list of images can be read: No such file or directory",
        ),
        (["none.csv", "out.csv"], 1, "none.csv: there is no such file of windows"),
        (
            ["windows.csv", "out.csv", "--context-pad", "4"],
            1,
            "context_pad: 4 on each side leaves no room in an input of (8, 8)",
        ),
    ],
)
def test_mistakes(shop, argv, status, text):
    ran = shop.run("detect", *argv, *MODEL)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines()[0] == text
    assert not (shop.folder / "out.csv").exists()
