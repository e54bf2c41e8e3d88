"""From definitions to nodes: what is made, and every mistake in its own words."""

import re

import numpy as np
import pytest

import layerforge as lf
from layerforge import layer, schema
from layerforge.errors import DefinitionError, LayerForgeError, ShapeError

SOURCE = """layer { name: "in" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 4 dim: 6 } shape { dim: 4 } } }
"""
IP = 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }\n'
LOSS = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }\n'


def net(text, phase=lf.TRAIN, **options):
    return lf.Net(schema.parse(text, "NetParameter", "net.prototxt"), phase, allocate=False, **options)


def test_what_is_made():
    made = net('name: "small"\n' + SOURCE + IP + LOSS)
    assert made.name == "small"
    assert [node.layer.name for node in made.nodes] == made._layer_names == ["in", "ip", "loss"]
    assert made._blob_names == ["data", "label", "ip", "loss"]
    assert {name: view.shape for name, view in made.views.items()} == {
        "data": (4, 6),
        "label": (4,),
        "ip": (4, 3),
        "loss": (),
    }
    assert (made.inputs, made.outputs) == (["data", "label"], ["loss"])
    assert (made._inputs, made._outputs) == ([0, 1], [3])
    assert made.top_names == {"in": ["data", "label"], "ip": ["ip"], "loss": ["loss"]}
    assert made.bottom_names == {"in": [], "ip": ["data"], "loss": ["ip", "label"]}
    assert made.blob_loss_weights == {"data": 0, "label": 0, "ip": 0, "loss": 1}
    assert list(made.layer_dict) == made._layer_names
    assert [node.runs_backward for node in made.nodes] == [False, True, True]
    assert [one.phase for one in made.layers] == [lf.TRAIN] * 3
    assert repr(made) == "<Net 'small' TRAIN: 3 layers, 4 blobs>"
    assert [(p.name, p.shape) for p in made.owned] == [("weight", (3, 6)), ("bias", (3,))]


def test_outputs_are_in_alphabetical_order():
    text = SOURCE + "".join(
        f'layer {{ name: "{name}" type: "Power" bottom: "data" top: "{name}" }}\n' for name in ("z", "b", "a", "c")
    )
    assert net(text + 'layer { name: "q" type: "Silence" bottom: "b" }').outputs == ["a", "c", "label", "z"]


def test_what_works_in_place_is_read_by_the_next():
    made = net(SOURCE + IP + 'layer { name: "r" type: "ReLU" bottom: "ip" top: "ip" }')
    assert made.outputs == ["ip", "label"]
    assert made.nodes[2].top == made.nodes[2].bottom == made.nodes[1].top


def test_losses_without_a_name():
    made = net(SOURCE + IP + 2 * LOSS.replace('top: "loss"', ""))
    assert made._blob_names[-2:] == ["(automatic)", "(automatic)_2"]
    assert made.outputs == [], "nobody can name them"
    assert [node.loss_weights for node in made.nodes[-2:]] == [[1], [1]]


def test_a_layers_own_phase():
    made = net(SOURCE + 'layer { name: "d" type: "Dropout" bottom: "data" top: "d" phase: TEST }')
    assert [one.phase for one in made.layers] == [lf.TRAIN, lf.TEST]
    assert [one.param.phase for one in made.layers] == [lf.TRAIN, lf.TEST], "so it is saved"


def test_the_definition_stays_as_it_is():
    definition = schema.parse(SOURCE + IP.replace("data", "label") * 2, "NetParameter")
    before = definition.message.SerializeToString()
    with pytest.raises(LayerForgeError):
        lf.Net(definition, lf.TRAIN)
    assert definition.message.SerializeToString() == before


def test_learning_rates():
    made = net(SOURCE + IP.replace("bottom", "param { lr_mult: 2 decay_mult: 0 } bottom"))
    weight, bias = made.params["ip"]
    assert (weight.lr_mult, weight.decay_mult, weight.needs_diff) == (2, 0, True)
    assert (bias.lr_mult, bias.decay_mult, bias.needs_diff) == (1, 1, True)


def test_a_frozen_layer_needs_no_diffs():
    made = net(SOURCE + IP.replace("bottom", "param { lr_mult: 0 } param { lr_mult: 0 } bottom") + LOSS)
    assert [p.needs_diff for p in made.owned] == [False, False]
    assert not any(node.runs_backward for node in made.nodes)


def test_statistics_are_not_learnt():
    made = net(SOURCE + 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }')
    assert [p.lr_mult for p in made.owned] == [0, 0, 0]


