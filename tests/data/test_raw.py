"""Images that go to a device as bytes and are transformed there: the same bits as on the host."""

import cv2
import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.data import Loader, Source, Transformer
from layerforge.data.decode import decode
from layerforge.data.lmdb_writer import write_lmdb
from layerforge.data.loader import RUN
from layerforge.data.raw import RawBatch
from layerforge.data.source import BadRecord
from layerforge.datum import Datum, datum_bytes, parse_datum
from layerforge.errors import DataError, ShapeError
from layerforge.native import _csrc

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


def batches(path, transform, device, phase=lf.TRAIN, number=4, more="", dtype=np.float32, size=3):
    text = f"""layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ {transform} }}
      data_param {{ source: "{path}" backend: LMDB batch_size: {size} {more} }} }}"""
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
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bit_for_bit(transform, record, phase, dtype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lf.wire.write_blob("mean.binaryproto", picture(99, (1, 3, *SIZE)).astype(np.float32) + np.float32(0.3))
    write("db", [record(i) for i in range(7)])
    expected, _ = batches("db", transform, "cpu", phase, dtype=dtype)
    found, sent = batches("db", transform, "emulated", phase, more="threads: 2 shuffle: false", dtype=dtype)
    assert sent
    np.testing.assert_equal(found, expected)
    assert found[0][0].dtype == dtype


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


def test_what_goes_as_numbers(tmp_path):
    write(tmp_path / "db", [floats(0), raw(1)])
    expected, _ = batches(tmp_path / "db", "mirror: true", "cpu")
    found, sent = batches(tmp_path / "db", "mirror: true", "emulated")
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


# Runs of records, copied at once.


@pytest.mark.parametrize("more", ["threads: 1", "threads: 3", "threads: 3 shuffle: true", "threads: 2 prefetch: 1"])
def test_batches_of_several_runs(more, tmp_path):
    """Runs begin and end anywhere, and an epoch ends in the middle of one; some of the records are others."""
    others = {5: png(5), 17: floats(17), 30: png(30, (20, 15)), 44: raw(44)}
    write(tmp_path / "db", [others.get(i, raw(i)) for i in range(47)])
    transform = "crop_size: 7 mirror: true mean_value: 3"
    expected, _ = batches(tmp_path / "db", transform, "cpu", size=2 * RUN + 5, more=more)
    found, sent = batches(tmp_path / "db", transform, "emulated", size=2 * RUN + 5, more=more)
    assert sent
    np.testing.assert_equal(found, expected)


def test_batches_of_one_may_have_other_channels(tmp_path):
    write(tmp_path / "db", [raw(0), Datum(1, *SIZE, picture(1, SIZE).tobytes(), 1)])
    for device in ("cpu", "emulated"):
        with pytest.raises(ShapeError) as error:
            batches(tmp_path / "db", "crop_size: 7", device, size=1)
        assert str(error.value).endswith(
            'top "data" is (1, 3, 7, 7), but a batch is (1, 1, 7, 7): only inputs can be reshaped'
        )


DAMAGED = [
    (
        datum_bytes(raw(4))[:-9],
        "this is no Datum: damaged at byte 6 of 364: its data of 360 bytes goes 5 beyond the end.",
    ),
    (datum_bytes(raw(4))[:3], "this is no Datum: its 3 bytes end within a field."),
    (datum_bytes(Datum(3, 12, 11, bytes(360))), "it has 360 bytes of data, but its shape (3, 12, 11) needs 396"),
    (b"", "it has no pixels: channels, height and width are (0, 0, 0)"),
    (b"\x20\x01", "this is no Datum: damaged at byte 0 of 2: a field has another kind than Datum's."),
]


def write_damaged(path, damage):
    records = [datum_bytes(raw(i)) for i in range(7)]
    records[4] = damage
    write_lmdb(str(path), ((b"%05d" % i, record) for i, record in enumerate(records)))


@pytest.mark.parametrize("damage, text", DAMAGED)
@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_damaged_records(damage, text, device, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write_damaged("db", damage)
    with pytest.raises(DataError) as error:
        batches("db", "crop_size: 7 mirror: true", device)
    assert str(error.value) == f'<text>:2:20: layer "data" (Data): source "db": record 4 (key "00004"): {text}'


@pytest.mark.parametrize("damage, text", DAMAGED)
def test_damaged_records_may_be_skipped(damage, text, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    write_damaged("db", damage)
    expected, _ = batches("db", "crop_size: 7 mirror: true", "cpu", more="skip_bad: true")
    caplog.clear()
    found, sent = batches("db", "crop_size: 7 mirror: true", "emulated", more="skip_bad: true")
    assert sent
    np.testing.assert_equal(found, expected)
    assert caplog.messages == [f'Skipped: source "db": record 4 (key "00004"): {text}']


def test_a_record_of_another_shape_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("db", [raw(0), raw(1), Datum(3, 10, 12, picture(2, 360).tobytes(), 2)])
    with pytest.raises(ShapeError) as error:
        batches("db", "mirror: true", "emulated")
    assert str(error.value) == (
        '<text>:1:60: layer "data" (Data): source "db": record 2 (key "00002"): it becomes (3, 10, 12), the first '
        "record (3, 12, 10), but a batch needs one shape: write crop_size, or batch_size: 1, or make the records of "
        "one size"
    )


class Stored(Source):
    """Serialized records of a list. One that is an exception is raised."""

    uri = "stored"

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def values(self, positions):
        found = [self.records[position] for position in positions]
        for value in found:
            if isinstance(value, Exception):
                raise value
        return found

    def read(self, position):
        (value,) = self.values([position])
        return parse_datum(value)

    def key(self, position):
        return b"key%d" % position

    def close(self):
        pass


def test_a_source_that_cannot_read_one_of_a_run(caplog):
    """The others are there, and the damaged one is told, or replaced, as if it had been read alone."""
    records = [datum_bytes(raw(i)) for i in range(8)]
    records[5] = BadRecord("stored: the disk is scratched")
    made = Transformer(schema.parse("crop_size: 7", "TransformationParameter").message, lf.TRAIN)
    for skip_bad in (False, True):
        loader = Loader(Stored(records), made, 4, threads=0, skip_bad=skip_bad)
        loader.work.pinned = np.empty
        assert loader.next().labels.tolist() == [0, 1, 2, 3]
        if skip_bad:
            assert loader.next().labels.tolist() == [4, 6, 6, 7]
            continue
        with pytest.raises(BadRecord) as error:
            loader.next()
        assert str(error.value) == "stored: the disk is scratched"
    assert caplog.messages == ["Skipped: stored: the disk is scratched"]


def copied(values, shape):
    """What becomes of serialized records: which are left, and pixels and labels of the others, by place."""
    pixels = np.full((len(values), int(np.prod(shape)) + 3), 77, np.uint8)
    labels = np.full(len(values), np.nan)
    left = _csrc.copy_records(values, shape, pixels, labels)
    count = int(np.prod(shape))
    assert (pixels[:, count:] == 77).all()
    assert (pixels[left] == 77).all() and np.isnan(labels[left]).all()
    return left, {i: (pixels[i, :count], labels[i]) for i in range(len(values)) if i not in left}


@pytest.mark.parametrize("value, taken", [
    (datum_bytes(raw(1)), True),
    (memoryview(datum_bytes(raw(1))), True),
    (datum_bytes(Datum(3, *SIZE, bytes(360), -5)), True),  # a number of ten bytes
    (datum_bytes(Datum(3, *SIZE, bytes(360), 2**31 - 1)), True),
    (datum_bytes(raw(1)) + datum_bytes(raw(2)), True),  # the last one counts, as in protobuf
    (datum_bytes(raw(1)) + b"\x38\x01", False),  # encoded
    (datum_bytes(png(1)), False),
    (datum_bytes(floats(1)), False),
    (datum_bytes(raw(1)) + b"\x35\x00\x00\x80\x3f", False),  # floats beside bytes
    (datum_bytes(raw(1)) + b"\x40\x01", False),  # a field that Datum does not have
    (datum_bytes(Datum(3, SIZE[1], SIZE[0], bytes(360))), False),  # as many bytes, in another shape
    (datum_bytes(Datum(3, 11, 10, bytes(330))), False),
    (datum_bytes(raw(1))[:-1], False),
    (datum_bytes(raw(1))[:100], False),
    (datum_bytes(raw(1)) + b"\x28" + 9 * b"\xff" + b"\x02", False),  # 65 bits
    (datum_bytes(raw(1)) + b"\x28" + 11 * b"\x80", False),
    (b"\x22" + 9 * b"\xff" + b"\x01", False),  # 2^64 - 1 bytes
    (b"", False),
])  # fmt: skip
def test_which_records_are_copied(value, taken):
    left, found = copied([datum_bytes(raw(7)), value, datum_bytes(raw(8))], (3, *SIZE))
    assert left == ([] if taken else [1])
    assert found[0][1] == 7 and found[2][1] == 8
    if taken:
        datum = parse_datum(value)
        np.testing.assert_array_equal(found[1][0], decode(datum).pixels.reshape(-1))
        assert found[1][1] == datum.label


def test_what_is_copied_is_what_would_be_read():
    """Bytes that were changed, cut or doubled: whatever is copied is what Python reads."""
    random = np.random.default_rng(3)
    whole = datum_bytes(Datum(2, 2, 3, bytes(range(12)), 300))
    values = []
    for _ in range(20000):
        value = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            at = int(random.integers(len(value)))
            if random.random() < 0.3:
                del value[at : at + random.integers(1, 4)]
            elif random.random() < 0.5:
                value[at:at] = random.choice([b"\x08\x02", b"\x28\x05", b"\x38\x00", b"\x38\x01", b"\x80", whole])
            else:
                value[at] = random.integers(256)
            if not value:
                break
        values.append(bytes(value))
    _, found = copied(values, (2, 2, 3))
    assert 3000 < len(found) < 17000
    for i, (pixels, label) in found.items():
        datum = parse_datum(values[i])
        image = decode(datum)
        assert image.shape == (2, 2, 3) and not image.interleaved
        np.testing.assert_array_equal(image.pixels.reshape(-1), pixels)
        assert datum.label == label


@pytest.mark.parametrize("pixels, labels", [((1, 11), 1), ((2, 12), 1), ((1, 12), 2), (12, 1), ((1, 12), (1, 1))])
def test_where_records_cannot_be_copied_to(pixels, labels):
    value = datum_bytes(Datum(2, 2, 3, bytes(12)))
    with pytest.raises(ValueError) as error:
        _csrc.copy_records([value], (2, 2, 3), np.empty(pixels, np.uint8), np.empty(labels))
    assert str(error.value) == "copy_records: pixels (N, capacity) and labels (N) for N values are wanted"


def test_what_is_no_bytes_is_not_copied():
    with pytest.raises(TypeError, match="bytes-like"):
        _csrc.copy_records([b"", 3], (1, 1, 1), np.empty((2, 1), np.uint8), np.empty(2))
