import threading
import time

import h5py
import numpy as np
import pytest

import layerforge as lf
from layerforge.data import hdf5_source
from layerforge.data.hdf5_source import Hdf5Source
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two files of 7 and 4 rows; row i has x (2,) full of i, and y i."""
    monkeypatch.chdir(tmp_path)
    for name, values in (("a.h5", np.arange(7)), ("b.h5", np.arange(7, 11))):
        with h5py.File(name, "w") as file:
            file["x"] = np.stack([values, values], axis=1).astype(np.float32)
            file["y"] = values
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    return tmp_path


MADE = []


@pytest.fixture(autouse=True)
def close():
    yield
    while MADE:
        MADE.pop().layer.close()


def bench(text="batch_size: 4", more="", tops='top: "x" top: "y"', source="list.txt", **options):
    made = Bench(
        f'name: "data" type: "HDF5Data" {tops} {more}\nhdf5_data_param {{ source: "{source}" {text} }}',
        [],
        **{"dtype": np.float32, **options},
    )
    MADE.append(made)
    return made


def run(made, passes):
    found = []
    for _ in range(passes):
        x, y = made.forward([], {})
        assert np.array_equal(x, np.stack([y, y], axis=1))
        found.append(y.astype(int).tolist())
    return found


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("tops", [("x", "y"), ("y",), ("y", "x")])
def test_hdf5_data(tops):
    """A batch of all rows: every pass is the same."""
    rows = {"x": np.stack([np.arange(11)] * 2, axis=1), "y": np.arange(11)}
    named = " ".join(f'top: "{name}"' for name in tops)
    check_layer(
        f'type: "HDF5Data" {named} hdf5_data_param {{ source: "list.txt" batch_size: 11 }}',
        [],
        lambda: tuple(rows[name] for name in tops),
    )


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches(dtype):
    made = bench(dtype=dtype)
    assert [top.shape for top in made.top] == [(4, 2), (4,)]
    assert run(made, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0], [1, 2, 3, 4]]
    assert made.layer.wait_seconds > 0


@pytest.mark.usefixtures("folder")
def test_tops_are_named_after_datasets():
    made = bench(tops='top: "y"')
    assert made.forward([], {})[0].tolist() == [0, 1, 2, 3]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["batch_size: 4", "batch_size: 4 shuffle: true"])
def test_exact_resume(text):
    whole = bench(text, seed=1)
    expected = run(whole, 12)
    first = bench(text, seed=1)
    run(first, 5)
    second = bench(text, seed=2)
    run(second, 1)
    second.layer.seed = 1
    second.layer.set_data_state(first.layer.data_state())
    assert run(second, 7) == expected[5:]
    third = bench(text, seed=1)
    third.layer.skip(9)
    assert run(third, 3) == expected[9:]


@pytest.mark.usefixtures("folder")
def test_in_a_net(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "HDF5Data" top: "x" top: "y" hdf5_data_param { source: "list.txt" batch_size: 3 } }'
    )
    net = lf.Net(str(tmp_path / "net.prototxt"), lf.TRAIN)
    net.forward()
    assert net.forward()["y"].tolist() == [3, 4, 5]
    net.close()


@pytest.mark.usefixtures("folder")
def test_a_missing_dataset():
    with pytest.raises(DataError) as error:
        bench(tops='top: "x" top: "z"')
    assert str(error.value) == (
        '<text>:2:19: layer "data" (HDF5Data): source "list.txt": a.h5 has no dataset "z". '
        "It has: x, y. Tops are read from the datasets of their names"
    )


@pytest.mark.usefixtures("folder")
def test_a_file_that_vanishes(folder):
    made = bench()
    (folder / "b.h5").unlink()
    run(made, 1)
    for _ in range(2):
        with pytest.raises(DataError) as error:
            run(made, 1)
        assert str(error.value) == (
            '<text>:2:19: layer "data" (HDF5Data): source "list.txt" lists b.h5, which does not exist'
        )
        assert made.layer.data_state() == {"position": 4}


@pytest.mark.usefixtures("folder")
def test_a_thread_reads_ahead(monkeypatch):
    """By as many batches as data_param.prefetch says, while the net computes."""
    calls = []
    fill = Hdf5Source.fill

    def watched(source, position, out):
        calls.append((position, threading.current_thread().name))
        fill(source, position, out)

    def settled(count):
        for _ in range(500):
            if len(calls) >= count:
                break
            time.sleep(0.01)
        time.sleep(0.05)
        return [position for position, _ in calls]

    monkeypatch.setattr(Hdf5Source, "fill", watched)
    made = bench(more="data_param { prefetch: 2 }")
    assert settled(0) == []  # not before the first pass
    run(made, 1)
    assert settled(3) == [0, 4, 8]
    run(made, 1)
    assert settled(4) == [0, 4, 8, 12]
    assert {name for _, name in calls} == {"layerforge-loader-0"}
    made.layer.close()
    with pytest.raises(DataError) as error:
        run(made, 1)
    assert str(error.value) == '<text>:2:19: layer "data" (HDF5Data): source "list.txt": its loader is closed'


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("text", ["batch_size: 4", "batch_size: 4 shuffle: true"])
def test_files_larger_than_memory(monkeypatch, text):
    """They are read in slices, with the same result and the same resume."""
    whole = bench(text, seed=1)
    expected = run(whole, 12)
    monkeypatch.setattr(hdf5_source, "HELD", 0)
    sliced = bench(text, seed=1)
    assert run(sliced, 12) == expected
    sliced.layer.set_data_state({"position": 20})
    assert run(sliced, 7) == expected[5:]


@pytest.mark.usefixtures("folder")
def test_no_batch_size():
    with pytest.raises(DefinitionError) as error:
        bench("")
    assert str(error.value) == '<text>:2:1: layer "data" (HDF5Data): batch_size must be at least 1'


# transform_param


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Two files of 4 and 3 images (2, 5, 6): pixel c, y, x of image i is 1000 i + 100 c + 10 y + x; label i."""
    monkeypatch.chdir(tmp_path)
    pixels = np.add.outer(
        1000 * np.arange(7), np.add.outer(100 * np.arange(2), np.add.outer(10 * np.arange(5), np.arange(6)))
    )
    for name, rows in (("a.h5", slice(0, 4)), ("b.h5", slice(4, 7))):
        with h5py.File(name, "w") as file:
            file["data"] = pixels[rows].astype(np.float32)
            file["label"] = np.arange(7.0)[rows]
    (tmp_path / "list.txt").write_text("a.h5\nb.h5\n")
    return pixels


