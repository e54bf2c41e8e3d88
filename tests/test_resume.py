"""A run that is killed, however and whenever, and resumed ends with the same bits as one that never was.

The net has what a resumed run could forget: shuffling, random crops and mirrors, dropout, iter_size, a multistep
policy, tests in between. Children run the command line, so that they may be killed.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import layerforge
from layerforge import snapshot
from layerforge.datum import Datum, datum_bytes

NET = """name: "Small"
layer {
  name: "data"
  type: "Data"
  top: "data"
  top: "label"
  transform_param { crop_size: 9 mirror: true scale: 0.0078125 mean_value: 127 }
  data_param { source: "records" batch_size: 7 shuffle: true threads: 2 }
}
layer {
  name: "conv"
  type: "Convolution"
  bottom: "data"
  top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "msra" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "pool"
  type: "Pooling"
  bottom: "conv"
  top: "pool"
  pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }
}
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer {
  name: "ip"
  type: "InnerProduct"
  bottom: "pool"
  top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } }
}
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""

END = 60
SOLVER = f"""net: "net.prototxt"
test_iter: 2
test_interval: 9
base_lr: 0.02
lr_policy: "multistep"
gamma: 0.5
stepvalue: [15, 40]
momentum: 0.9
weight_decay: 0.001
iter_size: 2
average_loss: 5
max_iter: {END}
display: 10
snapshot: 8
snapshot_prefix: "run"
random_seed: 3
"""

# Runs the command line, and sends itself a signal when something is called for the n-th time: before it, or after it.
CHILD = """
import os, sys

where, at, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
from layerforge.cli import main
from layerforge.net import Net
from layerforge.solver import Solver

owner, name = {
    "written": (os, "fsync"),
    "replace": (os, "replace"),
    "replaced": (os, "replace"),
    "iteration": (Solver, "apply_update"),
    "forward": (Net, "start_forward"),
    "test": (Solver, "test"),
    "never": (os, "replace"),
}[where]
original, calls = getattr(owner, name), 0

def counted(*arguments, **options):
    global calls
    calls += 1
    if calls == at and where != "replaced":
        os.kill(os.getpid(), number)
    result = original(*arguments, **options)
    if calls == at and where == "replaced":
        os.kill(os.getpid(), number)
    return result

setattr(owner, name, counted)
sys.exit(main(["train", "--solver", "solver.prototxt", *sys.argv[4:]]))
"""


class Folder:
    """A folder in which a run is started, killed and resumed."""

    def __init__(self, path: Path, records: Path):
        path.mkdir()
        self.path = path
        (path / "net.prototxt").write_text(NET)
        (path / "solver.prototxt").write_text(SOLVER)
        (path / "records").symlink_to(records)

    def start(self, where="never", at=0, number=signal.SIGKILL, *flags: str, resume=True) -> subprocess.Popen:
        package = str(Path(layerforge.__file__).parent.parent)
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, where, str(at), str(int(number)), *["--resume"][:resume], *flags],
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *plan, expect: int = 0, resume: bool = True) -> str:
        child = self.start(*plan, resume=resume)
        _, err = child.communicate(timeout=60)
        assert child.returncode == expect, err
        return err

    def finished(self) -> bool:
        return (self.path / f"run_iter_{END}.resume.json").exists()

    def result(self) -> dict[str, bytes]:
        """The last snapshot's files: weights, history, and what a resumed run remembers."""
        return {path.name: path.read_bytes() for path in sorted(self.path.glob(f"run_iter_{END}.*"))}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """An LMDB of 33 random images in 5 classes, an odd number for batches of 7."""
    import lmdb

    path = tmp_path_factory.mktemp("data") / "records"
    rng = np.random.default_rng(0)
    environment = lmdb.open(str(path), map_size=1 << 22)
    with environment.begin(write=True) as transaction:
        for i in range(33):
            pixels = rng.integers(0, 256, (3, 12, 12), np.uint8).tobytes()
            transaction.put(b"%08d" % i, datum_bytes(Datum(3, 12, 12, pixels, i % 5)))
    environment.close()
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, records):
    """The files that a run that was never stopped ends with."""
    folder = Folder(tmp_path_factory.mktemp("whole") / "run", records)
    folder.run()
    assert len(folder.result()) == 3
    return folder.result()


@pytest.fixture
def folder(tmp_path, records):
    return Folder(tmp_path / "run", records)


def test_a_run_repeats_itself(folder, whole):
    folder.run()
    assert folder.result() == whole


