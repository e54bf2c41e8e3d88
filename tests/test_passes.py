"""Passes on another device than the CPU: replayed records against launches one by one, bit for bit; late errors."""

import gc
import re
import weakref

import numpy as np
import pytest

import layerforge as lf
from layerforge import device, schema
from layerforge.errors import DataError, NotFiniteError
from layerforge.layer import registry

emulated = device.get("emulated")

DATA = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 4 } } }
"""
CONV = """layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "msra" } } }"""
HEAD = """
layer { name: "ip" type: "InnerProduct" bottom: "%s" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "t" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


def layer(name, kind, bottom, top=None, more=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top or bottom}" {more} }}\n'


NETS = {
    "plain": CONV + layer("relu", "ReLU", "conv") + HEAD % "conv",
    "dropout": CONV + layer("drop", "Dropout", "conv") + HEAD % "conv",
    "stochastic pooling": CONV
    + layer("pool", "Pooling", "conv", "pool", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }")
    + HEAD % "pool",
    "channels last": 'math_mode: "tf32"'
    + CONV
    + layer("drop", "Dropout", "conv")
    + layer("pool", "Pooling", "conv", "pool", "pooling_param { kernel_size: 2 }")
    + CONV.replace('"conv"', '"again"').replace('bottom: "x"', 'bottom: "pool"')
    + HEAD % "again",
    "batch normalisation": CONV
    + layer("bn", "BatchNorm", "conv", "bn")
    + layer("scale", "Scale", "bn", "bn", "scale_param { bias_term: true }")
    + HEAD % "bn",
    "two branches": CONV
    + layer("a", "TanH", "conv", "a")
    + layer("b", "LRN", "conv", "b")
    + 'layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }'
    + HEAD % "sum",
    "python in the middle": CONV
    + layer("py", "Python", "conv", "py", 'python_param { module: "double" layer: "Double" }')
    + HEAD % "py",
    "numbers by the host": 'layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param {'
    ' shape { dim: 4 dim: 3 dim: 8 dim: 8 } data_filler { type: "gaussian" std: 0.1 } } }'
    'layer { name: "noisy" type: "Eltwise" bottom: "x" bottom: "noise" top: "noisy" }'
    + CONV.replace('bottom: "x"', 'bottom: "noisy"')
    + HEAD % "conv",
    "two losses": CONV + HEAD % "conv" + 'layer { name: "more" type: "Reduction" bottom: "conv" top: "more"'
    " reduction_param { operation: SUMSQ axis: 1 coeff: 0.01 } loss_weight: 0.1 }",
}

RULES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9",
    "Adam": "momentum: 0.9 momentum2: 0.999",
}

