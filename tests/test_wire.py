"""Caffe's binary files: what Caffe wrote is read, what is written has Caffe's bytes, and damage is named."""

import io
import logging
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from layerforge import schema, wire
from layerforge.datum import Datum, datum_bytes, datum_to_fill
from layerforge.errors import DataError, SnapshotError
from layerforge.protobytes import fields, number_bytes

GOLDEN = Path(__file__).parent / "golden" / "wire"
CAFFEMODEL, STATE, MEAN = GOLDEN / "sgd.caffemodel", GOLDEN / "adam.solverstate", GOLDEN / "mean.binaryproto"


def written(write, *arguments):
    file = io.BytesIO()
    write(file, *arguments)
    return file.getvalue()


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def saved(tmp_path):
    """Bytes, or a message, in a file."""

    def save(content, name="net.caffemodel"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return save


def net(text):
    return schema.parse(text, "NetParameter").message


# Weights


def test_caffes_own_file_is_read():
    layers = wire.read_weights(CAFFEMODEL)
    message = schema.message("NetParameter").FromString(CAFFEMODEL.read_bytes())
    assert [(layer.name, layer.type) for layer in layers] == [(layer.name, layer.type) for layer in message.layer]
    assert [layer.name for layer in layers if layer.blobs] == ["ip1", "ip2", "ip3"]
    for layer, expected in zip(layers, message.layer, strict=True):
        assert [blob.shape for blob in layer.blobs] == [tuple(blob.shape.dim) for blob in expected.blobs]
        for blob, values in zip(layer.blobs, expected.blobs, strict=True):
            assert blob.data.dtype == np.float32 and blob.diff is None
            assert blob.data.tolist() == list(values.data)


def test_caffes_own_file_is_written_to_the_byte():
    layers = wire.read_weights(CAFFEMODEL)
    message = schema.message("NetParameter").FromString(CAFFEMODEL.read_bytes())
    records = [(layer, weights.blobs) for layer, weights in zip(message.layer, layers, strict=True)]
    assert written(wire.write_weights, message.name, records) == CAFFEMODEL.read_bytes()


def test_what_is_written_is_what_protobuf_writes(rng):
    message = net(
        'name: "n" layer { name: "a" type: "Convolution" bottom: "x" top: "y" loss_weight: 1 param { lr_mult: 2 }'
        ' include { phase: TEST } phase: TEST convolution_param { num_output: 3 weight_filler { type: "msra" } } }'
        ' layer { name: "b" } layer { name: "c" blobs { data: 9 } }'
    )
    arrays = [rng.standard_normal((3, 2, 5)).astype(np.float32), np.float32(4), np.empty((0, 3), np.float32)]
    records = [(message.layer[0], arrays), (message.layer[1], []), (message.layer[2], [])]
    raw = written(wire.write_weights, "n", records)
    for array in arrays:
        blob = message.layer[0].blobs.add(data=np.ravel(array))
        blob.shape.dim.extend(np.shape(array))
    assert len(message.layer[2].blobs) == 1  # the caller's message keeps its blobs, which are not written
    message.layer[2].ClearField("blobs")
    # A shape without axes is there, but empty.
    message.layer[0].blobs[1].shape.SetInParent()
    assert raw == message.SerializeToString()


def test_gradients_and_doubles(rng, saved):
    data, diff = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    message = net('layer { name: "a" }').layer[0]
    single = (data.astype(np.float32), diff.astype(np.float32))
    raw = written(wire.write_weights, "", [(message, [(data, diff), single])])
    double_blob, float_blob = schema.message("NetParameter").FromString(raw).layer[0].blobs
    assert list(double_blob.double_data) == data.ravel().tolist()
    assert list(double_blob.double_diff) == diff.ravel().tolist()
    assert list(float_blob.diff) == single[1].ravel().tolist()
    assert schema.message("NetParameter").FromString(raw).SerializeToString() == raw
    first, second = wire.read_weights(saved(raw))[0].blobs
    assert first.data.dtype == first.diff.dtype == np.float64
    assert np.array_equal(first.data, data.ravel()) and np.array_equal(first.diff, diff.ravel())
    assert np.array_equal(second.data, single[0].ravel()) and np.array_equal(second.diff, single[1].ravel())


def test_strided_and_half_arrays_are_written_as_float32(rng):
    data = rng.standard_normal((4, 6)).astype(np.float32)
    message = net('layer { name: "a" }').layer[0]
    raw = written(wire.write_weights, "", [(message, [data.T, data[:, ::2].astype(np.float16)])])
    first, second = schema.message("NetParameter").FromString(raw).layer[0].blobs
    assert list(first.data) == data.T.ravel().tolist() and list(first.shape.dim) == [6, 4]
    assert list(second.data) == data[:, ::2].astype(np.float16).astype(np.float32).ravel().tolist()


def test_nothing_is_held_twice(tmp_path):
    array = np.ones((1 << 21,), np.float32)
    message = net('layer { name: "a" }').layer[0]
    path = tmp_path / "big.caffemodel"
    tracemalloc.start()
    wire.write_weights(path, "n", [(message, [array])] * 4)
    (first, *rest) = wire.read_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes / 8
    assert len(rest) == 3 and first.blobs[0].data.sum() == array.size
    assert not first.blobs[0].data.flags.owndata and not first.blobs[0].data.flags.writeable


def test_a_large_file_is_read_at_once(tmp_path):
    # 244 MB, as AlexNet has; zeros that take no room on the disk.
    path = tmp_path / "sparse.caffemodel"
    size = 61_000_000 * 4
    blob = b"\x2a" + number_bytes(size)
    shape = b"\x3a\x06\x0a\x04" + number_bytes(61_000_000)
    layer = b"\x0a\x01a\x3a" + number_bytes(len(blob) + size + len(shape)) + blob
    with open(path, "wb") as file:
        file.write(b"\xa2\x06" + number_bytes(len(layer) + size + len(shape)) + layer)
        file.seek(size, io.SEEK_CUR)
        file.write(shape)
    start = time.perf_counter()
    (layer,) = wire.read_weights(path)
    assert time.perf_counter() - start < 0.1
    assert layer.blobs[0].shape == (61_000_000,) and layer.blobs[0].data.size == 61_000_000


def test_a_file_caffe_could_not_read(monkeypatch, caplog):
    monkeypatch.setattr(wire, "LIMIT", 20)
    with caplog.at_level(logging.WARNING):
        written(wire.write_weights, "n", [(net('layer { name: "a" }').layer[0], [np.ones(9)])])
    assert caplog.messages == ["These weights have 90 bytes. Caffe reads no more than 20; save as HDF5 for it."]


def floats(*values):
    return np.array(values, "<f4").tobytes()


def field(number, raw):
    return number_bytes(number << 3 | 2) + number_bytes(len(raw)) + raw


SHAPE23 = field(7, field(1, b"\x02\x03"))
SIX = floats(1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    "blob, shape, data",
    [
        (field(5, SIX) + SHAPE23, (2, 3), SIX),
        # Not packed: each value behind a tag of its own
        (b"".join(b"\x2d" + SIX[i : i + 4] for i in range(0, 24, 4)) + SHAPE23, (2, 3), SIX),
        (b"".join(b"\x41" + struct.pack("<d", i) for i in range(6)) + SHAPE23, (2, 3), np.arange(6.0).tobytes()),
        # In several pieces, of both kinds
        (field(5, SIX[:8]) + SHAPE23 + field(5, SIX[8:]), (2, 3), SIX),
        (field(5, SIX[:8]) + b"\x2d" + SIX[8:12] + SHAPE23 + b"\x2d" + SIX[12:16] + field(5, SIX[16:]), (2, 3), SIX),
        # Double
        (field(8, np.arange(6.0).tobytes()) + SHAPE23, (2, 3), np.arange(6.0).tobytes()),
        # Shapes: not packed, of four numbers, missing, without axes
        (field(5, SIX) + field(7, b"\x08\x02\x08\x03"), (2, 3), SIX),
        (b"\x08\x01\x10\x01\x18\x02\x20\x03" + field(5, SIX), (1, 1, 2, 3), SIX),
        (field(5, SIX) + b"\x20\x06", (0, 0, 0, 6), SIX),
        (field(5, SIX), (6,), SIX),
        (field(5, SIX[:4]) + field(7, b""), (), SIX[:4]),
        # Nothing in it
        (b"", (), b""),
        (field(7, field(1, b"\x00\x03")), (0, 3), b""),
        # NVCaffe
        (b"\x50\x01" + field(12, SIX) + SHAPE23, (2, 3), SIX),
        (
            b"\x50\x02" + field(12, np.arange(6, dtype="<f2").tobytes()) + SHAPE23,
            (2, 3),
            np.arange(6, dtype="<f2").tobytes(),
        ),
        (field(12, np.arange(6.0).tobytes()) + b"\x50\x00" + SHAPE23, (2, 3), np.arange(6.0).tobytes()),
        # Fields that a fork added
        (field(5, SIX) + field(99, b"hello") + b"\x98\x06\x05" + SHAPE23, (2, 3), SIX),
    ],
)
def test_kinds_of_arrays(saved, blob, shape, data):
    (layer,) = wire.read_weights(saved(field(100, field(1, b"a") + field(2, b"Convolution") + field(7, blob))))
    assert (layer.name, layer.type) == ("a", "Convolution")
    (found,) = layer.blobs
    assert found.shape == shape
    assert found.data.ndim == 1 and found.data.tobytes() == data
    assert found.diff is None


def test_raw_gradients(saved):
    blob = b"\x50\x01" + field(12, SIX) + b"\x58\x02" + field(13, np.arange(6, dtype="<f2").tobytes()) + SHAPE23
    (layer,) = wire.read_weights(saved(field(100, field(7, blob))))
    assert layer.blobs[0].diff.dtype == np.float16 and layer.blobs[0].diff.tolist() == list(range(6))


def test_many_values_that_are_not_packed(saved, rng):
    values = rng.standard_normal(200_000).astype("<f4")
    rows = np.empty((values.size, 5), np.uint8)
    rows[:, 0] = 0x2D
    rows[:, 1:] = values.view(np.uint8).reshape(-1, 4)
    start = time.perf_counter()
    (layer,) = wire.read_weights(saved(field(100, field(7, rows.tobytes()))))
    assert time.perf_counter() - start < 0.5
    assert np.array_equal(layer.blobs[0].data, values)


def test_old_layers(saved):
    message = net(
        """
        layers { name: "v1" type: SOFTMAX_LOSS blobs { num: 1 channels: 1 height: 1 width: 2 data: [1, 2] } }
        layers { layer { name: "v0" type: "innerproduct" blobs { width: 1 data: 3 } blobs { width: 1 data: 4 } } }
        layers { layer { name: "pad" type: "padding" } }
        """
    )
    v1, v0, pad = wire.read_weights(saved(message))
    assert (v1.name, v1.type, v1.blobs[0].shape, v1.blobs[0].data.tolist()) == (
        "v1",
        "SoftmaxWithLoss",
        (1, 1, 1, 2),
        [1, 2],
    )
    assert (v0.name, v0.type, [b.data.tolist() for b in v0.blobs]) == ("v0", "InnerProduct", [[3], [4]])
    assert (pad.name, pad.type) == ("pad", "padding")


def test_a_v1_type_of_a_fork(saved):
    (layer,) = wire.read_weights(saved(field(2, field(4, b"a") + b"\x28\x8b\x01")))
    assert (layer.name, layer.type) == ("a", "139")


def test_the_definition_within(saved):
    message = net(
        'name: "n" layer { name: "a" blobs { data: [1, 2] } relu_param { negative_slope: 0.5 } blobs { data: 3 } }'
        ' layers { name: "b" blobs { data: 1 } } layers { layer { name: "c" blobs { data: 1 } } }'
    )
    raw = message.SerializeToString() + field(99, b"fork") + field(100, field(1, b"d") + field(151, b"fork"))
    definition = wire.read_net(saved(raw))
    assert schema.to_text(definition.message) == (
        'name: "n"\nlayers {\n  name: "b"\n}\nlayers {\n  layer {\n    name: "c"\n  }\n}\n'
        'layer {\n  name: "a"\n  relu_param {\n    negative_slope: 0.5\n  }\n}\nlayer {\n  name: "d"\n}\n'
    )
    again = definition.message.SerializeToString()
    assert field(99, b"fork") in again and field(151, b"fork") in again
    assert definition.file.endswith("net.caffemodel")


# Solver state


def test_caffes_own_state():
    state = wire.read_state(STATE)
    message = schema.message("SolverState").FromString(STATE.read_bytes())
    assert (state.iter, state.learned_net, state.current_step) == (6, message.learned_net, 0)
    assert [array.shape for array in state.history] == [tuple(blob.shape.dim) for blob in message.history]
    assert [array.ravel().tolist() for array in state.history] == [list(blob.data) for blob in message.history]
    assert written(wire.write_state, state) == STATE.read_bytes()


def test_state_to_a_path(tmp_path):
    path = tmp_path / "x.solverstate"
    wire.write_state(path, wire.SolverState(2**31 - 1, "größe.caffemodel", 3, [np.zeros((2, 2)), np.float32(1)]))
    state = wire.read_state(path)
    assert (state.iter, state.learned_net, state.current_step) == (2**31 - 1, "größe.caffemodel", 3)
    assert [(array.shape, array.dtype) for array in state.history] == [((2, 2), np.float64), ((), np.float32)]


# Arrays


def test_caffes_own_mean():
    mean = wire.read_blob(MEAN)
    message = schema.message("BlobProto").FromString(MEAN.read_bytes())
    assert mean.shape == (1, 3, 28, 32) and mean.ravel().tolist() == list(message.data)
    assert written(wire.write_blob, mean) == MEAN.read_bytes()


def test_arrays_of_any_rank(rng, saved):
    array = rng.standard_normal((3, 4)).astype(np.float32)
    found = wire.read_blob(saved(written(wire.write_blob, array)))
    assert np.array_equal(found, array)
    message = schema.message("BlobProto").FromString(written(wire.write_blob, array))
    assert list(message.shape.dim) == [3, 4]


# What is wrong with a file


def cut(path, length):
    return path.read_bytes()[:length]


@pytest.mark.parametrize(
    "read, content, error, expected",
    [
        (
            wire.read_weights,
            None,
            SnapshotError,
            "cannot be read: No such file or directory; a file of weights (.caffemodel) is wanted.",
        ),
        (wire.read_weights, b"", SnapshotError, "is empty; a file of weights (.caffemodel) is wanted."),
        (
            wire.read_weights,
            b"<!DOCTYPE html><html>Not found</html>",
            SnapshotError,
            "this is a web page; a file of weights (.caffemodel) is wanted. Its download failed: download it again.",
        ),
        (
            wire.read_weights,
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 243862414\n",
            SnapshotError,
            "this is a pointer of Git LFS; a file of weights (.caffemodel) is wanted. Run: git lfs pull",
        ),
        (
            wire.read_weights,
            b"\x89HDF\r\n\x1a\n" + bytes(100),
            SnapshotError,
            "this is an HDF5 file; a file of weights (.caffemodel) is wanted. Give it a name that ends in .h5.",
        ),
        (
            wire.read_weights,
            b'name: "LeNet"\n',
            SnapshotError,
            "this is text; a file of weights (.caffemodel) is wanted.",
        ),
        (
            wire.read_weights,
            STATE.read_bytes(),
            SnapshotError,
            "this is a solver's state (.solverstate); a file of weights (.caffemodel) is wanted."
            " Give it to --snapshot, and the .caffemodel beside it to --weights.",
        ),
        (
            wire.read_weights,
            MEAN.read_bytes(),
            SnapshotError,
            "this is an array (.binaryproto); a file of weights (.caffemodel) is wanted.",
        ),
        (
            wire.read_weights,
            field(1, b"only a name"),
            SnapshotError,
            "this is not a file of weights (.caffemodel).",
        ),
        (
            wire.read_weights,
            cut(CAFFEMODEL, 500),
            SnapshotError,
            "damaged at byte 336 of 500: a field of 234 bytes goes 74 beyond the end. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, field(1, b"a") + field(7, field(5, b"12345"))),
            SnapshotError,
            "damaged at byte 10 of 15: 5 bytes are no whole number of 4-byte values. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, field(1, b"a") + b"\x3e"),
            SnapshotError,
            "damaged at byte 6 of 7: 62 starts no field. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, b"\x00\x00"),
            SnapshotError,
            "damaged at byte 3 of 5: a field has the number 0. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, b"\x50" + b"\xff" * 11),
            SnapshotError,
            "damaged at byte 4 of 15: a number does not end. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, field(1, b"\xff\xff")),
            SnapshotError,
            "damaged at byte 5 of 7: a name is no text. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, field(7, b"\x50\x09" + field(12, SIX))),
            SnapshotError,
            "damaged at byte 9 of 33: raw values of an unknown type, 9. Copy or download the file again.",
        ),
        (
            wire.read_weights,
            field(100, b"\x38\x01"),
            SnapshotError,
            "this is not a file of weights (.caffemodel).",
        ),
        (
            wire.read_state,
            CAFFEMODEL.read_bytes(),
            SnapshotError,
            "this is a file of weights (.caffemodel); a solver's state (.solverstate) is wanted."
            " Give it to --weights, and the .solverstate beside it to --snapshot.",
        ),
        (
            wire.read_state,
            cut(STATE, 100),
            SnapshotError,
            "damaged at byte 26 of 100: a field of 153 bytes goes 82 beyond the end. Copy or download the file again.",
        ),
        (
            wire.read_state,
            field(3, field(5, SIX) + field(7, field(1, b"\x07"))),
            SnapshotError,
            "damaged at byte 2 of 33: an array of shape (7,) has 6 values. Copy or download the file again.",
        ),
        (
            wire.read_blob,
            None,
            DataError,
            "cannot be read: No such file or directory; an array (.binaryproto) is wanted.",
        ),
        (
            wire.read_blob,
            CAFFEMODEL.read_bytes(),
            DataError,
            "this is a file of weights (.caffemodel); an array (.binaryproto) is wanted.",
        ),
        (
            wire.read_blob,
            cut(MEAN, 5000),
            DataError,
            "damaged at byte 8 of 5000: a field of 10752 bytes goes 5763 beyond the end. Copy or"
            " download the file again.",
        ),
        (wire.read_blob, field(99, b"x"), DataError, "this is not an array (.binaryproto)."),
        (
            wire.read_blob,
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'",
            DataError,
            "this is an array of NumPy (.npy); an array (.binaryproto) is wanted."
            " caffe.io.array_to_blobproto(np.load(file)[np.newaxis]) makes one.",
        ),
    ],
)
def test_files_that_are_damaged_or_something_else(tmp_path, read, content, error, expected):
    path = tmp_path / "some.file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        read(path)
    assert str(caught.value) == f"{path}: {expected}"


@pytest.mark.parametrize(
    "read, path", [(wire.read_weights, CAFFEMODEL), (wire.read_net, CAFFEMODEL), (wire.read_state, STATE)]
)
def test_a_file_cut_anywhere(saved, read, path):
    whole = path.read_bytes()
    boundaries = {stop for _, _, _, _, stop in fields(whole, 0, len(whole))}
    complete = set()
    for length in range(1, len(whole)):
        try:
            read(saved(whole[:length]))
            complete.add(length)
        except SnapshotError:
            pass
    # Only between two layers, or two arrays of a state, does nothing tell that there were more.
    assert complete <= boundaries


@pytest.mark.parametrize(
    "read, path, error",
    [
        (wire.read_weights, CAFFEMODEL, SnapshotError),
        (wire.read_net, CAFFEMODEL, SnapshotError),
        (wire.read_state, STATE, SnapshotError),
        (wire.read_blob, MEAN, DataError),
    ],
)
def test_bytes_changed_by_chance(saved, rng, read, path, error):
    whole = bytearray(path.read_bytes()[:900])
    for _ in range(300):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), 3):
            raw[at] = rng.integers(256)
        try:
            read(saved(bytes(raw)))
        except error:
            pass


