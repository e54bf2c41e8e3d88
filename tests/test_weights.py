"""Weights into a net by layer name, and back, in both of Caffe's formats."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import layerforge as lf
from layerforge import schema, weights, wire
from layerforge.errors import SnapshotError

NET = """name: "net"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "one" inner_product_param { num_output: 4 FILL } }
layer { name: "two" type: "InnerProduct" bottom: "one" top: "two" inner_product_param { num_output: 5 FILL } }
layer { name: "relu" type: "ReLU" bottom: "two" top: "two" }
""".replace("FILL", 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }')

SHARED = NET.replace('name: "two" type', 'param {} name: "two" type').replace("num_output: 5", "num_output: 3 axis: 1")


def net(text=NET, seed=1, **options):
    return lf.Net(schema.parse(text, "NetParameter", "net.prototxt"), lf.TEST, seed=seed, **options)


def arrays(made):
    return [parameter.data.copy() for parameter in made.owned]


def same(one, other):
    return all(np.array_equal(a.data, b.data) for a, b in zip(one.owned, other.owned, strict=True))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["caffemodel", "caffemodel.h5"])
def file(request, folder):
    """The name of a file, of either format."""
    return f"w.{request.param}"


def save(made, file, **options):
    (made.save_hdf5 if file.endswith(".h5") else made.save)(file, **options)


def test_round_trip(file):
    one, two = net(seed=1), net(seed=2)
    save(one, file)
    assert not same(one, two)
    report = two.copy_from(file)
    assert same(one, two)
    assert report == weights.LoadReport(file, ["one", "two"], [], [])
    assert str(report) == f"Loaded 2 layers from {file}"


def test_load_hdf5(folder):
    one, two = net(seed=1), net(seed=2)
    one.save_hdf5("w.h5")
    two.load_hdf5("w.h5")
    assert same(one, two)


def test_a_net_takes_several_files(file):
    one, two = net(seed=1), net(NET.replace('name: "two"', 'name: "other"'), seed=2)
    save(one, "a" + file)
    save(two, "b" + file)
    made = net(seed=3, weights=f"a{file}, b{file}")
    assert np.array_equal(made.params["one"][0].data, two.params["one"][0].data)
    assert np.array_equal(made.params["two"][0].data, one.params["two"][0].data)


def test_a_comma_in_a_name(folder):
    one = net(seed=1)
    one.save("a,b.caffemodel")
    assert same(net(seed=2, weights="a,b.caffemodel"), one)
    assert weights.paths("x, y,z") == ["x", "y", "z"]
    assert weights.paths(None) == []


def test_diffs_are_saved_if_asked_for(file):
    one = net()
    for i, parameter in enumerate(one.owned):
        parameter.diff[...] = i + 1
    save(one, file, write_diff=True)
    if file.endswith(".h5"):
        with h5py.File(file) as found:
            diffs = [found[f"diff/{layer}/{i}"][...] for layer in ("one", "two") for i in range(2)]
    else:
        diffs = [blob.diff for layer in wire.read_weights(file) for blob in layer.blobs]
    assert [set(diff.reshape(-1).tolist()) for diff in diffs] == [{1.0}, {2.0}, {3.0}, {4.0}]


def test_a_caffemodel_holds_the_definition(folder):
    net().save("w.caffemodel")
    message = wire.read_net("w.caffemodel").message
    assert message.name == "net"
    assert [layer.name for layer in message.layer] == ["in", "one", "two", "relu"]
    assert [layer.phase for layer in message.layer] == [lf.TEST] * 4


def test_float64_is_saved_and_loaded(file):
    one, two = net(seed=1, dtype=np.float64), net(seed=2, dtype=np.float64)
    save(one, file)
    two.copy_from(file)
    assert same(one, two)
    single = net(seed=3)
    single.copy_from(file)
    assert np.array_equal(single.owned[0].data, one.owned[0].data.astype(np.float32))


def test_saving_replaces_a_file_whole(file, monkeypatch):
    net(seed=1).save(file)
    before = Path(file).read_bytes()

    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wire, "write_weights", broken)
    monkeypatch.setattr(h5py, "File", broken)
    with pytest.raises(SnapshotError) as error:
        save(net(seed=2), file)
    assert str(error.value) == (
        f"cannot write {file}: the disk is full. Free some space; what was written before is untouched"
    )
    assert Path(file).read_bytes() == before


# Shared parameters.

TWINS = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "one" param { name: "w" }
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
layer { name: "two" type: "InnerProduct" bottom: "one" top: "two" param { name: "w" }
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
"""


