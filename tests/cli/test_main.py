"""The command line as a whole: verbs, help, status, spellings."""

import os
import subprocess
import sys

import pytest

import layerforge
from layerforge.cli import VERBS, flags, main, split


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: layerforge COMMAND [flags]\n")
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_command(verb, capsys):
    assert main([verb, "-help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: layerforge {verb} ")
    assert err == ""


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"layerforge {layerforge.__version__}\n"


def test_nothing(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: layerforge COMMAND [flags]\n")


@pytest.mark.parametrize(
    "argv, first",
    [
        (["trian"], 'layerforge: there is no command "trian". Did you mean "train"?'),
        (["-x", "quiz"], 'layerforge: there is no command "quiz".'),
        (["train"], "layerforge train: the following arguments are required: --solver"),
        (["train", "-solvr=x"], "layerforge train: there is no flag --solvr. Did you mean --solver?"),
        (["train", "--solver", "x", "--paint"], "layerforge train: there is no flag --paint."),
        (["train", "--solver", "x", "y"], 'layerforge train: "y" belongs to no flag'),
        (
            ["train", "--solver", "x", "--threads", "0"],
            'layerforge train: argument --threads: "0" is no whole number from 1',
        ),
        (
            ["train", "--solver", "x", "--sigint_effect=halt"],
            'layerforge train: argument --sigint-effect: "halt" is none of none, stop, snapshot',
        ),
        (
            ["time", "--model", "x", "--phase", "VALIDATE"],
            'layerforge time: argument --phase: "VALIDATE" is none of TRAIN, TEST',
        ),
        (
            ["train", "--solver", "x", "--snapshot", "s", "--weights", "w"],
            "layerforge train: give --snapshot to go on with a run, or --weights to start from weights, but not both",
        ),
        (
            ["train", "--solver", "x", "--snapshot", "s", "--resume"],
            "layerforge train: --resume finds the snapshot by itself: give either --snapshot or --resume",
        ),
        (["check"], "layerforge check: name the prototxt to check"),
        (["summary"], "layerforge summary: name the prototxt to summarise"),
    ],
)
def test_flags_that_make_no_sense(argv, first, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == first
    if argv[0] in VERBS:
        assert lines[1:] == [f"layerforge {argv[0]} --help tells the flags."]


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["-solver", "a.prototxt"], ["--solver", "a.prototxt"]),
        (["-solver=a_b.prototxt"], ["--solver=a_b.prototxt"]),
        (["--max_iter", "20"], ["--max-iter", "20"]),
        (["-gpu", "0"], ["--gpu", "0"]),
        (["-noresume"], []),
        (["--no-resume"], []),
        (["-resume"], ["--resume"]),
        (["-resume=true"], ["--resume"]),
        (["--resume=false"], []),
        (["-h"], ["--help"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--set", "base_lr=-1"], ["--set", "base_lr=-1"]),
    ],
)
def test_spellings(argv, expected):
    assert flags.modern(argv, ["resume", "debug"]) == expected


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["train", "-solver", "a"], ("train", ["-solver", "a"])),
        (["-solver", "a", "train"], ("train", ["-solver", "a"])),
        (["-solver=a", "train"], ("train", ["-solver=a"])),
        (["-solver", "train", "train"], ("train", ["-solver", "train"])),
        (["-resume", "train"], ("train", ["-resume"])),
        (["device-query"], ("device_query", [])),
        (["classify.py", "test.py"], ("classify", ["test.py"])),
        (["plot_training_log.py", "0", "a.png"], ("plot", ["0", "a.png"])),
        (["convert_imageset.bin", "-gray"], ("convert_imageset", ["-gray"])),
        (["-solver", "train"], (None, ["-solver", "train"])),
    ],
)
def test_the_verb_may_stand_anywhere(argv, expected):
    assert split(argv) == expected


def test_device_query(capsys):
    assert main(["device_query"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [
        "LayerForge",
        "Python",
        "System",
        "CPU",
        "Cores",
        "Threads",
        "Memory",
        "GPU",
    ]


def test_a_reader_that_has_seen_enough():
    """`layerforge check ... | head -0`: no traceback, no complaint."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; from layerforge.cli import main; sys.exit(main(['device_query']))"
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (run.returncode, run.stderr) == (141, "")


# The log


SOLVER = """
net_param {
  layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: [2, 3] } data_filler { value: 1 } } }
  layer { name: "y" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
  layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }
}
base_lr: 0.1 lr_policy: "fixed" max_iter: 2 display: 1 snapshot_after_train: false snapshot_prefix: "s"
"""


@pytest.fixture
def solver(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


def logged(folder):
    (file,) = folder.glob("layerforge.INFO.*")
    return file.read_text()


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_a_log_in_a_folder(solver, by, monkeypatch, capsys):
    """As Caffe's users ask for it, among glog's other flags."""
    (solver / "log").mkdir()
    if by == "environment":
        monkeypatch.setenv("GLOG_log_dir", "log")
    argv = ["-log_dir=log"] if by == "flag" else []
    assert main(["-alsologtostderr", "train", "-solver=solver.prototxt", "-v=1", "-stderrthreshold", "0", *argv]) == 0
    assert "Optimization Done." in logged(solver / "log")
    assert logged(solver / "log").splitlines() == capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("level, lines", [("0", True), ("1", False), ("9", False)])
def test_the_least_level(solver, level, lines, capsys):
    assert main(["train", "-solver", "solver.prototxt", "-logtostderr", "-minloglevel", level]) == 0
    assert ("Iteration 1" in capsys.readouterr().err) == lines


def test_a_folder_that_is_not_there(solver, capsys):
    assert main(["train", "-solver", "solver.prototxt", "--log-dir", "none"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('no log can be written to "none/layerforge.INFO.')
    assert line.endswith('": No such file or directory. Make the folder first')
