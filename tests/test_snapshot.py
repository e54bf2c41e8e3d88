"""Snapshots, and going on from them: ours to the bit, Caffe's, and those that do not fit."""

import json
import logging
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from layerforge import layer, schema, snapshot, wire
from layerforge.errors import SnapshotError
from layerforge.layer import Layer
from layerforge.solver import Solver, get_solver

NET = """name: "small"
layer { name: "in" type: "Position" top: "x" }
layer { name: "drop" type: "Dropout" bottom: "x" top: "drop" dropout_param { dropout_ratio: 0.3 } }
layer { name: "ip" type: "InnerProduct" bottom: "drop" top: "ip" param { lr_mult: 1 } param { lr_mult: 2 }
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "x" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 max_iter: 12 average_loss: 3 iter_size: 2
lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 7 random_seed: 4 snapshot_prefix: "s"
test_iter: 2 test_interval: 5
"""


@pytest.fixture(autouse=True)
def position():
    """A source that knows where it stands."""

    class Position(Layer):
        bottoms = 0
        differentiable = False

        def setup(self):
            self.at = 0

        def top_shapes(self):
            return [(4, 3)]

        def forward(self, bottom, top):
            top[0].data[...] = np.sin(np.arange(12).reshape(4, 3) + 7 * self.at + self.seed)
            self.at += 1

        def data_state(self):
            return {"at": self.at}

        def set_data_state(self, state):
            self.at = state["at"]

        def skip(self, passes):
            self.at = passes

    yield
    del layer.registry["Position"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


def solver(text="", seed=None):
    return Solver(schema.parse(SOLVER + text, "SolverParameter", "solver.prototxt"), seed=seed)


def bits(made):
    return [array.tobytes() for array in (*(p.data for p in made.net.owned), *made.rule.history())]


def names(folder):
    return sorted(path.name for path in folder.glob("s_iter_*"))


BOTH = pytest.mark.parametrize("text", ["", "snapshot_format: HDF5"], ids=["binary", "HDF5"])


# Writing.


@BOTH
def test_files(folder, text):
    made = solver(text)
    made.step(2)
    taken = made.snapshot()
    ending = ".h5" if text else ""
    assert names(folder) == sorted(
        [f"s_iter_2.caffemodel{ending}", f"s_iter_2.solverstate{ending}", "s_iter_2.resume.json"]
    )
    assert made.last_snapshot == taken == snapshot.Names.of("s_iter_2", bool(text))
    state = snapshot.read_state(taken.state)
    assert (state.iter, state.learned_net, state.current_step) == (2, f"s_iter_2.caffemodel{ending}", 0)
    assert [array.shape for array in state.history] == [(3, 3), (3,)]
    assert not list(folder.glob(".*"))


def test_the_log(folder, caplog):
    caplog.set_level(logging.INFO)
    made = solver("snapshot_format: HDF5")
    caplog.clear()
    made.snapshot()
    assert caplog.messages == [
        "Snapshotting to HDF5 file s_iter_0.caffemodel.h5",
        "Snapshotting solver state to HDF5 file s_iter_0.solverstate.h5",
    ]


@pytest.mark.parametrize(
    "text, taken",
    [
        ("snapshot: 5", [5, 10, 12]),
        ("snapshot: 6", [6, 12]),
        ("snapshot: 5 snapshot_after_train: false", [5, 10]),
        ("", [12]),
        ("snapshot_after_train: false", []),
    ],
)
def test_when(folder, text, taken):
    solver(text).solve()
    assert sorted({int(name.split("_")[2].split(".")[0]) for name in names(folder)}) == taken


@BOTH
@pytest.mark.parametrize("diff", [False, True])
def test_snapshot_diff(folder, text, diff):
    made = solver(f"{text} snapshot_diff: {str(diff).lower()}")
    made.step(1)
    taken = made.snapshot()
    if text:
        with h5py.File(taken.model) as file:
            assert ("diff" in file) is diff
            found = file["diff/ip/0"][...] if diff else None
    else:
        (weight, _) = next(one for one in wire.read_weights(taken.model) if one.name == "ip").blobs
        found = weight.diff
    assert (found is not None) is diff
    if diff:
        assert np.array_equal(found.reshape(3, 3), made.net.params["ip"][0].diff)


@pytest.mark.parametrize(
    "prefix, expected",
    [
        ("", "solver"),
        ('snapshot_prefix: "a/b"', "a/b"),
        ('snapshot_prefix: "a"', "a/solver"),
        ('snapshot_prefix: "c"', "c"),
    ],
)
def test_prefixes(folder, prefix, expected):
    (folder / "a").mkdir()
    made = Solver(schema.parse(SOLVER.replace('snapshot_prefix: "s"', prefix), "SolverParameter", "solver.prototxt"))
    assert made.snapshot_prefix == expected
    assert made.snapshot().model == Path(f"{expected}_iter_0.caffemodel")


def test_a_prefix_that_cannot_be_written(folder):
    text = SOLVER.replace('snapshot_prefix: "s"', 'snapshot: 5\nsnapshot_prefix: "none/s"')
    made = Solver(schema.parse(text, "SolverParameter", "solver.prototxt"))
    expected = (
        'solver.prototxt:4:1: snapshot_prefix: "none/s" cannot be written: none: No such file or directory. Make the'
        " folder, or choose another"
    )
    for run in (made.solve, lambda: made.step(1)):
        with pytest.raises(SnapshotError) as error:
            run()
        assert str(error.value) == expected
        assert made.iter == 0


def test_a_prefix_matters_only_where_there_are_snapshots(folder):
    made = Solver(
        schema.parse(SOLVER.replace('prefix: "s"', 'prefix: "none/s" snapshot_after_train: false'), "SolverParameter")
    )
    made.solve()
    assert made.iter == 12


def test_hdf5_states_are_as_caffe_writes_them(folder):
    made = solver("snapshot_format: HDF5")
    made.step(8)
    with h5py.File(made.snapshot().state) as file:
        found = {name: (item.shape, item.dtype) for name, item in file.items() if name != "history"}
        assert found == {
            "current_step": ((1,), np.dtype(np.int32)),
            "iter": ((1,), np.dtype(np.int32)),
            "learned_net": ((), np.dtype("S23")),
        }
        kind = file["learned_net"].id.get_type()
        assert kind.get_strpad() == h5py.h5t.STR_NULLTERM
        assert file["learned_net"][()] == b"s_iter_8.caffemodel.h5"
        assert (file["iter"][0], file["current_step"][0]) == (8, 2)
        assert list(file["history"]) == ["0", "1"]


GOLDEN = Path(__file__).with_name("golden") / "solvers"


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir() if path.name != "snapshot-hdf5"))
def test_files_are_caffes_byte_for_byte(folder, case):
    for path in (GOLDEN / case).iterdir():
        shutil.copyfile(path, folder / path.name)
    made = get_solver("solver.prototxt")
    made.restore("snap_iter_6.solverstate")
    before = {name: Path(name).read_bytes() for name in ("snap_iter_6.caffemodel", "snap_iter_6.solverstate")}
    made.snapshot()
    assert {name: Path(name).read_bytes() for name in before} == before


