"""`layerforge train`: what it does, what it logs, how it ends."""

import os
import re
import signal
import sys

import numpy as np
import pytest

import layerforge
from layerforge.cli import signals
from layerforge.solver import Solver

SOLVER = "solver.prototxt"
RESUME = "To go on: layerforge train --solver solver.prototxt --snapshot toy_iter_{}.solverstate"


def parameters(lab, model: str) -> bytes:
    net = layerforge.Net("net.prototxt", layerforge.TEST, weights=model)
    return b"".join(parameter.data.tobytes() for blobs in net.params.values() for parameter in blobs)


def test_a_run_from_begin_to_end(lab):
    ran = lab.train()
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    number = r"[-+.\dena]+"
    expected = [
        r"Use CPU with \d+ threads?\.",
        *lab.engines,
        *lab.engines,
        r"Seed 1\.",
        r"Solving Toy",
        r"Learning Rate Policy: fixed",
        r"Iteration 0, Testing net \(#0\)",
        rf"    Test net output #0: accuracy = {number}",
        rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)",
        rf"Iteration 0 \(0 iter/s, {number}s/2 iters\), loss = {number}",
        rf"    Train net output #0: loss = {number} \(\* 1 = {number} loss\)",
        r"Iteration 0, lr = 0\.05",
        rf"Iteration 2 \({number} iter/s, {number}s/2 iters\), loss = {number}",
        rf"    Train net output #0: loss = {number} \(\* 1 = {number} loss\)",
        r"Iteration 2, lr = 0\.05",
        r"Snapshotting to binary proto file toy_iter_4\.caffemodel",
        r"Snapshotting solver state to binary proto file toy_iter_4\.solverstate",
        r"Iteration 4, Testing net \(#0\)",
    ]
    for line, pattern in zip(ran.log, expected, strict=False):
        assert re.fullmatch(pattern, line), (line, pattern)
    tail = [
        r"Snapshotting to binary proto file toy_iter_8\.caffemodel",
        r"Snapshotting solver state to binary proto file toy_iter_8\.solverstate",
        rf"Iteration 8, loss = {number}",
        r"Iteration 8, Testing net \(#0\)",
        rf"    Test net output #0: accuracy = {number}",
        rf"    Test net output #1: loss = {number} \(\* 1 = {number} loss\)",
        r"Optimization Done\.",
        r"The recipe is complete\. The weights are in toy_iter_8\.caffemodel",
    ]
    for line, pattern in zip(ran.log[-len(tail) :], tail, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)


def test_parsers_of_caffes_logs_read_it(lab, capsys):
    """The regular expressions of Caffe's tools/extra/parse_log.py, and what it makes of the lines between."""
    layerforge.cli.main(["train", "--solver", SOLVER, "--set", "lr_policy=exp", "gamma=0.5"])
    train, test, iteration, started = [], [], -1, False
    for line in capsys.readouterr().err.splitlines():
        started = started or "Solving" in line
        found = re.search(r"Iteration (\d+)", line)
        if found:
            iteration = float(found[1])
        if iteration == -1:
            continue
        month, day = int(line[1:3]), int(line[3:5])
        assert 1 <= month <= 12
        assert 1 <= day <= 31
        assert re.match(r"\d{2}:\d{2}:\d{2}\.\d{6}", line.split()[1])
        for kind, rows in (("Train", train), ("Test", test)):
            found = re.search(kind + r" net output #(\d+): (\S+) = ([\.\deE+-]+)", line)
            if found:
                rows.append((iteration, found[2], float(found[3])))
        found = re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line)
        if found:
            assert float(found[1]) == pytest.approx(0.05 * 0.5**iteration)
    assert started
    assert [row[:2] for row in train] == [(0, "loss"), (2, "loss"), (4, "loss"), (6, "loss")]
    assert [row[:2] for row in test] == [(i, name) for i in (0, 4, 8) for name in ("accuracy", "loss")]


@pytest.mark.parametrize("where", ["after", "before"])
def test_caffes_spelling(lab, where):
    argv = ["-solver=solver.prototxt", "-max_iter", "1", "-sigint_effect=none"]
    ran = lab.run("train", *argv) if where == "after" else lab.run(*argv, "train")
    assert ran.status == 0
    assert ran.log[-1] == RESUME.format(1)


def test_max_iter_stops_and_changes_nothing_else(lab):
    """With lr_policy poly the rate depends on max_iter: that of the recipe."""
    poly = ["--set", "lr_policy=poly", "power=1", "display=1"]
    ran = lab.train("--max-iter", "3", *poly)
    assert ran.status == 0
    rates = [line.partition("lr = ")[2] for line in ran.log if ", lr = " in line]
    assert [float(rate) for rate in rates] == pytest.approx([0.05 * (1 - i / 8) for i in range(3)])
    assert ran.log[-1] == RESUME.format(3) + " --set lr_policy=poly power=1 display=1"
    assert (lab.folder / "toy_iter_3.caffemodel").exists()
    tested = ran.log.index("Iteration 3, Testing net (#0)")
    assert ran.log[tested + 1].startswith("    Test net output #0: accuracy = ")


