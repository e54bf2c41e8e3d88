import h5py
import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DataError, DefinitionError, ShapeError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shapes", [[(3, 2, 4, 5), (3,)], [(3, 2), (3, 2)], [(3, 2, 1, 2, 2), (3, 1)]])
def test_hdf5_output(tmp_path, shapes):
    check_layer(f'type: "HDF5Output" hdf5_output_param {{ file_name: "{tmp_path}/out.h5" }}', shapes, lambda x, y: ())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape, written", [((3, 2, 4, 5), (3, 2, 4, 5)), ((3, 2), (3, 2, 1, 1)), ((3, 2, 1, 2, 2), (3, 2, 1, 2, 2))]
)
def test_a_pass(tmp_path, dtype, shape, written):
    path = tmp_path / "out.h5"
    bench = Bench(f'type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}', [shape, (3,)], dtype=dtype)
    assert not path.exists()
    data, label = np.random.default_rng(0).standard_normal(shape).astype(dtype), np.arange(3)
    assert bench.forward([data, label], {}) == []
    bench.layer.close()
    with h5py.File(path) as file:
        assert sorted(file) == ["data", "label"] and file["data"].dtype == dtype
        np.testing.assert_array_equal(file["data"][...], data.reshape(written))
        np.testing.assert_array_equal(file["label"][...], label.reshape(3, 1, 1, 1))


def test_passes_follow_each_other(tmp_path):
    path = tmp_path / "out.h5"
    path.write_text("what was there before is lost")
    bench = Bench(f'type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}', [(2, 1), (2,)])
    for i in range(3):
        bench.forward([[[2 * i], [2 * i + 1]], [i, i]], {})
    bench.layer.close()
    with h5py.File(path) as file:
        assert file["data"][:].ravel().tolist() == [0, 1, 2, 3, 4, 5]
        assert file["label"][:].ravel().tolist() == [0, 0, 1, 1, 2, 2]


def test_an_empty_batch(tmp_path):
    path = tmp_path / "out.h5"
    bench = Bench(f'type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}', [(0, 3), (0,)])
    bench.forward([np.zeros((0, 3)), np.zeros(0)], {})
    bench.layer.close()
    with h5py.File(path) as file:
        assert file["data"].shape == (0, 3, 1, 1)


def test_in_a_net(tmp_path):
    """The file is made by the first pass, not when the net is looked at."""
    path = tmp_path / "out.h5"
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" top: "l"
                 input_param {{ shape {{ dim: 2 dim: 3 }} shape {{ dim: 2 }} }} }}
        layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "l" hdf5_output_param {{ file_name: "{path}" }} }}
    """
    net = lf.Net(lf.schema.parse(text, "NetParameter"), lf.TEST)
    assert not path.exists()
    net.blobs["x"].data[...] = 7
    net.forward()
    net.close()
    with h5py.File(path) as file:
        assert (file["data"][...] == 7).all()


def test_no_file_name():
    with pytest.raises(DefinitionError) as caught:
        Bench('name: "out" type: "HDF5Output"', [(2,), (2,)])
    assert str(caught.value) == (
        '<text>: layer "out" (HDF5Output): file_name is missing: write file_name: "features.h5", say'
    )


def test_bad_shapes():
    with pytest.raises(ShapeError) as caught:
        Bench(
            'name: "out" type: "HDF5Output"\nbottom: "x" bottom: "l" hdf5_output_param { file_name: "x" }', [(2,), (3,)]
        )
    assert str(caught.value) == (
        '<text>:2:13: layer "out" (HDF5Output): bottom "l" (3,) must have as many items on axis 0 as bottom "x" (2,)'
    )


def test_no_such_folder(tmp_path):
    path = tmp_path / "no" / "out.h5"
    bench = Bench(f'name: "out" type: "HDF5Output" hdf5_output_param {{\nfile_name: "{path}" }}', [(2,), (2,)])
    with pytest.raises(DataError) as caught:
        bench.forward([np.ones(2), np.ones(2)], {})
    assert str(caught.value) == (
        f'<text>:2:1: layer "out" (HDF5Output): file_name: "{path}" cannot be written: No such file or directory'
    )
