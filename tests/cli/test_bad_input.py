"""What bad input gets: the whole text on stderr, status 1, no traceback."""

import contextlib
import errno
import os

import pytest

from layerforge.device import cuda

SOLVER, NET = "solver.prototxt", "net.prototxt"
NO_GPU = f"{cuda.NO_DRIVER}\n"


@pytest.mark.parametrize(
    "argv, text",
    [
        (["train", "--solver", "none.prototxt"], "none.prototxt: there is no such file; a solver is wanted.\n"),
        (
            ["train", "--solver", "net.prototxt"],
            "net.prototxt: this is a net (NetParameter); a solver (SolverParameter) is wanted.\n",
        ),
        (
            ["test", "--model", "none.prototxt", "--weights", "w"],
            "none.prototxt: there is no such file; a net is wanted.\n",
        ),
        (["time", "--model", "none.prototxt"], "none.prototxt: there is no such file; a net or a solver is wanted.\n"),
        (["check", "none.prototxt"], "none.prototxt: there is no such file; a net or a solver is wanted.\n"),
        (["summary", "none.prototxt"], "none.prototxt: there is no such file; a net or a solver is wanted.\n"),
        (
            ["train", "--solver", SOLVER, "--weights", "none.caffemodel"],
            "cannot read weights from none.caffemodel: No such file or directory\n",
        ),
        (
            ["test", "--model", NET, "--weights", "none.caffemodel"],
            "cannot read weights from none.caffemodel: No such file or directory\n",
        ),
        (
            ["train", "--solver", SOLVER, "--snapshot", "toy_iter_8.solverstate"],
            "there is no snapshot toy_iter_8.solverstate\n",
        ),
        (["train", "--solver", SOLVER, "--import", "none.py"], "--import none.py: there is no such file\n"),
        (["train", "--solver", SOLVER, "--device", "gpu"], NO_GPU),
        (["train", "--solver", SOLVER, "-gpu", "0"], NO_GPU),
        (["time", "--model", NET, "-gpu", "all"], NO_GPU),
        (["test", "--model", NET, "--weights", "w", "-gpu=0"], NO_GPU),
        (["device_query", "-gpu", "0"], NO_GPU),
        (
            ["train", "--solver", SOLVER, "--set", "base_lr=fast", "gama=1"],
            '--set base_lr=fast: "base_lr" of SolverParameter must be a number, not fast.\n'
            '--set gama=1: "gama" is no field of SolverParameter. Did you mean "gamma"?\n',
        ),
        (
            ["train", "--solver", SOLVER, "--set", "lr_policy=stp"],
            '--set lr_policy=stp: unknown lr_policy "stp". Did you mean "step"? There are fixed, step, exp, inv,'
            " multistep, poly, sigmoid\n",
        ),
    ],
)
def test_command_lines(lab, argv, text):
    ran = lab.run(*argv)
    assert (ran.status, ran.err, ran.out) == (1, text, "")