DOUBLE = """
import layerforge
class Double(layerforge.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = 2 * top[0].diff
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "double.py").write_text(DOUBLE)
    monkeypatch.chdir(tmp_path)


def recipe(body, text=""):
    text = f'train_net_param {{ name: "n" {DATA} {body} }} base_lr: 0.1 random_seed: 5 {text}'
    return schema.parse(text, "SolverParameter")


def solver(body, text="", recorded=True, where="emulated"):
    """A solver whose inputs are other numbers in each iteration of `run`."""
    made = lf.get_solver(recipe(body, text), device=where)
    if where == "emulated":
        made.net.passes.recorded = recorded
        made.rule.records = recorded
    return made


def feed(net):
    rng = np.random.default_rng(net.step + 1)
    net.blobs["x"].data[...] = rng.standard_normal((4, 3, 8, 8))
    net.blobs["t"].data[...] = rng.integers(0, 5, 4)


def records(made):
    """In how many records a solver runs an iteration; and its net, where it runs alone, a pass each way."""
    passes = made.net.passes
    return made.iteration.recorder.records, passes.forward_recorder.records, passes.backward_recorder.records


def parameters(net):
    return [parameter for each in net.params.values() for parameter in each]


def run(made, iterations=5):
    """What a run leaves behind, as bytes: losses and weights of every iteration."""
    found = []
    for _ in range(iterations):
        feed(made.net)
        made.step(1)
        found.append((made.loss, [p.data.tobytes() for p in parameters(made.net)]))
    return found


@pytest.mark.parametrize("name", NETS)
def test_replayed_as_launched(name):
    replayed = solver(NETS[name], "momentum: 0.9 lr_policy: 'exp' gamma: 0.9 weight_decay: 0.01")
    launched = solver(NETS[name], "momentum: 0.9 lr_policy: 'exp' gamma: 0.9 weight_decay: 0.01", recorded=False)
    assert run(replayed, 6) == run(launched, 6)
    assert records(replayed) == ({"python in the middle": 3, "numbers by the host": 2}.get(name, 1), 0, 0)
    assert records(launched) == (0, 0, 0)
    assert bool(replayed.net.passes.apart) == (records(replayed)[0] > 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("more", ["", "iter_size: 3", "clip_gradients: 0.1 lr_policy: 'inv' gamma: 0.1 power: 0.75"])
def test_every_rule(rule, more):
    text = f'type: "{rule}" {RULES[rule]} {more}'
    replayed = solver(NETS["dropout"], text)
    assert run(replayed) == run(solver(NETS["dropout"], text, recorded=False))
    if "iter_size" in more:
        assert (records(replayed), replayed.rule._recorder.records) == ((0, 1, 1), 1)
    else:
        assert (records(replayed), replayed.rule._recorder.records) == ((1, 0, 0), 0)
    assert not replayed.net.passes.apart
    on_cpu = solver(NETS["dropout"], text, where="cpu")
    run(on_cpu)
    for mine, theirs in zip(replayed.net.params["ip"], on_cpu.net.params["ip"], strict=True):
        np.testing.assert_allclose(mine.data, theirs.data, atol=2e-3)


def test_a_mask_is_new_in_every_pass():
    net = solver(NETS["dropout"]).net
    kept = []
    for _ in range(4):
        feed(net)
        net.start_forward()()
        kept.append((net.blobs["conv"].data != 0).tobytes())
    assert len(set(kept)) == 4


def test_what_nobody_uses_any_more_is_let_go_at_once():
    """Without the garbage collector: a GPU's memory is not told that it should run."""
    gc.collect()
    gc.disable()
    try:
        made = lf.get_solver(recipe(NETS["dropout"], "momentum: 0.9"), device="emulated")
        made.step(4)
        made.net.forward_backward()
        made.net.forward_backward()
        made.apply_update()
        made.apply_update()
        assert records(made) == (1, 1, 1) and made.rule._recorder.records
        parts = made, made.net, made.rule, made.net.passes, made.net.arena.diff, made.iteration
        left = [weakref.ref(each) for each in parts]
        del parts
        del made
        assert [each() for each in left] == [None] * len(left)
    finally:
        gc.enable()


def test_who_changes_a_layer_says_so():
    made = solver(NETS["dropout"])
    run(made, 4)
    drop = made.net.layer_dict["drop"]
    drop.threshold = 0
    made.net.passes.forget()
    for _ in range(3):
        made.step(1)
        assert made.net.blobs["conv"].data.all()


def test_what_divides_the_records():
    made = solver(NETS["python in the middle"])
    run(made, 4)
    assert made.net.passes.apart == {'layer "py" (Python)': "the host takes part in it"}
    assert records(made)[0] == 3
    for _ in range(3):
        made.net.forward_backward()
    assert records(made) == (3, 2, 2)
    made = solver(NETS["numbers by the host"])
    run(made, 4)
    assert made.net.passes.apart == {'layer "noise" (DummyData)': "the host takes part in it"}


