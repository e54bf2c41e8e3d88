"""What benchmarks/ writes, and how it goes on. Nothing here depends on how fast a machine is."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


def result(ours, theirs, **more):
    return {
        "when": "2026-01-02T03:04",
        "hardware": "A machine",
        "system": "A system",
        "environment": "",
        "load": 0.1,
        "commit": "abc",
        "threads": 2,
        "rounds": len(ours),
        "ours": {"ms": ours, "peak_mb": 1600, "faults": 0.0},
        "theirs": {"ms": theirs, "peak_mb": 2000, "faults": 7.0},
        "versions": ["LayerForge 1", "PyTorch 2"],
        "agreement": "1e-06",
        **more,
    }


def test_the_cells_of_the_table():
    from benchmarks.cells import Cell, every

    cells = list(every(["alexnet"], ["train", "infer"], [], None))
    assert len(cells) == 6 + 2 * 8
    assert Cell("train", "alexnet", 64, "PyTorch, NCHW, stock") in cells
    assert Cell("infer", "alexnet", 32, "OpenCV") in cells
    assert all(Cell.read(cell.key) == cell for cell in cells)
    assert [cell.key for cell in every(["lenet"], ["infer"], ["onnx"], [7])] == ["infer/lenet/7/onnxruntime"]


def test_results_survive_an_interrupt(tmp_path):
    from benchmarks.results import Results

    results = Results(tmp_path / "cpu.json")
    results.put_cell("a", result([1], [2]))
    results.put_cell("b", {"failed": "no compiler"})
    results.put_cell("a", {"failed": "no memory"})
    again = Results(tmp_path / "cpu.json")
    assert again.cells["a"]["theirs"]["ms"] == [2], "what was measured stays"
    assert again.cells["b"] == {"failed": "no compiler"}
    (tmp_path / "cpu.json").write_text("{")
    with pytest.raises(SystemExit, match="holds no results"):
        Results(tmp_path / "cpu.json")


def test_the_report():
    from benchmarks.report import report

    cells = {
        "train/alexnet/64/PyTorch, NCHW, stock": result([100, 110, 120], [330, 330, 330], agreement="They agree."),
        "train/alexnet/64/PyTorch, NCHW, tuned": result([100, 100, 100], [150, 150, 150], agreement="They agree."),
        "train/alexnet/64/PyTorch, channels_last, tuned": result([100, 100, 100], [210, 200, 200]),
        "train/alexnet/64/PyTorch, compiled, stock": result([1], [2]) | {"failed": "No compiler."},
        "infer/alexnet/1/OpenCV": result([2, 2, 2], [3, 3, 3]),
    }
    del cells["train/alexnet/64/PyTorch, compiled, stock"]["ours"]
    text = report(cells, ["## Growth"], "# Title", "python -m benchmarks")
    assert text.startswith("# Title\n\n- Machine: A machine; A system\n")
    for line in (
        "| AlexNet 64, training | the best eager mode, tuned (PyTorch, NCHW, tuned) | 2.00 | 1.50 | missed by 25% |",
        "| AlexNet 64, training | NCHW, stock (PyTorch, NCHW, stock) | 3.00 | 3.00 | yes |",
        "| AlexNet 64, training | peak memory | at most 1,500 MB | 1,600 MB | missed by 7% |",
        "| AlexNet 1, inference | the best (OpenCV) | 1.20 | 1.50 | yes |",
        "| LayerForge | 100 (100 to 100) | 640 | 1,600 | 0 |  |",
        "| PyTorch, NCHW, stock | 330 (330 to 330) | 194 | 2,000 | 7 | 3.00 times as fast |",
        "PyTorch, compiled, stock: No compiler.",
        "They agree.",
        "| OpenCV | 3.00 (3.00 to 3.00) | 333 | 2,000 | 7 | 1.50 times as fast |",
        "Outputs differ by at most 1e-06 of the largest.",
    ):
        assert line in text.splitlines(), line
    assert text.endswith("\n\n## Growth\n")


def test_the_line_through_costs():
    from benchmarks.growth import line

    assert line([1, 2, 4], [3, 5, 9]) == pytest.approx((1, 2, 0))
    assert line([1, 2, 4, 8], [3, 5, 9, 20])[2] > 0.05


def test_the_chapter_of_growth(tmp_path):
    from benchmarks.growth import chapter
    from benchmarks.results import Results

    results = Results(None)
    assert chapter(results, tmp_path) == ""
    points = [{"size": n, "layers": 9, "ms": 1 + 2.0 * n, "mb": 5.0 * n, "build": 0.1} for n in (1, 2, 4)]
    results.put("growth", {"commit": "abc", "threads": 2, "batch": points})
    lines = chapter(results, tmp_path).splitlines()
    assert "| 4 | 9.0 | 2.25 | 20 | 5.00 | 0.10 |" in lines
    assert "- a step: 1 ms and 2 ms for each image; the line misses no point by more than 0.0%: linear." in lines


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "googlenet", "resnet50", "vgg16", "lenet"])
def test_the_nets_as_plain_data(name):
    """Nothing is lost on the way to a rival: each layer that computes is there, in order."""
    from benchmarks import nets

    for made in (nets.in_memory(name, (1, *nets.NETS[name].shape), dropout=False), nets.deploy(name, 2)):
        layers = nets.plain(made)
        named = [layer["name"] for layer in layers] + [layer["scale"] for layer in layers if "scale" in layer]
        assert sorted(named) == sorted(layer.name for layer in made.layer if layer.type != "Input")
        for layer in layers:
            if layer["type"] in ("Convolution", "Pooling"):
                assert layer["kernel"] > 0


def test_lrn_without_k():
    """OpenCV takes k for 1: alpha and the next weights make up for it."""
    import layerforge as lf
    from benchmarks import layerforge_side

    text = """
    layer {{ name: "in" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 8 dim: 5 dim: 5 }} }} }}
    layer {{ name: "lrn" type: "LRN" bottom: "x" top: "y" lrn_param {{ local_size: 3 alpha: 0.3 {k} }} }}
    layer {{ name: "ip" type: "InnerProduct" bottom: "y" top: "z"
      inner_product_param {{ num_output: 3 weight_filler {{ type: "xavier" }} }} }}
    """
    from layerforge import schema

    definition = schema.parse(text.format(k="k: 2"), "NetParameter").message
    net = lf.Net(definition, lf.TEST, seed=1)
    x = np.random.default_rng(1).normal(size=(2, 8, 5, 5)).astype(np.float32)
    expected = net.forward(x=x)["z"].copy()
    layerforge_side.absorb_k(net)
    other = lf.Net(layerforge_side.without_k(definition), lf.TEST, seed=1)
    assert other.layers[1].options.k == 1
    for mine, theirs in zip(other.params["ip"], net.params["ip"], strict=True):
        mine.data[...] = theirs.data
    assert np.allclose(other.forward(x=x)["z"], expected, rtol=1e-5)


# benchmarks/gpu.py: a trial without a GPU.


@pytest.mark.parametrize("side", ["waiting", "layerforge", "peaks"])
def test_what_a_contestant_measures(side):
    from benchmarks import gpu

    job = {"device": "emulated", "net": "lenet", "batch": 2, "math": "tf32", "do": "train", "seconds": 0.01}
    found = gpu.SIDES[side](job)
    if side == "peaks":
        assert list(found) == ["copy GB/s", "SGEMM float32 TFLOP/s", "SGEMM tf32 TFLOP/s"]
        assert min(found.values()) > 0
        return
    assert found["seconds"] > 0
    if side == "waiting":
        assert 0 <= found["waiting"] < 1
        assert found["threads"] >= 1


def test_the_report_of_a_gpu(monkeypatch, capsys):
    from benchmarks import gpu

    asked = []

    def ask(clock, side, **job):
        asked.append((side, job.get("net"), job.get("math"), job.get("do"), job.get("form")))
        if side == "peaks":
            return {"copy GB/s": 4000.0}
        if side == "waiting":
            if job["math"] == "tf32":
                return {"failed": "no | left"}
            return {"seconds": 0.0125, "waiting": 0.0123, "threads": 16}
        if job["do"] == "layers":
            return {"layers": [("conv1", "Convolution", 0.5, 1.25)]}
        return {"seconds": 0.01, "bytes": 2**30}

    monkeypatch.setattr(gpu.Clock, "ask", ask)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "emulated", "--nets", "googlenet", "alexnet", "--out", "-"])
    gpu.main()
    lines = capsys.readouterr().out.splitlines()
    for line in (
        "- copy GB/s: 4,000.0",
        "Training from an LMDB of 1,024 raw records in the page cache.",
        "| alexnet | 256 | 256x256x3 | float32 | 20,480 | 1.2% | 16 |",
        "| alexnet | 256 | 256x256x3 | tf32 | no / left | | |",
        "| conv1 | Convolution | 0.500 | 1.250 |",
    ):
        assert line in lines, line
    assert sum(line.startswith("| googlenet | 256 | 25,600 (10.00 ms, 1.0 GiB) |") for line in lines) == 4
    assert asked[:3] == [
        ("peaks", None, None, None, None),
        ("waiting", "alexnet", "float32", None, None),
        ("waiting", "alexnet", "tf32", None, None),
    ]


def test_contestants_are_told_apart():
    """A process of its own for each, an answer or the reason why there is none, and nobody once the time is over."""
    from benchmarks import gpu

    job = {"device": "emulated", "net": "lenet", "batch": 2, "math": "float32", "seconds": 0.01}
    assert gpu.Clock(5).ask("waiting", **job)["seconds"] > 0
    failed = gpu.Clock(5).ask("waiting", **job | {"math": "bf16"})["failed"]
    assert 'unknown math_mode "bf16"' in failed
    assert gpu.Clock(0).ask("waiting", **job) == {"failed": "left out: the time was over"}
