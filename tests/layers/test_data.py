import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import layerforge as lf
from layerforge import wire
from layerforge.data.lmdb_writer import write_lmdb
from layerforge.datum import Datum, datum_bytes
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, available, check_layer

GOLDEN = Path(__file__).parents[1] / "golden" / "data"
CASES = sorted(path.stem for path in (GOLDEN / "cases").glob("*.npz"))


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """A copy of the golden databases: whoever reads an LMDB leaves a lock file in it."""
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")


@pytest.mark.usefixtures("golden")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("device", available())
def test_what_caffe_read(name, dtype, device, tmp_path):
    """Bit for bit, in phase TEST: raw, PNG and JPEG records, grey ones, crops, means, HDF5."""
    case = np.load(f"cases/{name}.npz")
    (tmp_path / "net.prototxt").write_text(str(case["text"]))
    net = lf.Net(str(tmp_path / "net.prototxt"), lf.TEST, dtype=dtype, device=device)
    batches = sorted({int(key.split("/")[2]) for key in case.files if key != "text"})
    for batch in batches:
        net.forward()
        for key in case.files:
            if key.startswith("out/") and key.endswith(f"/{batch}"):
                blob = net.blobs[key.split("/")[1]].data
                assert blob.dtype == dtype
                assert np.array_equal(blob, case[key]), key
    assert len(batches) >= 4
    net.close()


@pytest.mark.parametrize(
    "text, batch, expected",
    [
        ("", 3, lambda x: x),
        ("scale: 0.5 mean_value: 1", 3, lambda x: (x - 1) / 2),
        ("crop_size: 4", 3, lambda x: x[:, :, 1:5, 1:5]),
        ("", 1, lambda x: x),
    ],
)
@pytest.mark.parametrize("tops", ['top: "data" top: "label"', 'top: "data"'])
def test_data(tmp_path, text, batch, expected, tops):
    """A database of one batch: every pass is the same."""
    records(tmp_path / "db", batch)
    pixels = np.broadcast_to(np.arange(batch)[:, None, None, None], (batch, 3, 6, 6))
    found = (expected(pixels), np.arange(batch))[: tops.count("top")]
    check_layer(
        f'type: "Data" {tops} transform_param {{ {text} }} '
        f'data_param {{ source: "{tmp_path}/db" batch_size: {batch} }}',
        [],
        lambda: found,
        phase=lf.TEST,
    )


def records(path, count=10, side=6, bad=()):
    """Record i: 3 channels full of i, label i."""
    write_lmdb(
        path,
        (
            (
                b"key%05d" % i,
                datum_bytes(Datum(3, side, side, bytes([i]) * (3 * side * side if i not in bad else 1), i)),
            )
            for i in range(count)
        ),
    )
    return path


def bench(path, text="batch_size: 4", transform="", tops='top: "data" top: "label"', **options):
    return Bench(
        f'name: "data" type: "Data" {tops}\ntransform_param {{ {transform} }}\n'
        f'data_param {{ source: "{path}" backend: LMDB {text} }}',
        [],
        dtype=np.float32,
        **options,
    )


def run(made, passes):
    """The labels of every batch, each record's pixels checked against its label."""
    found = []
    for _ in range(passes):
        data, labels = made.forward([], {})
        assert (data == labels[:, None, None, None]).all()
        found.append(labels.astype(int).tolist())
    return found


def test_batches(tmp_path):
    made = bench(records(tmp_path / "db"))
    assert [top.shape for top in made.top] == [(4, 3, 6, 6), (4,)]
    assert run(made, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5]]
    assert made.layer.wait_seconds > 0
    assert made.layer.skipped == 0
    made.layer.close()


