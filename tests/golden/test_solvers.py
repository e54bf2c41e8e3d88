"""What BVLC Caffe's solvers computed: 12 iterations from init.caffemodel, and 6 from its own snapshot at 6.

The folders in `solvers` decide the cases; run.npz holds ``w/<iteration>/<layer>/<i>`` and ``loss/<iteration>``.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import layerforge as lf
from layerforge import device as devices
from layerforge.testing import assert_close, available

CASES = sorted(path.parent for path in Path(__file__).with_name("solvers").glob("*/run.npz"))
TOLERANCE = 1e-4


@pytest.fixture(autouse=True, params=available())
def device(request):
    """The device of the nets."""
    devices.set_default(request.param)
    yield request.param
    devices.set_default("cpu")


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def run(request, tmp_path, monkeypatch):
    """The figures of a case, whose folder, copied, is the current one."""
    folder = tmp_path / request.param.name
    shutil.copytree(request.param, folder)
    monkeypatch.chdir(folder)
    return np.load("run.npz")


def compare_weights(solver, run, iteration):
    for key in run.files:
        kind, number, *where = key.split("/")
        if kind == "w" and int(number) == iteration:
            layer, index = where
            assert_close(solver.net.params[layer][int(index)].data, run[key], TOLERANCE, key)


def test_run(run):
    solver = lf.get_solver("solver.prototxt")
    solver.net.copy_from("init.caffemodel")
    for iteration in range(12):
        solver.step(1)
        assert_close(solver.net.blobs["loss"].data, run[f"loss/{iteration}"], TOLERANCE, f"loss at {iteration}")
        compare_weights(solver, run, iteration + 1)
    assert solver.iter == 12


def test_resume_from_caffe_s_snapshot(run):
    solver = lf.get_solver("solver.prototxt")
    (state,) = Path().glob("snap_iter_6.solverstate*")
    solver.restore(str(state))
    assert solver.iter == 6
    compare_weights(solver, run, 6)
    solver.step(6)
    compare_weights(solver, run, 12)


def test_our_snapshot_holds_what_caffe_s_holds(run):
    theirs = lf.get_solver("solver.prototxt")
    (state,) = Path().glob("snap_iter_12.solverstate*")
    theirs.restore(str(state))
    ours = lf.get_solver("solver.prototxt")
    ours.net.copy_from("init.caffemodel")
    ours.step(12)  # writes snap_iter_12, over theirs
    again = lf.get_solver("solver.prototxt")
    again.restore(str(state))
    assert again.iter == theirs.iter == 12
    for layer, parameters in theirs.net.params.items():
        for mine, other in zip(again.net.params[layer], parameters, strict=True):
            assert_close(mine.data, other.data, TOLERANCE, layer)
