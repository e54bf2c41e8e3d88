"""Features as databases, datasets and arrays: the values are those of the blobs."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import layerforge as lf
from layerforge.data import open_source

GOLDEN = Path(__file__).parents[1] / "golden" / "data"

NET = """
layer {
  name: "data" type: "ImageData" top: "data" top: "label" transform_param { scale: 0.01 }
  image_data_param { source: "list.txt" root_folder: "images/" batch_size: 4 new_height: 12 new_width: 10 }
}
layer { name: "zero" type: "DummyData" top: "zero" dummy_data_param { shape { dim: 4 } } }
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "zero" top: "loss" }
layer { name: "quiet" type: "Silence" bottom: "label" }
"""
BLOBS = {"conv": (12, 5, 10, 8), "ip": (12, 3), "label": (12,)}


@pytest.fixture
def ready(lab):
    """A net that reads the golden images, its weights, and what it computes of them."""
    shutil.copytree(GOLDEN / "images", "images")
    shutil.copy(GOLDEN / "list.txt", "list.txt")
    lab.write("features.prototxt", NET)
    net = lf.Net("features.prototxt", lf.TEST, seed=1)
    net.save("net.caffemodel")
    lab.expected = {name: [] for name in BLOBS}
    for _ in range(3):
        for name, values in net.forward(BLOBS).items():
            if name in BLOBS:
                lab.expected[name].append(values.copy())
    lab.expected = {name: np.concatenate(parts) for name, parts in lab.expected.items()}
    assert {name: values.shape for name, values in lab.expected.items()} == BLOBS
    net.close()
    return lab


def extract(lab, *words, model="features.prototxt"):
    return lab.run("extract_features", "net.caffemodel", model, *words)


@pytest.mark.parametrize("kind", ["lmdb", "leveldb"])
def test_databases(ready, kind):
    ran = extract(ready, "conv,ip,label", "a,b,c", "3", kind)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert ran.log[-4:-1] == [
        "Extracted features of 12 query images for feature blob conv, into a.",
        "Extracted features of 12 query images for feature blob ip, into b.",
        "Extracted features of 12 query images for feature blob label, into c.",
    ]
    shapes = {"conv": (5, 10, 8), "ip": (3, 1, 1), "label": (1, 1, 1)}
    for name, path in zip(BLOBS, "abc", strict=True):
        source = open_source(path)
        assert type(source).__name__ == {"lmdb": "LmdbSource", "leveldb": "LevelDbSource"}[kind]
        assert len(source) == 12
        for i in range(12):
            datum = source.read(i)
            assert source.key(i) == b"%010d" % i
            assert (datum.channels, datum.height, datum.width) == shapes[name]
            assert np.array_equal(datum.float_data, ready.expected[name][i].reshape(-1))
        source.close()


def test_files(ready):
    assert extract(ready, "conv,ip,label", "a.npy,b.npy,c.npy", "3", "npy").status == 0
    assert extract(ready, "conv,ip,label", "a.h5,b.h5,c.h5", "3", "hdf5").status == 0
    for name, path in zip(BLOBS, "abc", strict=True):
        with h5py.File(f"{path}.h5") as file:
            assert np.array_equal(file[name], ready.expected[name])
        array = np.load(f"{path}.npy")
        assert np.array_equal(array, ready.expected[name])
        assert array.dtype == np.float32


@pytest.mark.parametrize("mode", [["CPU"], ["CPU", "0"], ["cpu"], ["--device", "cpu"]])
def test_the_mode(ready, mode):
    assert extract(ready, "ip", "a.npy", "1", "npy", *mode).status == 0
    assert len(np.load("a.npy")) == 4


def test_features_are_read_by_a_net(ready):
    """A round: the features in a database, and as a dataset, are another net's input."""
    extract(ready, "conv", "a", "3", "lmdb")
    extract(ready, "conv", "a.h5", "3", "hdf5")
    Path("files.txt").write_text("a.h5\n")
    ready.write("one.prototxt", 'layer { name: "d" type: "Data" top: "d" data_param { source: "a" batch_size: 12 } }')
    ready.write(
        "two.prototxt",
        'layer { name: "d" type: "HDF5Data" top: "conv" hdf5_data_param { source: "files.txt" batch_size: 12 } }',
    )
    for model in ("one.prototxt", "two.prototxt"):
        net = lf.Net(model, lf.TEST)
        (values,) = net.forward().values()
        assert np.array_equal(values, ready.expected["conv"])
        net.close()