TOPS = 'top: "data" top: "label"'


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_top_is_transformed(images, dtype):
    transform = "transform_param { crop_size: 3 mean_value: 1 mean_value: 2 scale: 0.5 }"
    made = bench("batch_size: 5", transform, TOPS, phase=lf.TEST, dtype=dtype)
    assert [top.shape for top in made.top] == [(5, 2, 3, 3), (5,)]
    expected = (images[:, :, 1:4, 1:4] - np.array([1, 2])[:, None, None]) * 0.5
    for rows in ([0, 1, 2, 3, 4], [5, 6, 0, 1, 2]):
        data, labels = made.forward([], {})
        assert labels.tolist() == rows
        assert np.array_equal(data, expected[rows])


@pytest.mark.parametrize("text", ["", "shuffle: true"])
def test_crops_and_mirrors_are_drawn_anew_and_resumed(images, text):
    def make(seed):
        return bench(f"batch_size: 2 {text}", "transform_param { crop_size: 3 mirror: true }", TOPS, seed=seed)

    whole = make(3)
    expected = [[top.copy() for top in whole.forward([], {})] for _ in range(30)]
    corners = set()
    for data, labels in expected:
        for row, label in zip(data, labels, strict=True):
            step = row[0, 0, 1] - row[0, 0, 0]
            corners.add((float(row[0, 0].min() - 1000 * label), float(step)))
    assert {step for _, step in corners} == {1, -1}
    assert len(corners) > 15  # of 3 * 4 * 2
    second = make(4)
    second.layer.seed = 3
    second.layer.set_data_state({"position": 40})
    for batch in expected[20:]:
        assert all(np.array_equal(a, b) for a, b in zip(second.forward([], {}), batch, strict=True))


def test_a_crop_that_does_not_fit(images):
    with pytest.raises(ShapeError) as error:
        bench(more="transform_param { crop_size: 6 }", tops=TOPS)
    assert str(error.value) == (
        '<text>:1:56: layer "data" (HDF5Data): a crop of 6x6 is larger than a record of 5x6: '
        "crop less, or make the records larger"
    )


@pytest.mark.usefixtures("folder")
def test_rows_that_are_no_images():
    with pytest.raises(ShapeError) as error:
        bench(more="transform_param { scale: 2 }")
    assert str(error.value) == (
        '<text>:1:49: layer "data" (HDF5Data): transform_param needs rows of (C, H, W), but those of dataset "x" are '
        "(2,): take it away, or write the data in that shape"
    )


# Labels


@pytest.mark.parametrize("text", ["", "shuffle: true"])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_label_that_is_nan(images, text, shape):
    for name, rows in (("a.h5", 4), ("b.h5", 3)):
        with h5py.File(name, "r+") as file:
            del file["label"]
            file["label"] = np.zeros((rows, *shape))
    with h5py.File("b.h5", "r+") as file:
        file["label"][1, ...] = np.nan
    made = bench(f"batch_size: 7 {text}", tops=TOPS, seed=1)
    with pytest.raises(DataError) as error:
        made.forward([], {})
    assert str(error.value) == (
        '<text>:2:19: layer "data" (HDF5Data): source "list.txt": row 1 of b.h5: its "label" is nan, not a number'
    )


def test_a_nan_elsewhere(images):
    with h5py.File("a.h5", "r+") as file:
        file["data"][1, 0, 0, 0] = np.nan
    data, _ = bench(tops=TOPS).forward([], {})
    assert np.isnan(data).sum() == 1