# Records


def message_of(datum):
    message = schema.message("Datum")(
        channels=datum.channels, height=datum.height, width=datum.width, label=datum.label, encoded=datum.encoded
    )
    if len(datum.data):
        message.data = bytes(datum.data)
    if datum.float_data is not None:
        message.float_data.extend(datum.float_data)
    return message


DATUMS = [
    wire.Datum(3, 2, 2, b"abcdefghijkl", 7),
    wire.Datum(1, 300, 70000, b"x", 2**31 - 1),
    wire.Datum(1, 1, 1, b"\x28", -1),
    wire.Datum(0, 0, 0, b"\xff\xd8jpeg", 5, True),
    wire.Datum(3, 480, 640, b"\xff\xd8jpeg", 5, True),
    wire.Datum(4, 1, 1, b"", 2, False, np.array([1.5, -2, 0, 1e-30], np.float32)),
    wire.Datum(),
]


@pytest.mark.parametrize("datum", DATUMS)
def test_records(datum):
    raw = wire.datum_bytes(datum)
    message = schema.message("Datum").FromString(raw)
    expected = message_of(datum)
    if datum.float_data is not None:
        expected.ClearField("encoded")
    if datum.encoded and not datum.channels:
        for name in ("channels", "height", "width"):
            expected.ClearField(name)
    assert raw == expected.SerializeToString() and message == expected
    for source in (raw, bytearray(raw), memoryview(raw)):
        found = wire.parse_datum(source)
        assert message_of(found) == message_of(datum)


