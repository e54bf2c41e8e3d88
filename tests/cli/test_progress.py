"""The live line, on a stream that says it is a terminal."""

import contextlib
import io
import re
import types

import numpy as np
import pytest

from layerforge.cli import main, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What was ever drawn, line by line."""
        return [line.strip() for line in re.split(r"[\r\n]|\x1b\[A", self.getvalue()) if line.strip()]

    def train(self, *argv: str) -> int:
        with contextlib.redirect_stderr(self):
            return main(["train", "--solver", "solver.prototxt", *argv])


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    return Terminal()


def test_training(lab, terminal):
    assert terminal.train() == 0
    lines = terminal.lines()
    number = r"[\d.e+-]+"
    form = (
        rf" *\d+% .* 7/8  \d\d:\d\d left  loss {number}  lr 0\.05  [\d,]+ images/s  data wait 0%"
        rf"  test accuracy {number}"
    )
    assert any(re.fullmatch(form, line) for line in lines), lines
    assert any(re.search(r"left  testing, batch 1 of 2$", line) for line in lines), lines
    logged = [line for line in lines if re.match(r"\d\d:\d\d:\d\d  ", line)]
    said = [line[10:] for line in logged]
    assert said[0].startswith("Use CPU with ")
    assert said[1:4] == ["Seed 1.", "Solving Toy", "Iteration 0, Testing net (#0)"]
    assert said[-1] == "The recipe is complete. The weights are in toy_iter_8.caffemodel"
    assert "Snapshotting to binary proto file toy_iter_4.caffemodel" in said
    for only_for_parsers in ("Train net output", ", lr = ", "solver state", "Policy"):
        assert not any(only_for_parsers in line for line in said)


def test_an_error_stands_on_a_line_of_its_own(lab, terminal):
    assert terminal.train("--set", "base_lr=1e30") == 1
    assert terminal.lines()[-1].startswith("net.prototxt:22:1: iteration 1: the loss is nan. ")
    assert re.search(r"[\r\n]net\.prototxt:22:1: iteration 1", terminal.getvalue())


def test_a_terminal_that_is_gone_ends_nothing(lab, terminal, monkeypatch):
    """After SIGHUP, writing to the terminal fails with EIO."""
    written, gone = Terminal.write, []

    def write(self, text: str) -> int:
        gone.extend(["gone"] * ("Iteration 2" in text))
        if gone:
            raise OSError(5, "Input/output error")
        return written(self, text)

    monkeypatch.setattr(Terminal, "write", write)
    assert terminal.train() == 0
    assert gone
    assert (lab.folder / "toy_iter_8.caffemodel").exists()


def test_the_share_of_waiting(lab, terminal, monkeypatch):
    """A source that makes its net wait for 0.1 of every 0.5 seconds."""
    clock = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: float(next(clock))))
    waits = iter(np.arange(0, 1000, 0.1))
    monkeypatch.setattr(progress, "waited", lambda solver: float(next(waits)))
    assert terminal.train("--set", "test_initialization=false", "test_interval=100") == 0
    assert "data wait 20%" in terminal.getvalue()


def test_timing_shows_a_bar_and_the_table(lab, terminal, capsys):
    with contextlib.redirect_stderr(terminal):
        assert main(["time", "--model", "net.prototxt", "--iterations", "3"]) == 0
    assert "| 0/3 [" in terminal.getvalue()
    assert [line[10:] for line in terminal.lines() if re.match(r"\d\d:\d\d:\d\d  ", line)][-1] == (
        "Testing for 3 iterations."
    )
    assert capsys.readouterr().out.startswith("layer  type ")


def test_the_score_that_is_shown():
    class Solver:
        class Net:
            blob_loss_weights = {"a_loss": 1.0, "accuracy": 0.0, "per_class": 0.0}

        test_nets = [Net()]
        scores = {"a_loss": np.array(0.5), "accuracy": np.array(0.96875), "per_class": np.zeros(10)}

    assert progress.last_score(Solver()) == "  test accuracy 0.9688"
    del Solver.scores["accuracy"]
    assert progress.last_score(Solver()) == "  test a_loss 0.5"
    Solver.scores = {}
    assert progress.last_score(Solver()) == ""