def test_force_backward():
    made = net("force_backward: true\n" + SOURCE + IP + LOSS)
    assert [view.needs_diff for view in made.nodes[2].bottom] == [True, False]
    assert made.views["data"].needs_diff


# Mistakes.


@pytest.mark.parametrize(
    "kind, text, expected",
    [
        pytest.param(
            DefinitionError,
            SOURCE + IP.replace('bottom: "data"', ""),
            'net.prototxt:3:1: layer "ip" (InnerProduct) has no bottoms; it takes 1 bottom',
            id="too few bottoms",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP.replace('"data"', '"data" bottom: "label"'),
            'net.prototxt:3:56: layer "ip" (InnerProduct) has 2 bottoms; it takes 1 bottom',
            id="too many bottoms",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + 'layer { name: "e" type: "Eltwise" bottom: "data" top: "e" }',
            'net.prototxt:3:35: layer "e" (Eltwise) has 1 bottom; it takes at least 2 bottoms',
            id="at least",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP + LOSS.replace('top: "loss"', 'top: "loss" top: "p" top: "q"'),
            'net.prototxt:4:96: layer "loss" (SoftmaxWithLoss) has 3 tops; it takes 0 to 2 tops',
            id="too many tops",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + 'layer { name: "x" type: "Convolutoin" bottom: "data" top: "x" }',
            'net.prototxt:3:19: layer "x": unknown layer type "Convolutoin". Did you mean "Convolution"? Types of your'
            " own come in with --import.",
            id="type",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP.replace("num_output: 3", 'num_output: 3\n weight_filler { type: "xavie" }'),
            'net.prototxt:4:18: unknown filler type "xavie". Did you mean "xavier"? Known: bilinear, constant,'
            " gaussian, msra, positive_unitball, uniform, xavier",
            id="filler",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP.replace("bottom", "\n param {} param {} param {}\n bottom"),
            'net.prototxt:4:20: layer "ip" (InnerProduct): param is given 3 times, but it has 2 parameters',
            id="too many params",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r"\n param {} }',
            'net.prototxt:4:2: layer "r" (ReLU): param is given once, but it has no parameters',
            id="params of nothing",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP + LOSS.replace("top", "\n loss_weight: 1 loss_weight: 2 top"),
            'net.prototxt:5:2: layer "loss" (SoftmaxWithLoss): loss_weight is given 2 times for 1 top: give one for'
            " each, or none",
            id="loss weights",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP + LOSS.replace("top", "\n propagate_down: true top"),
            'net.prototxt:5:2: layer "loss" (SoftmaxWithLoss): propagate_down is given once for 2 bottoms: give one'
            " for each, or none",
            id="propagate_down",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP.replace('top: "ip"', 'top: "data"'),
            'net.prototxt:3:56: layer "ip" (InnerProduct) cannot work in place: give its top a name other than "data"',
            id="not in place",
        ),
        pytest.param(
            ShapeError,
            SOURCE + IP.replace("num_output: 3", "num_output: 3 axis: 5"),
            'net.prototxt:3:102: layer "ip" (InnerProduct): axis: 5 is no axis of bottom "data" (4, 6), which has 2'
            " axes",
            id="shape",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + 'layer { name: "x" type: "ReLU" bottom: "data" top: "x"\n  include {}\n  exclude {} }',
            'net.prototxt:5:3: layer "x" has both include and exclude rules: keep one kind',
            id="rules",
        ),
        pytest.param(
            DefinitionError,
            SOURCE
            + IP
            + IP.replace('"ip"', '"labels"').replace("num_output: 3", "num_output: 1")
            + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "labels" }',
            'net.prototxt:5:59: layer "loss" (SoftmaxWithLoss) has no gradient for bottom "labels" (4, 1), but a layer'
            " that learns depends on it. Write propagate_down: false for it, or feed it from data",
            id="a label that is learnt",
        ),
        pytest.param(
            DefinitionError,
            SOURCE + IP + LOSS + 'layer { name: "twice" type: "Power" bottom: "loss" top: "twice" loss_weight: 2 }',
            'net.prototxt:5:37: layer "twice" (Power) passes a gradient to "loss", which is a loss of layer "loss"'
            " (SoftmaxWithLoss). Write the loss_weight there, so that a copy is made",
            id="a loss of a loss",
        ),
    ],
)
def test_mistakes(kind, text, expected):
    with pytest.raises(LayerForgeError) as error:
        net(text)
    assert str(error.value) == expected
    assert type(error.value) is kind


