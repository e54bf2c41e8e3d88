"""A net that reuses memory and one that does not cannot be told apart, whatever is done with them."""

import numpy as np
import pytest

import layerforge as lf
from layerforge import lending, node, schema


def parse(text):
    return schema.parse(text, "NetParameter", "net.prototxt")


class Drawn:
    """A random net: layers that pass gradients, in place and not, that share memory, branch, join and end."""

    KINDS = (*["neuron"] * 5, "product", "join", "cut", "shape", "copies", "scale", "silence")

    def __init__(self, rng, neurons=("ReLU", "Sigmoid", "TanH", "Dropout", "Power"), whole=False, kinds=KINDS):
        self.rng = rng
        self.neurons = neurons
        self.whole = whole  # nothing stops a gradient
        self.lines = []
        self.blobs = {}  # name -> shape
        self.unread = set()  # may be worked on in place
        batch, width = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        self.input("data", (batch, 2 * width, 3, 2))
        if rng.random() < 0.5:
            self.input("more", (batch, 2 * width, 3, 2))
        for i in range(int(rng.integers(3, 14))):
            getattr(self, rng.choice(kinds))(i)
        for i in range(int(rng.integers(1, 3))):
            self.loss(i)
        force = "force_backward: true\n" if rng.random() < 0.3 or whole else ""
        self.text = force + "\n".join(self.lines)

    def add(self, name, kind, bottoms, tops, options=""):
        wires = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t, _ in tops])
        self.lines.append(f'layer {{ name: "{name}" type: "{kind}" {wires} {options} }}')
        self.unread -= set(bottoms)
        for top, shape in tops:
            self.blobs[top] = shape
            self.unread.add(top)

    def input(self, name, shape):
        dims = " ".join(f"dim: {n}" for n in shape)
        self.add(f"in_{name}", "Input", [], [(name, shape)], f"input_param {{ shape {{ {dims} }} }}")
        self.unread.discard(name)

    def pick(self):
        return str(self.rng.choice(sorted(name for name, shape in self.blobs.items() if shape)))

    def neuron(self, i):
        x = self.pick()
        kind = str(self.rng.choice(self.neurons))
        in_place = x in self.unread and kind != "Power" and self.rng.random() < 0.6
        weight = "loss_weight: 0.3" if self.rng.random() < 0.1 else ""
        options = "power_param { scale: 2 shift: 0.5 }" if kind == "Power" else weight
        self.add(f"n{i}", kind, [x], [(x if in_place else f"n{i}", self.blobs[x])], options)
        if weight and kind != "Power":
            self.unread.discard(x if in_place else f"n{i}")

    def product(self, i):
        x = self.pick()
        if len(self.blobs[x]) < 2:
            return
        skip = "propagate_down: false" if self.rng.random() < 0.1 and not self.whole else ""
        learns = "" if self.rng.random() < 0.7 or self.whole else "param { lr_mult: 0 } param { lr_mult: 0 }"
        options = "inner_product_param { num_output: 4 weight_filler { type: 'xavier' } }"
        self.add(f"p{i}", "InnerProduct", [x], [(f"p{i}", (self.blobs[x][0], 4))], f"{skip} {learns} {options}")

    def join(self, i):
        x = self.pick()
        alike = [name for name, shape in sorted(self.blobs.items()) if shape == self.blobs[x]]
        others = [str(self.rng.choice(alike)) for _ in range(int(self.rng.integers(1, 3)))]
        self.add(f"j{i}", "Eltwise", [x, *others], [(f"j{i}", self.blobs[x])])

    def cut(self, i):
        x = self.pick()
        shape = self.blobs[x]
        if len(shape) < 2 or shape[1] % 2:
            return
        half = (shape[0], shape[1] // 2, *shape[2:])
        self.add(f"c{i}", "Slice", [x], [(f"c{i}a", half), (f"c{i}b", half)])

    def shape(self, i):
        x = self.pick()
        shape = self.blobs[x]
        if len(shape) < 2:
            return
        flat = (shape[0], int(np.prod(shape[1:])))
        self.add(f"f{i}", "Flatten", [x], [(f"f{i}", flat)])

    def copies(self, i):
        x = self.pick()
        self.add(f"s{i}", "Split", [x], [(f"s{i}a", self.blobs[x]), (f"s{i}b", self.blobs[x])])

    def scale(self, i):
        x = self.pick()
        if len(self.blobs[x]) < 2:
            return
        in_place = x in self.unread and self.rng.random() < 0.6
        options = "scale_param { bias_term: true filler { type: 'uniform' min: 0.5 max: 1.5 } }"
        self.add(f"m{i}", "Scale", [x], [(x if in_place else f"m{i}", self.blobs[x])], options)

    def unit(self, i):
        """A convolution, and what normalises its top in place."""
        x = self.pick()
        if len(self.blobs[x]) < 4:
            return
        options = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: 'xavier' } }"
        shape = (self.blobs[x][0], 4, *self.blobs[x][2:])
        self.add(f"u{i}", "Convolution", [x], [(f"u{i}", shape)], options)
        scale = "scale_param { bias_term: true filler { type: 'uniform' min: 0.5 max: 1.5 } }"
        for kind, more in (("BatchNorm", ""), ("Scale", scale), ("ReLU", ""))[: int(self.rng.integers(1, 4))]:
            self.add(f"{kind}{i}", kind, [f"u{i}"], [(f"u{i}", shape)], more)

    def silence(self, i):
        self.add(f"q{i}", "Silence", [self.pick()], [])

    def loss(self, i):
        x = self.pick()
        alike = [name for name, shape in sorted(self.blobs.items()) if shape == self.blobs[x]]
        top = [(f"l{i}", ())] if self.rng.random() < 0.7 else []
        self.add(f"l{i}", "EuclideanLoss", [x, str(self.rng.choice(alike))], top)


