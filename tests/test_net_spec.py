"""Nets written in Python: the NetParameter that comes out, names, options, and what is said of mistakes."""

import copy

import numpy as np
import pytest

import layerforge as caffe
from layerforge import layers as L
from layerforge import params as P
from layerforge import schema
from layerforge.errors import DefinitionError
from layerforge.net_spec import to_proto

LENET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 64 dim: 1 dim: 28 dim: 28 } shape { dim: 64 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { kernel_size: 5 num_output: 20 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 pool: MAX } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { kernel_size: 5 num_output: 50 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { kernel_size: 2 stride: 2 pool: MAX } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1"
  param { lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""


def parsed(text):
    return schema.parse(text, "NetParameter").message


def lenet():
    xavier = {"type": "xavier"}
    n = caffe.NetSpec()
    n.data, n.label = L.DummyData(shape=[{"dim": [64, 1, 28, 28]}, {"dim": [64]}], ntop=2)
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=xavier)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=50, weight_filler=xavier)
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    rates = [{"lr_mult": 1}, {"lr_mult": 2}]
    n.ip1 = L.InnerProduct(n.pool2, num_output=500, weight_filler=xavier, param=rates)
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.ip2 = L.InnerProduct(n.relu1, num_output=10, weight_filler=xavier)
    n.loss = L.SoftmaxWithLoss(n.ip2, n.label)
    return n


def test_lenet():
    assert lenet().to_proto() == parsed(LENET)


def test_it_is_text_that_a_net_reads(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(str(lenet().to_proto()))
    net = caffe.Net(str(path), caffe.TRAIN)
    assert net.blobs["ip2"].shape == (64, 10)
    net.close()


def test_names_are_made_where_none_are_given():
    data = L.Input(shape={"dim": [2, 1, 5, 5]})
    made = to_proto(L.ReLU(L.Convolution(L.ReLU(data), num_output=1, kernel_size=1)))
    assert [(layer.name, *layer.bottom, *layer.top) for layer in made.layer] == [
        ("Input1", "Input1"),
        ("ReLU1", "Input1", "ReLU1"),
        ("Convolution1", "ReLU1", "Convolution1"),
        ("ReLU2", "Convolution1", "ReLU2"),
    ]
    assert made == L.ReLU(L.Convolution(L.ReLU(data), num_output=1, kernel_size=1)).to_proto()


def test_a_layer_is_written_once_however_many_read_it():
    n = caffe.NetSpec()
    data = L.Input(shape={"dim": [2]})
    n.a = L.ReLU(data)
    n.b = L.Eltwise(n.a, data, data)
    assert [layer.name for layer in n.to_proto().layer] == ["Input1", "a", "b"]
    assert list(n.to_proto().layer[2].bottom) == ["a", "Input1", "Input1"]


def test_a_thousand_layers():
    top = L.Input(shape={"dim": [1]})
    for _ in range(3000):
        top = L.ReLU(top)
    assert to_proto(top).layer[-1].name == "ReLU3000"


def test_no_tops():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [3]})
    n.quiet = L.Silence(n.data, ntop=0)
    n["again"] = L.Silence(n.data, n.data, ntop=0)
    assert n.to_proto() == parsed("""
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 } } }
        layer { name: "quiet" type: "Silence" bottom: "data" }
        layer { name: "again" type: "Silence" bottom: "data" bottom: "data" }
    """)
    assert to_proto(n.quiet).layer[-1].name == "Silence1"
    assert n.quiet.to_proto() == to_proto(n.quiet)


def test_options():
    """What a type does not have itself is the layer's; dicts, messages, numpy's numbers and names of enumerators."""
    filler = schema.message("FillerParameter")(type="msra")
    data = L.Input(shape={"dim": np.array([1, 3, 8, 8])})
    top = L.Convolution(
        data,
        name="first",
        num_output=np.int64(4),
        kernel_size=[3, 5],
        pad=(1, 2),
        weight_filler=filler,
        engine="CAFFE",
        param={"name": "w", "lr_mult": np.float32(0.5)},
        include={"phase": "TEST", "stage": ["a", "b"]},
        loss_weight=2,
        propagate_down=[False],
    )
    assert (
        top.to_proto().layer[1]
        == parsed("""
        layer { name: "first" type: "Convolution" bottom: "Input1" top: "Convolution1"
          loss_weight: 2 propagate_down: false param { name: "w" lr_mult: 0.5 }
          include { phase: TEST stage: "a" stage: "b" }
          convolution_param { num_output: 4 kernel_size: 3 kernel_size: 5 pad: 1 pad: 2
                              weight_filler { type: "msra" } engine: CAFFE } }
    """).layer[0]
    )


@pytest.mark.parametrize(
    "options", [{"convolution_param": {"num_output": 2, "kernel_size": 4}}, {"num_output": 2, "kernel_size": 4}]
)
def test_options_that_two_types_share(options):
    made = L.Deconvolution(L.Input(shape={"dim": [1, 1, 4, 4]}), **options).to_proto().layer[1]
    assert (made.convolution_param.num_output, list(made.convolution_param.kernel_size)) == (2, [4])