@pytest.mark.parametrize(
    "name, old, new, text",
    [
        (SOLVER, '"net.prototxt"', '"none.prototxt"', 'solver.prototxt:1:1: there is no net file "none.prototxt"\n'),
        (
            SOLVER,
            "momentum",
            "momentun",
            'solver.prototxt:5:1: "momentun" is no field of SolverParameter. Did you mean "momentum"?\n',
        ),
        (
            SOLVER,
            "max_iter: 8\n",
            "",
            "solver.prototxt: max_iter is not given. Write max_iter: 1000, say, or use --max-iter\n",
        ),
        (NET, 'name: "conv"', 'name: "conv', "net.prototxt:15:9: this text is not closed on its line.\n"),
        (
            NET,
            'type: "xavier" } }\n}\nlayer { name: "relu"',
            'type: "xavier" } }\nlayer { name: "relu"',
            'net.prototxt:20:1: "layer" starts here, but the "{" of line 14 is still open.\n',
        ),
        (
            NET,
            "num_output: 4",
            "num_outputs: 4",
            'net.prototxt:19:23: "num_outputs" is no field of ConvolutionParameter. Did you mean "num_output"?\n',
        ),
        (
            NET,
            '"Convolution"',
            '"Convolutoin"',
            'net.prototxt:16:3: layer "conv": unknown layer type "Convolutoin". Did you mean "Convolution"?'
            " Types of your own come in with --import.\n",
        ),
        (
            NET,
            'bottom: "conv"\n  top: "ip"',
            'bottom: "cnv"\n  top: "ip"',
            'net.prototxt:25:3: layer "ip" reads "cnv", which no layer above writes. Did you mean "conv"?\n',
        ),
        (
            NET,
            "kernel_size: 3",
            "kernel_size: 9",
            'net.prototxt:19:37: layer "conv" (Convolution): a window of 9 is larger than the 8 that bottom "data"'
            " (4, 3, 8, 8) has with its padding: lower kernel_size or dilation, or raise pad\n",
        ),
        (
            NET,
            'bottom: "data"\n  top: "conv"',
            'bottom: "ip"\n  top: "conv"',
            'net.prototxt:17:3: layer "conv" reads "ip", which depends on it: conv -> ip -> conv is a cycle\n',
        ),
        (
            NET,
            'name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"',
            'name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "conv"',
            'net.prototxt:30:75: layer "loss" writes "conv", which layer "conv" already writes (net.prototxt:14:1).'
            " Give it a name of its own, or read the same blob to work in place\n",
        ),
    ],
)
def test_definitions(lab, name, old, new, text):
    lab.change(name, old, new)
    ran = lab.train()
    assert (ran.status, ran.err) == (1, text)
    assert not list(lab.folder.glob("*iter*"))


def test_check_tells_every_mistake(lab):
    lab.change(SOLVER, "base_lr: 0.05\n", 'base_lr: 0.05\nlr_policy: "step"\ntype: "sdg"\n')
    lab.change(NET, "kernel_size: 3", "kernel_size: 9")
    lab.change(NET, '"ReLU"', '"RelU"')
    ran = lab.run("check", SOLVER)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        'solver.prototxt:5:1: lr_policy "step" needs gamma',
        'solver.prototxt:5:1: lr_policy "step" needs stepsize',
        'solver.prototxt:6:1: unknown solver type "sdg". There are SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam',
        'net.prototxt:19:37: layer "conv" (Convolution): a window of 9 is larger than the 8 that bottom "data"'
        " (4, 3, 8, 8) has with its padding: lower kernel_size or dilation, or raise pad",
        'net.prototxt:21:22: layer "relu": unknown layer type "RelU". Did you mean "ReLU"? Types of your own come in'
        " with --import.",
    ]


def test_no_lmdb(lab):
    lab.read_records()
    ran = lab.train()
    assert (ran.status, ran.err) == (
        1,
        f'net.prototxt:7:16: layer "data" (Data): source "records" does not exist in {lab.folder}. Name a folder that'
        ' holds an LMDB, or write source: "sample://shapes?split=train" to try without one\n',
    )


def test_empty_lmdb(lab):
    lab.read_records()
    lab.write_records({})
    ran = lab.train()
    assert (ran.status, ran.err) == (
        1,
        'net.prototxt:7:16: layer "data" (Data): source "records" is an LMDB without a single record\n',
    )