def poison(net):
    """What is left in shared memory from the pass before must not matter, but for what backward is to find there."""
    storage = net.storage
    found = [group.first.layer.state["x"] for group in storage._lent]
    values = [array.copy() for array in found]
    for plane in (storage.data, storage.diff):
        if plane.shared:
            plane.arena[...] = np.nan
    if not storage._spent:
        for array, given in zip(found, values, strict=True):
            array[...] = given


class Pair:
    """Two nets of one definition, to which the same things are done."""

    def __init__(self, text, phase, rng, more="", reuse=(True, False), tolerance=0):
        """``more``: what stands in the first one's definition alone; ``tolerance``: of values, where the two nets may
        compute them in layers apart at another time."""
        self.rng = rng
        self.tolerance = tolerance
        self.nets = [lf.Net(parse(more + text), phase, seed=1, reuse=reuse[0])]
        self.nets.append(lf.Net(parse(text), phase, seed=1, reuse=reuse[1]))
        self.stale = False  # the last backward pass is older than the last forward pass
        self.write_inputs()

    @property
    def names(self):
        return list(self.nets[0].blobs)

    def write_inputs(self):
        for name in self.nets[0].inputs:
            values = self.rng.normal(size=self.nets[0].blobs[name].shape)
            for net in self.nets:
                net.blobs[name].data[...] = values

    def equal(self, found, what):
        mine, theirs = found
        if isinstance(mine, dict):
            assert list(mine) == list(theirs), what
            for name in mine:
                self.equal((mine[name], theirs[name]), f"{what}: {name}")
            return
        np.testing.assert_allclose(mine, theirs, self.tolerance, self.tolerance, err_msg=what)

    def forward(self):
        poison(self.nets[0])
        self.stale = True
        self.equal([net.run_forward() for net in self.nets], "loss")

    def backward(self):
        poison(self.nets[0])
        self.stale = False
        for net in self.nets:
            net.run_backward()

    def look(self):
        name = str(self.rng.choice(self.names))
        self.equal([net.blobs[name].data for net in self.nets], f"data of {name}")

    def look_diff(self):
        name = str(self.rng.choice(self.names))
        if self.stale and self.nets[0].storage.diff.shared:
            self.nets[0].storage.allocate()  # what was there is gone: not compared
            self.nets[1].storage.allocate()
            return self.backward()
        self.equal([net.blobs[name].diff for net in self.nets], f"diff of {name}")

    def look_parameter(self):
        for mine, theirs in zip(self.nets[0].owned, self.nets[1].owned, strict=True):
            self.equal([mine.diff, theirs.diff], mine.name)

    def named(self):
        wanted = [str(name) for name in self.rng.choice(self.names, 2)]
        self.stale = True
        self.equal([net.forward(blobs=wanted) for net in self.nets], "forward")

    def named_backward(self):
        wanted = [str(name) for name in self.rng.choice(self.names, 2)]
        self.stale = False
        self.equal([net.backward(diffs=wanted) for net in self.nets], "backward")

    def ends(self):
        layers = self.nets[0]._layer_names
        first, last = sorted(int(i) for i in self.rng.integers(0, len(layers), 2))
        return (layers[first] if self.rng.random() < 0.7 else None), (layers[last] if self.rng.random() < 0.7 else None)

    def part(self):
        start, end = self.ends()
        self.stale = True
        self.equal([net.forward(start=start, end=end) for net in self.nets], "part of forward")

    def part_backward(self):
        if self.stale and self.nets[0].storage.diff.shared:
            self.backward()
        end, start = self.ends()
        self.equal([net.backward(start=start, end=end) for net in self.nets], "part of backward")

    def write(self):
        name, values = str(self.rng.choice(self.names)), self.rng.normal()
        for net in self.nets:
            net.blobs[name].data[...] = values

    def write_diff(self):
        if self.stale and self.nets[0].storage.diff.shared:
            self.backward()
        name, values = str(self.rng.choice(self.names)), self.rng.normal()
        for net in self.nets:
            net.blobs[name].diff[...] = values

    def clear(self):
        for net in self.nets:
            net.clear_param_diffs()

    def reshape(self):
        name = self.nets[0].inputs[0]
        batch = int(self.rng.integers(1, 6))
        for net in self.nets:
            for name in net.inputs:
                net.blobs[name].reshape(batch, *net.blobs[name].shape[1:])
        if self.rng.random() < 0.5:
            for net in self.nets:
                net.reshape()
        self.write_inputs()
        self.forward()
        self.backward()