def test_max_iter_beyond_the_recipe(lab):
    ran = lab.train("--max-iter", "10")
    assert "max_iter: 10, as --max-iter says, in place of 8." in ran.log
    assert ran.log[-1] == "The recipe is complete. The weights are in toy_iter_10.caffemodel"


def test_a_run_in_parts_ends_with_the_same_bits(lab):
    assert lab.train().status == 0
    whole = parameters(lab, "toy_iter_8.caffemodel")
    lab.train("--max-iter", "3")
    ran = lab.train("--snapshot", "toy_iter_3.solverstate")
    assert "Restoring previous solver status from toy_iter_3.solverstate" in ran.log
    assert ran.log[-1] == "The recipe is complete. The weights are in toy_iter_8.caffemodel"
    assert parameters(lab, "toy_iter_8.caffemodel") == whole


def test_resume(lab):
    ran = lab.train("--resume", "--max-iter", "5")
    assert "--resume: there is no good snapshot toy_iter_*; starting from scratch." in ran.log
    ran = lab.train("--resume", "--max-iter", "7")
    assert "--resume: the newest good snapshot is toy_iter_5.solverstate." in ran.log
    assert ran.log[-1] == RESUME.format(7)
    (lab.folder / "toy_iter_7.caffemodel").write_bytes(b"torn")
    ran = lab.train("--resume")
    assert "--resume: the newest good snapshot is toy_iter_5.solverstate." in ran.log
    ran = lab.train("--resume")
    assert "--resume: the newest good snapshot is toy_iter_8.solverstate." in ran.log
    assert not any(line.startswith("Snapshotting") for line in ran.log), "it is there already"


def test_the_line_that_resumes_has_the_flags(lab):
    lab.write("mine.py", "")
    ran = lab.train(
        *["--max-iter", "1", "--set", "snapshot_prefix=my run", "--import", "mine.py", "--device", "cpu"],
        *["--threads", "1", "--level", "2", "--stage", "a,b"],
    )
    assert ran.log[-1] == (
        "To go on: layerforge train --solver solver.prototxt --snapshot 'my run_iter_1.solverstate' --set"
        " 'snapshot_prefix=my run' --import mine.py --level 2 --stage a,b --device cpu --threads 1"
    )
    sys.modules.pop("mine", None)


def test_weights_and_their_report(lab):
    lab.train()
    lab.change("net.prototxt", 'name: "ip"', 'name: "ip_new"')
    ran = lab.train("--weights", "toy_iter_8.caffemodel", "--max-iter", "0")
    at = ran.log.index("Loaded 1 layer from toy_iter_8.caffemodel")
    assert ran.log[at + 1 : at + 3] == [
        "Not in the file, so left as they were filled: ip_new",
        "In the file, but not in the net: ip",
    ]


def test_weights_of_the_solver_are_replaced_and_a_snapshot_needs_none(lab):
    lab.train()
    lab.change(SOLVER, "random_seed: 1", 'random_seed: 1\nweights: "gone.caffemodel"')
    text = "solver.prototxt:11:1: cannot read weights from gone.caffemodel: No such file or directory\n"
    assert lab.train().err == text
    assert lab.train("--weights", "toy_iter_8.caffemodel", "--max-iter", "1").status == 0
    assert lab.train("--snapshot", "toy_iter_4.solverstate").status == 0
    assert lab.train("--resume").status == 0


def test_set_changes_the_solver(lab):
    ran = lab.train("--set", "base_lr=0.02", "test_iter=3", "--set", "max_iter=2")
    assert "Iteration 0, lr = 0.02" in ran.log
    assert ran.log[-1] == "The recipe is complete. The weights are in toy_iter_2.caffemodel"


def test_seed(lab):
    results = {}
    for name, argv in {"1": [], "1 again": ["--seed", "1"], "2": ["--seed", "2"]}.items():
        ran = lab.train("--set", "snapshot_prefix=s", "max_iter=2", *argv)
        assert f"Seed {name[0]}." in ran.log
        results[name] = parameters(lab, "s_iter_2.caffemodel")
    assert results["1"] == results["1 again"] != results["2"]


def test_a_snapshot_keeps_its_seed(lab):
    lab.train("--seed", "5", "--max-iter", "2")
    ran = lab.train("--snapshot", "toy_iter_2.solverstate", "--seed", "6")
    assert "--seed 6 has no effect: the snapshot goes on with its own." in ran.log
    assert "Seed 5." in ran.log


def test_a_drawn_seed_is_told(lab):
    lab.change(SOLVER, "random_seed: 1\n", "")
    seeds = [next(line for line in lab.train("--max-iter", "0").log if line.startswith("Seed")) for _ in range(2)]
    assert seeds[0] != seeds[1]


@pytest.mark.usefixtures("set_threads")
def test_threads(lab):
    assert "Use CPU with 1 thread." in lab.train("--threads", "1", "--max-iter", "0").log


