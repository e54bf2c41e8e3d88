"""The solver: which nets, in what order, when it tests, displays and snapshots, and what it refuses."""

import logging
import re
import resource
import tracemalloc

import numpy as np
import pytest

import layerforge as lf
from layerforge import forks, layer, schema
from layerforge.errors import DefinitionError, NotFiniteError, ShapeError, SnapshotError
from layerforge.layer import TEST, TRAIN, Layer
from layerforge.solver import SNAPSHOT, STOP, Solver, check, net_definition, net_plans
from layerforge.testing import assert_close

# Four values of which the mean is wanted: the loss falls, whatever is drawn.
NET = """name: "mean"
layer { name: "in" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 8 dim: 3 } shape { dim: 8 dim: 2 } data_filler { type: "gaussian" std: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
        inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "error" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "error" include { phase: TEST } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "loss" include { phase: TRAIN } }
"""
BASE = 'net: "net.prototxt" base_lr: 0.1 max_iter: 4 random_seed: 1 snapshot_after_train: false\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a net in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


def definition(text):
    return schema.parse(text, "SolverParameter", "solver.prototxt")


def solver(text="", **options):
    return Solver(definition(BASE + text), **options)


def log_of(run, caplog):
    """The lines that a run logs, seconds and speeds as dots."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    run()
    return [re.sub(r"\(\S+ iter/s, \S+s/", "(. iter/s, .s/", line) for line in caplog.messages]


def weights(made):
    return [parameter.data.copy() for parameter in made.net.owned]


# A whole run.


def test_the_log_of_a_run(folder, caplog):
    made = solver("display: 2 test_iter: 3 test_interval: 2 lr_policy: 'fixed'")
    lines = log_of(made.solve, caplog)
    assert [re.sub(r"= [-\d.e]+( |$)", r"= .\1", line) for line in lines] == [
        "Solving mean",
        "Learning Rate Policy: fixed",
        "Iteration 0, Testing net (#0)",
        "    Test net output #0: error = . (* 1 = . loss)",
        "Iteration 0 (. iter/s, .s/2 iters), loss = .",
        "    Train net output #0: loss = . (* 1 = . loss)",
        "Iteration 0, lr = .",
        "Iteration 2, Testing net (#0)",
        "    Test net output #0: error = . (* 1 = . loss)",
        "Iteration 2 (. iter/s, .s/2 iters), loss = .",
        "    Train net output #0: loss = . (* 1 = . loss)",
        "Iteration 2, lr = .",
        "Iteration 4, loss = .",
        "Iteration 4, Testing net (#0)",
        "    Test net output #0: error = . (* 1 = . loss)",
        "Optimization Done.",
    ]
    assert made.iter == 4


def test_figures_in_the_log(folder, caplog):
    made = solver(
        "display: 1 test_iter: 1 test_interval: 1 test_compute_loss: true lr_policy: 'step' gamma: 0.1 stepsize: 1"
    )
    lines = log_of(lambda: made.step(2), caplog)
    loss = f"{made.loss:.6g}"
    assert f"Iteration 1 (. iter/s, .s/1 iters), loss = {loss}" in lines
    assert f"    Train net output #0: loss = {loss} (* 1 = {loss} loss)" in lines
    assert [line for line in lines if "lr" in line] == ["Iteration 0, lr = 0.1", "Iteration 1, lr = 0.01"]
    error = f"{made.scores['error']:.6g}"
    assert f"Test loss: {error}" in lines
    assert f"    Test net output #0: error = {error} (* 1 = {error} loss)" in lines


@pytest.mark.parametrize(
    "text, tests",
    [
        ("test_iter: 1 test_interval: 2", [0, 2, 4]),
        ("test_iter: 1 test_interval: 2 test_initialization: false", [2, 4]),
        ("test_iter: 1 test_interval: 3", [0, 3]),
        ("test_iter: 1 test_iter: 2 test_interval: 4", [0, 0, 4, 4]),
        ("", []),
    ],
)
def test_when_it_tests(folder, caplog, text, tests):
    lines = log_of(solver(text).solve, caplog)
    assert [int(line.split()[1][:-1]) for line in lines if "Testing" in line] == tests


def test_test_last(folder, caplog):
    made = solver("test_iter: 1 test_interval: 3")
    made.test_last = True
    assert "Iteration 4, Testing net (#0)" in log_of(made.solve, caplog)


def test_no_batches_no_result(folder, caplog):
    made = solver("test_iter: 0 test_interval: 1 test_compute_loss: true")
    assert log_of(lambda: made.step(1), caplog) == ["Iteration 0, Testing net (#0)"]


def test_end_stops_a_recipe_early(folder):
    made = solver("lr_policy: 'poly' power: 1")
    made.solve(end=1)
    assert made.iter == 1
    assert made.lr == pytest.approx(0.1 * 3 / 4)


def test_steps_add_up_to_a_run(folder):
    one, other = solver("momentum: 0.9"), solver("momentum: 0.9")
    one.solve()
    for n in (1, 2, 1):
        other.step(n)
    assert one.iter == other.iter == 4
    for a, b in zip(weights(one), weights(other), strict=True):
        assert np.array_equal(a, b)


def test_the_loss_is_averaged(folder):
    made = solver("average_loss: 3")
    losses = []
    made.observers.append(
        type("", (), {"iterated": lambda self, one: losses.append(float(one.net.blobs["loss"].data))})()
    )
    smooth = []
    for _ in range(4):
        made.step(1)
        smooth.append(made.loss)
    expected = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(4)]
    assert smooth == pytest.approx(expected, rel=1e-6)


def test_iter_size_is_a_larger_batch(folder):
    shapes = "input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 2 } }"
    text = f'layer {{ name: "in" type: "Input" top: "x" top: "t" {shapes} }}' + NET[NET.index('layer { name: "ip"') :]
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    results = []
    for size, iter_size in ((8, 1), (4, 2)):
        (folder / "net.prototxt").write_text(text.replace("dim: 4", f"dim: {size}"))
        made = solver(f"iter_size: {iter_size} momentum: 0.9 weight_decay: 0.1 clip_gradients: 100")
        passes = iter(range(100))

        def feed(i, made=made, passes=passes, size=size):
            if i == 0:
                start = next(passes) * size % 8
                made.net.blobs["x"].data[...] = x[start : start + size]
                made.net.blobs["t"].data[...] = t[start : start + size]

        made.net.before_forward(feed)
        made.step(3)
        results.append((made.loss, weights(made)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert_close(a, b, 1e-5)


@pytest.mark.parametrize("iter_size", [1, 2])
def test_clip_gradients_bounds_the_norm_of_the_sums(folder, caplog, iter_size):
    made = solver(f"clip_gradients: 0.5 iter_size: {iter_size}")
    before = weights(made)
    norms = []
    made.add_callback(lambda: None, lambda: norms.append(made.rule.norm()))
    (line,) = log_of(lambda: made.step(1), caplog)
    assert norms[0] > 0.5
    assert line == (
        f"Gradient clipping: scaling down gradients (L2 norm {norms[0]:.6g} > 0.5) by scale factor {0.5 / norms[0]:.6g}"
    )
    moved = np.sqrt(sum(np.square(a - b).sum() for a, b in zip(weights(made), before, strict=True)))
    assert moved == pytest.approx(0.1 * 0.5 / iter_size, rel=1e-5)


def test_gradients_below_the_limit_are_left_alone(folder, caplog):
    made, other = solver("clip_gradients: 1000"), solver()
    assert log_of(lambda: made.step(2), caplog) == []
    other.step(2)
    for a, b in zip(weights(made), weights(other), strict=True):
        assert np.array_equal(a, b)


def test_debug_info(folder, caplog):
    made = solver("display: 2 debug_info: true test_iter: 1 test_interval: 2")
    before = made.net.params["ip"][0].data.copy()
    lines = log_of(lambda: made.step(1), caplog)
    after = made.net.params["ip"][0].data
    kinds = [re.match(r"    \[(\w+)\] (Layer \w+|All)", line) for line in lines]
    assert [match[1] + " " + match[2] for match in kinds if match] == [
        *["Forward Layer in"] * 2,
        *["Forward Layer ip"] * 3,
        "Forward Layer error",
        *["Forward Layer in"] * 2,
        *["Forward Layer ip"] * 3,
        "Forward Layer loss",
        "Backward Layer loss",
        *["Backward Layer ip"] * 2,
        "Backward All",
        *["Update Layer ip"] * 2,
    ], "the test net's forward, then the train net's"
    update = (
        f"    [Update] Layer ip, param 0 data: {np.abs(before).mean(dtype=float):.6g};"
        f" diff: {np.abs(before - after).mean(dtype=float):.6g}"
    )
    assert update in lines
    assert log_of(lambda: made.step(1), caplog) == [], "only where it displays"


# Which nets.


def test_test_nets_have_no_parameters_of_their_own(folder):
    made = solver("test_iter: 1 test_iter: 1 test_interval: 1")
    for net in made.test_nets:
        assert net.memory_bytes()["parameters"] == 0
        for mine, theirs in zip(net.owned, made.net.owned, strict=True):
            assert np.shares_memory(mine.data, theirs.data)
    assert len({made.net.seed, *(net.seed for net in made.test_nets)}) == 3


def net_text(name):
    return f'name: "{name}" ' + NET.split("\n", 1)[1]


@pytest.mark.parametrize(
    "text, names",
    [
        ('net: "a"', ["a"]),
        ('train_net: "a"', ["a"]),
        ("net_param { A }", ["a"]),
        ("train_net_param { A }", ["a"]),
        ('net: "a" test_iter: 1 test_iter: 1', ["a", "a", "a"]),
        ('train_net: "a" test_net: "b" test_net: "c" test_iter: 1 test_iter: 1', ["a", "b", "c"]),
        ('train_net: "a" test_net: "b" test_net_param { C } test_iter: 1 test_iter: 1', ["a", "c", "b"]),
        ('net: "a" test_net: "b" test_net_param { C } test_iter: 1 test_iter: 1 test_iter: 1', ["a", "c", "b", "a"]),
        ("net_param { A } test_net_param { C } test_iter: 1 test_iter: 1", ["a", "c", "a"]),
    ],
)
def test_which_nets(folder, text, names):
    for name in "abc":
        (folder / name).write_text(net_text(name))
        text = text.replace(f"{{ {name.upper()} }}", f"{{ {net_text(name)} }}")
    made = Solver(definition(f"base_lr: 1 test_interval: 1 {text}"))
    assert [net.name for net in (made.net, *made.test_nets)] == names
    assert [net.phase for net in (made.net, *made.test_nets)] == [TRAIN] + [TEST] * (len(names) - 1)


def test_nets_are_looked_for_beside_the_solver(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(BASE)
    made = lf.get_solver(str(tmp_path / "solver.prototxt"))
    assert made.net.name == "mean"
    assert made.snapshot_prefix == str(tmp_path / "solver")


@pytest.mark.parametrize(
    "own, train, test, found",
    [
        ("", "", "", [(TRAIN, 0, ()), (TEST, 0, ())]),
        ("level: 2 stage: 'a'", "", "", [(TRAIN, 2, ("a",)), (TEST, 2, ("a",))]),
        ("level: 2 stage: 'a'", "level: 3 stage: 'b'", "stage: 'c'", [(TRAIN, 3, ("a", "b")), (TEST, 2, ("a", "c"))]),
        ("phase: TEST", "", "", [(TEST, 0, ()), (TEST, 0, ())]),
        ("phase: TEST", "phase: TRAIN", "phase: TRAIN", [(TRAIN, 0, ()), (TRAIN, 0, ())]),
    ],
)
def test_states(folder, own, train, test, found):
    (folder / "net.prototxt").write_text(f"state {{ {own} }} " + NET)
    made = definition(f"{BASE} train_state {{ {train} }} test_state {{ {test} }} test_iter: 1 test_interval: 1")
    states = [net_definition(made, plan).message.state for plan in net_plans(made)]
    assert [(state.phase, state.level, tuple(state.stage)) for state in states] == found


def test_level_and_stages_from_outside(folder):
    made = definition(BASE + "train_state { level: 1 stage: 'a' } test_iter: 1 test_interval: 1")
    train, test = (net_definition(made, plan).message.state for plan in net_plans(made, 5, ("b",)))
    assert (train.level, list(train.stage)) == (5, ["a", "b"])
    assert (test.level, list(test.stage)) == (0, [])


def test_one_prototxt_for_one_train_net_and_two_test_nets(folder):
    text = """
    net_param {
      layer { name: "data" type: "DummyData" top: "x" top: "t"
              dummy_data_param { shape { dim: 5 dim: 2 } shape { dim: 5 } } }
      layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3 } }
      layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "t" top: "accuracy"
              include { phase: TEST stage: "all" } }
      layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss"
              include { phase: TRAIN } include { phase: TEST stage: "loss" } }
    }
    base_lr: 1 test_interval: 1 test_iter: 1 test_iter: 1
    test_state { stage: "all" stage: "loss" } test_state { stage: "all" }
    """
    made = Solver(definition(text))
    assert [made.net._layer_names[-1], len(made.net.nodes)] == ["loss", 3]
    assert ["accuracy" in net.layer_dict for net in made.test_nets] == [True, True]
    assert ["loss" in net.layer_dict for net in made.test_nets] == [True, False]


# Weights to start from.


def test_weights(folder):
    one = solver(seed=5)
    one.net.save("one.caffemodel")
    more = 'layer { name: "more" type: "InnerProduct" bottom: "x" top: "more" inner_product_param { num_output: 2 } }'
    more = more.replace("num_output", 'weight_filler { type: "gaussian" } num_output')
    (folder / "test.prototxt").write_text(NET + more)
    more = lf.Net("test.prototxt", TEST, seed=9)
    more.save("more.caffemodel")
    made = solver('weights: "one.caffemodel" test_net: "test.prototxt" test_iter: 1 test_interval: 1')
    assert np.array_equal(made.net.owned[0].data, one.net.owned[0].data)
    made = solver('weights: "more.caffemodel, one.caffemodel" test_net: "test.prototxt" test_iter: 1 test_interval: 1')
    assert np.array_equal(made.net.owned[0].data, one.net.owned[0].data), "the later has the last word"
    (net,) = made.test_nets
    assert np.array_equal(net.params["more"][0].data, more.params["more"][0].data), "layers of test nets too"
    assert np.shares_memory(net.params["ip"][0].data, made.net.params["ip"][0].data)


def test_weights_that_are_not_there(folder):
    with pytest.raises(SnapshotError) as error:
        solver('\nweights: "none.caffemodel"')
    assert str(error.value) == (
        "solver.prototxt:3:1: cannot read weights from none.caffemodel: No such file or directory"
    )


# pycaffe's.


def test_apply_update(folder):
    made = solver()
    data = made.net.layers[1].blobs[0].data
    data[...] = 0
    made.net.layers[1].blobs[0].diff[...] = 1
    made.apply_update()
    assert_close(data, np.full(data.shape, -0.1), 1e-6)
    assert made.iter == 1


def test_the_rate_may_be_changed(folder):
    made = solver()
    assert made.lr == pytest.approx(0.1)
    made.param.base_lr = 0.5
    assert made.lr == 0.5


def test_callbacks(folder):
    made = solver("iter_size: 2")
    seen = []
    made.add_callback(lambda: seen.append("start"), lambda: seen.append("ready"))
    made.net.before_forward(lambda i: seen.append("forward") if i == 0 else None)
    made.step(1)
    assert seen == ["start", "forward", "forward", "ready"]


def test_share_weights(folder):
    made = solver()
    other = lf.Net("net.prototxt", TEST)
    made.share_weights(other)
    assert np.shares_memory(other.params["ip"][0].data, made.net.params["ip"][0].data)


def test_nets_outlive_the_solver(folder):
    made = solver("test_iter: 1 test_interval: 1")
    net, (test,) = made.net, made.test_nets
    made.step(1)
    del made
    assert np.isfinite(net.forward()["loss"]) and np.isfinite(test.forward()["error"])


def test_every_blob_may_be_looked_at_after_a_step(folder):
    made = solver()
    made.step(2)
    diffs = {name: blob.diff.copy() for name, blob in made.net.blobs.items()}
    assert diffs["ip"].any() and np.isfinite(diffs["ip"]).all()
    again = solver(reuse=True)
    for name in again.net.blobs:
        again.net.storage.want(name, "diff")
    again.step(2)
    for name, diff in diffs.items():
        assert np.array_equal(again.net.blobs[name].diff, diff)


# Requests.


class Requests:
    """Asks for something the n-th time it is asked."""

    def __init__(self, **answers):
        self.answers = {int(key[1:]): value for key, value in answers.items()}
        self.times = 0

    def __call__(self):
        self.times += 1
        return self.answers.get(self.times, "none")


def test_a_stop_ends_the_run_with_a_snapshot(folder, caplog):
    made = solver("snapshot_prefix: 's'")
    made.requested = Requests(_2=STOP)
    lines = log_of(made.solve, caplog)
    assert lines[-3:] == [
        "Snapshotting to binary proto file s_iter_2.caffemodel",
        "Snapshotting solver state to binary proto file s_iter_2.solverstate",
        "Optimization stopped early.",
    ]
    assert made.iter == 2
    assert made.last_snapshot.state.name == "s_iter_2.solverstate"


def test_a_snapshot_on_request(folder):
    made = solver("snapshot_prefix: 's'")
    made.requested = Requests(_3=SNAPSHOT)
    made.solve()
    assert made.iter == 4
    assert sorted(path.name for path in folder.glob("s_*.solverstate")) == ["s_iter_3.solverstate"]


def test_a_stop_within_a_test(folder, caplog):
    made = solver("snapshot_prefix: 's' test_iter: 3 test_interval: 2")
    made.requested = Requests(_7=STOP)  # three batches of the first test, two iterations, the second batch
    lines = log_of(made.solve, caplog)
    assert lines[-4:] == [
        "Snapshotting to binary proto file s_iter_2.caffemodel",
        "Snapshotting solver state to binary proto file s_iter_2.solverstate",
        "Test interrupted.",
        "Optimization stopped early.",
    ]
    assert made.iter == 2


# What is refused.


def wrong(text):
    return [str(error) for error in check(definition(text)).errors]


@pytest.mark.parametrize(
    "text, expected",
    [
        pytest.param(
            "base_lr: 1",
            "solver.prototxt: a solver names the net it trains by exactly one of net, net_param, train_net,"
            " train_net_param: none of them is given",
            id="no net",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\ntrain_net: "b"',
            "solver.prototxt:2:1: a solver names the net it trains by exactly one of net, net_param, train_net,"
            " train_net_param: net and train_net are given",
            id="two nets",
        ),
        pytest.param(
            'base_lr: 1 net: "a" test_iter: 2',
            "solver.prototxt:1:21: test_iter is given, but no test_interval: say how often to test",
            id="no interval",
        ),
        pytest.param(
            'base_lr: 1 train_net: "a" test_net: "b" test_interval: 1 test_iter: 2 test_iter: 2',
            "solver.prototxt:1:58: test_iter is given 2 times for 1 test net: give one for each",
            id="too many test_iter",
        ),
        pytest.param(
            'base_lr: 1 net: "a" test_net: "b" test_net: "c" test_interval: 1 test_iter: 2',
            "solver.prototxt:1:66: test_iter is given once for 2 test nets: give one for each",
            id="too few test_iter",
        ),
        pytest.param(
            'base_lr: 1 train_net: "a" test_net: "b" test_interval: 1',
            "solver.prototxt: test_iter is not given for 1 test net: give one for each",
            id="no test_iter",
        ),
        pytest.param(
            'base_lr: 1 train_net: "a" test_interval: 1 test_iter: 2',
            "solver.prototxt:1:44: test_iter is given once, but there is no test net: write test_net",
            id="no test net",
        ),
        pytest.param(
            'base_lr: 1 net: "a" test_interval: 1 test_iter: 2 test_iter: 2\ntest_state {}',
            "solver.prototxt:2:1: test_state is given once for 2 test nets: give one for each, or none",
            id="test_state",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\nregularization_type: "L3"',
            'solver.prototxt:2:1: unknown regularization_type "L3": there are L1 and L2',
            id="regularization",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\niter_size: 0',
            "solver.prototxt:2:1: iter_size: 0 must be at least 1",
            id="iter_size",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\naverage_loss: 0',
            "solver.prototxt:2:1: average_loss: 0 must be at least 1",
            id="average_loss",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\nsnapshot: -5', "solver.prototxt:2:1: snapshot: -5 must be at least 0", id="snapshot"
        ),
        pytest.param(
            'base_lr: 1 net: "a"\ndisplay: -5', "solver.prototxt:2:1: display: -5 must be at least 0", id="display"
        ),
        pytest.param(
            'base_lr: 1 net: "a" test_interval: 1 test_iter: 1\ntest_iter: -1',
            "solver.prototxt:2:1: test_iter: -1 must be at least 0",
            id="test_iter",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\ntest_interval: -1',
            "solver.prototxt:2:1: test_interval: -1 must be at least 0",
            id="test_interval",
        ),
        pytest.param(
            'base_lr: 1 net: "a"\nmax_iter: -1', "solver.prototxt:2:1: max_iter: -1 must be at least 0", id="max_iter"
        ),
    ],
)
def test_what_is_wrong_with_a_solver(text, expected):
    assert wrong(text) == [expected]


def test_everything_at_once():
    assert wrong('lr_policy: "stp"\ntype: "SDG"\niter_size: 0') == [
        "solver.prototxt: base_lr is not given. 0.01 is where most nets start",
        'solver.prototxt:1:1: unknown lr_policy "stp". Did you mean "step"? There are fixed, step, exp, inv, multistep,'
        " poly, sigmoid",
        'solver.prototxt:2:1: unknown solver type "SDG". Did you mean "SGD"? There are SGD, Nesterov, AdaGrad, RMSProp,'
        " AdaDelta, Adam",
        "solver.prototxt:3:1: iter_size: 0 must be at least 1",
        "solver.prototxt: a solver names the net it trains by exactly one of net, net_param, train_net,"
        " train_net_param: none of them is given",
    ]


def test_no_field_is_forgotten():
    """A field that the schema gains must be honoured, or refused: then it belongs here."""
    # fmt: off
    honoured = [
        "net", "net_param", "train_net", "test_net", "train_net_param", "test_net_param", "train_state",
        "test_state", "test_iter", "test_interval", "test_compute_loss", "test_initialization", "base_lr", "display",
        "average_loss", "max_iter", "iter_size", "lr_policy", "gamma", "power", "momentum",
        "weight_decay", "regularization_type", "stepsize", "stepvalue", "clip_gradients", "snapshot", "snapshot_prefix",
        "snapshot_diff", "snapshot_format", "random_seed", "type", "delta", "momentum2", "rms_decay",
        "debug_info", "snapshot_after_train", "solver_type", "weights", "warmup_iter", "warmup_start_lr",
    ]
    # fmt: on
    elsewhere = ["solver_mode", "device_id", "layer_wise_reduce"]  # for the command line, and for several devices
    elsewhere += forks.LEFT_OUT["SolverParameter"]  # with a warning
    assert sorted(honoured + elsewhere) == sorted(schema.message("SolverParameter").DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("field", ['net: "none"', 'train_net: "none"'])
def test_no_such_net(folder, field):
    with pytest.raises(DefinitionError) as error:
        Solver(definition(f"base_lr: 1\n{field}"))
    assert str(error.value) == 'solver.prototxt:2:1: there is no net file "none"'


def test_no_such_test_net(folder):
    with pytest.raises(DefinitionError) as error:
        solver('test_net: "net.prototxt"\ntest_net: "none" test_iter: 1 test_iter: 1 test_interval: 1')
    assert str(error.value) == 'solver.prototxt:3:1: there is no net file "none"'


def test_no_max_iter(folder):
    made = Solver(definition('base_lr: 1 net: "net.prototxt"'))
    with pytest.raises(DefinitionError) as error:
        made.solve()
    assert str(error.value) == "solver.prototxt: max_iter is not given. Write max_iter: 1000, say"
    made.step(2)
    assert made.iter == 2


def test_a_net_in_the_place_of_a_solver(folder):
    with pytest.raises(DefinitionError) as error:
        lf.get_solver("net.prototxt")
    assert str(error.value) == "net.prototxt: this is a net (NetParameter); a solver (SolverParameter) is wanted."


@pytest.mark.parametrize("iter_size", [1, 3])
def test_a_loss_that_is_not_finite(folder, iter_size):
    made = solver(f"iter_size: {iter_size} snapshot_prefix: 's'")
    made.step(1)
    made.snapshot()
    made.net.params["ip"][1].data[...] = np.inf
    before = weights(made)
    with pytest.raises(NotFiniteError) as error:
        made.step(1)
    assert str(error.value) == (
        'net.prototxt:4:1: iteration 1: the loss is inf. The first layer whose output is not finite is layer "ip"'
        ' (InnerProduct), top "ip". Lower base_lr (the rate is 0.1), set clip_gradients, or look for such values in the'
        " data; the last good snapshot is s_iter_1.solverstate"
    )
    for a, b in zip(weights(made), before, strict=True):
        assert np.array_equal(a, b), "no update was made"
    assert made.iter == 1


def test_a_loss_weight_that_is_not_finite(folder):
    (folder / "net.prototxt").write_text(NET.replace('top: "loss"', 'top: "loss" loss_weight: inf'))
    with pytest.raises(NotFiniteError) as error:
        solver().step(1)
    assert str(error.value) == (
        "iteration 0: the loss is inf. Every output is finite, so it comes from a loss_weight. Lower base_lr (the rate"
        " is 0.1), set clip_gradients, or look for such values in the data"
    )


def test_outputs_whose_shape_changes_have_no_mean(folder):
    class Varying(Layer):
        dynamic = True

        def forward(self, bottom, top):
            top[0].reshape(self.step + 1)

    try:
        (folder / "test.prototxt").write_text(NET + 'layer { name: "v" type: "Varying" bottom: "x" top: "v" }')
        made = solver('test_net: "test.prototxt" test_iter: 2 test_interval: 1')
        with pytest.raises(ShapeError) as error:
            made.step(1)
        assert str(error.value) == (
            'output "v" of test net #0 has shape (2,) in batch 1, and had (1,): their mean needs one shape. Let a'
            " Silence layer read it to leave it out"
        )
    finally:
        del layer.registry["Varying"]


# Memory.

LENET = """
layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 32 dim: 1 dim: 28 dim: 28 } shape { dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 50 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
        inner_product_param { num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""


def test_an_iteration_allocates_nothing():
    made = Solver(definition(f"net_param {{ {LENET} }} base_lr: 0.01 momentum: 0.9 clip_gradients: 1e6"), reuse=True)
    made.net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(32, 1, 28, 28))
    made.step(20)

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        made.step(5)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert min(faults() for _ in range(3)) <= 4, "pages are touched for the first time"
    tracemalloc.start()
    made.step(1)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    made.step(2)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 16_000, "bytes, all of them Python's own"
    assert after - before < 4_000
