"""The zoo in nets/: generated from its scripts, of the papers' shapes and sizes, told truly, and able to learn."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import layerforge as lf
from layerforge import schema
from layerforge.solver import Solver

ROOT = Path(__file__).resolve().parent.parent
NETS = ROOT / "nets"
GENERATE = NETS / "generate"

# (parameters, those among them that learn, multiply-adds of one item in the net for use)
SIZES = {
    "autoencoder": (2_837_314, 2_837_314, 2_833_000),
    "cifar10_full": (89_578, 89_578, 12_298_240),
    "cifar10_full_tanh": (89_578, 89_578, None),
    "cifar10_quick": (145_578, 145_578, 12_354_176),
    "cifar10_quick_tanh": (145_578, 145_578, None),
    "fcn8s": (134_368_799, 134_362_751, 180_992_697_408),
    "finetune": (56_909_194, 54_575_114, 720_351_776),
    "googlenet": (13_378_280, 13_378_280, 1_582_671_872),
    "logistic_regression": (10, 10, 8),
    "lstm": (81_674, 81_674, 2_237_696),
    "mobilenet": (4_253_891, 4_231_976, 568_740_352),
    "nin": (966_986, 966_986, 222_486_528),
    "nin_imagenet": (7_595_176, 7_595_176, 1_100_188_800),
    "resnet18": (11_699_132, 11_689_512, 1_814_073_344),
    "resnet50": (25_610_269, 25_557_096, 3_857_973_248),
    "resnet101": (44_654_608, 44_549_160, 7_570_194_432),
    "resnet152": (60_344_387, 60_192_808, 11_282_415_616),
    "resnet1001": (10_477_922, 10_327_706, None),
    "siamese": (431_102, 431_102, 2_293_020),
    "sppnet": (46_628_968, 46_628_968, 1_152_304_256),
    "squeezenet": (1_235_496, 1_235_496, 387_747_520),
    "vgg16": (138_357_544, 138_357_544, 15_470_264_320),
    "vgg19": (143_667_240, 143_667_240, 19_632_062_464),
    "zfnet": (62_357_608, 62_357_608, 1_168_032_896),
}
DEPLOYED = [name for name, sizes in SIZES.items() if sizes[2]]

# Blobs of the nets for use, without the batch, from the papers' tables and figures.
SHAPES = {
    "nin": {"conv1": (192, 32, 32), "pool1": (96, 16, 16), "pool2": (192, 8, 8), "cccp6": (10, 8, 8)},
    "nin_imagenet": {"conv1": (96, 54, 54), "pool0": (96, 27, 27), "pool3": (384, 6, 6), "cccp8-1024": (1000, 6, 6)},
    "zfnet": {"conv1": (96, 110, 110), "pool1": (96, 55, 55), "conv2": (256, 26, 26), "pool5": (256, 6, 6)},
    "sppnet": {"conv5": (256, 13, 13), "spp5": (256 * (16 + 4 + 1),)},
    "vgg16": {"conv1_2": (64, 224, 224), "pool3": (256, 28, 28), "pool5": (512, 7, 7), "fc8": (1000,)},
    "vgg19": {"conv3_4": (256, 56, 56), "conv5_4": (512, 14, 14), "pool5": (512, 7, 7)},
    "googlenet": {
        "conv1/7x7_s2": (64, 112, 112),
        "inception_3a/output": (256, 28, 28),
        "inception_3b/output": (480, 28, 28),
        "inception_4a/output": (512, 14, 14),
        "inception_4e/output": (832, 14, 14),
        "inception_5b/output": (1024, 7, 7),
        "pool5/7x7_s1": (1024, 1, 1),
    },
    "resnet18": {"conv1": (64, 112, 112), "res2b": (64, 56, 56), "res5b": (512, 7, 7), "pool5": (512, 1, 1)},
    "resnet50": {"res2c": (256, 56, 56), "res3d": (512, 28, 28), "res4f": (1024, 14, 14), "res5c": (2048, 7, 7)},
    "resnet101": {"res3b3": (512, 28, 28), "res4b22": (1024, 14, 14), "res5c": (2048, 7, 7)},
    "resnet152": {"res3b7": (512, 28, 28), "res4b35": (1024, 14, 14), "res5c": (2048, 7, 7)},
    "squeezenet": {"conv1": (64, 113, 113), "fire3/concat": (128, 56, 56), "fire9/concat": (512, 14, 14)},
    "mobilenet": {"conv1": (32, 112, 112), "conv4_2/sep": (512, 14, 14), "conv6/sep": (1024, 7, 7)},
    "fcn8s": {"fc6": (4096, 16, 16), "upscore2": (21, 34, 34), "upscore8": (21, 568, 568), "score": (21, 500, 500)},
    "autoencoder": {"encode4": (30,), "decode1": (784,)},
}

# Layers by which people's caffemodels find their way, and the shapes of their weights there.
NAMES = {
    "cifar10_quick": {"conv3": (64, 32, 5, 5), "ip1": (64, 1024), "ip2": (10, 64)},
    "siamese": {"conv1": (20, 1, 5, 5), "ip2": (10, 500), "feat": (2, 10)},
    "nin_imagenet": {"cccp1": (96, 96, 1, 1), "conv4-1024": (1024, 384, 3, 3), "cccp8-1024": (1000, 1024, 1, 1)},
    "vgg16": {"conv1_1": (64, 3, 3, 3), "conv5_3": (512, 512, 3, 3), "fc6": (4096, 25088)},
    "googlenet": {"inception_3a/5x5_reduce": (16, 192, 1, 1), "inception_5b/pool_proj": (128, 832, 1, 1)},
    "resnet50": {"bn_conv1": (64,), "res2a_branch1": (256, 64, 1, 1), "scale5c_branch2c": (2048,)},
    "resnet101": {"res4b22_branch2b": (256, 256, 3, 3), "bn3b3_branch2c": (512,)},
    "resnet152": {"res3b7_branch2a": (128, 512, 1, 1), "res4b35_branch2c": (1024, 256, 1, 1)},
    "squeezenet": {"fire2/squeeze1x1": (16, 64, 1, 1), "fire9/expand3x3": (256, 64, 3, 3), "conv10": (1000, 512, 1, 1)},
    "mobilenet": {"conv5_6/dw": (512, 1, 3, 3), "conv6/sep/bn": (1024,), "fc7": (1000, 1024, 1, 1)},
    "fcn8s": {"score_fr": (21, 4096, 1, 1), "upscore8": (21, 1, 16, 16), "fc6": (4096, 512, 7, 7)},
}


def read(name, kind="NetParameter"):
    """A file of the zoo, with sources that are drawn in a moment."""
    message = schema.read(NETS / f"{name}.prototxt", kind).message
    for layer in getattr(message, "layer", ()):
        if layer.type == "Data":
            layer.data_param.source += "&count=10"
    return message


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Layers as small as these are done sooner by one thread than by several that wait for each other."""
    threads = lf.kernels.get_threads()
    lf.kernels.set_threads(1)
    yield
    lf.kernels.set_threads(threads)