def test_callbacks_are_called_in_every_pass():
    made = solver(NETS["plain"])
    run(made, 4)
    seen = []
    made.net.after_forward(seen.append, looks=False)
    run(made, 2)
    assert seen == [*range(len(made.net.nodes))] * 2
    seen.clear()
    made.add_callback(lambda: seen.append("start"), lambda: seen.append("ready"))
    made.net._after["forward"].clear()
    diff = made.net.params["ip"][0].diff.copy()
    run(made, 2)
    assert seen == ["start", "ready"] * 2
    assert (made.net.params["ip"][0].diff != diff).any()


def test_another_shape_is_recorded_anew():
    made = solver(NETS["plain"])
    run(made, 3)
    net = made.net
    for items in (2, 2, 2, 4):
        net.blobs["x"].reshape(items, 3, 8, 8)
        net.blobs["t"].reshape(items)
        net.blobs["x"].data[...] = np.ones((items, 3, 8, 8))
        net.blobs["t"].data[...] = 1
        loss = net.run_forward()
        net.run_backward()
        assert np.isfinite(loss) and net.blobs["ip"].shape == (items, 5)
    on_cpu = lf.Net(net.definition.message, lf.TRAIN, device="cpu")
    for mine, theirs in zip(parameters(on_cpu), parameters(net), strict=True):
        mine.data[...] = theirs.data
    on_cpu.blobs["x"].data[...] = 1
    on_cpu.blobs["t"].data[...] = 1
    assert on_cpu.run_forward() == pytest.approx(loss, rel=1e-5)


def test_a_snapshot_goes_on_from_where_it_was():
    text = "momentum: 0.9 snapshot_prefix: 'run' iter_size: 2"
    whole = solver(NETS["dropout"], text)
    run(whole, 3)
    whole.snapshot()
    expected = run(whole, 3)
    again = solver(NETS["dropout"], text)
    run(again, 2)
    again.restore("run_iter_3.solverstate")
    assert run(again, 3) == expected


def test_test_nets_in_between(caplog):
    text = f"""train_state {{ stage: "a" }} test_iter: 2 test_interval: 2 momentum: 0.9 max_iter: 6
      net_param {{ {DATA.replace("Input", "DummyData").replace("input_param", "dummy_data_param")}
      {NETS["dropout"]} }} base_lr: 0.01 random_seed: 5"""
    logs = []
    for recorded in (True, False):
        made = lf.get_solver(schema.parse(text, "SolverParameter"), device="emulated")
        for net in (made.net, *made.test_nets):
            net.passes.recorded = recorded
        caplog.clear()
        caplog.set_level("INFO", "layerforge.solver")
        made.solve()
        logs.append([line for line in caplog.messages if "Test net" in line])
        assert (made.test_nets[0].passes.forward_recorder.records > 0) is recorded
    assert logs[0] == logs[1] and len(logs[0]) == 8


def test_clipping_is_logged_when_the_norm_is_there(caplog):
    caplog.set_level("INFO", "layerforge.solver")
    for where in ("cpu", "emulated"):
        caplog.clear()
        run(solver(NETS["plain"], "clip_gradients: 0.5", where=where), 2)
        lines = [line for line in caplog.messages if line.startswith("Gradient clipping")]
        assert len(lines) == 2
        norm = float(lines[0].split("L2 norm ")[1].split()[0])
        assert lines[0] == (
            f"Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > 0.5) by scale factor {0.5 / norm:.6g}"
        )


def text_of(error):
    """What it says, behind the line of the prototxt."""
    assert re.match(r"<text>:\d+:\d+: ", str(error))
    return str(error).split(": ", 1)[1]


LABEL = (
    'layer "loss" (SoftmaxWithLoss): label 7 of item 2 in bottom "t" (4,) must be one of the 5 classes, 0 to 4.'
    " Mend the data, score more classes, or name a label that does not count in ignore_label"
)


