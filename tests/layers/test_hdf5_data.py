import h5py
import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DataError, DefinitionError
from layerforge.testing import Bench


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


def bench(text="batch_size: 4", more="", tops='top: "x" top: "y"', source="list.txt", **options):
    return Bench(
        f'name: "data" type: "HDF5Data" {tops} {more}\nhdf5_data_param {{ source: "{source}" {text} }}',
        [],
        **{"dtype": np.float32, **options},
    )


def run(made, passes):
    found = []
    for _ in range(passes):
        x, y = made.forward([], {})
        assert np.array_equal(x, np.stack([y, y], axis=1))
        found.append(y.astype(int).tolist())
    return found


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches(dtype):
    made = bench(dtype=dtype)
    assert [top.shape for top in made.top] == [(4, 2), (4,)]
    assert run(made, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 0], [1, 2, 3, 4]]
    assert made.layer.wait_seconds > 0
    made.layer.close()


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
    run(made, 1)
    (folder / "b.h5").unlink()
    with pytest.raises(DataError) as error:
        run(made, 1)
    assert str(error.value) == (
        '<text>:2:19: layer "data" (HDF5Data): source "list.txt" lists b.h5, which does not exist'
    )


@pytest.mark.usefixtures("folder")
def test_no_batch_size():
    with pytest.raises(DefinitionError) as error:
        bench("")
    assert str(error.value) == '<text>:2:1: layer "data" (HDF5Data): batch_size must be at least 1'


@pytest.mark.usefixtures("folder")
def test_no_transformation():
    with pytest.raises(DefinitionError) as error:
        bench(more="transform_param { scale: 2 }")
    assert str(error.value) == (
        '<text>:1:49: layer "data" (HDF5Data): this type has no transform_param: '
        "transform the data before it is written"
    )
