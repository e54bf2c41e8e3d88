"""Images that go to a device as bytes and are transformed there: the same bits as on the host."""

import cv2
import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.data.lmdb_writer import write_lmdb
from layerforge.data.raw import RawBatch
from layerforge.datum import Datum, datum_bytes

SIZE = (12, 10)


def picture(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def raw(i):
    return Datum(3, *SIZE, picture(i, (3, *SIZE)).tobytes(), i)


def png(i, size=SIZE):
    return Datum(0, 0, 0, cv2.imencode(".png", picture(i, (*size, 3)))[1].tobytes(), i, encoded=True)


def floats(i):
    return Datum(3, *SIZE, b"", i, float_data=np.random.default_rng(i).random(3 * SIZE[0] * SIZE[1], np.float32))


def write(path, records):
    write_lmdb(str(path), ((b"%05d" % i, datum_bytes(record)) for i, record in enumerate(records)))


def batches(path, transform, device, phase=lf.TRAIN, number=4, more="", dtype=np.float32):
    text = f"""layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ {transform} }}
      data_param {{ source: "{path}" backend: LMDB batch_size: 3 {more} }} }}"""
    net = lf.Net(schema.parse(text, "NetParameter"), phase, device=device, seed=7, dtype=dtype)
    found = []
    for _ in range(number):
        net.forward()
        found.append([net.blobs[name].data.copy() for name in ("data", "label")])
    made = net.layer_dict["data"]
    sent = isinstance(made.loader._ring._slots[0].batch, RawBatch)
    net.close()
    return found, sent


TRANSFORMS = [
    "",
    "mirror: true",
    "crop_size: 7 mirror: true",
    "crop_size: 7 mirror: true scale: 0.017 mean_value: 104 mean_value: 117 mean_value: 123",
    "crop_h: 5 crop_w: 9 mean_value: 100.5",
    'mirror: true crop_size: 6 scale: 0.1 mean_file: "mean.binaryproto"',
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("record", [raw, png], ids=["planes", "interleaved"])
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST], ids=["train", "test"])
def test_bit_for_bit(transform, record, phase, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lf.wire.write_blob("mean.binaryproto", picture(99, (1, 3, *SIZE)).astype(np.float32) + np.float32(0.3))
    write("db", [record(i) for i in range(7)])
    expected, _ = batches("db", transform, "cpu", phase)
    found, sent = batches("db", transform, "emulated", phase, more="threads: 2 shuffle: false")
    assert sent
    np.testing.assert_equal(found, expected)
    assert found[0][0].dtype == np.float32


@pytest.mark.parametrize("records", [
    [raw(0), floats(1), raw(2), raw(3), floats(4)],  # which are no bytes
    [raw(0), png(1, (20, 15)), raw(2), png(3, (7, 7)), raw(4)],  # more than the first, and fewer
    [png(0), raw(1), png(2)],
], ids=["floats", "sizes", "orders"])  # fmt: skip
def test_records_of_several_kinds(records, tmp_path):
    write(tmp_path / "db", records)
    expected, _ = batches(tmp_path / "db", "crop_size: 7 mirror: true mean_value: 3", "cpu", number=6)
    found, sent = batches(tmp_path / "db", "crop_size: 7 mirror: true mean_value: 3", "emulated", number=6)
    assert sent
    np.testing.assert_equal(found, expected)


@pytest.mark.parametrize("records, more", [([floats(0), raw(1)], {}), ([raw(0)], {"dtype": np.float64})])
def test_what_goes_as_numbers(records, more, tmp_path):
    write(tmp_path / "db", records)
    expected, _ = batches(tmp_path / "db", "mirror: true", "cpu", **more)
    found, sent = batches(tmp_path / "db", "mirror: true", "emulated", **more)
    assert not sent
    np.testing.assert_equal(found, expected)


def test_the_position_goes_on(tmp_path):
    write(tmp_path / "db", [raw(i) for i in range(7)])
    expected, _ = batches(tmp_path / "db", "crop_size: 7 mirror: true", "cpu", number=5)
    text = f"""layer {{ name: "data" type: "Data" top: "data" transform_param {{ crop_size: 7 mirror: true }}
      data_param {{ source: "{tmp_path / "db"}" backend: LMDB batch_size: 3 }} }}"""
    net = lf.Net(schema.parse(text, "NetParameter"), lf.TRAIN, device="emulated", seed=7)
    net.forward()
    made = net.layer_dict["data"]
    state = made.data_state()
    assert state == {"position": 3}
    net.forward()
    made.set_data_state(state)
    for want, _ in expected[1:3]:
        net.forward()
        np.testing.assert_array_equal(net.blobs["data"].data, want)
    made.skip(4)
    net.forward()
    np.testing.assert_array_equal(net.blobs["data"].data, expected[4][0])
    net.close()
