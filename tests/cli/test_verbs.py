"""`layerforge test`, `time`, `check` and `summary`."""

import re
import subprocess
import sys

import pytest

import layerforge
from layerforge.cli import _data_rates
from layerforge.cli.table import memory
from layerforge.cli.time import replay, report

NUMBER = r"[-+.\de]+"


def test_test(lab):
    lab.train()
    ran = lab.run("test", "-model", "net.prototxt", "-weights", "toy_iter_8.caffemodel", "-iterations", "2")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    expected = [
        r"Use CPU with \d+ threads?\.",
        *lab.engines,
        r"Loaded 2 layers from toy_iter_8\.caffemodel",
        r"Running for 2 iterations\.",
        rf"Batch 0, accuracy = {NUMBER}",
        rf"Batch 0, loss = {NUMBER}",
        rf"Batch 1, accuracy = {NUMBER}",
        rf"Batch 1, loss = {NUMBER}",
        rf"Loss: {NUMBER}",
        rf"accuracy = {NUMBER}",
        rf"loss = {NUMBER} \(\* 1 = {NUMBER} loss\)",
    ]
    assert len(ran.log) == len(expected)
    for line, pattern in zip(ran.log, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    batches = [float(line.rpartition(" = ")[2]) for line in ran.log if re.match(r"Batch \d, accuracy", line)]
    assert float(ran.log[-2].partition(" = ")[2]) == pytest.approx(sum(batches) / 2, rel=1e-4)


def test_test_with_an_output_of_many_values(lab):
    lab.train()
    text = (lab.folder / "net.prototxt").read_text()
    lab.write("net.prototxt", text[: text.index('layer { name: "accuracy"')])
    ran = lab.run("test", "--model", "net.prototxt", "--weights", "toy_iter_8.caffemodel", "--iterations", "1")
    assert sum(line.startswith("Batch 0, ip = ") for line in ran.log) == 12
    assert sum(line.startswith("ip = ") for line in ran.log) == 12


def test_time(lab):
    ran = lab.run("time", "--model", "net.prototxt", "--iterations", "2")
    assert (ran.status, ran.err) == (0, "")
    expected = [
        r"Use CPU with \d+ threads?\.",
        *lab.engines,
        "Performing Forward",
        f"Initial loss: {NUMBER}",
        "Performing Backward",
        r"\*\*\* Benchmark begins \*\*\*",
        r"Testing for 2 iterations\.",
        rf"Iteration: 1 forward-backward time: {NUMBER} ms\.",
        rf"Iteration: 2 forward-backward time: {NUMBER} ms\.",
        "Average time per layer: ",
    ]
    for name in ("data", "conv", "relu", "ip", "loss"):
        expected += [rf"{name:>10}\tforward: {NUMBER} ms\.", rf"{name:>10}\tbackward: {NUMBER} ms\."]
    expected += [
        rf"Average Forward pass: {NUMBER} ms\.",
        rf"Average Backward pass: {NUMBER} ms\.",
        rf"Average Forward-Backward: {NUMBER} ms\.",
        rf"Total Time: {NUMBER} ms\.",
        r"\*\*\* Benchmark ends \*\*\*",
    ]
    assert len(ran.log) == len(expected)
    for line, pattern in zip(ran.log, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    rows = ran.out.splitlines()
    assert re.split(" {2,}", rows[0]) == [
        "layer",
        "type",
        "engine",
        "forward ms",
        "backward ms",
        "share",
        "GFLOP/s forward",
        "backward",
    ]
    assert [row.split()[0] for row in rows[2:7]] == ["data", "conv", "relu", "ip", "loss"]
    assert rows[8].startswith("all ")
    assert re.fullmatch(rf"Forward and backward: {NUMBER} ms\.", rows[9])
    assert re.fullmatch(r"[\d,.]+ images/s in batches of 4", rows[10])


@pytest.mark.usefixtures("lab")
def test_time_of_replays():
    """On a device whose launches are recorded; what the host fills divides the records."""
    net = layerforge.Net("net.prototxt", layerforge.TRAIN, seed=1, device="emulated")
    line, why = replay(net, 3)
    assert re.fullmatch(rf"Replayed, in 2 records: {NUMBER} ms\.", line)
    assert why == 'Not recorded: layer "data" (DummyData): the host takes part in it.'
    net.close()


def test_time_of_a_test_net_with_another_batch(lab):
    ran = lab.run("time", "-model", "solver.prototxt", "-phase", "test", "-iterations=1", "--batch", "2")
    assert "accuracy" in [row.split()[0] for row in ran.out.splitlines()[2:9]]
    assert ran.out.splitlines()[-1].endswith("images/s in batches of 2")


def test_the_figures_of_time(lab):
    """144 * 36 * 27 ... by hand: conv has 4*36*27 multiply-adds per image, ip 144*3."""
    net = layerforge.Net("net.prototxt", layerforge.TRAIN, seed=1)
    lines = report(net, [0.0, 2e-3, 1e-3, 1e-3, 0.0], [0.0, 4e-3, 1e-3, 1e-3, 0.0], iterations=1).splitlines()
    conv, ip, everything = lines[3].split(), lines[5].split(), lines[8].split()
    work = 2 * 4 * 4 * 36 * 27
    assert conv[2:6] == ["CAFFE", "2.000", "4.000", "60.0%"]
    assert float(conv[6]) == pytest.approx(work / 2e-3 / 1e9, abs=0.05)
    assert float(conv[7]) == pytest.approx(work / 4e-3 / 1e9, abs=0.05), "no gradient of the data is needed"
    assert ip[3:6] == ["1.000", "1.000", "20.0%"]
    assert everything[1:3] == ["4.000", "6.000"]
    assert lines[9:] == ["Forward and backward: 10.000 ms.", "400.0 images/s in batches of 4"]


def test_time_of_the_stages_of_data(lab, monkeypatch):
    monkeypatch.setattr(_data_rates, "SECONDS", 0.01)
    lab.read_records()
    lab.write_records({b"%d" % i: lab.datum(i % 3) for i in range(6)})
    ran = lab.run("time", "--model", "net.prototxt", "--iterations", "1", "--data", "--threads", "2")
    assert (ran.status, ran.err) == (0, "")
    text = ran.out.partition("in batches of 4\n\n")[2]
    lines = text.splitlines()
    assert lines[0] == 'layer "data" (Data), batches of 4'
    assert re.split(" {2,}", lines[2]) == ["stage", "ms per image", "images/s"]
    assert [re.split(" {2,}", line)[0] for line in lines[4:10]] == [
        "read, one thread",
        "decode, one thread",
        "transform, one thread",
        "the three, one thread",
        "loader, 2 threads",
        "net, forward and backward, without them",
    ]
    for line in lines[4:10]:
        ms, images = re.split(" {2,}", line)[1:]
        assert float(ms) >= 0
        assert float(images.replace(",", "")) > 0
    assert re.fullmatch(
        rf"The loader gives {NUMBER} times what the net takes(\.|: the net waits for its data\.)", lines[11]
    )
    assert len(lines) == 12


def test_time_of_the_stages_of_no_data(lab):
    ran = lab.run("time", "--model", "net.prototxt", "--data")
    assert ran.status == 2
    expected = "layerforge time: --data: no layer of this net loads images in phase TRAIN\n"
    assert ran.err == f"{expected}layerforge time --help tells the flags.\n"


def test_check(lab):
    ran = lab.run("check", "solver.prototxt", "net.prototxt")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        'solver.prototxt: a solver, net "Toy" of 5 layers in TRAIN, net "Toy" of 8 layers in TEST; no mistakes.',
        'net.prototxt: net "Toy" of 5 layers in TRAIN and 8 layers in TEST; no mistakes.',
    ]
    assert not list(lab.folder.glob("*iter*")), "nothing is run"


def test_check_goes_on_after_a_file_with_mistakes(lab):
    lab.write("bad.prototxt", 'lyer { name: "a" }')
    ran = lab.run("check", "bad.prototxt", "solver.prototxt")
    assert ran.status == 1
    assert ran.err == 'bad.prototxt:1:1: "lyer" is no field of NetParameter. Did you mean "layer"?\n'
    assert ran.out.startswith("solver.prototxt: a solver, ")


def test_check_with_layers_of_ones_own(lab):
    from layerforge import layer

    lab.write("own_check.py", "import layerforge\n\n\nclass OwnCheck(layerforge.Layer):\n    in_place = True\n")
    lab.change("net.prototxt", '"ReLU"', '"OwnCheck"')
    assert lab.run("check", "net.prototxt").status == 1
    try:
        assert lab.run("check", "net.prototxt", "--import", "own_check.py").status == 0
    finally:
        layer.registry.pop("OwnCheck", None)


def test_summary(lab):
    ran = lab.run("summary", "net.prototxt")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        "layer  type             tops       parameters  multiply-adds   memory\n"
        "---------------------------------------------------------------------\n"
        "data   DummyData        4x3x8x8 4                             3.0 KiB\n"
        "conv   Convolution      4x4x6x6           112         15.6 k  2.2 KiB\n"
        "relu   ReLU             4x4x6x6\n"
        "ip     InnerProduct     4x3               435         1.73 k     48 B\n"
        "loss   SoftmaxWithLoss  1                                         4 B\n"
        "---------------------------------------------------------------------\n"
        "all                                       547         17.3 k  5.3 KiB\n"
        "\n"
        "Toy in TRAIN: 5 layers, 547 parameters, 547 of them learnt.\n"
        "Multiply-adds forward: 17.3 k for a batch of 4, 4.32 k for one of it.\n"
        f"Memory to train: {train_memory()}.\n"
    )