def test_without_labels(tmp_path):
    made = bench(records(tmp_path / "db"), tops='top: "data"')
    assert [top.shape for top in made.top] == [(4, 3, 6, 6)]
    (data,) = made.forward([], {})
    assert data[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    made.layer.close()


def test_the_phase_decides_about_crops(tmp_path):
    path = tmp_path / "db"
    write_lmdb(path, [(b"0", datum_bytes(Datum(1, 8, 8, bytes(range(64)))))])

    def corners(phase):
        made = bench(path, "batch_size: 100", "crop_size: 4", phase=phase)
        corners = set(made.forward([], {})[0][:, 0, 0, 0])
        made.layer.close()
        return corners

    assert corners(lf.TEST) == {2 * 8 + 2}
    assert len(corners(lf.TRAIN)) > 15


@pytest.mark.parametrize("text", ["batch_size: 4", "batch_size: 4 shuffle: true", "batch_size: 4 rand_skip: 7"])
def test_exact_resume(tmp_path, text):
    path = records(tmp_path / "db")

    def make(seed=5):
        return bench(path, text, "mirror: true crop_size: 3", seed=seed)

    whole = make()
    expected = run(whole, 12)
    first = make()
    assert run(first, 5) == expected[:5]
    state = first.layer.data_state()
    second = make(seed=6)  # the seed of the first run is put back with its state
    run(second, 2)
    second.layer.seed = 5
    second.layer.set_data_state(state)
    assert run(second, 7) == expected[5:]
    assert second.layer.data_state() == whole.layer.data_state()
    third = make()
    third.layer.skip(9)
    assert run(third, 3) == expected[9:]
    for made in (whole, first, second, third):
        made.layer.close()


def test_resume_keeps_crops_and_mirrors(tmp_path):
    path = tmp_path / "db"
    rng = np.random.default_rng(0)
    write_lmdb(path, [(b"%d" % i, datum_bytes(Datum(1, 8, 8, rng.bytes(64)))) for i in range(3)])
    one = bench(path, "batch_size: 2", "mirror: true crop_size: 3", seed=1)
    expected = [one.forward([], {})[0].copy() for _ in range(10)]
    two = bench(path, "batch_size: 2 threads: 1", "mirror: true crop_size: 3", seed=1)
    two.layer.set_data_state({"position": 10})
    assert all(np.array_equal(two.forward([], {})[0], batch) for batch in expected[5:])
    one.layer.close()
    two.layer.close()


def test_shuffle(tmp_path):
    made = bench(records(tmp_path / "db"), "batch_size: 10 shuffle: true")
    epochs = run(made, 3)
    made.layer.close()
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_rand_skip(tmp_path):
    path = records(tmp_path / "db")
    starts = []
    for seed in range(30):
        made = bench(path, "batch_size: 1 rand_skip: 4", seed=seed)
        starts += run(made, 1)[0]
        made.layer.close()
    assert set(starts) == {0, 1, 2, 3}


def test_force_encoded_color(golden):
    made = bench("png_lmdb", "batch_size: 1", "force_gray: true")
    assert made.top[0].shape == (1, 1, 28, 32)
    made = bench("png_lmdb", "batch_size: 1 force_encoded_color: true")
    assert made.top[0].shape == (1, 3, 28, 32)


def test_nothing_runs_before_the_first_batch(tmp_path):
    """Shapes alone are asked for by `check` and `summary`: sample data is not drawn for them, and no thread starts."""
    os.environ["LAYERFORGE_CACHE"] = str(tmp_path / "cache")
    try:
        before = threading.active_count()
        made = bench("sample://shapes?split=train", "batch_size: 4", "crop_size: 227")
        assert [top.shape for top in made.top] == [(4, 3, 227, 227), (4,)]
        assert threading.active_count() == before
        assert not (tmp_path / "cache").exists()
        made.layer.close()
    finally:
        del os.environ["LAYERFORGE_CACHE"]


def test_sample_data_trains_and_tests(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERFORGE_CACHE", str(tmp_path))
    made = bench("sample://digits?split=test&count=20", "batch_size: 20")
    data, labels = made.forward([], {})
    assert data.shape == (20, 1, 28, 28)
    assert sorted(labels.tolist()) == sorted(list(range(10)) * 2)
    made.layer.close()


def test_closing_is_quick(tmp_path):
    made = bench(records(tmp_path / "db"))
    run(made, 1)
    begin = time.perf_counter()
    made.layer.close()
    made.layer.close()
    assert time.perf_counter() - begin < 2


# What is wrong.


def test_a_missing_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as error:
        bench("train_lmdb")
    assert str(error.value) == (
        f'<text>:3:14: layer "data" (Data): source "train_lmdb" does not exist in {tmp_path}. Name a folder that holds '
        'an LMDB, or write source: "sample://shapes?split=train" to try without one'
    )


def test_a_damaged_record(tmp_path):
    made = bench(records(tmp_path / "db", bad=[5]))
    run(made, 1)
    with pytest.raises(DataError) as error:
        run(made, 1)
    assert str(error.value) == (
        f'<text>:3:14: layer "data" (Data): source "{tmp_path / "db"}": record 5 (key "key00005"): '
        "it has 1 bytes of data, but its shape (3, 6, 6) needs 108"
    )
    made.layer.close()


def test_a_damaged_record_is_skipped_if_asked(tmp_path, caplog):
    made = bench(records(tmp_path / "db", bad=[5]), "batch_size: 4 skip_bad: true")
    assert run(made, 2) == [[0, 1, 2, 3], [4, 6, 6, 7]]
    assert made.layer.skipped >= 1  # once for each epoch that was reached
    assert caplog.messages == [
        f'Skipped: source "{tmp_path / "db"}": record 5 (key "key00005"): '
        "it has 1 bytes of data, but its shape (3, 6, 6) needs 108"
    ]
    made.layer.close()


def test_no_batch_size(tmp_path):
    with pytest.raises(DefinitionError) as error:
        bench(records(tmp_path / "db"), "")
    assert str(error.value) == '<text>:3:1: layer "data" (Data): batch_size must be at least 1'


def test_a_transformation_that_contradicts_itself(tmp_path):
    with pytest.raises(DefinitionError) as error:
        bench(records(tmp_path / "db"), transform="force_gray: true force_color: true")
    assert str(error.value) == (
        '<text>:2:1: layer "data" (Data): force_color and force_gray exclude each other: write one of them'
    )


def test_a_transformation_that_does_not_fit(tmp_path):
    with pytest.raises(ShapeError) as error:
        bench(records(tmp_path / "db"), transform="crop_size: 7")
    assert str(error.value) == (
        f'<text>:2:1: layer "data" (Data): source "{tmp_path / "db"}": record 0 (key "key00000"): '
        "a crop of 7x7 is larger than a record of 6x6: crop less, or make the records larger"
    )


def test_a_missing_mean(tmp_path):
    with pytest.raises(DataError) as error:
        bench(records(tmp_path / "db"), transform=f'mean_file: "{tmp_path}/no.binaryproto"')
    assert str(error.value) == (
        f'<text>:2:1: layer "data" (Data): mean_file {tmp_path}/no.binaryproto: cannot be read: '
        "No such file or directory; an array (.binaryproto) is wanted."
    )


def test_a_top_that_was_reshaped(tmp_path):
    path = records(tmp_path / "db")
    mean = tmp_path / "mean.binaryproto"
    with open(mean, "wb") as file:
        wire.write_blob(file, np.zeros((1, 3, 6, 6), np.float32))
    made = bench(path, transform=f'mean_file: "{mean}"')
    made.resize(made.top[0], (2, 3, 6, 6))
    with pytest.raises(ShapeError) as error:
        made.forward([], {})
    made.layer.close()
    assert str(error.value) == (
        '<text>:1:27: layer "data" (Data): top "data" is (2, 3, 6, 6), but a batch is (4, 3, 6, 6): '
        "only inputs can be reshaped"
    )


@pytest.mark.parametrize("field", ["crop_size: 3", "mirror: true", "scale: 2", 'mean_file: "m"'])
def test_options_of_old_nets_have_no_effect(tmp_path, field, caplog):
    records(tmp_path / "db", 4)
    made = Bench(
        f'name: "d" type: "Data" data_param {{ source: "{tmp_path}/db" batch_size: 2\n{field} }}', [], phase=lf.TEST
    )
    assert made.top[0].shape == (2, 3, 6, 6)
    name = field.partition(":")[0]
    assert caplog.messages == [
        f'<text>:2:1: layer "d" (Data): {name} has no effect here, as in Caffe. Write transform_param {{ {name}: ... }}'
    ]
