"""What benchmarks/ writes, and how it goes on. Nothing here depends on how fast a machine is."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

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


def test_figures_are_medians_of_chunks():
    """Of about 50 ms each; nobody looks at the clock between them."""
    from benchmarks.gpu_sides import Stopwatch

    now, log = 0.0, []

    def steps(number):
        nonlocal now
        log.append(number)
        now += number * (2**-10 if len(log) < 7 else 2**-9)  # seconds

    def between(first, second):
        log.append("looks")
        return second - first

    found = Stopwatch(lambda: now, between).measure(steps, 0.2)
    assert log == [1, "looks", 10, "looks", 41, "looks", *[41] * 5, *["looks"] * 5]
    assert found == {"seconds": 2**-9, "low": 2**-9, "high": 2**-9, "steps": 41, "chunks": 5}
    times = iter([0, 1, 1, 2, 4, 5, 8, 8.5])
    found = Stopwatch(lambda: next(times), lambda first, second: second - first).measure(lambda number: None, 0.1)
    assert found == {"seconds": 1.0, "low": 1.0, "high": 2.0, "steps": 1, "chunks": 5}


def tried(side, *jobs):
    """What a contestant tells in this process of jobs on LeNet."""
    from benchmarks import gpu_sides

    told = []
    given = [{"net": "lenet", "batch": 2, "math": "tf32", "form": "eager", **job} for job in jobs]
    task = {"side": side, "device": "emulated", "seconds": 0.001, "until": 1e12, "jobs": given}
    gpu_sides.work(task, lambda result: told.append(json.loads(json.dumps(result))))
    return told


def test_what_layerforge_measures():
    jobs = [{"do": do} for do in ("versions", "peaks", "train", "infer", "layers", "waiting")]
    versions, peaks, *timed, layers, waiting = tried("layerforge", *jobs)
    assert versions["title"] == "emulated" and "LayerForge" in versions["versions"]
    assert list(peaks["peaks"]) == ["copy GB/s", "SGEMM float32 TFLOP/s", "SGEMM tf32 TFLOP/s"]
    assert min(peaks["peaks"].values()) > 0
    for found in timed:
        assert 0 < found["low"] <= found["seconds"] <= found["high"]
        assert found["reserved"] > 0 and found["records"] == 1
    assert [row[:2] for row in layers["layers"]][1] == ["conv1", "Convolution"]
    assert waiting["seconds"] > 0 and 0 <= waiting["waiting"] < 1 and waiting["threads"] >= 1
    (launched,) = tried("layerforge", {"do": "train", "form": "launched"})
    assert launched["records"] == 0


def test_what_pytorch_measures():
    pytest.importorskip("torch")
    jobs = [{"do": "versions"}, {"do": "train"}, {"do": "infer", "form": "channels_last"}]
    versions, *timed = tried("torch", *jobs)
    assert set(versions["versions"]) >= {"PyTorch", "CUDA of PyTorch"}
    for found in timed:
        assert 0 < found["low"] <= found["seconds"] <= found["high"]


def test_what_pytorch_takes_the_time_by(monkeypatch):
    """Events, of which the second alone is waited for."""
    torch = pytest.importorskip("torch")
    from benchmarks import gpu_sides

    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("wait")

        def elapsed_time(self, other):
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    side = gpu_sides.Torch("cpu", 1.0)
    first, second = side.moment(), side.moment()
    assert log == ["record", "record"]
    assert side.between(first, second) == 1.5
    assert log[2:] == ["wait"]


def test_the_cublas_that_pytorch_has(monkeypatch):
    from benchmarks import gpu_sides

    class Library:
        def cublasGetProperty(self, which, value):
            value._obj.value = (12, 8, 4)[which]

    def load(name, mode):
        if name != "libcublas.so.12":
            raise OSError
        return Library()

    monkeypatch.setattr(gpu_sides.ctypes, "CDLL", load)
    assert gpu_sides.loaded_cublas() == "12.8.4"
    monkeypatch.setattr(gpu_sides.ctypes, "CDLL", lambda name, mode: load("", mode))
    assert gpu_sides.loaded_cublas() == "not found"


def test_a_job_that_fails_is_the_last(monkeypatch):
    train = {"do": "train"}
    first, second = tried("layerforge", train, train | {"math": "bf16"}, train)
    assert first["seconds"] > 0
    assert 'unknown math_mode "bf16"' in second["failed"]
    monkeypatch.setitem(sys.modules, "torch", None)
    told = tried("torch", train, train)
    assert [each["failed"][:44] for each in told] == ["ModuleNotFoundError: import of torch halted;"] * 2


def test_how_failures_are_told():
    from benchmarks.gpu_sides import failure

    assert failure(RuntimeError("CUDA out of memory.\nTried")) == "out of memory: CUDA out of memory."
    assert failure(ValueError("no\nway")) == "ValueError: no"


def test_contestants_are_told_apart(monkeypatch):
    """A process for all jobs, another behind a failure, an answer or a reason for each, and nobody at the end."""
    from benchmarks import gpu

    job = {"do": "train", "form": "replayed", "net": "lenet", "batch": 2, "math": "float32"}
    common = {"device": "emulated", "seconds": 0.001}
    found = gpu.Clock(5).ask("layerforge", common, [job, job | {"do": "nothing"}, job])
    assert ["failed" in each for each in found] == [False, True, False]
    assert "'LayerForge' object has no attribute 'nothing'" in found[1]["failed"]
    over = {"failed": "left out: the time was over"}
    assert gpu.Clock(0).ask("layerforge", common, [job, job]) == [over, over]
    late = gpu.Clock(0.6 / 60).ask("layerforge", common | {"seconds": 60}, [job, job])
    assert len(late) == 2 and all("the time was over" in each["failed"] for each in late)


@pytest.mark.parametrize("words, failed", [("", "it ended without a word (status -9)"), ("a\nb\n", "b")])
def test_a_process_that_dies(monkeypatch, tmp_path, words, failed):
    """What it has told before counts."""
    from benchmarks import gpu

    script = tmp_path / "dies"
    script.write_text(f"#!/bin/sh\necho '{{\"seconds\": 1}}'\nprintf '{words}' >&2\nprintf '{{\"sec'\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert gpu.Clock._process("layerforge", {}, [{}] * 3, 60) == [{"seconds": 1}, {"failed": failed}]


def test_the_order_of_a_gpu_s_jobs(monkeypatch):
    """A process for each line: what matters most first, compiled PyTorch last, and nothing twice."""
    from benchmarks import gpu

    args = SimpleNamespace(nets=["alexnet", "lenet"], batch=None, math=["float32", "tf32"])
    lines = gpu.plan(args)
    assert [(keys[0][0], keys[0][1], keys[0][2], len(keys)) for _, keys in lines] == [
        ("LayerForge", "train", "alexnet", 6),
        ("PyTorch, eager", "train", "alexnet", 12),
        ("LayerForge", "train", "lenet", 6),
        ("PyTorch, eager", "train", "lenet", 12),
        ("LayerForge", "waiting", "alexnet", 2),
        ("LayerForge", "waiting", "lenet", 2),
        ("LayerForge", "layers", "alexnet", 4),
        ("LayerForge", "layers", "lenet", 4),
        ("PyTorch, compiled", "train", "alexnet", 2),
        ("PyTorch, compiled", "train", "lenet", 2),
        ("PyTorch, compiled", "infer", "alexnet", 4),
        ("PyTorch, compiled", "infer", "lenet", 4),
    ]
    keys = [key for _, keys in lines for key in keys]
    assert len(set(keys)) == len(keys)
    assert gpu.job_of(("PyTorch, channels_last", "infer", "lenet", 64, "tf32")) == {
        "do": "infer", "form": "channels_last", "net": "lenet", "batch": 64, "math": "tf32"
    }  # fmt: skip


def answer(side, job):
    """What contestants say of a GPU."""
    if job["do"] == "versions":
        return {"title": "NVIDIA Z1", "versions": {"library of": side, "cuDNN": "9.28.0"}}
    if job["do"] == "peaks":
        return {"peaks": {"copy GB/s": 4000.0}}
    if job["do"] == "waiting":
        if job["math"] == "tf32":
            return {"failed": "no | left"}
        return {"seconds": 0.0125, "waiting": 0.0123, "threads": 16}
    if job["do"] == "layers":
        return {"layers": [("conv1", "Convolution", 0.5, 1.25)]}
    ms = {"replayed": 10, "launched": 20, "eager": 16, "channels_last": 14, "compiled": 15, "plain": 16}
    ms = ms.get(job["form"], 10)
    if job["form"] == "compiled":
        if job["math"] == "tf32":
            return {"failed": "left out: the time was over"}
        if job["do"] == "infer":
            return {"failed": "out of memory: CUDA out of memory. It wants"}
    gib = {"eager": 3, "channels_last": 2}.get(job["form"], 2.5)
    memory = {"reserved": int(gib * 2**30), "allocated": 2**30, "ready": ms / 5, "records": 1}
    return {"seconds": ms / 1e3, "low": ms / 1e3, "high": ms / 500, **memory}


def test_the_report_of_a_gpu(monkeypatch, capsys):
    from benchmarks import gpu

    asked = []
    monkeypatch.setattr(
        gpu.Clock, "ask", lambda clock, side, common, jobs: asked.append(common) or [answer(side, job) for job in jobs]
    )
    monkeypatch.setattr(sys, "argv", ["gpu", "--nets", "googlenet", "alexnet", "--out", "-"])
    gpu.main()
    assert asked[0] == {"device": "gpu", "seconds": 1.0}
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "# NVIDIA Z1"
    assert "Command: `python -m benchmarks.gpu --nets googlenet alexnet --out -`, which took 0.0 minutes" in lines
    rates = [f"{25600 / n:,.0f} ({10 * n:.3g} ms, {10 * n:.3g} to {20 * n:.3g})" for n in (1, 1.6, 1.4, 1.5, 2)]
    best = "PyTorch's best | 1.40 x PyTorch, channels_last"
    for line in (
        "Times are taken by CUDA events, over chunks of steps. Speed is that of the median; the milliseconds of a step",
        "- LayerForge's side: library of layerforge, cuDNN 9.28.0",
        "- PyTorch's side: library of torch, cuDNN 9.28.0",
        "- copy GB/s: 4,000.0",
        f"| AlexNet, training, batch 256, float32: at least 1.3 x {best} | reached |",
        f"| AlexNet, training, batch 256, tf32: at least 1.8 x {best} | missed |",
        f"| GoogLeNet, training, batch 256, tf32: at least 1.0 x {best} | reached, but without PyTorch, compiled |",
        "| LeNet, training, batch 64, float32: at least 5.0 x PyTorch, eager |  | not measured |",
        "| AlexNet, training, batch 256, float32: no more memory than PyTorch"
        " | 2.50 GiB, PyTorch, channels_last 2.00 GiB (reserved) | missed |",
        "| AlexNet, float32: waits for data less than 5% of the time | 1.2% | reached |",
        "| AlexNet, tf32: waits for data less than 5% of the time |  | not measured |",
        f"| googlenet | 256 | {' | '.join(rates[:4])} | 1.40 |",
        f"| googlenet | 256 | {' | '.join(rates[:3])} | left out: the time was over | 1.40 |",
        f"| alexnet | 256 | {' | '.join(rates[:3])} | out of memory | 1.40 |",
        "- PyTorch, compiled, alexnet 1, float32: out of memory: CUDA out of memory. It wants",
        "| training | alexnet | 256 | tf32 | 2.50 (1.00) | 3.00 (1.00) | 2.00 (1.00) |  |",
        f"| alexnet | 256 | tf32 | {rates[0]} | {rates[4]} | {rates[1]} | 1 |",
        f"| alexnet | 256 | float32 | {rates[0]} | {rates[4]} |  | 1 |",
        "| PyTorch, eager | train googlenet 256, float32 | 3.2 |",
        "Training from an LMDB of 1,024 raw records in the page cache.",
        "| alexnet | 256 | 256x256x3 | float32 | 20,480 | 1.2% | 16 |",
        "| alexnet | 256 | 256x256x3 | tf32 | failed, see below |  |  |",
        "- LayerForge, alexnet 256, tf32: no | left",
        "| conv1 | Convolution | 0.500 | 1.250 |",
    ):
        assert line in lines, line


def test_a_trial_claims_nothing(monkeypatch, capsys, tmp_path):
    from benchmarks import gpu

    monkeypatch.setattr(gpu.Clock, "ask", lambda clock, side, common, jobs: [answer(side, job) for job in jobs])
    path = tmp_path / "folder" / "page.md"
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "emulated", "--out", str(path)])
    gpu.main()
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text()
    assert "For an H200: not here." in text and "| reached" not in text and "| missed" not in text
    assert text.count("| not measured |") == 8 + 8 + 4
    monkeypatch.setattr(gpu.Clock, "ask", lambda clock, side, common, jobs: [{"failed": "no GPU"}] * len(jobs))
    with pytest.raises(SystemExit, match="no GPU"):
        gpu.main()


def test_numbers():
    from benchmarks.gpu_report import number

    assert [number(each) for each in (0.01234, 12.34, 999.4, 999.6, 12345.6)] == [
        "0.0123",
        "12.3",
        "999",
        "1,000",
        "12,346",
    ]


def test_the_card(monkeypatch):
    from benchmarks import gpu_report

    told = "NVIDIA H200, 580.95.05, 143771 MiB, 700.00 W, 1980 MHz\n"
    monkeypatch.setattr(gpu_report.subprocess, "run", lambda *given, **options: SimpleNamespace(stdout=told))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_report.card() == (
        "NVIDIA H200, driver 580.95.05, memory.total 143771 MiB, power.limit 700.00 W, clocks.max.sm 1980 MHz"
    )