@pytest.mark.parametrize("passes", [0, 2, 5])
@pytest.mark.parametrize("body, message", [
    (NETS["plain"].replace(HEAD[HEAD.index('layer { name: "acc'):HEAD.index('layer { name: "loss')], ""), LABEL),
    (NETS["plain"], LABEL.replace('"loss" (SoftmaxWithLoss)', '"accuracy" (Accuracy)')),
])  # fmt: skip
def test_a_wrong_label(body, message, passes):
    made = solver(body)
    run(made, passes)
    net = made.net
    before = net.params["ip"][0].data.copy()
    net.blobs["x"].data[...] = 1
    net.blobs["t"].data[...] = [0, 1, 7, 9]
    with pytest.raises(DataError) as caught:
        made.step(1)
    assert text_of(caught.value) == message
    np.testing.assert_array_equal(net.params["ip"][0].data, before)
    assert made.iter == passes
    run(made, 2)  # it goes on
    assert (net.params["ip"][0].data != before).any()


EMBED = """
layer { name: "words" type: "Input" top: "words" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "embed" type: "Embed" bottom: "words" top: "y"
  embed_param { input_dim: 4 num_output: 2 weight_filler { type: "xavier" } } loss_weight: 1 }
"""


@pytest.mark.parametrize("passes", [0, 3])
def test_a_wrong_word(passes):
    net = lf.Net(schema.parse(EMBED, "NetParameter"), lf.TRAIN, device="emulated", seed=1)
    for _ in range(passes):
        net.forward_backward()
    net.blobs["words"].data[...] = [[0, 1, 2], [3, 4, -1]]
    result = net.start_forward()
    net.run_backward()  # writes to no row that is not there
    with pytest.raises(DataError) as caught:
        result()
    assert text_of(caught.value) == (
        'layer "embed" (Embed): index 4 of item 1, at (1, 1), in bottom "words" (2, 3) must be one of 0 to 3'
    )


@pytest.mark.parametrize("passes", [0, 1, 2, 5])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("more", ["", "clip_gradients: 0.1"])
def test_a_loss_that_is_no_number_moves_nothing(passes, rule, more):
    """Although the update is launched before anybody looks at the loss."""
    made = solver(NETS["plain"], f'type: "{rule}" {RULES[rule]} {more}')
    run(made, passes)
    net = made.net
    net.params["conv"][0].data[0] = np.inf
    before = net.params["ip"][0].data.copy()
    history = made.rule.history()
    with pytest.raises(NotFiniteError) as caught:
        made.step(1)
    assert text_of(caught.value) == (
        f'iteration {passes}: the loss is nan. The first layer whose output is not finite is layer "conv"'
        ' (Convolution), top "conv". Lower base_lr (the rate is 0.1), set clip_gradients, or look for such values in'
        " the data"
    )
    np.testing.assert_array_equal(net.params["ip"][0].data, before)
    for mine, kept in zip(made.rule.history(), history, strict=True):
        np.testing.assert_array_equal(mine, kept)


def test_a_loss_that_does_not_count_may_be_no_number():
    """The device holds the update back for what a layer doubts; the host finds nothing wrong, and makes up for it."""
    more = """layer { name: "far" type: "Log" bottom: "ip" top: "far" }
      layer { name: "aside" type: "SoftmaxWithLoss" bottom: "far" bottom: "t" top: "aside" loss_weight: 0 }"""
    for text in ("momentum: 0.9", "momentum: 0.9 clip_gradients: 0.1"):
        replayed, launched = (solver(NETS["plain"] + more, text, recorded) for recorded in (True, False))
        assert run(replayed) == run(launched)
        assert records(replayed)[0] == 1
        assert np.isnan(replayed.net.blobs["aside"].data) and np.isfinite(replayed.loss)


def test_a_part_of_the_net_after_replays():
    made = solver(NETS["two losses"])
    run(made, 3)
    net = made.net
    whole = net.run_forward()
    first, last = net._index("conv"), len(net.nodes) - 1
    assert net.run_forward(first, last) == whole
    assert net.run_forward(0, first) == 0


