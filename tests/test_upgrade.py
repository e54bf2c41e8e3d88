"""Old definitions become today's, and errors about them name the lines of the old file."""

import logging

import pytest

from layerforge import schema, upgrade
from layerforge.errors import DefinitionError


def parse(text, name="NetParameter"):
    return schema.parse(text, name, "old.prototxt")


def upgraded(text):
    """The upgraded net, after a look that the old one is as it was."""
    definition = parse(text)
    before = definition.message.SerializeToString()
    places = places_of(definition.node)
    new = upgrade.net(definition)
    assert definition.message.SerializeToString() == before
    assert places_of(definition.node) == places
    again = upgrade.net(new)
    assert again.message == new.message and again.message is not new.message
    return new


def places_of(node):
    return node.offset, {
        name: [entry if isinstance(entry, int) else places_of(entry) for entry in entries]
        for name, entries in node.fields.items()
    }


def same(text, expected):
    found = schema.to_text(upgraded(text).message)
    assert found == schema.to_text(schema.parse(expected, "NetParameter").message)


def error(text):
    with pytest.raises(DefinitionError) as caught:
        upgrade.net(parse(text))
    return str(caught.value)


def test_a_net_of_today_stays_as_it_is():
    text = 'name: "n" layer { name: "a" type: "ReLU" bottom: "x" top: "y" } state { level: 2 }'
    same(text, text)
    assert not upgrade.is_old(parse(text))


# V1


def test_v1_layers():
    same(
        """
        name: "old"
        layers {
          name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1"
          blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
          convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } }
          include { phase: TRAIN } exclude { min_level: 1 } loss_weight: 0.5
        }
        layers { name: "shared" type: INNER_PRODUCT param: "w" param: "b" blob_share_mode: PERMISSIVE blobs_lr: 3 }
        layers { name: "loss" type: SOFTMAX_LOSS bottom: "conv1" bottom: "label" }
        """,
        """
        name: "old"
        layer {
          name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
          param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
          convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } }
          include { phase: TRAIN } exclude { min_level: 1 } loss_weight: 0.5
        }
        layer {
          name: "shared" type: "InnerProduct"
          param { name: "w" share_mode: PERMISSIVE lr_mult: 3 } param { name: "b" }
        }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv1" bottom: "label" }
        """,
    )


def test_every_v1_type_has_a_name():
    values = schema.message("V1LayerParameter").DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name
    assert set(values) == set(upgrade.V1_TYPES)


def test_every_field_of_v1_layers_is_carried_along():
    # Fields of the same name have the same type, and what has no namesake is converted.
    old = schema.message("V1LayerParameter").DESCRIPTOR.fields
    new = schema.message("LayerParameter").DESCRIPTOR.fields_by_name
    for field in old:
        if field.name in (*upgrade.LEARNING, "type", "layer"):
            continue
        assert schema.is_repeated(new[field.name]) == schema.is_repeated(field), field.name
        assert new[field.name].type == field.type, field.name


def test_places_of_v1_layers():
    definition = upgraded(
        'layers {\n  name: "conv1"\n  type: CONVOLUTION\n  bottom: "a"\n  bottom: "b"\n  blobs_lr: 1\n  blobs_lr: 2\n'
        "  weight_decay: 1\n  convolution_param {\n    group: 2\n  }\n}\nlayers { type: RELU }"
    )
    layer = definition.child("layer", 0)
    assert [
        str(layer.place(*path))
        for path in [
            (),
            ("type",),
            ("bottom", 1),
            ("param", 1),
            ("param", 1, "lr_mult"),
            ("param", 0, "decay_mult"),
            ("param", 1, "decay_mult"),
            ("convolution_param", "group"),
        ]
    ] == [f"old.prototxt:{at}" for at in ("1:1", "3:3", "5:3", "7:3", "7:3", "8:3", "7:3", "10:5")]
    assert str(definition.place("layer", 1)) == "old.prototxt:13:1"