# Going on.


@BOTH
def test_to_the_bit(folder, text):
    whole = solver(text)
    whole.step(5)
    taken = whole.snapshot()
    whole.step(6)
    for path in (taken.state, taken.model, taken.sidecar):
        again = solver(text, seed=99)
        again.restore(str(path))
        assert (again.iter, again.seed) == (5, 4)
        again.step(6)
        assert bits(again) == bits(whole)
        assert again.loss == whole.loss, "the window of average_loss goes on too"
        assert [net.step for net in (again.net, *again.test_nets)] == [
            net.step for net in (whole.net, *whole.test_nets)
        ]
        assert again.memory() == whole.memory()


def test_test_nets_go_on_where_they_stood(folder):
    whole = solver()
    whole.step(6)  # tests at 0 and at 5
    taken = whole.snapshot()
    whole.step(5)
    again = solver(seed=99)
    again.restore(taken.state)
    again.step(5)
    assert again.scores["loss"] == whole.scores["loss"]


@BOTH
def test_a_state_of_caffes_goes_on_as_well(folder, text):
    """Without the sidecar, the seed is the solver's own and the sources skip what was read."""
    whole = solver(text)
    whole.step(5)
    taken = whole.snapshot()
    whole.step(3)
    taken.sidecar.unlink()
    again = solver(text)
    again.restore(taken.state)
    assert again.net.step == 9
    again.step(3)
    assert bits(again) == bits(whole)