LOSSES = {
    "SoftmaxWithLoss": 'bottom: "t"',
    "MultinomialLogisticLoss": 'bottom: "t"',
    "HingeLoss": 'bottom: "t"',
    "SigmoidCrossEntropyLoss": 'bottom: "u"',
    "ContrastiveLoss": 'bottom: "u" bottom: "t"',
    "InfogainLoss": 'bottom: "t" bottom: "h"',
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("more", ["loss_weight: 0.5", 'top: "p" loss_weight: 1 loss_weight: 1', "loss_weight: 0"])
def test_a_loss_tells_itself(kind, more, monkeypatch):
    """As the kernel would that adds up what other layers weigh."""
    if "top" in more and kind not in ("SoftmaxWithLoss", "InfogainLoss"):
        more = "loss_weight: 2"
    body = f"""{CONV} layer {{ name: "ip" type: "InnerProduct" bottom: "conv" top: "a"
        inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
      layer {{ name: "b" type: "Sigmoid" bottom: "a" top: "b" }}
      layer {{ name: "constants" type: "DummyData" top: "u" top: "h" dummy_data_param {{ shape {{ dim: 4 dim: 5 }}
        shape {{ dim: 1 dim: 1 dim: 5 dim: 5 }} data_filler {{ type: "constant" value: 0.5 }} }} }}
      layer {{ name: "loss" type: "{kind}" bottom: "b" {LOSSES[kind]} top: "loss" {more} }}"""
    told = solver(body, "momentum: 0.9")
    monkeypatch.setattr(registry[kind], "tells", False)
    summed = solver(body, "momentum: 0.9")
    assert (told.net.layer_dict["loss"].told is not None) == (more in ("loss_weight: 0.5", "loss_weight: 2"))
    assert summed.net.layer_dict["loss"].told is None
    assert run(told) == run(summed)


class Late(device.emulated.Copy):
    """A copy whose event says that it is there when it is not."""

    def start(self):
        device.emulated.stream.do(lambda: setattr(self, "coming", self.array._memory.copy()))

    def arrive(self):
        np.copyto(self.values, self.coming)


def test_an_event_that_comes_too_early(monkeypatch):
    """The host sees by the number of the pass that it reads the results of the last one, and waits for all."""
    made, expected = solver(NETS["plain"]), run(solver(NETS["plain"], recorded=False), 6)
    found = run(made, 2)
    late = made.net.passes.reading = Late(made.net.passes.results)
    monkeypatch.setattr(emulated, "synchronize", late.arrive)
    assert found + run(made, 4) == expected
    assert records(made)[0] == 1


class Counting(lf.Layer):
    """Adds how often it was called: what a record would freeze, if it were recorded."""

    records = False

    def setup(self, x):
        self.called = 0

    def forward(self, bottom, top):
        self.called += 1
        top[0].data[...] = bottom[0].data + self.called

    def backward(self, bottom, top):
        bottom[0].diff[...] = top[0].diff


def test_a_layer_of_the_user_s_that_counts():
    made = solver(CONV + layer("count", "Counting", "conv", "y") + HEAD % "y")
    run(made, 5)
    assert made.net.layer_dict["count"].called == 5
    assert records(made)[0] == 3
    assert made.net.passes.apart == {'layer "count" (Counting)': "the host takes part in it"}


class Careless(lf.Layer):
    """Makes an array in each pass, which a record may not."""

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * 2 + 1

    def backward(self, bottom, top):
        bottom[0].diff[...] = top[0].diff * 2


def test_a_layer_that_takes_memory():
    made = solver(CONV + layer("careless", "Careless", "conv", "y") + HEAD % "y")
    launched = solver(CONV + layer("careless", "Careless", "conv", "y") + HEAD % "y", recorded=False)
    assert run(made) == run(launched)
    assert made.net.passes.apart == {
        'layer "careless" (Careless)': "multiply without out=: not while launches are recorded, because a replay of"
        " them does not come here"
    }