def test_options_of_data_layers_move_to_transform_param():
    definition = upgraded(
        'layers {\n  name: "data" type: DATA\n  data_param { source: "db" batch_size: 8 scale: 0.5 crop_size: 227\n'
        '    mirror: true mean_file: "mean" }\n}\n'
        'layers { type: IMAGE_DATA image_data_param { source: "list" mirror: false } transform_param'
        " { crop_size: 9 } }\n"
        "layers { type: WINDOW_DATA window_data_param { crop_size: 3 } transform_param { crop_size: 9 } }\n"
        "layers { type: DUMMY_DATA data_param { crop_size: 3 } }\n"
    )
    expected = schema.parse(
        'layer { name: "data" type: "Data" data_param { source: "db" batch_size: 8 }'
        ' transform_param { scale: 0.5 crop_size: 227 mirror: true mean_file: "mean" } }'
        'layer { type: "ImageData" image_data_param { source: "list" } transform_param { crop_size: 9 mirror: false } }'
        'layer { type: "WindowData" window_data_param { } transform_param { crop_size: 3 } }'
        'layer { type: "DummyData" data_param { crop_size: 3 } }',
        "NetParameter",
    )
    assert schema.to_text(definition.message) == schema.to_text(expected.message)
    assert str(definition.place("layer", 0, "transform_param", "mirror")) == "old.prototxt:4:5"
    assert str(definition.place("layer", 0, "transform_param", "force_gray")) == "old.prototxt:1:1"
    assert str(definition.place("layer", 1, "transform_param", "mirror")) == "old.prototxt:6:61"


def test_v1_weights_are_carried_along():
    message = schema.message("NetParameter")()
    layer = message.layers.add(name="ip", type=14)
    layer.blobs.add(num=1, channels=1, height=1, width=2, data=[1, 2])
    new = upgrade.net(schema.Definition.of(message)).message
    assert schema.to_text(new.layer[0].blobs[0]) == schema.to_text(layer.blobs[0])


def test_layer_and_layers():
    assert error('layer { name: "a" }\nlayers { name: "b" }') == (
        'old.prototxt:2:1: a net has "layer" or, in old files, "layers"; this one has 1 of the one and 1 of the other.'
        " Write layer { ... } throughout."
    )


# V0


def test_v0_layers():
    same(
        """
        layers { layer { name: "data" type: "data" source: "db" meanfile: "mean" batchsize: 256 cropsize: 227
                         mirror: true scale: 0.5 rand_skip: 3 } top: "data" top: "label" }
        layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
        layers { layer { name: "conv1" type: "conv" num_output: 96 kernelsize: 11 stride: 4 group: 2 biasterm: false
                         weight_filler { type: "gaussian" } bias_filler { value: 1 }
                         blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0. } bottom: "pad1" top: "conv1" }
        layers { layer { name: "pad2" type: "padding" pad: 1 } bottom: "conv1" top: "pad2" }
        layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "pad2" top: "pool1" }
        layers { layer { name: "relu1" type: "relu" } bottom: "pool1" top: "pool1" }
        layers { layer { name: "norm1" type: "lrn" local_size: 7 alpha: 0.1 beta: 0.5 k: 2 } bottom: "pool1" top: "n" }
        layers { layer { name: "fc" type: "innerproduct" num_output: 10 biasterm: true } bottom: "n" top: "fc" }
        layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.2 } bottom: "fc" top: "fc" }
        layers { layer { name: "cat" type: "concat" concat_dim: 0 } bottom: "fc" bottom: "n" top: "cat" }
        layers { layer { name: "loss" type: "softmax_loss" } bottom: "fc" bottom: "label" }
        """,
        """
        layer { name: "data" type: "Data" top: "data" top: "label"
                transform_param { mean_file: "mean" crop_size: 227 mirror: true scale: 0.5 }
                data_param { source: "db" batch_size: 256 rand_skip: 3 } }
        layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
                param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
                convolution_param { num_output: 96 kernel_size: 11 stride: 4 group: 2 bias_term: false pad: 2
                                    weight_filler { type: "gaussian" } bias_filler { value: 1 } } }
        layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
                pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
        layer { name: "relu1" type: "ReLU" bottom: "pool1" top: "pool1" }
        layer { name: "norm1" type: "LRN" bottom: "pool1" top: "n"
                lrn_param { local_size: 7 alpha: 0.1 beta: 0.5 k: 2 } }
        layer { name: "fc" type: "InnerProduct" bottom: "n" top: "fc"
                inner_product_param { num_output: 10 bias_term: true } }
        layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.2 } }
        layer { name: "cat" type: "Concat" bottom: "fc" bottom: "n" top: "cat" concat_param { concat_dim: 0 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" }
        """,
    )