def test_a_state_of_four_dimensions(folder):
    """As Caffe wrote them before 2015."""
    whole = solver()
    whole.step(5)
    taken = whole.snapshot()
    whole.step(3)
    message = schema.message("SolverState").FromString(taken.state.read_bytes())
    for blob in message.history:
        sizes = [1, 1, 1, 1, *blob.shape.dim][-4:]
        blob.ClearField("shape")
        blob.num, blob.channels, blob.height, blob.width = sizes
    taken.state.write_bytes(message.SerializeToString())
    taken.sidecar.unlink()
    again = solver()
    again.restore(taken.state)
    again.step(3)
    assert bits(again) == bits(whole)


def test_a_state_under_another_name(folder):
    whole = solver()
    whole.step(5)
    taken = whole.snapshot()
    whole.step(3)
    taken.state.rename("best.solverstate")
    again = solver()
    again.restore("best.solverstate")
    again.step(3)
    assert bits(again) == bits(whole)


@BOTH
def test_files_that_were_moved(folder, text, monkeypatch):
    made = solver(text)
    made.step(2)
    taken = made.snapshot()
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    for path in (taken.state, taken.model, taken.sidecar):
        path.rename(elsewhere / path.name)
    other = solver(text, seed=8)
    other.snapshot()
    (folder / "s_iter_0.caffemodel").rename(taken.model) if not text else None
    again = solver(text, seed=9)
    again.restore(elsewhere / taken.state.name)
    assert bits(again) == bits(made), "its own weights, not those of this name in the current folder"


def test_weights_elsewhere(folder):
    made = solver()
    made.step(2)
    taken = made.snapshot()
    taken.model.rename(folder / "w.caffemodel")
    state = wire.read_state(taken.state)
    state.learned_net = str(folder / "w.caffemodel")
    wire.write_state("t_iter_2.solverstate", state)
    again = solver(seed=9)
    again.restore("t_iter_2.solverstate")
    assert bits(again) == bits(made)


def test_the_last_snapshot_is_not_taken_again(folder):
    made = solver("snapshot: 4")
    made.solve()
    before = {name: (folder / name).stat().st_mtime_ns for name in names(folder)}
    again = solver("snapshot: 4")
    again.solve("s_iter_12.solverstate")
    assert {name: (folder / name).stat().st_mtime_ns for name in names(folder)} == before


# What does not fit, or is no snapshot.


def refusal(path, text="", made=None):
    made = made or solver(text, seed=9)
    before = bits(made)
    with pytest.raises(SnapshotError) as error:
        made.restore(path)
    assert bits(made) == before, "nothing was touched"
    assert made.iter == 0
    return str(error.value)


@pytest.fixture
def taken(folder):
    made = solver()
    made.step(2)
    return made.snapshot()


def test_no_such_snapshot(folder):
    assert refusal("none.solverstate") == "there is no snapshot none.solverstate"
    assert refusal("s_iter_5.resume.json") == "there is no snapshot s_iter_5.resume.json"


def test_weights_without_a_state(taken):
    taken.state.unlink()
    assert refusal("s_iter_2.caffemodel") == (
        "s_iter_2.caffemodel holds weights, and its solver state s_iter_2.solverstate is not there. To start from the"
        " weights alone, use --weights s_iter_2.caffemodel"
    )


def test_a_state_without_weights(taken):
    taken.model.unlink()
    assert refusal("s_iter_2.solverstate") == (
        's_iter_2.solverstate: its weights "s_iter_2.caffemodel" are not there, nor beside it in ".". Put the'
        " caffemodel beside the solverstate"
    )


def test_weights_in_the_place_of_a_state(taken):
    taken.sidecar.unlink()
    taken.state.write_bytes(taken.model.read_bytes())
    assert refusal("s_iter_2.solverstate") == (
        "s_iter_2.solverstate: this is a file of weights (.caffemodel); a solver's state (.solverstate) is wanted. Give"
        " it to --weights, and the .solverstate beside it to --snapshot."
    )


def test_a_state_of_another_rule(taken):
    assert refusal("s_iter_2.solverstate", 'type: "Adam"') == (
        "s_iter_2.solverstate: it holds 2 history arrays, a solver of type Adam has 4 for this net. Resume with the"
        " solver and the net that wrote it"
    )


def test_a_state_of_another_net(taken, folder):
    (folder / "net.prototxt").write_text(NET.replace("num_output: 3", "num_output: 3 axis: 1").replace("4, 3", "4, 3"))
    made = solver(seed=9)
    state = wire.read_state(taken.state)
    state.history[1] = np.zeros(5, np.float32)
    wire.write_state("other.solverstate", state)
    assert refusal("other.solverstate", made=made) == (
        'other.solverstate: history array 1 has shape (5,), parameter "bias" of layer "ip" (InnerProduct) of this net'
        " has (3,). Resume with the net that wrote it"
    )