def test_what_has_no_gradient_matters_when_one_is_asked_for():
    text = SOURCE + IP.replace('"ip"', '"a"') + IP.replace('"ip"', '"b"').replace("num_output: 3", "num_output: 1")
    text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "a" bottom: "b" }'
    made = lf.Net(schema.parse(text, "NetParameter", "net.prototxt"), lf.TEST)
    made.forward()
    with pytest.raises(DefinitionError) as error:
        made.backward()
    assert str(error.value) == (
        'net.prototxt:5:58: layer "loss" (SoftmaxWithLoss) has no gradient for bottom "b" (4, 1), but a layer that'
        " learns depends on it. Write propagate_down: false for it, or feed it from data"
    )


def test_a_loss_of_a_loss_with_a_weight_of_its_own():
    text = SOURCE + IP + LOSS.replace("top", "loss_weight: 1 top")
    made = net(text + 'layer { name: "twice" type: "Power" bottom: "loss" top: "twice" loss_weight: 2 }')
    assert made.blob_loss_weights["loss"] == 0
    assert made.blob_loss_weights["loss_loss_0_split_0"] == 1
    assert made.blob_loss_weights["twice"] == 2


def test_all_mistakes_at_once_in_the_order_of_the_file():
    text = """layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { kernel_size: 9 num_output: 2 } }
layer { name: "r" type: "RelU" bottom: "conv" top: "conv" }
layer { name: "p" type: "Pooling" bottom: "conv" top: "p" }
layer { name: "a" type: "ReLU" bottom: "dta" top: "a" }
layer { name: "b" type: "ReLU" bottom: "data" top: "b" }
layer { name: "c" type: "ReLU" bottom: "b" top: "b" param { lr_mult: 1 } }
layer { name: "d" type: "Eltwise" bottom: "b" bottom: "data" top: "a" }
layer { name: "e" type: "Concat" bottom: "a" bottom: "b" top: "e" }
layer { name: "f" type: "Softmax" bottom: "b" top: "f" softmax_param { axis: 4 } }
"""
    with pytest.raises(LayerForgeError) as error:
        net(text)
    assert str(error.value).splitlines() == [
        'net.prototxt:2:89: layer "conv" (Convolution): a window of 9 is larger than the 8 that bottom "data"'
        " (4, 3, 8, 8) has with its padding: lower kernel_size or dilation, or raise pad",
        'net.prototxt:3:19: layer "r": unknown layer type "RelU". Did you mean "ReLU"? Types of your own come in with'
        " --import.",
        'net.prototxt:5:32: layer "a" reads "dta", which no layer above writes. Did you mean "data"?',
        'net.prototxt:7:53: layer "c" (ReLU): param is given once, but it has no parameters',
        'net.prototxt:8:62: layer "d" writes "a", which layer "a" already writes (net.prototxt:5:1). Give it a name of'
        " its own, or read the same blob to work in place",
        'net.prototxt:10:72: layer "f" (Softmax): axis: 4 is no axis of bottom "b" (4, 3, 8, 8), which has 4 axes',
    ]
    assert len(error.value.errors) == 6


