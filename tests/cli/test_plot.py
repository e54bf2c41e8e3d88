"""layerforge plot: what each of the eight charts draws, and the pictures."""

import builtins

import cv2
import pytest

from layerforge.cli import _training_log, plot
from layerforge.errors import DataError

LOG = """\
I0101 00:00:00.000000 1 s] Solving Toy
I0101 00:00:00.000000 1 s] Iteration 0, Testing net (#0)
I0101 00:00:01.000000 1 s]     Test net output #0: accuracy = 0.1
I0101 00:00:01.000000 1 s]     Test net output #1: top5_acc = 0.4
I0101 00:00:01.000000 1 s]     Test net output #2: cost = 2.5 (* 1 = 2.5 loss)
I0101 00:00:02.000000 1 s] Iteration 0, loss = 2.6
I0101 00:00:02.000000 1 s] Iteration 0, lr = 0.1
I0101 00:20:00.000000 1 s] Iteration 100, loss = 1.5
I0101 00:20:00.000000 1 s] Iteration 100, lr = 0.001
I0101 00:20:00.000000 1 s] Iteration 100, Testing net (#0)
I0101 00:20:01.000000 1 s]     Test net output #0: accuracy = 0.6
I0101 00:20:01.000000 1 s]     Test net output #1: top5_acc = 0.9
I0101 00:20:01.000000 1 s]     Test net output #2: cost = 1.25 (* 1 = 1.25 loss)
"""


def lines(number, *logs):
    """What a chart draws: (name, points) of each line."""
    parsed = [_training_log.parse(text.splitlines(), f"logs/run{i}.log", 2020) for i, text in enumerate(logs)]
    return [(line.name, line.points) for line in plot.collect(plot.CHARTS[number], parsed)]


ACCURACY = [(0, 1.0, 0.1), (100, 1201.0, 0.6)]
TOP5 = [(0, 1.0, 0.4), (100, 1201.0, 0.9)]
COST = [(0, 1.0, 2.5), (100, 1201.0, 1.25)]
RATE = [(0, 2.0, 0.1), (100, 1200.0, 0.001)]
LOSS = [(0, 2.0, 2.6), (100, 1200.0, 1.5)]


@pytest.mark.parametrize(
    "number, expected",
    [
        (0, [("accuracy", ACCURACY), ("top5_acc", TOP5)]),
        (1, [("accuracy", ACCURACY), ("top5_acc", TOP5)]),
        (2, [("cost", COST)]),
        (3, [("cost", COST)]),
        (4, [("", RATE)]),
        (5, [("", RATE)]),
        (6, [("", LOSS)]),
        (7, [("", LOSS)]),
    ],
)
def test_what_is_drawn(number, expected):
    assert lines(number, LOG) == expected


def test_several_logs():
    assert [name for name, _ in lines(0, LOG, LOG)] == [
        "run0, accuracy",
        "run0, top5_acc",
        "run1, accuracy",
        "run1, top5_acc",
    ]
    assert [name for name, _ in lines(6, LOG, LOG)] == ["run0", "run1"]
    assert plot.title_of(["a/run.log", "b/run.log"]) == ["a/run.log", "b/run.log"]


def test_scores_of_any_name():
    """Where no output is called accuracy, all that are no losses."""
    log = LOG.replace("accuracy", "mean_iou").replace("top5_acc", "recall")
    assert [name for name, _ in lines(0, log)] == ["mean_iou", "recall"]
    plain = LOG.replace("cost = ", "loss = ").replace("(* 1", "")
    assert lines(2, plain) == [("", COST)]


@pytest.mark.parametrize(
    "text, number",
    [("0", 0), ("7", 7), ("train-loss-vs-iters", 6), ("Test_Accuracy vs Seconds", 1), ("learning-rate-vs-iters", 4)],
)
def test_names(text, number):
    assert plot.chart(text) is plot.CHARTS[number]


