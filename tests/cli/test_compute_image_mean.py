"""The mean file that Caffe's own compute_image_mean made, byte for byte, and bad input."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerforge import wire
from layerforge.data.new_database import new_database
from layerforge.datum import Datum, datum_bytes

GOLDEN = Path(__file__).parents[1] / "golden" / "data"


def write(name, datums):
    with new_database(name) as put:
        for i, datum in enumerate(datums):
            put(b"%05d" % i, datum_bytes(datum))


@pytest.mark.parametrize("database", ["raw_lmdb", "raw_leveldb"])
@pytest.mark.parametrize("flags", [[], ["-backend=lmdb"], ["-backend", "leveldb", "--threads", "1"]])
def test_what_caffe_computed(lab, database, flags):
    shutil.copytree(GOLDEN / database, "db")
    ran = lab.run("compute-image-mean", "db", "mean.binaryproto", *flags)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert Path("mean.binaryproto").read_bytes() == (GOLDEN / "mean.binaryproto").read_bytes()
    assert ran.log[1:] == [
        "Wrote the mean image, 3x28x32, to mean.binaryproto.",
        "Number of channels: 3",
        "mean_value channel [0]: 123.777",
        "mean_value channel [1]: 122.047",
        "mean_value channel [2]: 129.345",
    ]
    words = ran.log[0].split()
    assert words[:6] + words[7:8] + words[9:] == ["Processed", "14", "images", "of", "db", "in", "s,", "images/s."]


def test_without_a_file(lab):
    shutil.copytree(GOLDEN / "grey_lmdb", "db")
    ran = lab.run("compute_image_mean", "db")
    assert ran.log[1:] == ["Number of channels: 1", "mean_value channel [0]: 124.173"]


def test_sums_are_float32_in_the_order_of_the_keys(lab):
    """Floats, so that the order and the precision show."""
    values = np.random.default_rng(0).normal(1000, 500, (300, 2, 3, 4)).astype(np.float32)
    write("db", [Datum(2, 3, 4, float_data=image.reshape(-1)) for image in values])
    assert lab.run("compute_image_mean", "db", "mean.binaryproto").status == 0
    total = np.zeros((2, 3, 4), np.float32)
    for image in values:
        total = total + image
    assert np.array_equal(wire.read_blob("mean.binaryproto")[0], total / np.float32(300))


def test_encoded_images_are_decoded(lab):
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 3), np.uint8)
    write("db", [Datum(data=cv2.imencode(".png", image)[1].tobytes(), encoded=True) for image in images])
    assert lab.run("compute_image_mean", "db", "mean.binaryproto").status == 0
    mean = wire.read_blob("mean.binaryproto")
    assert mean.shape == (1, 3, 5, 6)
    np.testing.assert_allclose(mean[0], images.mean(axis=0).transpose(2, 0, 1), rtol=1e-5)


def test_sample_data(lab, tmp_path):
    ran = lab.run("compute_image_mean", "sample://digits?split=test&count=20", "--cache", str(tmp_path / "cache"))
    assert (ran.status, ran.log[1]) == (0, "Number of channels: 1")


# What is wrong.


def refused(lab, name="db"):
    ran = lab.run("compute_image_mean", name, "mean.binaryproto")
    assert (ran.status, ran.log) == (1, [])
    assert not Path("mean.binaryproto").exists()
    return ran.err


def test_images_of_several_sizes(lab):
    write("db", [Datum(1, 2, 3, bytes(6)), Datum(1, 2, 3, bytes(6)), Datum(1, 3, 2, bytes(6))])
    assert refused(lab) == (
        'source "db": record 2 (key "00002"): it is (1, 3, 2), the first record (1, 2, 3). A mean needs images of one '
        "size: convert them with --resize-height and --resize-width\n"
    )


def test_a_record_that_is_damaged(lab):
    write("db", [Datum(1, 2, 3, bytes(6)), Datum(1, 2, 3, bytes(5))])
    assert refused(lab) == (
        'source "db": record 1 (key "00001"): it has 5 bytes of data, but its shape (1, 2, 3) needs 6\n'
    )


def test_a_record_that_is_none(lab):
    with new_database("db") as put:
        put(b"00000", b"\x22\x05abc")
    assert refused(lab) == (
        'source "db": record 0 (key "00000"): this is no Datum: damaged at byte 0 of 5: '
        "its data of 5 bytes goes 2 beyond the end.\n"
    )


def test_no_database(lab):
    assert refused(lab, "none") == (
        f'source "none" does not exist in {Path.cwd()}. Name a folder that holds an LMDB, '
        'or write source: "sample://shapes?split=train" to try without one\n'
    )