def train_memory() -> str:
    """By the net's own account, once it has all its memory."""
    net = layerforge.Net("net.prototxt", layerforge.TRAIN)
    net.storage.need_diffs()
    taken = net.memory_bytes()
    parameters = taken["parameters"]
    words = [f"{name} {memory(parameters)}" for name in ("parameters", "their gradients", "momentum")]
    words += [f"blobs {memory(taken['data'])}", f"gradients of blobs {memory(taken['diff'])}"]
    work = taken["scratch"] + taken["state"]
    words += [f"work {memory(work)}"] * bool(work)
    return f"{memory(3 * parameters + taken['data'] + taken['diff'] + work)}: {', '.join(words)}"


MEASURE = """
import re
import layerforge as lf
from layerforge import layer, schema
def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
solver = schema.message("SolverParameter")(
    net="net.prototxt", base_lr=0.01, lr_policy="fixed", momentum=0.9, max_iter=1, random_seed=1
)
layer.load_layers()
lf.set_threads(1)
before = resident()
made = lf.get_solver(solver, reuse=True)
made.step(1)
print(resident() - before)
"""


def test_the_memory_of_summary_is_what_training_takes(lab):
    """Memory of its own: pages of libraries that are mapped on the way come and go with the system's cache."""
    lab.change("net.prototxt", "shape { dim: 4 dim: 3 dim: 8 dim: 8 }", "shape { dim: 64 dim: 3 dim: 96 dim: 96 }")
    lab.change("net.prototxt", "shape { dim: 4 }", "shape { dim: 64 }")
    lab.change("net.prototxt", "num_output: 4 ", "num_output: 16 ")
    lab.change("net.prototxt", "num_output: 3 ", "num_output: 64 ")
    said = re.search(r"Memory to train: ([\d.]+) MiB", lab.run("summary", "net.prototxt").out)
    ran = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    planned, taken = float(said[1]), int(ran.stdout) / 2**20
    assert planned > 100
    assert planned - 1 < taken < planned + 40


def test_summary_for_another_batch_and_phase(lab):
    out = lab.run("summary", "solver.prototxt", "--phase", "TEST", "--batch", "100").out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["conv"] == ["conv", "Convolution", "100x4x6x6", "112", "389", "k", "56.2", "KiB"]
    assert rows["accuracy"] == ["accuracy", "Accuracy", "1", "4", "B"]
    assert out.splitlines()[-3] == "Toy in TEST: 8 layers, 547 parameters, 547 of them learnt."
    assert out.splitlines()[-1].startswith("Memory to test: ")


def test_summary_of_a_batch_that_no_machine_holds(lab):
    out = lab.run("summary", "net.prototxt", "--batch", "2000000000").out
    assert re.search(r"\nMemory to train: [\d.]+ TiB: parameters 2\.\d KiB, ", out)