@pytest.mark.parametrize(
    "seconds, expected", [(30, ("Seconds", 1)), (1201, ("Minutes", 60)), (20_000, ("Hours", 3600))]
)
def test_units(seconds, expected):
    assert plot.unit(seconds) == expected


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are drawn."""
    from matplotlib.figure import Figure

    axes = []

    def keep(figure, *rest, really=Figure.savefig, **more):
        axes.append(figure.axes[0])
        return really(figure, *rest, **more)

    monkeypatch.setattr(Figure, "savefig", keep)
    return axes


@pytest.mark.parametrize(
    "number, title, xs, first, scale",
    [
        (0, "Test accuracy vs. iterations", [0, 100], [0.1, 0.6], "linear"),
        (1, "Test accuracy vs. minutes", [1 / 60, 1201 / 60], [0.1, 0.6], "linear"),
        (2, "Test loss (cost) vs. iterations", [0, 100], [2.5, 1.25], "linear"),
        (3, "Test loss (cost) vs. minutes", [1 / 60, 1201 / 60], [2.5, 1.25], "linear"),
        (4, "Learning rate vs. iterations", [0, 100], [0.1, 0.001], "log"),
        (5, "Learning rate vs. minutes", [2 / 60, 20], [0.1, 0.001], "log"),
        (6, "Train loss vs. iterations", [0, 100], [2.6, 1.5], "linear"),
        (7, "Train loss vs. minutes", [2 / 60, 20], [2.6, 1.5], "linear"),
    ],
)
def test_the_eight_charts(lab, drawn, number, title, xs, first, scale):
    lab.write("run.log", LOG)
    ran = lab.run("plot", str(number), "chart.png", "run.log")
    assert (ran.status, ran.err) == (0, "")
    count = "2 lines" if number < 2 else "1 line"
    assert ran.out == f"chart.png: {plot.CHARTS[number].title.lower()}, {count}.\n"
    assert cv2.imread(str(lab.folder / "chart.png")).shape == (750, 1200, 3)
    (axes,) = drawn
    assert axes.get_title(loc="left") == title
    assert axes.get_xlabel().lower() == title.rpartition(" ")[2]
    assert list(axes.lines[0].get_xdata()) == pytest.approx(xs)
    assert list(axes.lines[0].get_ydata()) == first
    assert axes.get_yscale() == scale
    assert (axes.get_legend() is not None) == (number < 2)


def test_colours_are_of_logs_and_dashes_of_outputs(lab, drawn):
    lab.write("a.log", LOG)
    lab.write("b.log", LOG)
    lab.run("plot_training_log", "0", "chart.svg", "a.log", "b.log")
    (axes,) = drawn
    colours, styles = [line.get_color() for line in axes.lines], [line.get_linestyle() for line in axes.lines]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert styles == ["-", "--", "-", "--"]
    assert [text.get_text() for text in axes.get_legend().texts] == [line.get_label() for line in axes.lines]
    assert (lab.folder / "chart.svg").read_bytes().startswith(b"<?xml")


def test_pdf(lab):
    lab.write("run.log", LOG)
    assert lab.run("plot", "6", "chart.pdf", "run.log").status == 0
    assert (lab.folder / "chart.pdf").read_bytes().startswith(b"%PDF")


NO_MATPLOTLIB = "charts are drawn by matplotlib, which is not installed. Run: pip install 'layerforge[plot]'"


@pytest.mark.parametrize(
    "argv, status, text",
    [
        (["8", "c.png", "run.log"], 2, 'layerforge plot: argument CHART: "8" is no chart: there are 0 to 7.'),
        (
            ["test-acuracy-vs-iters", "c.png", "run.log"],
            2,
            'layerforge plot: argument CHART: "test-acuracy-vs-iters" is no chart: there are 0 to 7. Did you mean'
            ' "test-accuracy-vs-iters"?',
        ),
        (["0", "c.jpg", "run.log"], 2, 'layerforge plot: "c.jpg" must end with .png, .svg or .pdf'),
        (["0", "c.png"], 2, "layerforge plot: the following arguments are required: LOG"),
        (["0", "c.png", "no.log"], 1, "no.log: there is no such file; the log of a training run is wanted"),
        (["0", "c.png", "train.log"], 1, "train.log: this log has no test accuracy"),
        (["7", "c.png", "bare.log"], 1, "the lines of this log have no times"),
    ],
)
def test_mistakes(lab, argv, status, text):
    lab.write("run.log", LOG)
    lab.write("train.log", "".join(line for line in LOG.splitlines(keepends=True) if "Test" not in line))
    lab.write("bare.log", "Iteration 0, loss = 2.5\n")
    ran = lab.run("plot", *argv)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines()[0] == (f"bare.log: {text}" if "bare.log" in argv else text)


def test_without_matplotlib(lab, monkeypatch):
    def no_matplotlib(name, *rest, really=builtins.__import__):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return really(name, *rest)

    lab.write("run.log", LOG)
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    ran = lab.run("plot", "0", "chart.png", "run.log")
    assert (ran.status, ran.out, ran.err) == (1, "", NO_MATPLOTLIB + "\n")


def test_nothing_to_draw():
    with pytest.raises(DataError) as error:
        lines(4, "Iteration 0, loss = 3")
    assert str(error.value) == "logs/run0.log: this log has no learning rate"
