"""Caffe's messages under the names of protobuf's generated module."""

import dataclasses

import pytest
from google.protobuf import text_format

import layerforge as caffe
from layerforge import layer, schema
from layerforge.proto import caffe_pb2


def test_messages():
    net = caffe_pb2.NetParameter(name="n")
    net.layer.add(type="Pooling").pooling_param.pool = caffe_pb2.PoolingParameter.AVE
    assert type(net) is schema.message("NetParameter")
    assert caffe_pb2.NetParameter.FromString(net.SerializeToString()) == net
    assert caffe.proto.caffe_pb2 is caffe_pb2


def test_every_message_of_the_schema():
    for name in caffe_pb2.DESCRIPTOR.message_types_by_name:
        assert getattr(caffe_pb2, name).DESCRIPTOR.name == name
    assert "NetParameter" in dir(caffe_pb2) and "Phase" in dir(caffe_pb2)


def test_text_format_reads_and_writes_them():
    text = 'name: "n"\nlayer {\n  name: "relu"\n  type: "ReLU"\n  relu_param {\n    negative_slope: 0.5\n  }\n}\n'
    net = text_format.Merge(text, caffe_pb2.NetParameter())
    assert net.layer[0].relu_param.negative_slope == 0.5
    assert str(net) == text_format.MessageToString(net) == text
    solver = text_format.Parse('base_lr: 0.1 lr_policy: "fixed"', caffe_pb2.SolverParameter())
    assert (solver.lr_policy, solver.momentum2) == ("fixed", pytest.approx(0.999))


def test_enums():
    assert (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)
    assert caffe_pb2.Phase.Name(1) == "TEST"
    assert caffe_pb2.Phase.Value("TRAIN") == 0
    assert caffe_pb2.V1LayerParameter.LayerType.Name(4) == "CONVOLUTION"
    assert caffe_pb2.V1LayerParameter.CONVOLUTION == 4


def test_descriptors_as_generated_modules_of_old_had_them():
    assert caffe_pb2._NETPARAMETER is schema.message("NetParameter").DESCRIPTOR
    assert caffe_pb2._V1LAYERPARAMETER_LAYERTYPE.values_by_number[4].name == "CONVOLUTION"


def test_star():
    names = {}
    exec("from layerforge.proto.caffe_pb2 import *", names)
    assert names["TEST"] == 1
    assert names["NetParameter"] is caffe_pb2.NetParameter


@pytest.mark.parametrize("name", ["NetParam", "_NETPARAM", "__wrapped__"])
def test_what_is_not_there(name):
    with pytest.raises(AttributeError) as error:
        getattr(caffe_pb2, name)
    assert str(error.value) == f"module 'layerforge.proto.caffe_pb2' has no attribute '{name}'"


def test_options_of_a_layer_that_is_added_later():
    before = caffe_pb2.NetParameter
    try:

        class Halver(caffe.Layer):
            @dataclasses.dataclass
            class Options:
                times: int = 1

        net = text_format.Merge('layer { type: "Halver" halver_param { times: 3 } }', caffe_pb2.NetParameter())
        assert net.layer[0].halver_param.times == 3
        assert caffe_pb2.NetParameter is not before
    finally:
        layer.registry.pop("Halver")
        schema._added.pop("halver_param")
        schema._classes.clear()