@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST], ids=["TRAIN", "TEST"])
@pytest.mark.parametrize("seed", range(40))
def test_nobody_can_tell(seed, phase):
    rng = np.random.default_rng(seed)
    drawn = Drawn(rng)
    live(drawn, Pair(drawn.text, phase, rng), rng)


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_nobody_can_tell_what_is_computed_again(seed, reuse):
    rng = np.random.default_rng(seed)
    drawn = Drawn(rng)
    live(drawn, Pair(drawn.text, lf.TRAIN, rng, "memory: RECOMPUTE\n", (reuse, reuse)), rng)


@pytest.mark.parametrize("seed", range(80))
def test_nobody_can_tell_what_lies_among_the_diffs(seed):
    rng = np.random.default_rng(seed)
    drawn = Drawn(rng, SAFE, kinds=("unit", "unit", "unit", "join", "copies", "neuron"))
    live(drawn, Pair(drawn.text, lf.TRAIN, rng, tolerance=1e-4), rng)


def live(drawn, pair, rng):
    """Does to both what a user may do."""
    calm = ["forward", "backward", "write_inputs", "look", "look_diff", "look_parameter", "clear", "named"]
    wild = ["named_backward", "part", "part_backward", "write", "write_diff", "reshape"]
    try:
        for step in range(30):
            things = calm if rng.random() < 0.8 or step < 6 else wild
            getattr(pair, str(rng.choice(things)))()
    except AssertionError:
        print(drawn.text)
        raise


# Neurons whose backward does not read its top, which others may overwrite in place, as in Caffe.
SAFE = ("ReLU", "Dropout", "Power")


@pytest.mark.parametrize("seed", range(40))
def test_sharing_memory_changes_no_result(seed, monkeypatch):
    """Blobs that share memory, with layers that work on them in place, against copies everywhere."""
    rng = np.random.default_rng(seed)
    text = Drawn(rng, SAFE).text
    shared = lf.Net(parse(text), lf.TRAIN, seed=1)
    monkeypatch.setattr(node, "_is_disturbed", lambda *_: True)
    copied = lf.Net(parse(text), lf.TRAIN, seed=1)
    inputs = {name: rng.normal(size=shared.blobs[name].shape) for name in shared.inputs}
    for _ in range(2):
        results = [(net.forward(**inputs), net.backward()) for net in (shared, copied)]
        for mine, theirs in zip(*results, strict=True):
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name], name)
    for mine, theirs in zip(shared.owned, copied.owned, strict=True):
        np.testing.assert_array_equal(mine.diff, theirs.diff, mine.name)


