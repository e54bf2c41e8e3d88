"""layerforge parse-log: the tables of Caffe's logs, of a terminal's, and of a run of ours."""

import csv
import math

import pytest

from layerforge.cli import _training_log, main

LOG = """\
I1231 23:59:58.500000  4711 caffe.cpp:217] Using GPUs 0
I1231 23:59:59.000000  4711 solver.cpp:279] Solving AlexNet
I1231 23:59:59.000000  4711 solver.cpp:280] Learning Rate Policy: step
I1231 23:59:59.500000  4711 solver.cpp:337] Iteration 0, Testing net (#0)
I0101 00:00:01.000000  4711 solver.cpp:404]     Test net output #0: accuracy = 0.1
I0101 00:00:01.000000  4711 solver.cpp:404]     Test net output #1: loss = 6.9 (* 1 = 6.9 loss)
I0101 00:00:01.000000  4711 solver.cpp:337] Iteration 0, Testing net (#1)
I0101 00:00:02.000000  4711 solver.cpp:404]     Test net output #0: accuracy = 0.2
I0101 00:00:03.000000  4711 solver.cpp:228] Iteration 0 (-nan iter/s, 0.1s/20 iters), loss = 6.95
I0101 00:00:03.000000  4711 solver.cpp:244]     Train net output #0: loss = 6.95 (* 1 = 6.95 loss)
I0101 00:00:03.000000  4711 solver.cpp:244]     Train net output #1: prob = 0.25
I0101 00:00:03.000000  4711 solver.cpp:244]     Train net output #2: prob = -1e-05
I0101 00:00:03.000000  4711 sgd_solver.cpp:106] Iteration 0, lr = 0.01
I0101 00:00:09.000000  4711 solver.cpp:228] Iteration 20 (3 iter/s, 6s/20 iters), loss = nan
I0101 00:00:09.000000  4711 solver.cpp:244]     Train net output #0: loss = nan (* 1 = nan loss)
I0101 00:00:09.250000  4711 sgd_solver.cpp:106] Iteration 20, lr = 1e-3
I0101 00:00:10.000000  4711 solver.cpp:337] Iteration 21, Testing net (#0)
I0101 00:00:11.000000  4711 solver.cpp:404]     Test net output #0: accuracy = 0.5
I0101 00:00:12.000000  4711 solver.cpp:317] Optimization Done.
"""

TABLES = ("train", "test")
TRAIN = """NumIters,Seconds,LearningRate,loss,prob,prob[2]
0.0,4.0,0.01,6.95,0.25,-1e-05
20.0,10.0,0.001,nan,,
"""
TEST = """NumIters,Seconds,LearningRate,accuracy,loss,accuracy (#1)
0.0,2.0,0.01,0.1,6.9,0.2
21.0,12.0,0.001,0.5,,
"""


def test_tables(lab):
    lab.write("run.log", LOG)
    ran = lab.run("parse-log", "run.log")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "./run.log.train: 2 rows.\n./run.log.test: 2 rows.\n"
    assert (lab.folder / "run.log.train").read_text() == TRAIN
    assert (lab.folder / "run.log.test").read_text() == TEST


def test_folder_delimiter_and_verbose(lab):
    (lab.folder / "logs").mkdir()
    (lab.folder / "tables").mkdir()
    lab.write("logs/run.log", LOG)
    ran = lab.run("parse_log", "logs/run.log", "tables", "--delimiter", ";", "--verbose")
    text = TRAIN.replace(",", ";")
    assert (lab.folder / "tables" / "run.log.train").read_text() == text
    expected = f"tables/run.log.train: 2 rows.\n{text}tables/run.log.test: 2 rows.\n{TEST.replace(',', ';')}"
    assert ran.out == expected


def test_a_run_of_ours(lab):
    assert main(["train", "--solver", "solver.prototxt"]) == 0
    (lab.folder / "run.log").write_text(lab.capsys.readouterr().err)
    lab.run("parse-log", "run.log")
    train, test = (list(csv.DictReader((lab.folder / f"run.log.{name}").read_text().splitlines())) for name in TABLES)
    assert [row["NumIters"] for row in train] == ["0.0", "2.0", "4.0", "6.0"]
    assert [row["NumIters"] for row in test] == ["0.0", "4.0", "8.0"]
    assert list(train[0]) == ["NumIters", "Seconds", "LearningRate", "loss"]
    assert list(test[0]) == ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]
    assert {row["LearningRate"] for row in train + test} == {"0.05"}
    seconds = [float(row["Seconds"]) for row in train]
    assert seconds == sorted(seconds) and 0 <= seconds[0] < 60


def parsed(text):
    return _training_log.parse(text.splitlines(keepends=True), "run.log", 2019)


def test_a_year_in_the_prefix():
    log = parsed(
        "I20191231 23:59:59.000000 1 a.cpp:1] Solving\nI20200101 00:00:01.000000 1 a.cpp:1] Iteration 0, loss = 2\n"
    )
    assert log.losses == [(0, 2.0, 2.0)]


def test_a_log_of_a_terminal():
    """Without the date, over midnight; some of its lines are left out there."""
    log = parsed("23:59:59  Solving Toy\n00:00:01  Iteration 20 (9 iter/s, 2s/20 iters), loss = 0.5\n")
    assert log.losses == [(20, 2.0, 0.5)]


def test_a_log_without_times():
    log = parsed("Solving Toy\nIteration 20, loss = 0.5\n    Train net output #0: loss = 0.5\n")
    assert math.isnan(log.train[0].seconds)
    assert math.isnan(log.train[0].rate)
    assert log.train[0].outputs == {"loss": 0.5}


def test_a_log_that_begins_later():
    """Time begins with the first iteration where "Solving" is cut off."""
    log = parsed("I0101 00:00:05.000000 1 a.cpp:1] Iteration 7, loss = 2\n")
    assert log.losses == [(7, 0.0, 2.0)]


def test_what_is_said_twice_is_what_was_said_last():
    """A test before a stop and again after the resume."""
    said = "Iteration 8, Testing net (#0)\nI0101 00:00:0{}.000000 1 s]     Test net output #0: a = {}\n"
    log = parsed(said.format(1, 0.5) + said.format(5, 0.75))
    assert [row.outputs for row in log.test] == [{"a": 0.75}]


@pytest.mark.parametrize(
    "argv, status, text",
    [
        ([], 2, "layerforge parse_log: the following arguments are required: LOG"),
        (["none.log"], 1, "none.log: there is no such file; the log of a training run is wanted"),
        (["."], 1, ".: cannot be read: Is a directory; the log of a training run is wanted"),
        (
            ["net.prototxt"],
            1,
            'net.prototxt: no line "Iteration 0, loss = ..." or the like is in this file: it is no training log',
        ),
        (
            ["run.log", "--delimiter", "ab"],
            2,
            'layerforge parse_log: argument --delimiter: "ab" is no single character',
        ),
        (
            ["run.log", "nowhere"],
            1,
            'cannot write nowhere/run.log.train: there is no folder "nowhere". Make it, or choose another one',
        ),
    ],
)
def test_mistakes(lab, argv, status, text):
    lab.write("run.log", LOG)
    ran = lab.run("parse-log", *argv)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines()[0] == text