def test_v0_data_layers():
    same(
        """
        layers { layer { name: "a" type: "images" source: "list" batchsize: 2 new_height: 3 new_width: 4
                         shuffle_images: true rand_skip: 5 } top: "a" }
        layers { layer { name: "b" type: "window_data" source: "w" batchsize: 2 cropsize: 7 det_fg_threshold: 0.6
                         det_bg_threshold: 0.4 det_fg_fraction: 0.3 det_context_pad: 1 det_crop_mode: "square" } }
        layers { layer { name: "c" type: "hdf5_data" source: "h" batchsize: 2 } }
        layers { layer { name: "d" type: "hdf5_output" hdf5_output_param { file_name: "f" } } }
        layers { layer { name: "e" type: "infogain_loss" source: "i" } }
        layers { layer { name: "f" type: "im2col" kernelsize: 3 stride: 2 } }
        """,
        """
        layer { name: "a" type: "ImageData" top: "a"
                image_data_param { source: "list" batch_size: 2 new_height: 3 new_width: 4 shuffle: true
                                   rand_skip: 5 } }
        layer { name: "b" type: "WindowData" transform_param { crop_size: 7 }
                window_data_param { source: "w" batch_size: 2 fg_threshold: 0.6 bg_threshold: 0.4 fg_fraction: 0.3
                                    context_pad: 1 crop_mode: "square" } }
        layer { name: "c" type: "HDF5Data" hdf5_data_param { source: "h" batch_size: 2 } }
        layer { name: "d" type: "HDF5Output" hdf5_output_param { file_name: "f" } }
        layer { name: "e" type: "InfogainLoss" infogain_loss_param { source: "i" } }
        layer { name: "f" type: "Im2col" convolution_param { kernel_size: 3 stride: 2 } }
        """,
    )


def test_places_of_v0_layers():
    definition = upgraded(
        'layers {\n  layer {\n    name: "pad"\n    type: "padding"\n    pad: 2\n  }\n  bottom: "x"\n  top: "p"\n}\n'
        'layers {\n  layer {\n    name: "c"\n    type: "conv"\n    kernelsize: 3\n    blobs_lr: 1\n    meanfile: "m"\n'
        '  }\n  bottom: "p"\n  top: "c"\n}\n'
    )
    layer = definition.child("layer", 0)
    assert layer.message.bottom[0] == "x" and layer.message.convolution_param.pad[0] == 2
    assert [
        str(layer.place(*path))
        for path in [
            (),
            ("name",),
            ("type",),
            ("bottom", 0),
            ("convolution_param", "kernel_size"),
            ("convolution_param", "pad"),
            ("convolution_param", "group"),
            ("param", 0, "lr_mult"),
            ("transform_param", "mean_file"),
        ]
    ] == [f"old.prototxt:{at}" for at in ("10:1", "12:5", "13:5", "18:3", "14:5", "5:5", "10:1", "15:5", "16:5")]


def test_v0_errors():
    assert error('layers {\n  layer { name: "a" type: "cnov" }\n}\nlayers { layer { name: "b" type: "blob" } }') == (
        'old.prototxt:2:21: layer "a": unknown layer type "cnov" in a net of 2013. Did you mean "conv"?\n'
        'old.prototxt:4:28: layer "b": unknown layer type "blob" in a net of 2013.'
    )
    assert error(
        'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "x" top: "p" }\n'
        'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }'
    ) == (
        'old.prototxt:2:43: layer "r" (relu) reads padding layer "p": only conv and pool with one bottom can, and the'
        " padding must have one bottom too."
    )


def test_v0_options_without_meaning_are_left_out(caplog):
    with caplog.at_level(logging.WARNING):
        same('layers { layer { name: "r" type: "relu" group: 2 } }', 'layer { name: "r" type: "ReLU" }')
    assert caplog.messages[0] == (
        'old.prototxt:1:41: layer "r": group has no meaning for type "relu", and is left out.'
    )


def test_v0_and_v1_layers_in_one_net():
    same(
        'layers { layer { name: "a" type: "relu" } } layers { name: "b" type: RELU }',
        'layer { name: "a" type: "ReLU" } layer { name: "b" type: "ReLU" }',
    )


# Inputs