def test_killed_in_iterations_and_tests(folder, whole):
    """SIGKILL before an update, between an iteration's two batches, and in tests; each time a little further."""
    for plan in [("iteration", 5), ("forward", 40), ("test", 3), ("iteration", 9), ("forward", 24)]:
        folder.run(*plan, expect=-signal.SIGKILL)
    folder.run()
    assert folder.result() == whole


def test_killed_while_a_snapshot_is_written(folder, whole):
    """SIGKILL with a snapshot's files on the disk but not yet renamed, and before and after each renaming."""
    for where, at in [
        ("written", 4),
        ("replace", 2),
        ("replaced", 2),
        ("replaced", 3),
        ("replaced", 4),
        ("written", 12),
    ]:
        folder.run(where, at, expect=-signal.SIGKILL)
        good = snapshot.newest(str(folder.path / "run"))
        assert good is None or snapshot.is_good(good)
    folder.run()
    assert folder.result() == whole


def test_killed_while_a_snapshot_is_written_over_that_of_another_run(folder, whole):
    """In between there are a sidecar of one run, and weights and a state of the other: that is no good snapshot."""
    other = ["--seed", "9", "--max-iter", "8"]
    state = folder.path / "run_iter_8.solverstate"
    folder.run("never", 0, 9, *other)
    assert snapshot.is_good(state)
    for where, at in [("replace", 3), ("replace", 4)]:
        folder.run(where, at, signal.SIGKILL, resume=False, expect=-signal.SIGKILL)
        assert not snapshot.is_good(state)
    folder.run("replaced", 4, signal.SIGKILL, resume=False, expect=-signal.SIGKILL)
    assert snapshot.is_good(state)
    folder.run()
    assert folder.result() == whole


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(folder, whole, number, status):
    """A snapshot is taken where the run stops, in the midst of iterations, of batches and of tests."""
    for plan in [("iteration", 5), ("forward", 11), ("test", 1), ("replace", 3)]:
        folder.run(*plan, number, expect=status)
    folder.run()
    assert folder.result() == whole


def test_killed_at_random_moments(folder, whole):
    """By its parent, after a random time, with a random signal."""
    draw = random.Random(4)
    for _ in range(6):
        child = folder.start()
        for line in child.stderr:
            if "Solving" in line:
                break
        time.sleep(draw.uniform(0, 0.15))
        child.send_signal(draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        child.communicate(timeout=60)
        if folder.finished():
            break
    folder.run()
    assert folder.result() == whole


def test_hdf5(folder):
    hdf5 = ["--set", "snapshot_format=HDF5"]
    folder.run("never", 0, 9, *hdf5)
    net, state = f"run_iter_{END}.caffemodel.h5", folder.path / f"run_iter_{END}.solverstate.h5"
    whole = weights(folder.path / net), [array.tobytes() for array in snapshot.read_state(state).history]
    for path in folder.path.glob("run_iter_*"):
        path.unlink()
    for plan in [("replace", 3), ("replaced", 3), ("iteration", 12)]:
        folder.run(*plan, signal.SIGKILL, *hdf5, expect=-signal.SIGKILL)
    folder.run("never", 0, 9, *hdf5)
    assert (weights(folder.path / net), [array.tobytes() for array in snapshot.read_state(state).history]) == whole


def weights(path: Path) -> list[bytes]:
    import h5py

    with h5py.File(path) as file:
        return [file[f"data/{layer}/{i}"][...].tobytes() for layer in ("conv", "ip") for i in range(2)]


def test_a_drawn_seed_is_kept(folder):
    """Without random_seed every run draws its own; a resumed one goes on with that of the first."""
    (folder.path / "solver.prototxt").write_text(SOLVER.replace("random_seed: 3\n", ""))
    err = folder.run("iteration", 20, expect=-signal.SIGKILL)
    seed = re.search(r"Seed (\d+)\.", err)[1]
    assert f"Seed {seed}." in folder.run()
    killed = folder.result()
    for path in folder.path.glob("run_iter_*"):
        path.unlink()
    folder.run("never", 0, 9, "--seed", seed)
    assert folder.result() == killed


def test_what_a_killed_run_leaves_is_cleared_away(folder):
    folder.run("written", 3, expect=-signal.SIGKILL)
    left = list(folder.path.glob(".run_iter_*.part"))
    assert len(left) == 3
    folder.run("iteration", 1, expect=-signal.SIGKILL)
    assert all(part.exists() for part in left), "they may belong to a run that is at it"
    for part in left:
        os.utime(part, (0, 0))
    folder.run("iteration", 1, expect=-signal.SIGKILL)
    assert not any(part.exists() for part in left)