@pytest.fixture(scope="module")
def nets():
    """Nets by name and phase, each made once, without memory."""
    made = {}

    def net(name, phase=lf.TEST):
        if (name, phase) not in made:
            made[name, phase] = lf.Net(read(name), phase, allocate=False)
        return made[name, phase]

    yield net
    for net in made.values():
        net.close()


def learnt(net):
    return sum(parameter.count for parameter in net.owned if parameter.lr_mult)


def work(net):
    shapes = (([v.shape for v in node.bottom], [v.shape for v in node.top], node.layer) for node in net.nodes)
    return sum(layer.flops(bottoms, tops) for bottoms, tops, layer in shapes)


def test_every_net_is_held_to_its_sizes():
    others = {"alexnet", "alexnet_mini", "caffenet", "lenet"}
    stems = {path.stem.removesuffix("_train_val") for path in NETS.glob("*_train_val.prototxt")}
    assert stems == set(SIZES) | others
    assert {path.stem.removesuffix("_deploy") for path in NETS.glob("*_deploy.prototxt")} == set(DEPLOYED) | others


def test_files_are_those_that_the_scripts_write(tmp_path):
    path = os.pathsep.join(filter(None, [str(Path(lf.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(GENERATE), "--to", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    written = sorted(tmp_path.glob("*"))
    for path in written:
        assert path.read_text() == (NETS / path.name).read_text(), f"{path.name}: run `python nets/generate`"
    kept = {path.name for path in NETS.glob("*.prototxt") if not re.match("alexnet|caffenet|lenet", path.name)}
    assert {path.name for path in written} == kept


@pytest.fixture
def scripts(monkeypatch):
    """A module of nets/generate by name; none stays imported."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(GENERATE))
    yield __import__
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == GENERATE:
            del sys.modules[name]


def test_rows_are_those_that_the_script_writes(scripts, tmp_path):
    import h5py

    scripts("logistic_regression").write_rows(tmp_path)
    for split, rows in (("train", 2000), ("test", 500)):
        name = f"logistic_regression_{split}"
        assert (tmp_path / f"{name}.txt").read_text() == (NETS / f"{name}.txt").read_text() == f"{name}.hdf5\n"
        with h5py.File(tmp_path / f"{name}.hdf5") as made, h5py.File(NETS / f"{name}.hdf5") as kept:
            assert made["data"].shape == (rows, 4)
            for dataset in ("data", "label"):
                np.testing.assert_array_equal(made[dataset][()], kept[dataset][()])


def test_check_finds_no_mistakes(tmp_path):
    """``layerforge check`` on every file, beside the sources that are drawn in a moment."""
    folder = tmp_path / "nets"
    folder.mkdir()
    for path in NETS.iterdir():
        if path.suffix == ".prototxt":
            text = re.sub(r'(source: "sample://[^"]*)"', r'\1&count=10"', path.read_text())
            (folder / path.name).write_text(text)
        elif path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    files = sorted(f"nets/{path.name}" for path in folder.glob("*.prototxt"))
    path = os.pathsep.join(filter(None, [str(Path(lf.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "layerforge", "check", *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("nets/")]
    assert [line.split(": ")[0] for line in lines if line.endswith("no mistakes.")] == files, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("name", SIZES)
def test_train_val(nets, name):
    for phase in (lf.TRAIN, lf.TEST):
        net = nets(f"{name}_train_val", phase)
        assert sum(parameter.count for parameter in net.owned) == SIZES[name][0]
        assert learnt(net) == SIZES[name][1]
    losses = [blob for blob, weight in nets(f"{name}_train_val", lf.TRAIN).blob_loss_weights.items() if weight]
    assert losses == {
        "autoencoder": ["cross_entropy_loss"],
        "googlenet": ["loss1/loss1", "loss2/loss1", "loss3/loss3"],
    }.get(name, ["loss"])


@pytest.mark.parametrize("name", DEPLOYED)
def test_deploy(nets, name):
    """The net for use has the parameters of the one that is trained, and the work of the table."""
    used, trained = nets(f"{name}_deploy"), nets(f"{name}_train_val", lf.TRAIN)
    shapes = {layer: [tuple(blob.shape) for blob in blobs] for layer, blobs in trained.params.items()}
    for layer, blobs in used.params.items():
        assert [tuple(blob.shape) for blob in blobs] == shapes.pop(layer), layer
    rest = {
        "googlenet": lambda layer: layer.startswith(("loss1/", "loss2/")),
        "siamese": lambda layer: layer[-1] == "p",
    }
    assert all(rest[name](layer) for layer in shapes) if name in rest else not shapes
    items = used.blobs["rows" if name == "lstm" else "data"].shape[1 if name == "lstm" else 0]
    assert work(used) == SIZES[name][2] * items


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(nets, name):
    blobs = nets(f"{name}_deploy").blobs
    assert {blob: tuple(blobs[blob].shape)[1:] for blob in SHAPES[name]} == SHAPES[name]


@pytest.mark.parametrize("name", NAMES)
def test_names(nets, name):
    params = nets(f"{name}_deploy").params
    assert {layer: tuple(params[layer][0].shape) for layer in NAMES[name]} == NAMES[name]


def test_googlenet_deploy_is_half_of_it(nets):
    assert sum(parameter.count for parameter in nets("googlenet_deploy").owned) == 6_998_552


def test_resnet_depths(nets):
    """As the authors count: convolutions and fully connected layers, shortcuts aside."""
    for depth in (18, 50, 101, 152, 1001):
        layers = nets(f"resnet{depth}_train_val", lf.TRAIN).layers
        counted = [
            layer
            for layer in layers
            if layer.type in ("Convolution", "InnerProduct") and not layer.name.endswith("branch1")
        ]
        assert len(counted) == depth


@pytest.mark.parametrize("path", sorted(NETS.glob("*_train_val.prototxt")), ids=lambda path: path.stem)
def test_comments_tell_the_sizes(path):
    """Where a comment on top counts parameters, it counts them right."""
    name = path.stem.removesuffix("_train_val")
    if name not in SIZES:
        return
    head = path.read_text().split("\nname:")[0].replace("\n# ", " ")
    (told,) = re.findall(r"([\d,]+) parameters", head)
    assert int(told.replace(",", "")) in SIZES[name][:2]
    for number, unit in re.findall(r"([\d.]+) (million|billion) multiply-adds", head):
        scale = {"million": 1e6, "billion": 1e9}[unit]
        actual = SIZES[name][2] or SIZES.get(name.removesuffix("_tanh"))[2] or 1_487_849_984
        assert abs(float(number) * scale - actual) <= scale * 0.5 * 10 ** -len(number.partition(".")[2])


def test_the_page_tells_the_sizes():
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (ROOT / "docs" / "zoo.md").read_text().splitlines()
        if line.startswith("| [")
    ]
    told = {re.match(r"\[(\w+)\]", row[0])[1]: row for row in rows}
    assert set(told) == set(SIZES)
    for name, row in told.items():
        assert int(row[2].replace(",", "")) == SIZES[name][1], name
        if SIZES[name][2]:
            number, unit = re.match(r"([\d.,]+)(?: (million|billion))?", row[3]).groups()
            scale = {None: 1, "million": 1e6, "billion": 1e9}[unit]
            assert abs(float(number.replace(",", "")) * scale - SIZES[name][2]) <= 0.05 * scale, name
        assert (NETS / re.search(r"\(\.\./nets/(.*?)\)", row[0])[1]).is_file()


# What is particular about a net.


def test_siamese_branches_are_one(nets):
    net = nets("siamese_train_val", lf.TRAIN)
    for layer, blobs in net.params.items():
        assert all((blob.owner is not None) == layer.endswith("_p") for blob in blobs), layer


def test_fcn8s_is_aligned_and_enlarges_bilinearly(nets):
    layers = {layer.name: layer for layer in read("fcn8s_deploy").layer}
    offsets = {name: list(layers[name].crop_param.offset) for name in ("score_pool4c", "score_pool3c", "score")}
    assert offsets == {"score_pool4c": [5], "score_pool3c": [9], "score": [31]}  # those of the authors' model
    for layer in read("fcn8s_train_val").layer:
        if layer.type == "Deconvolution":
            options = layer.convolution_param
            assert (options.weight_filler.type, options.group, options.bias_term) == ("bilinear", 21, False)
            assert [param.lr_mult for param in layer.param] == [0]


def until(name, last):
    """What a net reads, run once in TRAIN, down to a layer: the arrays of its blobs."""
    message = read(f"{name}_train_val")
    names = [layer.name for layer in message.layer]
    net = lf.Net(schema.message("NetParameter")(layer=message.layer[: names.index(last) + 1]), lf.TRAIN, seed=1)
    net.forward()
    blobs = {blob: np.array(net.blobs[blob].data) for blob in net.blobs}
    net.close()
    return blobs


def test_siamese_makes_pairs():
    blobs = until("siamese", "sim")
    np.testing.assert_array_equal(blobs["sim"], blobs["label"] == blobs["label_p"])
    assert 0 < blobs["sim"].sum() < len(blobs["sim"])


def test_fcn8s_labels_ink_by_its_digit():
    blobs = until("fcn8s", "label")
    ink = blobs["digit"][0, 0] > 0
    np.testing.assert_array_equal(blobs["label"][0, 0], ink * (blobs["number"][0] + 1))
    assert 0.01 < ink.mean() < 0.5
    assert blobs["data"].shape == (1, 3, 160, 160)


def test_lstm_reads_rows():
    blobs = until("lstm", "cont")
    np.testing.assert_array_equal(blobs["rows"], blobs["data"][:, 0].transpose(1, 0, 2))
    assert not blobs["cont"][0].any() and blobs["cont"][1:].all()


def test_finetune_is_alexnet_but_for_its_end(nets):
    net = nets("finetune_train_val", lf.TRAIN)
    alexnet = nets("alexnet_train_val", lf.TRAIN)
    shapes = {layer: [tuple(blob.shape) for blob in blobs] for layer, blobs in net.params.items()}
    assert shapes.pop("fc8_shapes") == [(10, 4096), (10,)]
    assert shapes == {
        layer: [tuple(blob.shape) for blob in blobs] for layer, blobs in alexnet.params.items() if layer != "fc8"
    }
    rates = {layer: [blob.lr_mult for blob in blobs] for layer, blobs in net.params.items()}
    assert {layer for layer, mults in rates.items() if mults == [0, 0]} == {f"conv{i}" for i in range(1, 6)}
    assert (rates["fc7"], rates["fc8_shapes"]) == ([1, 2], [10, 20])
    backward = [node.layer.name for node in net.nodes if node.runs_backward]
    assert "conv5" not in backward and "fc6" in backward, "nothing is computed backward below fc6"


def test_googlenet_weighs_its_sides(nets):
    weights = nets("googlenet_train_val", lf.TRAIN).blob_loss_weights
    assert [weights[blob] for blob in ("loss1/loss1", "loss2/loss1", "loss3/loss3")] == pytest.approx([0.3, 0.3, 1])


def test_mobilenet_is_depthwise(nets):
    for layer in read("mobilenet_deploy").layer:
        if layer.type == "Convolution" and layer.name.endswith("/dw"):
            assert layer.convolution_param.group == layer.convolution_param.num_output


# Learning.


def train(net, solver, iterations, **fields):
    """The losses of a few iterations of a solver on its net, from few images and in small batches."""
    param = read(f"{solver}_solver", "SolverParameter")
    for field in ("net", "test_iter", "test_interval", "test_state", "test_initialization", "iter_size"):
        param.ClearField(field)
    param.net_param.CopyFrom(net)
    param.display = param.snapshot = 0
    for field, value in fields.items():
        setattr(param, field, value)
    run = Solver(param)
    losses = []
    for _ in range(iterations):
        run.step(1)
        losses.append(run.loss)
    run.close()
    return np.array(losses)


def small(name, batch, crop=0):
    net = read(f"{name}_train_val")
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.batch_size = batch
            if crop:
                layer.transform_param.crop_size = crop
    return net


@pytest.mark.parametrize(
    "name, solver, iterations, fall",
    [
        ("autoencoder", "autoencoder", 8, 0.7),
        ("cifar10_full", "cifar10_full", 12, 0.999),
        ("cifar10_full_tanh", "cifar10_full_tanh", 12, 0.99),
        ("cifar10_full", "cifar10_figure1_relu", 12, 0.999),
        ("cifar10_full_tanh", "cifar10_figure1_tanh", 12, 0.99),
        ("cifar10_quick", "cifar10_quick", 12, 0.9),
        ("cifar10_quick_tanh", "cifar10_quick_tanh", 12, 0.9),
        ("lstm", "lstm", 10, 0.95),
        ("nin", "nin", 8, 0.9995),
        ("siamese", "siamese", 12, 0.7),
    ],
)
def test_loss_falls(name, solver, iterations, fall):
    """On ten images, all of them in each batch."""
    losses = train(small(name, 50 if name == "lstm" else 10), solver, iterations)
    assert losses[-3:].mean() < fall * losses[0], losses


@pytest.mark.parametrize(
    "name, iterations, fall, base_lr", [("mobilenet", 5, 0.8, 0.045), ("squeezenet", 9, 0.98, 0.01)]
)
def test_loss_falls_on_images_of_32(name, iterations, fall, base_lr):
    """Nets that end in global pooling take any size. SqueezeNet's rate is for batches of 512, so here it is lower."""
    losses = train(small(name, 10, crop=32), name, iterations, base_lr=base_lr)
    assert losses[-3:].mean() < fall * losses[0], losses


def test_fcn8s_learns_when_narrow():
    net = read("fcn8s_train_val")
    for layer in net.layer:
        if layer.name.startswith(("conv", "fc")):
            layer.convolution_param.num_output //= 16
    losses = train(net, "fcn8s", 6, base_lr=1e-6, momentum=0.9)
    assert losses[0] == pytest.approx(160 * 160 * np.log(21), rel=1e-4), "no class is likelier than another"
    assert losses[-1] < 0.8 * losses[0], losses


def test_logistic_regression_reaches_the_best_there_is():
    param = read("logistic_regression_solver", "SolverParameter")
    param.display = param.snapshot = 0
    param.test_interval = 400
    param.ClearField("net")
    param.net_param.CopyFrom(read("logistic_regression_train_val"))
    param.max_iter = 400
    solver = Solver(param)
    solver.solve()
    assert 0.78 <= solver.scores["accuracy"] <= 0.85
    solver.close()


@pytest.mark.parametrize("depth", [50, 1001])
def test_residual_bodies_learn(scripts, depth):
    """The bodies of the residual nets with one unit a stage, on images of 32x32."""
    from layerforge.net_spec import L, NetSpec

    resnet = scripts("resnet")
    n = NetSpec()
    n.data, n.label = L.Data(ntop=2, source="sample://shapes?split=train&size=32&count=10", batch_size=10, backend=1)
    n.scaled = L.Power(n.data, shift=-118, scale=1 / 64)
    last = n.scaled
    if depth == 1001:
        n.data = n.scaled
        resnet.body1001(n, units=1)
    else:
        for stage in (2, 3):
            last = resnet.unit(n, f"{stage}a", last, 8, 2, bottleneck=True, project=True)
        n.fc = L.InnerProduct(last, num_output=10, weight_filler={"type": "xavier"})
    n.loss = L.SoftmaxWithLoss(n.fc10 if depth == 1001 else n.fc, n.label)
    losses = train(n.to_proto(), "resnet50", 12, base_lr=0.02)
    assert losses[-3:].mean() < 0.9 * losses[0], losses