def test_cache(lab, monkeypatch):
    monkeypatch.setenv("LAYERFORGE_CACHE", str(lab.folder / "not here"))
    lab.read_records()
    lab.change("net.prototxt", '"records"', '"sample://digits?split=train&count=20"')
    lab.change("net.prototxt", "num_output: 3", "num_output: 10")
    assert lab.train("--cache", "drawn", "--max-iter", "1").status == 0
    assert [path.is_dir() for path in (lab.folder / "drawn").glob("digits-*-20x28-seed0")] == [True]
    assert not (lab.folder / "not here").exists()


def test_a_gpu_in_the_solver_without_one_in_the_machine(lab):
    ran = lab.train("--set", "solver_mode=GPU", "--max-iter", "0")
    assert ran.status == 0
    assert ran.log[0].startswith("The solver says solver_mode: GPU, but it trains on the CPU: ")


def test_stages_reach_the_train_net(lab):
    lab.change("net.prototxt", 'name: "relu" type: "ReLU"', 'name: "relu" type: "ReLU" include { stage: "deep" }')
    seen = []
    original = Solver.solve

    def solve(self, *args, **kwargs):
        seen.append("relu" in self.net.layer_dict)
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Solver, "solve", solve)
        lab.train("--max-iter", "0")
        lab.train("--max-iter", "0", "--stage", "deep")
    assert seen == [False, True]


def send(monkeypatch, number: int, at: int, times: int = 1) -> None:
    """Sends this process a signal in iteration ``at``."""
    original = Solver.apply_update

    def apply_update(self):
        if self.iter == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        original(self)

    monkeypatch.setattr(Solver, "apply_update", apply_update)


@pytest.mark.parametrize(
    "number, flag, status, said, last",
    [
        (
            signal.SIGINT,
            [],
            0,
            "SIGINT: will stop after this iteration, with a snapshot. Ctrl-C again stops at once.",
            RESUME.format(2),
        ),
        (signal.SIGTERM, [], 143, "SIGTERM: will stop after this iteration, with a snapshot.", RESUME.format(2)),
        (
            signal.SIGHUP,
            ["--sighup-effect", "stop"],
            129,
            "SIGHUP: will stop after this iteration, with a snapshot.",
            RESUME.format(2),
        ),
        (
            signal.SIGHUP,
            [],
            0,
            "SIGHUP: a snapshot follows this iteration.",
            "The recipe is complete. The weights are in toy_iter_8.caffemodel",
        ),
        (
            signal.SIGINT,
            ["--sigint_effect=snapshot"],
            0,
            "SIGINT: a snapshot follows this iteration.",
            "The recipe is complete. The weights are in toy_iter_8.caffemodel",
        ),
    ],
)
def test_signals(lab, monkeypatch, number, flag, status, said, last):
    send(monkeypatch, number, at=1)
    ran = lab.train(*flag)
    assert (ran.status, ran.err) == (status, "")
    assert said in ran.log
    assert ran.log[-1] == last
    assert (lab.folder / "toy_iter_2.solverstate").exists()


def test_a_signal_that_is_to_have_no_effect(lab, monkeypatch):
    send(monkeypatch, signal.SIGINT, at=1, times=3)
    ran = lab.train("--sigint-effect", "none")
    assert ran.status == 0
    assert not (lab.folder / "toy_iter_2.solverstate").exists()
    assert ran.log[-1] == "The recipe is complete. The weights are in toy_iter_8.caffemodel"


def test_the_second_interrupt_stops_at_once(lab, monkeypatch):
    send(monkeypatch, signal.SIGINT, at=5, times=2)
    ran = lab.train()
    assert (ran.status, ran.err) == (130, "Interrupted.\n")
    assert ran.log[-1] == (
        "To go on from the last good snapshot: layerforge train --solver solver.prototxt --snapshot"
        " toy_iter_4.solverstate"
    )
    assert sorted(path.name for path in lab.folder.glob("*.solverstate")) == ["toy_iter_4.solverstate"]


def test_a_stop_keeps_the_end_that_was_asked_for(lab, monkeypatch):
    send(monkeypatch, signal.SIGINT, at=1)
    assert lab.train("--max-iter", "7").log[-1] == RESUME.format(2) + " --max-iter 7"


def test_a_log_that_nobody_reads_any_more_stops_the_run_with_a_snapshot(lab, monkeypatch):
    original = signals.Signals.__init__
    monkeypatch.setattr(signals.Signals, "__init__", lambda self, a, b, gone: original(self, a, b, lambda: True))
    assert lab.train("--set", "test_initialization=false").status == 141
    assert (lab.folder / "toy_iter_1.solverstate").exists()


def test_weights_are_those_that_were_trained(lab):
    """The snapshot of a run equals a run of the same solver through Python."""
    lab.train()
    solver = layerforge.get_solver(SOLVER)
    solver.step(8)
    expected = b"".join(p.data.tobytes() for blobs in solver.net.params.values() for p in blobs)
    assert parameters(lab, "toy_iter_8.caffemodel") == expected
    assert np.isfinite(solver.loss)