def test_bottoms_are_named_as_they_were_written():
    text = SOURCE + 'layer { name: "s" type: "Softmax" bottom: "data" top: "s" softmax_param { axis: 2 } }'
    with pytest.raises(ShapeError) as error:
        net(text + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    assert 'bottom "data" (4, 6)' in str(error.value), "not its copy"


def test_a_class_with_a_wrong_number_of_shapes(monkeypatch):
    layer.load_layers()
    monkeypatch.setattr(layer.registry["ReLU"], "top_shapes", lambda self, x: [x, x])
    with pytest.raises(ShapeError) as error:
        net(SOURCE + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    assert str(error.value) == ('net.prototxt:3:1: layer "r" (ReLU): top_shapes of its class gives 2 shapes for 1 top')


def test_a_top_that_cannot_be_in_place(monkeypatch):
    layer.load_layers()
    monkeypatch.setattr(layer.registry["InnerProduct"], "in_place", True)
    with pytest.raises(ShapeError) as error:
        net(SOURCE + IP.replace('top: "ip"', 'top: "data"'))
    assert str(error.value) == (
        'net.prototxt:3:1: layer "ip" (InnerProduct): top (4, 3) must have the shape of bottom "data" (4, 6) to work in'
        " place"
    )


# Sharing parameters by name.


def shared(first, second, *, second_outputs=3, bottom="data"):
    one = IP.replace("bottom", f'param {{ name: "w" {first} }} bottom')
    two = IP.replace('"ip"', '"ip2"').replace('bottom: "data"', f'\n param {{ name: "w" {second} }} bottom: "{bottom}"')
    return SOURCE + one + two.replace("num_output: 3", f"num_output: {second_outputs}")


@pytest.mark.parametrize(
    "first, second, rates",
    [
        ("", "", (1, 1)),
        ("lr_mult: 2 decay_mult: 3", "", (2, 3)),
        ("", "lr_mult: 2 decay_mult: 3", (2, 3)),
        ("lr_mult: 2", "lr_mult: 2 decay_mult: 3", (2, 3)),
        ("lr_mult: 0", "", (0, 1)),
    ],
)
def test_sharers_learn_at_one_rate(first, second, rates):
    made = net(shared(first, second))
    mine, theirs = made.params["ip2"][0], made.params["ip"][0]
    assert mine.owner == theirs
    assert (mine.lr_mult, mine.decay_mult) == (theirs.lr_mult, theirs.decay_mult) == rates
    assert len(made.owned) == 3


def test_sharing_of_equal_counts():
    made = net(
        shared("", "share_mode: PERMISSIVE", second_outputs=18, bottom="label").replace(
            "dim: 4 } }", "dim: 4 dim: 1 } }"
        )
    )
    assert made.params["ip2"][0].shape == (18, 1)
    assert made.params["ip2"][0].owner.shape == (3, 6)


@pytest.mark.parametrize(
    "kind, text, expected",
    [
        (
            ShapeError,
            shared("", "", second_outputs=4),
            'net.prototxt:5:2: layer "ip2" (InnerProduct): parameter "w" (4, 6) must have the shape it has in layer'
            ' "ip" (InnerProduct), which owns it: (3, 6). Or write share_mode: PERMISSIVE, if equal counts are enough',
        ),
        (
            ShapeError,
            shared("", "share_mode: PERMISSIVE", second_outputs=4),
            'net.prototxt:5:2: layer "ip2" (InnerProduct): parameter "w" (4, 6) has 24 values, but layer "ip"'
            " (InnerProduct), which owns it, has 18 (3, 6): PERMISSIVE sharing needs equal counts",
        ),
        (
            DefinitionError,
            shared("lr_mult: 1", "lr_mult: 2"),
            'net.prototxt:5:2: layer "ip2" (InnerProduct): parameter "w" has lr_mult 2 here and 1 in layer "ip"'
            " (InnerProduct): give both the same, or one of them none",
        ),
        (
            DefinitionError,
            shared("decay_mult: 0", "decay_mult: 1"),
            'net.prototxt:5:2: layer "ip2" (InnerProduct): parameter "w" has decay_mult 1 here and 0 in layer "ip"'
            " (InnerProduct): give both the same, or one of them none",
        ),
    ],
)
def test_sharing_that_does_not_fit(kind, text, expected):
    with pytest.raises(LayerForgeError) as error:
        net(text)
    assert str(error.value) == expected
    assert type(error.value) is kind


def test_the_first_sharer_that_says_a_rate_is_named():
    text = shared("", "lr_mult: 2") + IP.replace('"ip"', '"ip3"').replace(
        "bottom", 'param { name: "w" lr_mult: 3 } bottom'
    )
    with pytest.raises(DefinitionError) as error:
        net(text)
    assert str(error.value) == (
        'net.prototxt:6:42: layer "ip3" (InnerProduct): parameter "w" has lr_mult 3 here and 2 in layer "ip2"'
        " (InnerProduct): give both the same, or one of them none"
    )


# Gradients that a layer in place spoils


def chain(*layers, in_place=True):
    """Layers of these types, each in place on what an InnerProduct writes, or not; options behind a bar."""
    text = SOURCE + IP.replace("num_output: 3", 'num_output: 3 weight_filler { type: "gaussian" }')
    blob = "ip"
    for i, one in enumerate(layers):
        kind, _, options = one.partition("|")
        top = blob if in_place else f"{blob}_"
        text += f'layer {{ name: "{kind}{i}" type: "{kind}" bottom: "{blob}" top: "{top}" {options} }}\n'
        blob = top
    return text + LOSS.replace('bottom: "ip"', f'bottom: "{blob}"')


LEAKY = "ReLU|relu_param { negative_slope: 0.1 }"


@pytest.mark.parametrize(
    "layers, spoilt",
    [
        # What AlexNet, ResNet and others do.
        (["ReLU", "Dropout"], []),
        (["BatchNorm", "Scale", "ReLU", "Dropout"], []),
        (["PReLU", "Dropout", "BatchNorm"], []),
        ([LEAKY, "Dropout", LEAKY], []),
        (["Clip|clip_param { min: 0 max: 6 }", "Dropout"], []),
        (["Sigmoid"], []),
        (["TanH", "ReLU"], []),
        (["Sigmoid", "Dropout|dropout_param { dropout_ratio: 0 }", "Clip|clip_param { min: 0 max: 1 }"], []),
        # Wrong.
        (["Sigmoid", "Dropout"], [("Dropout1", "Sigmoid0")]),
        (["TanH", "ReLU", "Dropout"], [("Dropout2", "TanH0")]),
        (["ELU", "Dropout", "Dropout"], [("Dropout1", "ELU0")]),
        (["ReLU", "BatchNorm"], [("BatchNorm1", "ReLU0")]),
        (["ReLU", "Power|power_param { shift: 1 }"], [("Power1", "ReLU0")]),
        (["Exp", "Sigmoid", "TanH"], [("Sigmoid1", "Exp0"), ("TanH2", "Sigmoid1")]),
        (
            ["ReLU", "TanH", "Scale|scale_param { filler { value: -1 } }"],
            [("Scale2", "ReLU0"), ("Scale2", "TanH1")],
        ),
    ],
)
def test_gradients_that_a_layer_in_place_spoils(layers, spoilt, caplog):
    lf.Net(schema.parse(chain(*layers), "NetParameter", "net.prototxt"), lf.TEST, allocate=False)
    assert not caplog.messages
    gradients = []
    for in_place in (True, False):
        made = lf.Net(schema.parse(chain(*layers, in_place=in_place), "NetParameter", "net.prototxt"), lf.TRAIN, seed=1)
        rng = np.random.default_rng(0)
        made.blobs["data"].data[...] = rng.standard_normal((4, 6))
        made.blobs["label"].data[...] = [0, 1, 2, 1]
        made.forward_backward()
        gradients.append(made.params["ip"][0].diff.copy())
    assert [tuple(re.findall(r'layer "(\w+)"', message)) for message in caplog.messages] == spoilt
    assert np.allclose(*gradients, rtol=1e-4, atol=1e-6) == (not spoilt)


def test_what_is_said_of_a_spoilt_gradient(caplog):
    net(chain("Sigmoid", "Dropout"))
    assert caplog.messages == [
        'net.prototxt:5:55: layer "Dropout1" (Dropout) overwrites "ip" in place, which layer "Sigmoid0" (Sigmoid)'
        " (net.prototxt:4:1) needs for its gradient: that will be wrong, as in Caffe. Give its top a name of its own"
    ]


def test_nothing_is_said_where_no_gradient_is_needed(caplog):
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 } inner_product_param {"
    text = chain("Sigmoid", "TanH").replace("inner_product_param {", frozen)
    net(text)
    net(text.replace("lr_mult: 0", "lr_mult: 1"), lf.TEST)
    assert not caplog.messages
    net("force_backward: true\n" + text, lf.TEST)
    assert len(caplog.messages) == 1


def modes_of(made):
    """The modes in which cuBLAS is asked for products, launched and replayed."""
    modes, blas = set(), made.device.cublas
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(blas.library), "cublasSgemm_v2", lambda *given: modes.add(blas.mode) or 0)
        for _ in range(3):
            made.forward_backward()
    assert blas.mode == "float32"
    assert made.passes.forward_recorder.records == 1
    return modes


def test_math_mode():
    """Of the net, or of a layer; the CPU has one."""
    product = IP.replace("num_output: 3", "num_output: 30")  # so many that cuBLAS is asked
    for text, expected in (
        (SOURCE + product + LOSS, {"float32"}),
        ('math_mode: "tf32" ' + SOURCE + product + LOSS, {"tf32"}),
        ('math_mode: "tf32" ' + SOURCE + product.replace("{", '{ math_mode: "float32"', 1) + LOSS, {"float32"}),
        (SOURCE + product.replace("{", '{ math_mode: "tf32"', 1) + LOSS, {"tf32"}),
    ):
        net(text).forward_backward()
        assert modes_of(net(text, device="emulated")) == expected


def test_math_modes_that_are_none():
    with pytest.raises(DefinitionError) as caught:
        net('math_mode: "TF32"\n' + SOURCE)
    assert str(caught.value) == (
        'net.prototxt:1:1: unknown math_mode "TF32": there are float32, tf32. Did you mean "tf32"?'
    )
    with pytest.raises(DefinitionError) as caught:
        net(SOURCE + IP.replace('"ip" type', '"ip" math_mode: "bf16" type') + LOSS)
    assert str(caught.value) == (
        'net.prototxt:3:20: layer "ip" (InnerProduct): unknown math_mode "bf16": there are float32, tf32.'
    )