def test_shared_parameters_are_stored_once_in_hdf5(folder):
    one, two = net(TWINS, seed=1), net(TWINS, seed=2)
    one.save_hdf5("w.h5")
    with h5py.File("w.h5") as found:
        assert list(found["data/one"]) == ["0", "1"]
        assert list(found["data/two"]) == ["1"]
    two.copy_from("w.h5")
    assert same(one, two)


@pytest.mark.parametrize(
    "spec, stored", [('param {} param { name: "b" }', ["0"]), ('param { name: "w" } param { name: "b" }', [])]
)
def test_what_is_shared_may_be_the_last_or_all_that_a_layer_has(folder, spec, stored):
    text = TWINS.replace('param { name: "w" }', spec)
    one, two = net(text, seed=1), net(text, seed=2)
    one.save_hdf5("w.h5")
    with h5py.File("w.h5") as found:
        assert list(found["data/two"]) == stored
    report = two.copy_from("w.h5", strict=True)
    assert report.missing == []
    assert same(one, two)


def test_what_the_owner_has_cannot_be_missing(folder):
    net(TWINS).save_hdf5("w.h5")
    with pytest.raises(SnapshotError) as error:
        net(TWINS.replace('name: "w"', "")).copy_from("w.h5")
    assert str(error.value) == (
        'w.h5: layer "two" (InnerProduct), parameter "weight": the file lacks it. Rename the layer in the prototxt to'
        " leave its weights out"
    )


# What does not fit.


def test_the_report(file):
    save(net(NET.replace('"two"', '"old"')), file)
    made = net(NET.replace('"two"', '"new"'), seed=2)
    before = made.params["new"][0].data.copy()
    report = made.copy_from(file)
    assert str(report) == (
        f"Loaded 1 layer from {file}\n"
        "Not in the file, so left as they were filled: new\n"
        "In the file, but not in the net: old"
    )
    assert np.array_equal(made.params["new"][0].data, before)


def test_strict(file):
    save(net(NET.replace('"two"', '"old"')), file)
    made = net(seed=2)
    before = arrays(made)
    with pytest.raises(SnapshotError) as error:
        made.copy_from(file, strict=True)
    assert str(error.value) == f"{file}: it lacks the weights of two, which strict loading asks for"
    assert all(np.array_equal(a, b) for a, b in zip(arrays(made), before, strict=True)), "nothing was touched"
    assert net(seed=2).copy_from(file).missing == ["two"]


@pytest.mark.parametrize(
    "theirs, expected",
    [
        (
            NET.replace("num_output: 5", "num_output: 6"),
            'layer "two" (InnerProduct), parameter "weight": the net has shape (5, 4), the file (6, 4). Rename the'
            " layer in the prototxt to leave its weights out",
        ),
        (
            NET.replace("num_output: 5", "bias_term: false num_output: 5"),
            'layer "two" (InnerProduct) has 2 parameters, the file has 1 for it. Rename the layer in the prototxt to'
            " leave its weights out",
        ),
        (
            NET.replace('"relu" type: "ReLU"', '"relu" type: "PReLU"'),
            'layer "relu" (ReLU) has no parameters, the file has 1 for it. Rename the layer in the prototxt to leave'
            " its weights out",
        ),
    ],
)
def test_shapes_that_differ(file, theirs, expected):
    save(net(theirs), file)
    made = net(seed=2)
    before = arrays(made)
    with pytest.raises(SnapshotError) as error:
        made.copy_from(file)
    assert str(error.value) == f"{file}: {expected}"
    assert all(np.array_equal(a, b) for a, b in zip(arrays(made), before, strict=True)), "nothing was touched"


def test_nothing_fits(file):
    save(net(NET.replace('"one"', '"fc_1"').replace('"two"', '"fc_2"')), file)
    with pytest.raises(SnapshotError) as error:
        net().copy_from(file)
    assert str(error.value) == (
        f'{file}: no layer of it has a name of this net\'s; it holds "fc_1", "fc_2", the net learns "one", "two"'
    )
    with pytest.raises(SnapshotError) as error:
        net(NET.replace('"one"', '"fc1"').replace('"two"', '"fc2"')).copy_from(file)
    assert str(error.value) == (
        f'{file}: no layer of it has a name of this net\'s; it holds "fc_1", "fc_2", the net learns "fc1", "fc2".'
        ' Layers go by name: "fc_1" is like "fc1"'
    )