def test_input_dim():
    definition = upgraded(
        'name: "n"\ninput: "data"\ninput_dim: 10 input_dim: 3\ninput_dim: 227 input_dim: 227\n'
        'input: "info"\ninput_dim: 1 input_dim: 2 input_dim: 3\ninput_dim: 4\nlayer { name: "a" }'
    )
    expected = schema.parse(
        'name: "n" layer { name: "input" type: "Input" top: "data" top: "info" input_param {'
        " shape { dim: 10 dim: 3 dim: 227 dim: 227 } shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }"
        ' layer { name: "a" }',
        "NetParameter",
    )
    assert schema.to_text(definition.message) == schema.to_text(expected.message)
    layer = definition.child("layer", 0)
    assert [
        str(layer.place(*path))
        for path in [(), ("name",), ("top", 1), ("input_param", "shape", 1), ("input_param", "shape", 1, "dim", 3)]
    ] == [f"old.prototxt:{at}" for at in ("2:1", "2:1", "5:1", "6:1", "7:1")]
    assert str(definition.place("layer", 1, "name")) == "old.prototxt:8:9"


def test_input_shape():
    definition = upgraded('input: "data" layer { name: "a" } input_shape { dim: 1\n dim: 2 }')
    expected = schema.parse(
        'layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } } layer { name: "a" }',
        "NetParameter",
    )
    assert schema.to_text(definition.message) == schema.to_text(expected.message)
    assert str(definition.place("layer", 0, "input_param", "shape", 0, "dim", 1)) == "old.prototxt:2:2"


def test_input_without_shapes():
    same('input: "data"', 'layer { name: "input" type: "Input" top: "data" input_param { } }')


def test_input_of_a_v1_net():
    same(
        'input: "data" input_dim: [1, 2, 3, 4] layers { name: "a" type: RELU }',
        'layer { name: "input" type: "Input" top: "data" input_param { shape { dim: [1, 2, 3, 4] } } }'
        ' layer { name: "a" type: "ReLU" }',
    )


def test_input_errors():
    assert error('input: "data"\ninput_dim: 1 input_dim: 3 input_dim: 227') == (
        "old.prototxt:2:27: 1 input and 3 input_dim: there must be 4 input_dim for each input, 4 in all."
        " For other than four axes, write input_shape { dim: ... }."
    )
    assert error('input: "data"\ninput: "more"\ninput_shape { dim: 1 }') == (
        "old.prototxt:3:1: 2 input and 1 input_shape: there must be as many of the one as of the other."
    )


# transform_param within data_param


@pytest.mark.parametrize(
    "old, new, options", [("DATA", "Data", "data_param"), ("IMAGE_DATA", "ImageData", "image_data_param")]
)
def test_transform_param_within_the_options_of_data(old, new, options):
    inner = f'{options} {{ source: "s" transform_param {{ crop_size: 3 mean_value: 1 mean_value: 2 }} }}'
    outer = f'{options} {{ source: "s" }} transform_param {{ crop_size: 3 mean_value: 1 mean_value: 2 }}'
    same(f"layers {{ type: {old} {inner} }}", f'layer {{ type: "{new}" {outer} }}')
    same(f'layer {{ type: "{new}" {inner} }}', f'layer {{ type: "{new}" {outer} }}')
    made = upgraded(f'layer {{ type: "{new}"\n {inner} }}')
    assert made.place("layer", 0, "transform_param", "crop_size").line == 2


def test_transform_param_within_and_without():
    assert error('layer { name: "d" type: "Data"\ntransform_param { } data_param {\n transform_param { } } }') == (
        'old.prototxt:3:2: layer "d" has transform_param in its data_param too. Keep the one outside.'
    )


# Layers that run along with the one before


def test_fused_layers_become_two():
    same(
        """layer { name: "c" type: "Convolution" bottom: "x" bottom: "y" top: "a" top: "b" include { phase: TEST }
          convolution_param { num_output: 3 fuse_type: FUSED_CONV_RELU relu_param { negative_slope: 1 } } }
        layer { name: "n" type: "LRN" bottom: "a" top: "p" phase: TEST
          lrn_param { k: 2 fuse_type: FUSED_POOL_MAX pooling_param { kernel_size: 3 } } }
        layer { name: "l" type: "LRN" bottom: "p" top: "l" lrn_param { fuse_type: UNFUSED } }""",
        """layer { name: "c" type: "Convolution" bottom: "x" bottom: "y" top: "a" top: "b" include { phase: TEST }
          convolution_param { num_output: 3 } }
        layer { name: "c_relu" type: "ReLU" bottom: "a" top: "a" include { phase: TEST }
          relu_param { negative_slope: 1 } }
        layer { name: "c_relu" type: "ReLU" bottom: "b" top: "b" include { phase: TEST }
          relu_param { negative_slope: 1 } }
        layer { name: "n" type: "LRN" bottom: "a" top: "p_n" phase: TEST lrn_param { k: 2 } }
        layer { name: "n_pool" type: "Pooling" bottom: "p_n" top: "p" phase: TEST pooling_param { kernel_size: 3 } }
        layer { name: "l" type: "LRN" bottom: "p" top: "l" lrn_param { } }""",
    )