def test_truncated_lmdb(lab):
    lab.read_records()
    file = lab.write_records({b"%08d" % i: lab.datum(i % 3) for i in range(200)})
    raw = file.read_bytes()
    file.write_bytes(raw[: len(raw) // 2])
    ran = lab.train()
    assert (ran.status, ran.err) == (
        1,
        f'net.prototxt:7:16: layer "data" (Data): source "records" is cut short: {file} has {len(raw) // 2} bytes and'
        f" should have at least {len(raw)}. Copy it again\n",
    )


@pytest.mark.parametrize(
    "raw, text",
    [
        (b"\xff\xff\xff\xff", "this is no Datum: damaged at byte 0 of 4: a number does not end.\n"),
        (None, "its 8 bytes cannot be decoded as an image\n"),
    ],
)
def test_a_record_that_does_not_decode(lab, raw, text):
    lab.read_records()
    lab.write_records(
        {b"%08d" % i: lab.datum(i % 3) if i != 5 else raw or lab.datum(1, b"no image", True) for i in range(20)}
    )
    ran = lab.train()
    place = 'net.prototxt:7:16: layer "data" (Data): source "records": record 5 (key "00000005"): '
    assert (ran.status, ran.err) == (1, place + text)


def test_a_record_that_does_not_decode_is_skipped_if_asked(lab):
    lab.read_records()
    lab.change(NET, "batch_size: 4", "batch_size: 4 skip_bad: true")
    lab.write_records({b"%08d" % i: lab.datum(i % 3) if i != 5 else lab.datum(1, b"no image", True) for i in range(20)})
    ran = lab.train()
    assert (ran.status, ran.err) == (0, "")
    skipped = 'Skipped: source "records": record 5 (key "00000005"): its 8 bytes cannot be decoded as an image'
    assert ran.log.count(skipped) == 2, "once for the train net, once for the test net"


def test_a_label_out_of_range(lab):
    lab.read_records()
    lab.write_records({b"%08d" % i: lab.datum(i % 3 if i != 5 else 7) for i in range(20)})
    ran = lab.train("--set", "test_initialization=false")
    assert (ran.status, ran.err) == (
        1,
        'net.prototxt:25:59: layer "loss" (SoftmaxWithLoss): label 7 of item 1 in bottom "label" (4,) must be one of'
        " the 3 classes, 0 to 2. Mend the data, score more classes, or name a label that does not count in"
        " ignore_label\n",
    )


@pytest.mark.parametrize(
    "prefix, why",
    [
        ("nowhere/toy", "nowhere: No such file or directory"),
        ("net.prototxt/toy", "net.prototxt: Not a directory"),
    ],
)
def test_a_snapshot_prefix_that_cannot_be_written(lab, prefix, why):
    lab.change(SOLVER, '"toy"', f'"{prefix}"')
    ran = lab.train()
    assert (ran.status, ran.err) == (
        1,
        f'solver.prototxt:9:1: snapshot_prefix: "{prefix}" cannot be written: {why}. Make the folder, or choose'
        " another\n",
    )
    assert not any(line.startswith("Iteration") for line in ran.log), "before the first iteration"


def test_disk_full_during_a_snapshot(lab, monkeypatch):
    assert lab.train("--max-iter", "4").status == 0
    before = {path.name: path.read_bytes() for path in lab.folder.glob("toy_iter_4.*")}
    assert len(before) == 3
    with full_after(monkeypatch, 0):
        ran = lab.train("--snapshot", "toy_iter_4.solverstate")
    assert (ran.status, ran.err) == (
        1,
        'solver.prototxt:9:1: snapshot_prefix: "toy" cannot be written: .: No space left on device. Make the folder, or'
        " choose another\n",
    )
    with full_after(monkeypatch, 2):  # the file that checks the prefix, and its folder
        ran = lab.train("--snapshot", "toy_iter_4.solverstate")
    assert (ran.status, ran.err) == (
        1,
        "cannot write toy_iter_8.resume.json: the disk is full. Free some space; what was written before is"
        " untouched\n",
    )
    assert ran.log[-1] == (
        "To go on from the last good snapshot: layerforge train --solver solver.prototxt --snapshot"
        " toy_iter_4.solverstate"
    )
    assert {path.name: path.read_bytes() for path in lab.folder.glob("toy_iter_4.*")} == before
    assert sorted(path.name for path in lab.folder.glob("*toy_iter_*")) == sorted(before), "nothing is left behind"


@contextlib.contextmanager
def full_after(monkeypatch, good: int):
    """A disk that is full after so many times of writing to it."""
    real, calls = os.fsync, []

    def fsync(handle):
        calls.append(handle)
        if len(calls) > good:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


def test_a_damaged_caffemodel(lab):
    assert lab.train().status == 0
    file = lab.folder / "toy_iter_8.caffemodel"
    file.write_bytes(file.read_bytes()[:500])
    text = "toy_iter_8.caffemodel: damaged at byte 85 of 500: a field of 521 bytes goes 110 beyond the end. Copy or"
    for argv in (["train", "--solver", SOLVER], ["test", "--model", NET]):
        ran = lab.run(*argv, "--weights", "toy_iter_8.caffemodel")
        assert (ran.status, ran.err) == (1, f"{text} download the file again.\n")


def test_a_damaged_snapshot(lab):
    assert lab.train().status == 0
    file = lab.folder / "toy_iter_8.solverstate"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    ran = lab.train("--snapshot", "toy_iter_8.solverstate")
    assert ran.status == 1
    import json
    import zlib

    sidecar = json.loads((lab.folder / "toy_iter_8.resume.json").read_text())["files"]["toy_iter_8.solverstate"]
    assert ran.err == (
        f"toy_iter_8.solverstate: damaged, or written by another run: it has {len(raw)} bytes and checksum"
        f" {zlib.crc32(file.read_bytes()):08x}, its sidecar says {len(raw)} bytes and {sidecar['crc32']:08x}. Use an"
        " older snapshot; --resume finds the newest good one\n"
    )
    ran = lab.train("--resume")
    assert ran.status == 0
    assert "--resume: the newest good snapshot is toy_iter_4.solverstate." in ran.log


def test_weights_of_another_shape(lab):
    assert lab.train().status == 0
    lab.change(NET, "num_output: 3", "num_output: 5")
    ran = lab.train("--weights", "toy_iter_8.caffemodel")
    assert (ran.status, ran.err) == (
        1,
        'toy_iter_8.caffemodel: layer "ip" (InnerProduct), parameter "weight": the net has shape (5, 144), the file'
        " (3, 144). Rename the layer in the prototxt to leave its weights out\n",
    )
    ran = lab.train("--snapshot", "toy_iter_8.solverstate")
    assert (ran.status, ran.err) == (
        1,
        'toy_iter_8.solverstate: history array 2 has shape (3, 144), parameter "weight" of layer "ip" (InnerProduct) of'
        " this net has (5, 144). Resume with the net that wrote it\n",
    )


def test_weights_of_other_names(lab):
    assert lab.train().status == 0
    lab.change(NET, 'name: "ip"', 'name: "fc"')
    lab.change(NET, 'name: "conv"', 'name: "conv1"')
    ran = lab.train("--weights", "toy_iter_8.caffemodel")
    assert (ran.status, ran.err) == (
        1,
        'toy_iter_8.caffemodel: no layer of it has a name of this net\'s; it holds "conv", "ip", the net learns'
        ' "conv1", "fc". Layers go by name: "conv" is like "conv1"\n',
    )


def test_a_loss_that_is_not_finite(lab):
    ran = lab.train("--set", "base_lr=1e30", "snapshot=1")
    assert (ran.status, ran.err) == (
        1,
        'net.prototxt:22:1: iteration 1: the loss is nan. The first layer whose output is not finite is layer "ip"'
        ' (InnerProduct), top "ip". Lower base_lr (the rate is 1e+30), set clip_gradients, or look for such values in'
        " the data; the last good snapshot is toy_iter_1.solverstate\n",
    )
    assert (lab.folder / "toy_iter_1.solverstate").exists()


def test_an_unexpected_error_is_told_in_one_line(lab):
    lab.write(
        "odd.py",
        "import layerforge\n\n\nclass Odd(layerforge.Layer):\n    in_place = True\n\n"
        "    def forward(self, bottom, top):\n        1 / 0\n",
    )
    lab.change(NET, '"ReLU"', '"Odd"')
    from layerforge import layer

    try:
        ran = lab.train("--import", "odd.py")
        assert (ran.status, ran.err) == (
            1,
            "odd.py:8: ZeroDivisionError: division by zero\nRun it with --debug to see how it came to this.\n",
        )
        with pytest.raises(ZeroDivisionError):
            lab.train("--import", "odd.py", "--debug")
    finally:
        layer.registry.pop("Odd", None)