def test_the_data_of_a_record_is_a_view():
    raw = wire.datum_bytes(wire.Datum(1, 1, 3, b"abc"))
    assert wire.parse_datum(raw).data.obj is raw


@pytest.mark.parametrize(
    "raw",
    [
        # Packed floats, floats in two places, fields in another order, fields that Datum does not have
        field(6, floats(1, 2)),
        b"\x35" + floats(1) + b"\x28\x03\x35" + floats(2),
        b"\x38\x01\x28\x05" + field(4, b"abc") + b"\x18\x01\x10\x02\x08\x03",
        field(9, b"more") + b"\x28\x05" + field(200, b"x") + b"\xc0\x3e\x05" + b"\x7d" + floats(1) + b"\x60\x01",
    ],
)
def test_unusual_records(raw):
    assert message_of(wire.parse_datum(raw)) == message_of_bytes(raw)


def message_of_bytes(raw):
    m = schema.message("Datum").FromString(raw)
    values = np.array(m.float_data, np.float32) if m.float_data else None
    return message_of(wire.Datum(m.channels, m.height, m.width, m.data, m.label, m.encoded, values))


@pytest.mark.parametrize(
    "raw, expected",
    [
        (b"\x08", "this is no Datum: its 1 bytes end within a field."),
        (
            field(4, b"abc")[:-1],
            "this is no Datum: damaged at byte 0 of 4: its data of 3 bytes goes 1 beyond the end.",
        ),
        (b"\x35\x00\x00", "this is no Datum: damaged at byte 0 of 3: a float is cut off."),
        (b"\x08\xff\xff", "this is no Datum: damaged at byte 1 of 3: a number does not end."),
        (b"\x20\x01", "this is no Datum: damaged at byte 0 of 2: a field has another kind than Datum's."),
        (b"\x0a\x01x", "this is no Datum: damaged at byte 0 of 3: a field has another kind than Datum's."),
        (b"\xff\xd8\xff\xe0", "this is no Datum: damaged at byte 0 of 4: a number does not end."),
        (field(6, b"abc"), "this is no Datum: damaged at byte 2 of 5: 3 bytes are no whole number of 4-byte values."),
    ],
)
def test_damaged_records(raw, expected):
    with pytest.raises(DataError) as caught:
        wire.parse_datum(raw)
    assert str(caught.value) == expected


def test_records_are_read_quickly():
    raw = wire.datum_bytes(wire.Datum(3, 256, 256, bytes(3 * 256 * 256), 77))
    start = time.perf_counter()
    for _ in range(1000):
        wire.parse_datum(raw)
    # 3 us each where this was written; the bound leaves room for a busy machine.
    assert time.perf_counter() - start < 0.05


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (3, 256, 256)])
@pytest.mark.parametrize("label", [0, 300, -1])
def test_a_datum_whose_pixels_are_yet_to_be_written(shape, label):
    record, pixels = datum_to_fill(shape, label)
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    pixels[...] = values
    assert bytes(record) == datum_bytes(Datum(*shape, values.tobytes(), label))
