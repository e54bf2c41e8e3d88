"""What becomes of options that only forks of Caffe have."""

import logging

import numpy as np
import pytest

import layerforge as lf
from layerforge import forks, schema
from layerforge.errors import DefinitionError


def own_fields():
    """Every field, and every field with a value, that Caffe does not have."""
    found = set()
    for descriptor in schema.message("NetParameter").DESCRIPTOR.file.message_types_by_name.values():
        for field in descriptor.fields:
            values = field.enum_type.values if field.enum_type is not None else []
            if field.number >= schema.FORKS or any(value.number >= schema.FORKS for value in values):
                found.add((descriptor.name, field.name))
    return found


def test_of_every_option_it_is_known_what_becomes_of_it():
    honoured = {(owner, name) for owner, names in forks.HONOURED.items() for name in names}
    left_out = {(owner, name) for owner, names in forks.LEFT_OUT.items() for name in names}
    assert honoured.isdisjoint(left_out)
    assert honoured | left_out == own_fields()


def net(text, phase=lf.TRAIN):
    return lf.Net(schema.parse(text, "NetParameter", "net.prototxt"), phase, allocate=False)


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [2, 3, 8, 8] } } }\n'


def test_what_is_left_out_is_said_once_with_its_first_place(caplog):
    net(
        INPUT + 'layer { name: "a" type: "ReLU" bottom: "x" top: "a"\n'
        "  device { type: GPU device_id: 1 } relu_param { engine: MKL2017 } }\n"
        'layer { name: "b" type: "ReLU" bottom: "a" top: "b" forward_type: FLOAT16\n  device { type: GPU } }\n'
        'layer { name: "c" type: "ReLU" bottom: "b" top: "c" device { type: GPU } }\n'
        'layer { name: "d" type: "ReLU" bottom: "c" top: "d" include { phase: TEST } backward_type: FLOAT16 }\n'
        "mem_param { optimize_train: true }"
    )
    same = "it is left out, which changes nothing in what is computed"
    assert caplog.messages == [
        f"net.prototxt:8:1: only forks of Caffe have mem_param in NetParameter: {same}",
        f"net.prototxt:3:3: only forks of Caffe have device in LayerParameter (here and in 2 other places): {same}",
        f"net.prototxt:4:53: only forks of Caffe have forward_type in LayerParameter: {same}",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_images_that_are_not_resized(caplog):
    definition = schema.parse(
        "layer { transform_param { crop_size: 224\nrandom_resize_param { min_size: 256 max_size: 256"
        " resize_param { interp_mode: CUBIC } } } }",
        "NetParameter",
        "net.prototxt",
    )
    forks.warn(definition.children("layer"))
    assert caplog.messages == [
        "net.prototxt:2:1: only forks of Caffe have random_resize_param in TransformationParameter: it is left out, "
        "so images are only cropped, mirrored, and their mean and scale changed"
    ]


def test_a_solver_s(caplog):
    text = (
        INPUT + 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }'
    )
    lf.Solver(
        schema.parse(
            f'net_param {{ {text} }} base_lr: 1 lr_policy: "fixed" snapshot_prefix: "s"\neval_type: "detection"',
            "SolverParameter",
            "solver.prototxt",
        )
    )
    assert caplog.messages == [
        "solver.prototxt:3:1: only forks of Caffe have eval_type in SolverParameter: it is left out, so a test gives"
        " the mean of each output"
    ]


def test_parameters_from_bottoms():
    with pytest.raises(DefinitionError) as caught:
        net(
            INPUT + 'layer { name: "c" type: "Convolution" bottom: "x" bottom: "x" top: "c"\n'
            "  param_bottoms: 1 convolution_param { num_output: 2 kernel_size: 3 } }"
        )
    assert str(caught.value) == (
        'net.prototxt:3:3: layer "c" (Convolution): param_bottoms: only a fork of Caffe reads parameters from bottoms. '
        "Take the line out, and those bottoms; a param with a name shares parameters"
    )


def test_a_fused_layer_computes_as_two():
    conv = 'name: "c" type: "Convolution" bottom: "x" top: "c"'
    options = 'num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" }'
    lrn, pool = "local_size: 3 alpha: 2", "kernel_size: 2 stride: 2"
    fused = lf.Net(
        schema.parse(
            INPUT
            + f"""layer {{ {conv} convolution_param {{ {options} fuse_type: FUSED_CONV_RELU
                relu_param {{ negative_slope: 0.5 }} }} }}
            layer {{ name: "n" type: "LRN" bottom: "c" top: "p"
                lrn_param {{ {lrn} fuse_type: FUSED_POOL_MAX pooling_param {{ {pool} }} }} }}""",
            "NetParameter",
        ),
        lf.TEST,
        seed=1,
    )
    plain = lf.Net(
        schema.parse(
            INPUT
            + f"""layer {{ {conv} convolution_param {{ {options} }} }}
            layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" relu_param {{ negative_slope: 0.5 }} }}
            layer {{ name: "n" type: "LRN" bottom: "c" top: "n" lrn_param {{ {lrn} }} }}
            layer {{ name: "p" type: "Pooling" bottom: "n" top: "p" pooling_param {{ {pool} }} }}""",
            "NetParameter",
        ),
        lf.TEST,
        seed=1,
    )
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8))
    first, second = (one.forward(x=x)["p"] for one in (fused, plain))
    assert first.shape == (2, 4, 3, 3)
    assert np.array_equal(first, second)