def test_places_of_fused_layers():
    made = upgraded(
        'layer { name: "n" type: "LRN"\n bottom: "a"\n top: "p"\n'
        " lrn_param { fuse_type: FUSED_POOL_MAX\n pooling_param {\n kernel_size: 3 } } }"
    )
    assert made.place("layer", 0, "bottom").line == 2
    assert made.place("layer", 1, "top").line == 3
    assert made.place("layer", 1, "pooling_param", "kernel_size").line == 6


# BatchNorm


def test_batch_norm_with_a_scale_of_its_own():
    same(
        """layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" include { phase: TRAIN }
          param { } param { } param { } param { lr_mult: 4 } param { lr_mult: 5 }
          batch_norm_param { eps: 1 scale_bias: true scale_filler { value: 2 } bias_filler { value: 3 } } }
        layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" batch_norm_param { scale_bias: true } }""",
        """layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" include { phase: TRAIN }
          param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
          batch_norm_param { eps: 1 } }
        layer { name: "bn_scale" type: "Scale" bottom: "y" top: "y" include { phase: TRAIN }
          param { lr_mult: 4 } param { lr_mult: 5 }
          scale_param { bias_term: true filler { value: 2 } bias_filler { value: 3 } } }
        layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" batch_norm_param { } }
        layer { name: "b_scale" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }""",
    )
    made = upgraded(
        'layer { type: "BatchNorm" top: "y" param {}\nparam {} param {}\nparam { lr_mult: 4 }\nbatch_norm_param {'
        " scale_bias: true\n scale_filler { } } }"
    )
    assert made.place("layer", 1, "param", 0, "lr_mult").line == 3
    assert made.place("layer", 1, "scale_param", "filler").line == 5


def test_batch_norm_with_three_params():
    same(
        'layer { type: "BatchNorm" param { name: "m" lr_mult: 1 } param { lr_mult: 2 decay_mult: 3 } param { } }'
        'layer { type: "BatchNorm" param { lr_mult: 1 } }'
        'layer { type: "Scale" param { lr_mult: 1 } param { } param { } }',
        'layer { type: "BatchNorm" param { name: "m" lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }'
        " param { lr_mult: 0 decay_mult: 0 } }"
        'layer { type: "BatchNorm" param { lr_mult: 1 } }'
        'layer { type: "Scale" param { lr_mult: 1 } param { } param { } }',
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ('layers { name: "a" }', True),
        ('input: "a"', True),
        ('layer { type: "BatchNorm" param { } param { } param { } }', True),
        ('layer { type: "BatchNorm" }', False),
        ('layer { type: "Data" data_param { transform_param { } } }', True),
        ('layer { type: "ReLU" data_param { transform_param { } } }', False),
        ('layer { type: "LRN" lrn_param { fuse_type: UNFUSED } }', True),
        ('layer { type: "BatchNorm" top: "y" batch_norm_param { scale_bias: true } }', True),
        ('layer { type: "BatchNorm" top: "y" batch_norm_param { scale_bias: false } }', False),
        ('layer { type: "LRN" convolution_param { fuse_type: UNFUSED } }', False),
    ],
)
def test_is_old(text, expected):
    assert upgrade.is_old(parse(text)) == expected


# Solvers


@pytest.mark.parametrize(
    "old, new",
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_solver_type(old, new):
    definition = parse(f"base_lr: 1\nsolver_type: {old}", "SolverParameter")
    found = upgrade.solver(definition)
    assert schema.to_text(found.message) == f'base_lr: 1\ntype: "{new}"\n'
    assert str(found.place("type")) == "old.prototxt:2:1"
    assert definition.message.HasField("solver_type") and "type" not in definition.node.fields


def test_a_solver_of_today_stays_as_it_is():
    definition = parse('type: "Adam"', "SolverParameter")
    found = upgrade.solver(definition)
    assert found.message == definition.message and found.message is not definition.message


def test_a_solver_with_both_types():
    with pytest.raises(DefinitionError) as caught:
        upgrade.solver(parse('type: "Adam"\nsolver_type: SGD', "SolverParameter"))
    assert str(caught.value) == (
        'old.prototxt:2:1: type: "Adam" and solver_type, its old form, are both given. Take solver_type out.'
    )