def test_images_of_several_sizes(ready):
    begin, end = NET.index('layer {\n  name: "ip"'), NET.index('layer { name: "quiet"')
    net = NET[:begin] + NET[end:].replace('"label"', '"label" bottom: "zero"')
    ready.write("features.prototxt", net.replace("new_height: 12 new_width: 10", "").replace("batch_size: 4", ""))
    lf.Net("features.prototxt", lf.TEST).save("net.caffemodel")
    assert extract(ready, "conv", "a", "3", "lmdb").status == 0
    source = open_source("a")
    assert [source.read(i).height for i in range(3)] == [38, 41, 44]
    for kind in ("npy", "hdf5"):
        ran = extract(ready, "conv", f"a.{kind}", "3", kind)
        assert (ran.status, ran.err) == (
            1,
            'blob "conv" is (1, 5, 41, 56) now, and was (1, 5, 38, 58) in the first batch: hdf5 and npy need one '
            "shape. Write lmdb, or resize the images\n",
        )
        assert not Path(f"a.{kind}").exists()


# What is wrong.


@pytest.mark.parametrize(
    "words, text",
    [
        (("cnov", "a", "1", "lmdb"), 'features.prototxt: this net has no blob "cnov". Did you mean "conv"?\n'),
        (
            ("loss", "a", "1", "lmdb"),
            'features.prototxt: blob "loss" is a single number; features have an axis that counts images\n',
        ),
        (
            ("ip", "taken", "1", "npy"),
            '"taken" exists already and is not overwritten. Take another name, or remove it: rm -r taken\n',
        ),
        (("ip", "no/a", "1", "npy"), 'cannot write "no/a": there is no folder "no". Make it first\n'),
        (("ip", "no/a", "1", "hdf5"), 'cannot write "no/a": there is no folder "no". Make it first\n'),
        (("ip", "no/a", "1", "lmdb"), 'cannot write "no/a": there is no folder "no". Make it first\n'),
    ],
)
def test_words_that_do_not_fit(ready, words, text):
    Path("taken").mkdir()
    ran = extract(ready, *words)
    assert (ran.status, ran.err) == (1, text)


@pytest.mark.parametrize(
    "words, text",
    [
        (("conv,ip", "a", "1", "lmdb"), "2 BLOBS need as many OUTPUTS, not 1"),
        (("conv", "a", "0", "lmdb"), 'argument BATCHES: "0" is no whole number from 1'),
        (("conv", "a", "1", "csv"), 'argument KIND: "csv" is none of lmdb, leveldb, hdf5, npy'),
        (("conv", "a", "1", "npy", "TPU"), 'argument CPU|GPU: "TPU" is none of CPU, GPU'),
    ],
)
def test_words_that_make_no_sense(ready, words, text):
    ran = extract(ready, *words)
    assert (ran.status, ran.err) == (
        2,
        f"layerforge extract_features: {text}\nlayerforge extract_features --help tells the flags.\n",
    )


def test_a_net_without_data(ready):
    ready.write("deploy.prototxt", 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
    ran = extract(ready, "x", "a", "1", "lmdb", model="deploy.prototxt")
    assert (ran.status, ran.err) == (
        1,
        'deploy.prototxt: nobody writes the input "x" of this net. Let it read its images by a data layer, of type '
        "ImageData, say\n",
    )


def test_an_image_that_is_missing(ready):
    Path("images/img_06.jpg").unlink()
    ran = extract(ready, "ip", "a", "3", "lmdb")
    assert (ran.status, ran.err) == (
        1,
        'features.prototxt:4:22: layer "data" (ImageData): list.txt:7: "images/img_06.jpg": '
        "No such file or directory\n",
    )
    assert not Path("a").exists()
