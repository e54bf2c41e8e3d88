"""The iteration of a solver on a device that records: which diffs it clears, and which are overwritten."""

import numpy as np
import pytest

import layerforge as lf
from layerforge import device, schema
from layerforge.iteration import first_gradients
from layerforge.layers.inner_product import InnerProduct

DATA = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: %d dim: 3 dim: 8 dim: 8 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: %d } } }
"""
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "%s" bottom: "t" top: "loss" }'


def convolution(name, bottom, more="", tops=None):
    names = " ".join(f'bottom: "{each}"' for each in bottom.split())
    tops = " ".join(f'top: "{each}"' for each in (tops or name).split())
    return f"""layer {{ name: "{name}" type: "Convolution" {names} {tops} {more} convolution_param {{
      num_output: 3 kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}\n"""


def product(name, bottom, more="", num_output=5):
    return f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {more}
      inner_product_param {{ num_output: {num_output} weight_filler {{ type: "xavier" }} }} }}\n"""


SHARED = 'param { name: "w" } param { name: "b" }'

#: body -> the parameters that are cleared, as layer and name
NETS = {
    "alone": (convolution("conv", "x") + product("ip", "conv") + LOSS % "ip", []),
    "shared": (
        convolution("a", "x", SHARED) + convolution("b", "a", SHARED) + product("ip", "b") + LOSS % "ip",
        [],
    ),
    "shared with itself": (
        'layer { name: "flat" type: "Flatten" bottom: "x" top: "flat" }'
        + product("one", "flat", 'param { name: "w" } param { name: "b" }', num_output=1)
        + product("ip", "one", 'param { name: "v" } param { name: "v" share_mode: PERMISSIVE }')
        + LOSS % "ip",
        ["ip weight"],
    ),
    "two bottoms": (
        convolution("both", "x y", tops="p q").replace("layer {", 'layer { name: "y" type: "Power" bottom: "x" top: "y"'
        " power_param { scale: 2 } }\nlayer {", 1)
        + 'layer { name: "sum" type: "Eltwise" bottom: "p" bottom: "q" top: "sum" }'
        + product("ip", "sum") + LOSS % "ip",
        [],
    ),
    "only a bias": (
        convolution("conv", "x", "param { lr_mult: 0 }") + product("ip", "conv") + LOSS % "ip",
        ["conv weight"],
    ),
    "normalised": (
        convolution("conv", "x") + 'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }'
        'layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }'
        + product("ip", "conv") + LOSS % "ip",
        ["bn mean", "bn variance", "bn factor", "scale scale", "scale bias"],
    ),
    "upwards": (
        convolution("conv", "x") + """layer { name: "up" type: "Deconvolution" bottom: "conv" top: "up"
          convolution_param { num_output: 2 kernel_size: 2 weight_filler { type: "msra" } } }"""
        + product("ip", "up") + LOSS % "ip",
        ["up weight", "up bias"],
    ),
    "beside": (
        convolution("conv", "x") + product("unused", "x") + 'layer { name: "s" type: "Silence" bottom: "unused" }'
        + product("ip", "conv") + LOSS % "ip",
        ["unused weight", "unused bias"],
    ),
}  # fmt: skip


def solver(body, batch=4, more="momentum: 0.9 weight_decay: 0.01", **options):
    text = f'train_net_param {{ name: "n" {DATA % (batch, batch)} {body} }} base_lr: 0.1 random_seed: 5 {more}'
    return lf.get_solver(schema.parse(text, "SolverParameter"), device="emulated", **options)


def run(made, iterations=5, batch=4):
    """Losses, weights and diffs of each iteration, which begins with diffs that are no numbers."""
    found = []
    for turn in range(iterations):
        rng = np.random.default_rng(turn)
        made.net.blobs["x"].data[...] = rng.standard_normal((batch, 3, 8, 8))
        made.net.blobs["t"].data[...] = rng.integers(0, 5, batch)
        for parameter in made.net.owned:
            parameter.diff.fill(np.nan)
        made.step(1)
        to_numpy = made.net.device.to_numpy
        found.append((made.loss, [to_numpy(each).tolist() for p in made.net.owned for each in (p.data, p.diff)]))
    return found


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("more", ["momentum: 0.9", "clip_gradients: 0.5"])
def test_overwritten_as_added_to_zeros(name, more):
    body, cleared = NETS[name]
    replayed, launched = solver(body, more=more), solver(body, more=more)
    launched.net.passes.recorded = launched.rule.records = False
    assert run(replayed) == run(launched)
    net = replayed.net
    assert replayed.iteration.recorder.records == 1 and launched.iteration.recorder.records == 0
    names = {id(p): f"{layer.name} {p.name}" for layer in net.layers for p in layer.blobs if p.owner is None}
    _, rest = first_gradients(net.nodes, net.arena.owned)
    assert [names[id(parameter)] for parameter in rest] == cleared


def test_what_backward_overwrites_is_not_copied_beside_it(monkeypatch):
    body, _ = NETS["alone"]
    beside, before, launched = (solver(body, reuse=True) for _ in range(3))
    monkeypatch.setattr(before.net.storage, "starts_beside", lambda: False)
    launched.net.passes.recorded = launched.rule.records = False
    assert run(beside) == run(before) == run(launched)
    assert beside.iteration.recorder.records == before.iteration.recorder.records == 1
    storage = beside.net.storage
    assert storage.starts_beside() and [view.name for view, _ in storage._began_with["diff"]] == ["loss"]
    monkeypatch.setattr(storage, "_written_diffs", lambda: {"loss"})
    assert not storage.starts_beside()
    storage._began_with["diff"] = []
    assert storage.starts_beside()
    storage._refilled = [beside.net.nodes[-1].losses[0]]
    assert not storage.starts_beside()


def test_an_empty_batch_has_no_gradient():
    body, _ = NETS["alone"]
    body = body.replace(LOSS % "ip", 'layer { name: "sum" type: "Reduction" bottom: "ip" top: "sum" loss_weight: 1 }')
    made = solver(body, batch=0, more="")
    for _, arrays in run(made, 4, batch=0):
        assert not np.any(arrays[1::2][0])
    assert made.iteration.recorder.records == 1
    assert not made.net.device.to_numpy(made.net.arena.diff).any()


class Own(InnerProduct):
    """Adds to the diffs, whatever the class that it comes from does."""

    Options = "inner_product_param"

    def backward(self, bottom, top):
        self.params["weight"].diff[...] += 1


def test_a_class_of_the_user_s_adds():
    made = solver(NETS["alone"][0].replace('type: "InnerProduct"', 'type: "Own"'))
    fresh, rest = first_gradients(made.net.nodes, made.net.arena.owned)
    assert [sorted(names) for names in fresh.values()] == [["bias", "weight"]]
    assert [p.name for p in rest] == ["weight", "bias"]


def test_a_pass_alone_adds():
    """Also where an iteration before overwrote."""
    made = solver(NETS["alone"][0])
    run(made, 4)
    net = made.net
    net.clear_param_diffs()
    net.forward_backward()
    once = device.get("emulated").to_numpy(net.arena.diff)
    net.forward_backward()
    np.testing.assert_allclose(net.device.to_numpy(net.arena.diff), 2 * once, rtol=1e-5, atol=1e-6)
    assert once.any()