def test_python_layer():
    made = L.Python(python_param={"module": "mine", "layer": "Mine", "param_str": "{}"}, ntop=2)[0].to_proto().layer[0]
    assert (made.type, list(made.top), made.python_param.layer) == ("Python", ["Python1", "Python2"], "Mine")


def test_an_empty_message_is_there():
    assert L.Input(input_param={}).to_proto().layer[0].HasField("input_param")


def test_a_spec_is_a_dictionary_of_its_tops():
    n = caffe.NetSpec()
    n["conv/a"] = L.Input(shape={"dim": [1]})
    assert n["conv/a"] is getattr(n, "conv/a")
    assert list(n) == ["conv/a"] and "conv/a" in n and "b" not in n
    assert list(copy.copy(n)) == ["conv/a"]
    n.b = L.ReLU(n["conv/a"])
    del n["conv/a"], n.b
    assert list(n) == []


def test_parameters_are_enumerators():
    assert (P.Pooling.AVE, P.Eltwise.PROD, P.Data.LMDB) == (1, 0, 1)
    assert layer_types(caffe.L) == layer_types(L)


def layer_types(namespace):
    return [namespace.Input(shape={"dim": [1]}).fn.type_name, namespace.ReLU().fn.type_name]


def test_lower_case_names_are_modules():
    from layerforge.layers import relu

    assert relu.ReLU.type == "ReLU"
    with pytest.raises(AttributeError, match=r"^module 'layerforge.layers' has no attribute 'relo'$"):
        _ = L.relo


@pytest.mark.parametrize(
    "given, text",
    [
        (["data"], "Convolution input 0 is a str, not a Top"),
        ([None], "Convolution input 0 is a NoneType, not a Top"),
        ([L.Input(), [L.Input()]], "Convolution input 1 is a list, not a Top: write L.Convolution(*tops)"),
        ([L.DummyData(ntop=2)], "Convolution input 0 is a tuple, not a Top: write L.Convolution(*tops)"),
        ([L.Silence(L.Input(), ntop=0)], "Convolution input 0 is a Function, not a Top"),
    ],
)
def test_inputs_that_are_no_tops(given, text):
    with pytest.raises(TypeError) as error:
        L.Convolution(*given)
    assert str(error.value) == text


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda: L.Convolution(num_outputs=3),
            'layer "Convolution1" (Convolution): "num_outputs" is no field of ConvolutionParameter nor LayerParameter.'
            ' Did you mean "num_output"?',
        ),
        (
            lambda: L.Convolution(weight_filler={"kind": "msra"}),
            'layer "Convolution1" (Convolution): "kind" is no field of FillerParameter.',
        ),
        (
            lambda: L.Convolution(weight_filler="msra"),
            "layer \"Convolution1\" (Convolution): weight_filler: 'msra' must be a dict with fields of FillerParameter",
        ),
        (
            lambda: L.Convolution(num_output="ten"),
            "layer \"Convolution1\" (Convolution): num_output: 'ten' is no value for a field of ConvolutionParameter",
        ),
        (
            lambda: L.Convolution(kernel_size=[3, -1]),
            'layer "Convolution1" (Convolution): kernel_size: -1 is no value for a field of ConvolutionParameter',
        ),
        (
            lambda: L.Pooling(pool="MEAN"),
            "layer \"Pooling1\" (Pooling): pool: 'MEAN' is none of MAX, AVE, STOCHASTIC",
        ),
        (
            lambda: L.Silence(scale=3),
            'layer "Silence1" (Silence): "scale" is no field of LayerParameter. Did you mean "scale_param"?',
        ),
        (lambda: L.Convolutoin(num_output=3), 'unknown layer type "Convolutoin". Did you mean "Convolution"?'),
    ],
)
def test_mistakes(make, text):
    with pytest.raises(DefinitionError) as error:
        make().to_proto()
    assert str(error.value) == text


def test_tops_that_are_not_there():
    n = caffe.NetSpec()
    n.conv1 = L.Input()
    with pytest.raises(AttributeError) as error:
        n.conv2  # noqa: B018
    assert str(error.value) == 'this net has no top "conv2". Did you mean "conv1"?'
    with pytest.raises(AttributeError, match=r"^there is no message NothingParameter$"):
        _ = P.Nothing
    with pytest.raises(AttributeError):
        del n.conv2


def test_options_of_all_layers_are_not_taken_for_a_layer_s_own():
    """transform_param stood in data_param for a while, and relu_param does in a fork's convolution_param."""
    n = caffe.NetSpec()
    n.data = L.Data(source="db", transform_param={"crop_size": 3})
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=1, relu_param={"negative_slope": 1})
    data, conv = n.to_proto().layer
    assert data.transform_param.crop_size == 3 and not data.data_param.HasField("transform_param")
    assert conv.relu_param.negative_slope == 1 and not conv.convolution_param.HasField("relu_param")
