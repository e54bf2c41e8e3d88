"""One knob for all threads: `set_threads`, --threads, and the cores that a process may use."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.data.in_order import in_order
from layerforge.testing import available

NET = """
force_backward: true
layer {{ name: "in" type: "Input" top: "data" top: "label" input_param {{
  shape {{ dim: 3 dim: 8 dim: 9 dim: 9 }} shape {{ dim: 3 }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 16 kernel_size: 3 engine: {engine} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "conv2" type: "Convolution" bottom: "conv" top: "conv2"
  convolution_param {{ num_output: 16 kernel_size: 3 engine: {engine} weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "conv2" top: "ip"
  inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""


pytestmark = pytest.mark.usefixtures("set_threads")  # as many as before afterwards


def make(phase, engine, device="cpu"):
    net = lf.Net(schema.parse(NET.format(engine=engine), "NetParameter"), phase, seed=1, device=device)
    net.blobs["data"].data[...] = np.random.default_rng(1).normal(size=(3, 8, 9, 9))
    return net


@pytest.mark.parametrize("order", [["forward", "more", "forward", "backward"], ["forward", "more", "backward"]])
@pytest.mark.parametrize("engine", ["CAFFE", "DEFAULT"])
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
def test_a_net_follows(phase, engine, order):
    """Scratch is for each thread. What is computed differs in the order of sums alone."""
    lf.set_threads(4)
    expected = make(phase, engine)
    loss = expected.run_forward()
    expected.run_backward()
    lf.set_threads(1)
    net = make(phase, engine)
    for what in order:
        if what == "more":
            lf.set_threads(4)
        elif what == "forward":
            assert net.run_forward() == pytest.approx(loss, rel=1e-5)
        else:
            net.run_backward()
    assert np.allclose(net.blobs["data"].diff, expected.blobs["data"].diff, rtol=1e-4, atol=1e-6)
    for name, blobs in net.params.items():
        for blob, other in zip(blobs, expected.params[name], strict=True):
            assert np.allclose(blob.diff, other.diff, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
def test_a_part_of_a_net_follows(phase):
    """After a whole pass, from the middle on: what the first layers left is still there."""
    lf.set_threads(1)
    net = make(phase, "DEFAULT")
    loss = net.run_forward()
    lf.set_threads(4)
    assert net.run_forward(first=2) == pytest.approx(loss, rel=1e-5)


def test_the_diff_that_was_set_stays():
    text = NET.format(engine="DEFAULT").rpartition("layer {")[0]
    lf.set_threads(1)
    net = lf.Net(schema.parse(text, "NetParameter"), lf.TRAIN, seed=1)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.blobs["ip"].diff[...] = 1
    net.backward()
    before = net.blobs["data"].diff.copy()
    assert before.any()
    net.clear_param_diffs()
    net.blobs["ip"].diff[...] = 2
    lf.set_threads(4)
    net.backward()
    assert np.allclose(net.blobs["data"].diff, 2 * before, rtol=1e-4)


def test_loaders_take_as_many(tmp_path):
    text = """layer { name: "data" type: "Data" top: "data" top: "label"
      data_param { source: "sample://digits?split=train&count=8" batch_size: 4 %s } }"""
    for options, expected in (("", 3), ("threads: 2", 2)):
        lf.set_threads(3)
        net = lf.Net(schema.parse(text % options, "NetParameter"), lf.TRAIN)
        assert net.layers[0].loader.threads == expected
        net.close()


def test_work_in_order_takes_as_many(monkeypatch):
    import threading

    lf.set_threads(2)
    seen = set(in_order(lambda _: threading.current_thread().name, range(64), at_once=1))
    assert len(seen) <= 2


def test_the_cores_that_a_process_may_use():
    """taskset, or a scheduler, leaves one: so many threads there are, unless OMP_NUM_THREADS says otherwise."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import layerforge
print(layerforge.get_threads())
"""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(Path(lf.__file__).resolve().parent.parent)
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == "1\n"


@pytest.mark.parametrize("verb", ["train", "test", "time"])
def test_the_flag(verb, tmp_path, monkeypatch, capsys):
    from layerforge.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENCV_FOR_THREADS_NUM", raising=False)
    text = NET.format(engine="DEFAULT")
    Path("net.prototxt").write_text(text)
    Path("solver.prototxt").write_text('net: "net.prototxt" base_lr: 0 max_iter: 1 lr_policy: "fixed"\n')
    lf.Net("net.prototxt", lf.TEST, seed=1).save("net.caffemodel")
    flags = {
        "train": ["--solver", "solver.prototxt"],
        "test": ["--model", "net.prototxt", "--weights", "net.caffemodel", "--iterations", "1"],
        "time": ["--model", "net.prototxt", "--iterations", "1"],
    }
    lf.set_threads(1)
    assert main([verb, *flags[verb], "--threads", "2", "--device", "cpu"]) == 0
    assert "Use CPU with 2 threads." in capsys.readouterr().err
    assert lf.get_threads() == 2
    assert os.environ["OPENCV_FOR_THREADS_NUM"] == "1"


@pytest.mark.parametrize("device", available())
def test_nets_in_threads_of_their_own(device):
    """They do not see each other: not when one makes a record either, which takes what its own thread launches."""
    turns, start = 5, threading.Barrier(4)

    def run(i):
        start.wait()
        net, found = make(lf.TRAIN, "CAFFE", device), []
        for turn in range(turns):
            net.blobs["data"].data[...] = np.random.default_rng((i, turn)).normal(size=(3, 8, 9, 9))
            found.append((net.forward_backward(), net.blobs["ip"].data.copy(), net.params["conv"][0].diff.copy()))
        return found

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(run, range(4)))
    finally:
        sys.setswitchinterval(before)
    start = threading.Barrier(1)
    for i in range(4):
        for mine, alone in zip(found[i], run(i), strict=True):
            for a, b in zip(mine, alone, strict=True):
                np.testing.assert_array_equal(a, b)