@pytest.mark.parametrize("seed", range(40))
def test_gradient(seed):
    """The slope of the loss along a random direction of all inputs and parameters, in the second pass too."""
    rng = np.random.default_rng(seed)
    net = lf.Net(parse(Drawn(rng, SAFE, whole=True).text), lf.TRAIN, seed=1, dtype=np.float64)
    point = [net.blobs[name].data for name in net.inputs] + [parameter.data for parameter in net.owned]
    start = [rng.normal(size=array.shape) for array in point]

    def loss(by, way):
        for array, values, step in zip(point, start, way, strict=True):
            array[...] = values + by * step
        net.step = 0
        return net.run_forward(0)

    for _ in range(20):  # until no kink lies near
        way = [rng.normal(size=array.shape) for array in point]
        for _ in range(2):
            net.clear_param_diffs()
            here = loss(0, way)
            net.run_backward()
        diffs = [net.blobs[name].diff for name in net.inputs] + [parameter.diff for parameter in net.owned]
        terms = [diff * step for diff, step in zip(diffs, way, strict=True)]
        slope, size = sum(term.sum() for term in terms), sum(np.abs(term).sum() for term in terms)
        right, left = loss(1e-6, way), loss(-1e-6, way)
        if abs((right - here) - (here - left)) < 1e-6 * 1e-4 * max(size, 1e-3):
            break
    assert abs((right - left) / 2e-6 - slope) <= 1e-5 * size + 1e-7 * abs(here)


# What shares memory with what.

IN = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


def one(kind, bottom, *tops):
    wires = "".join(f' top: "{top}"' for top in tops)
    return f'layer {{ name: "{kind}-{tops[0]}" type: "{kind}" bottom: "{bottom}"{wires} }}\n'


@pytest.mark.parametrize(
    "text, together, apart",
    [
        pytest.param(one("Flatten", "x", "f"), [("x", "f")], [], id="nothing is copied"),
        pytest.param(
            one("Power", "x", "p") + one("Flatten", "p", "f") + one("ReLU", "f", "f"),
            [("p", "f")],
            [],
            id="in place on the only reader's",
        ),
        pytest.param(
            one("Power", "x", "p") + one("Dropout", "p", "p") + one("Flatten", "p", "f") + one("ReLU", "f", "f"),
            [("p", "f")],
            [],
            id="in place before and after",
        ),
        pytest.param(
            one("Power", "x", "p") + one("Flatten", "p", "f") + one("ReLU", "f", "f") + one("Power", "p", "q"),
            [("p", "p_Power-p_0_split_1")],
            [("p", "f")],
            id="somebody else reads the same",
        ),
        pytest.param(
            one("Power", "x", "p") + one("Power", "p", "q") + one("Flatten", "p", "f") + one("ReLU", "f", "f"),
            [],
            [("p", "f")],
            id="even before: backward reads it again",
        ),
        pytest.param(
            one("Power", "x", "p") + one("Split", "p", "a", "b") + one("ReLU", "a", "a") + one("Sigmoid", "b", "b"),
            [("p", "b")],
            [("a", "b")],
            id="both copies are worked on",
        ),
        pytest.param(
            one("Power", "x", "p") + one("Split", "p", "a", "b") + one("ReLU", "a", "a"),
            [("p", "b")],
            [("a", "b")],
            id="an output stays as it was",
        ),
    ],
)
@pytest.mark.parametrize("phase", [lf.TRAIN, lf.TEST])
def test_who_shares_data(text, together, apart, phase):
    net = lf.Net(parse(IN + text), phase, reuse=False)
    for a, b in together:
        assert np.shares_memory(net.blobs[a].data, net.blobs[b].data), (a, b)
    for a, b in apart:
        assert not np.shares_memory(net.blobs[a].data, net.blobs[b].data), (a, b)
    values = np.array([[-1, 2, -3], [4, -5, 6]])
    found = net.forward(x=values)
    if "q" in found:
        assert np.array_equal(found["q"], values)
    if "f" in found and phase == lf.TEST:
        assert np.array_equal(found["f"], np.maximum(values, 0) if "ReLU" in text else values)