@pytest.mark.parametrize("which", ["model", "state"])
def test_a_file_that_was_changed(taken, which):
    path = getattr(taken, which)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    known = json.loads(taken.sidecar.read_text())["files"][path.name]
    found = snapshot._checksum(path)
    assert refusal(taken.state) == (
        f"{path}: damaged, or written by another run: it has {len(raw)} bytes and checksum {found['crc32']:08x}, its"
        f" sidecar says {len(raw)} bytes and {known['crc32']:08x}. Use an older snapshot; --resume finds the newest"
        " good one"
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            "no JSON",
            "damaged: Expecting value: line 1 column 1 (char 0). Delete it to resume without the position in the data",
        ),
        (
            "[]",
            "damaged: list indices must be integers or slices, not str. Delete it to resume without the position in the"
            " data",
        ),
        ("{}", "damaged: 'version'. Delete it to resume without the position in the data"),
        (
            '{"version": 1, "iter": 2, "files": {}}',
            "damaged: it lacks losses, nets, seed. Delete it to resume without the position in the data",
        ),
        ('{"version": 7}', "version 7 of the sidecar; this LayerForge reads version 1"),
    ],
)
def test_a_sidecar_that_is_none(taken, text, expected):
    taken.sidecar.write_text(text)
    assert refusal(taken.state) == f"s_iter_2.resume.json: {expected}"


def test_a_damaged_hdf5_state(folder):
    made = solver("snapshot_format: HDF5")
    taken = made.snapshot()
    taken.sidecar.unlink()
    with h5py.File(taken.state, "a") as file:
        del file["iter"]
    assert refusal(taken.state, "snapshot_format: HDF5").startswith("s_iter_0.solverstate.h5: damaged solver state: ")


# The newest.


def test_the_newest_good_one(folder):
    made = solver("snapshot: 2")
    assert snapshot.newest("s") is None
    made.step(6)
    assert snapshot.newest("s") == Path("s_iter_6.solverstate")
    (folder / "s_iter_6.caffemodel").write_bytes(b"cut short")
    assert snapshot.newest("s") == Path("s_iter_4.solverstate")
    (folder / "s_iter_4.resume.json").write_text("{}")
    assert snapshot.newest("s") == Path("s_iter_2.solverstate")
    (folder / "s_iter_2.caffemodel").unlink()
    assert snapshot.newest("s") is None


def test_the_newest_counts_iterations_not_letters(folder):
    made = solver("snapshot: 1")
    made.step(11)
    assert snapshot.newest("s") == Path("s_iter_11.solverstate")


def test_the_newest_of_caffes(folder):
    made = solver("snapshot: 2")
    made.step(4)
    for path in folder.glob("*.resume.json"):
        path.unlink()
    assert snapshot.newest("s") == Path("s_iter_4.solverstate")
    raw = (folder / "s_iter_4.caffemodel").read_bytes()
    (folder / "s_iter_4.caffemodel").write_bytes(raw[:-20])
    assert snapshot.newest("s") == Path("s_iter_2.solverstate")


def test_the_newest_of_another_prefix_is_not_taken(folder):
    made = solver()
    made.snapshot()
    for path in list(folder.glob("s_iter_0.*")):
        path.rename(path.with_name("s_iter_more_" + path.name))
    assert snapshot.newest("s") is None
    assert snapshot.newest("nowhere/s") is None


def test_both_formats_under_one_prefix(folder):
    for text in ("", "snapshot_format: HDF5"):
        solver(text).snapshot()
    assert snapshot.read_sidecar(Path("s_iter_0.solverstate")) is None, "the sidecar speaks of the others"
    assert snapshot.read_sidecar(Path("s_iter_0.solverstate.h5"))["seed"] == 4
    assert snapshot.is_good(Path("s_iter_0.solverstate"))
    assert snapshot.is_good(Path("s_iter_0.solverstate.h5"))


def test_what_is_left_over_is_cleared_when_it_is_old(folder):
    for name, age in ((".s_iter_5.caffemodel.x.part", 700), (".s_iter_6.caffemodel.x.part", 5), (".other.part", 700)):
        (folder / name).write_text("")
        then = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (then, then))
    snapshot.clear_left_over("s")
    assert sorted(path.name for path in folder.glob(".*")) == [".other.part", ".s_iter_6.caffemodel.x.part"]