def test_a_net_without_parameters_takes_anything(file):
    save(net(), file)
    made = net('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }')
    assert made.copy_from(file).unused == ["one", "two"]


def test_old_shapes_of_four_dimensions(folder):
    message = schema.message("NetParameter")()
    layer = message.layer.add(name="one")
    for shape, count in (((1, 1, 4, 3), 12), ((1, 1, 1, 4), 4)):
        blob = layer.blobs.add(data=range(count))
        blob.num, blob.channels, blob.height, blob.width = shape
    (folder / "old.caffemodel").write_bytes(message.SerializeToString())
    made = net()
    made.copy_from("old.caffemodel")
    assert made.params["one"][0].data.tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert made.params["one"][1].data.tolist() == [0, 1, 2, 3]


def test_a_shape_without_all_of_its_values(folder):
    message = schema.message("NetParameter")()
    blob = message.layer.add(name="one").blobs
    blob.add(data=range(11)).shape.dim.extend([4, 3])
    blob.add(data=range(4)).shape.dim.extend([4])
    (folder / "short.caffemodel").write_bytes(message.SerializeToString())
    with pytest.raises(SnapshotError) as error:
        net().copy_from("short.caffemodel")
    assert str(error.value) == (
        'short.caffemodel: layer "one" (InnerProduct), parameter "weight": shape (4, 3) has 12 values, the file holds'
        " 11: it is damaged"
    )


# Files that are something else.


def test_no_such_file(folder):
    with pytest.raises(SnapshotError) as error:
        net().copy_from("none.caffemodel")
    assert str(error.value) == "cannot read weights from none.caffemodel: No such file or directory"


def test_a_damaged_file(file):
    save(net(), file)
    raw = Path(file).read_bytes()
    Path(file).write_bytes(raw[: len(raw) // 2])
    made = net(seed=2)
    before = arrays(made)
    with pytest.raises(SnapshotError) as error:
        made.copy_from(file)
    if file.endswith(".h5"):
        assert str(error.value).startswith(f"{file}: damaged HDF5 file: ")
    else:
        assert str(error.value) == (
            f"{file}: damaged at byte 178 of 194: a field of 179 bytes goes 167 beyond the end. Copy or download the"
            " file again."
        )
    assert all(np.array_equal(a, b) for a, b in zip(arrays(made), before, strict=True))


def test_hdf5_without_weights(folder):
    with h5py.File("x.h5", "w") as file:
        file["label"] = 1
    with pytest.raises(SnapshotError) as error:
        net().copy_from("x.h5")
    assert str(error.value) == 'x.h5: an HDF5 file, but not of weights: it has no group "data"'


def test_loading_is_told_to_those_who_share(folder):
    one = net(seed=1)
    other = net(seed=2, share_with=one)
    net(seed=3).save("w.caffemodel")
    before = other.arena.version
    one.copy_from("w.caffemodel")
    assert other.arena.version != before


def test_a_batch_norm_with_a_scale_of_its_own(tmp_path, monkeypatch):
    """NVIDIA's fork keeps five arrays in it, here they are two layers."""
    monkeypatch.chdir(tmp_path)
    text = """
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 3] } } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { scale_bias: true } }
    """
    message = schema.message("LayerParameter")(name="bn", type="BatchNorm")
    blobs = [np.full(3, 5.0), np.full(3, 4.0), np.ones(1), np.arange(3.0), np.full(3, 7.0)]
    wire.write_weights("nv.caffemodel", "net", [(message, [blob.astype(np.float32) for blob in blobs])])
    for load in (True, False):
        net = lf.Net(schema.parse(text, "NetParameter"), lf.TEST, weights=None if load else "nv.caffemodel")
        if load:
            report = net.copy_from("nv.caffemodel", strict=True)
            assert (report.loaded, report.missing, report.unused) == (["bn", "bn_scale"], [], [])
        assert np.allclose(net.forward(x=np.full((2, 3), 9))["y"], [[7, 9, 11]] * 2, rtol=1e-4)
    net.save("ours.caffemodel")
    assert [len(record.blobs) for record in weights.read("ours.caffemodel")] == [0, 3, 2]