def test_diffs_of_flatten_are_one():
    net = lf.Net(parse("force_backward: true " + IN + one("Power", "x", "p") + one("Flatten", "p", "f")), lf.TRAIN)
    net.forward()
    net.backward(f=np.ones((2, 3)))
    assert np.shares_memory(net.blobs["p"].diff, net.blobs["f"].diff)
    assert net.blobs["x"].diff.tolist() == [[1] * 3] * 2


def residual(blocks):
    """Residual blocks of one size: a convolution, BatchNorm, Scale and ReLU in place, and a sum."""
    shape = "input_param { shape { dim: 2 dim: 8 dim: 6 dim: 6 } }"
    options = "convolution_param { num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: 'xavier' } }"
    lines = [f'layer {{ name: "in" type: "Input" top: "x" top: "y" {shape} }}', one("Power", "x", "b0")]
    for k in range(1, blocks + 1):
        lines.append(f'layer {{ name: "c{k}" type: "Convolution" bottom: "b{k - 1}" top: "u{k}" {options} }}')
        lines += [one(kind, f"u{k}", f"u{k}") for kind in ("BatchNorm", "Scale", "ReLU")]
        lines.append(f'layer {{ name: "b{k}" type: "Eltwise" bottom: "b{k - 1}" bottom: "u{k}" top: "b{k}" }}')
    lines.append(f'layer {{ name: "loss" type: "EuclideanLoss" bottom: "b{blocks}" bottom: "y" }}')
    return "\n".join(lines)


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_what_batch_norm_keeps_makes_room_for_diffs(device, monkeypatch):
    """What a pass of them is and takes, with and without; and the passes behind a look in between."""
    blocks, blob = 6, 2 * 8 * 6 * 6 * 4  # bytes
    rng, found = np.random.default_rng(1), []
    given = {name: rng.normal(size=(2, 8, 6, 6)) for name in "xy"}
    for lends in (True, False):
        if not lends:
            monkeypatch.setattr(lending, "plan", lambda *_: [])
        net = lf.Net(parse(residual(blocks)), lf.TRAIN, seed=1, device=device)
        net.forward(**given)
        for _ in range(2):  # the second one finds nothing of the first pass there
            net.run_backward()
        taken = net.memory_bytes()
        assert len(net.storage._lent) == blocks * lends
        net.blobs["u3"].data, net.blobs["b4"].data  # the one shows who computes it; of the other 5 is fed
        net.run_backward()
        assert len(net.storage._lent) == (blocks - 2) * lends
        net.blobs["b2"].diff  # noqa: B018
        net.run_backward()
        assert not net.storage._lent
        gradients = [np.array(net.device.to_numpy(parameter.diff)) for parameter in net.owned]
        found.append((taken, gradients, np.array(net.blobs["b2"].diff)))
    (mine, gradients, diff), (other, their_gradients, their_diff) = found
    assert other["state"] - mine["state"] == blocks * blob
    assert mine["diff"] + mine["state"] == other["diff"] + other["state"] - blob
    for one_, another in zip([*gradients, diff], [*their_gradients, their_diff], strict=True):
        np.testing.assert_allclose(one_, another, 1e-5, 1e-5)


def test_scratch_lies_where_nothing_is_needed():
    scale = 'layer {{ name: "m{0}" type: "Scale" bottom: "{1}" top: "m{0}" }}\n'
    text = IN + "".join(scale.format(i, f"m{i - 1}" if i else "x") for i in range(5))
    text += 'layer { name: "loss" type: "EuclideanLoss" bottom: "m4" bottom: "x" }'
    net = lf.Net(parse(text), lf.TRAIN, seed=1)
    net.forward_backward()
    arena = net.storage.diff.arena
    for made in net.nodes:
        if made.layer.type != "Scale":
            continue
        scratch = made.layer.scratch
        assert scratch.size and np.shares_memory(scratch, arena)
        for view in (*made.bottom, *made.top):
            assert view.diff is None or not np.shares_memory(scratch, view.diff), made
    assert net.memory_bytes()["scratch"] == 0
    net.storage.keep_all("diff")
    assert net.memory_bytes()["scratch"] > 0
    net.forward_backward()
