"""The layer's own tools, and the registry."""

import dataclasses
import logging

import numpy as np
import pytest

import layerforge as lf
from layerforge import layer, schema
from layerforge.errors import DefinitionError, ShapeError
from layerforge.layer import Layer, choose_seed, count, snake_case


@pytest.fixture
def registry():
    """Lets a test define layers, and takes them away after it."""
    layer.load_layers()
    types, options = dict(layer.registry), dict(schema._added)
    yield layer.registry
    layer.registry.clear()
    layer.registry.update(types)
    schema._added.clear()
    schema._added.update(options)
    schema._classes.clear()


def definition(text, file="net.prototxt"):
    return schema.parse(text, "LayerParameter", file)


def made(text, *shapes, file="net.prototxt"):
    one = definition(text, file)
    found = layer.layer_class(one)(one)
    found.bottom_shapes = shapes
    return found


# The registry.


def test_defining_a_class_makes_the_type(registry):
    class Twice(Layer):
        """y = 2x"""

        def forward(self, bottom, top):
            np.multiply(bottom[0].data, 2, out=top[0].data)

    assert registry["Twice"] is Twice
    net = lf.Net(
        schema.parse(
            'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
            ' layer { type: "Twice" bottom: "x" top: "y" }',
            "NetParameter",
        )
    )
    assert net.forward(x=[1, 2])["y"].tolist() == [2, 4]


def test_a_type_of_another_name(registry):
    class Spelled(Layer):
        type = "spelled-otherwise"

    assert registry["spelled-otherwise"] is Spelled
    assert "Spelled" not in registry


def test_options_of_ones_own(registry):
    class FocalLoss(Layer):
        @dataclasses.dataclass
        class Options:
            gamma: float = 2.0

    assert made('type: "FocalLoss"').options.gamma == 2
    assert made('type: "FocalLoss" focal_loss_param { gamma: 3 }').options.gamma == 3


def test_options_of_another_type(registry):
    class Mine(Layer):
        Options = "relu_param"

    assert made('type: "Mine" relu_param { negative_slope: 0.5 }').options.negative_slope == 0.5


@pytest.mark.parametrize(
    "name, field",
    [
        ("InnerProduct", "inner_product_param"),
        ("LRN", "lrn_param"),
        ("HDF5Data", "hdf5_data_param"),
        ("Softmax", "softmax_param"),
        ("Silence", ""),
    ],
)
def test_options_are_found_by_the_type(name, field):
    layer.load_layers()
    assert layer.options_field(layer.registry[name]) == field


@pytest.mark.parametrize(
    "name, expected",
    [
        ("FocalLoss", "focal_loss"),
        ("ROIPooling", "roi_pooling"),
        ("LRN", "lrn"),
        ("HDF5Data", "hdf5_data"),
        ("Im2col", "im2col"),
        ("PReLU", "p_re_lu"),
        ("X", "x"),
    ],
)
def test_snake_case(name, expected):
    assert snake_case(name) == expected


def test_a_users_class_takes_the_place_of_ours(registry, caplog):
    caplog.set_level(logging.WARNING)
    ours = registry["TanH"]

    class TanH(Layer):
        pass

    text = f'Layer type "TanH" is {__name__}.{TanH.__qualname__}, in place of layerforge.layers.tanh.TanH'
    assert caplog.messages == [text]
    assert registry["TanH"] is TanH
    layer.add_to_registry(ours)  # as if ours were loaded later
    assert registry["TanH"] is TanH
    assert caplog.messages == [text, text]


def test_defining_a_class_again_is_no_surprise(registry, caplog):
    for _ in range(2):

        class Again(Layer):
            @dataclasses.dataclass
            class Options:
                size: int = 3

    assert registry["Again"] is Again
    assert caplog.messages == []


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            'name: "a" type: "Convolutoin"',
            'net.prototxt:1:11: layer "a": unknown layer type "Convolutoin". Did you mean "Convolution"? Types of your'
            " own come in with --import.",
        ),
        (
            'name: "a" type: "Nothing of the kind"',
            'net.prototxt:1:11: layer "a": unknown layer type "Nothing of the kind". Types of your own come in with'
            " --import.",
        ),
        ('name: "a"', 'net.prototxt: layer "a" has no type. Write type: "Convolution", say'),
    ],
)
def test_unknown_types(text, expected):
    with pytest.raises(DefinitionError) as error:
        layer.layer_class(definition(text))
    assert str(error.value) == expected


def test_a_type_without_forward_or_gradient(registry):
    class Idle(Layer):
        pass

    idle = made('name: "a" type: "Idle"')
    for way, missing in (("forward", "forward pass"), ("backward", "gradient")):
        with pytest.raises(DefinitionError) as error:
            getattr(idle, way)([], [])
        assert str(error.value) == f'net.prototxt: layer "a" (Idle): this type has no {missing}'


# Tools.


def test_a_requirement_names_layer_and_line():
    pooling = made('name: "p" type: "Pooling"\n bottom: "x"\n pooling_param {\n  kernel_size: 3\n}', (2, 3, 4, 4))
    pooling.require(True, "never said")
    with pytest.raises(ShapeError) as error:
        pooling.require(False, f"kernel_size: 3 is too large for {pooling.describe()}", "kernel_size")
    assert str(error.value) == (
        'net.prototxt:4:3: layer "p" (Pooling): kernel_size: 3 is too large for bottom "x" (2, 3, 4, 4)'
    )
    with pytest.raises(ShapeError) as error:
        pooling.require(False, "no", "bottom", 0)
    assert str(error.value) == 'net.prototxt:2:2: layer "p" (Pooling): no'
    assert type(pooling.error("no", kind=DefinitionError)) is DefinitionError


@pytest.mark.parametrize("value, expected", [(0, 0), (2, 2), (-1, 2), (-3, 0)])
def test_axis(value, expected):
    assert made('type: "Softmax" bottom: "x"', (2, 3, 4)).axis(value, 3) == expected


@pytest.mark.parametrize("value", [3, -4])
def test_an_axis_that_is_not_there(value):
    softmax = made(f'name: "s" type: "Softmax" bottom: "x" softmax_param {{ axis: {value} }}', (2, 3, 4))
    with pytest.raises(ShapeError) as error:
        softmax.axis(value, 3)
    assert str(error.value) == (
        f'net.prototxt:1:55: layer "s" (Softmax): axis: {value} is no axis of bottom "x" (2, 3, 4), which has 3 axes'
    )


def test_random_key():
    one, other = made('name: "a" type: "Dropout"'), made('name: "b" type: "Dropout"')
    seed, stream, step = one.random_key()
    assert (seed, step) == (0, 0)
    assert stream == made('name: "a" type: "Dropout"').random_key()[1] != other.random_key()[1]


def test_gradients_by_bottom():
    assert [made('type: "SoftmaxWithLoss"').allows_diff(i) for i in range(2)] == [True, False]
    assert [made('type: "Eltwise"').allows_diff(i) for i in range(3)] == [True] * 3
    assert not made('type: "Accuracy"').allows_diff(0)


def test_parameters_are_in_order():
    product = made('type: "InnerProduct" inner_product_param { num_output: 2 }', (3, 4))
    product.setup((3, 4))
    assert [(p.name, p.shape) for p in product.blobs] == [("weight", (2, 4)), ("bias", (2,))]
    assert product.blobs[0] is product.params["weight"]
    assert repr(product) == '<layer "" (InnerProduct)>'


def test_add_blob():
    found = made('type: "ReLU"')
    blobs = found.blobs
    blobs.add_blob(2, 3)
    blobs.add_blob(1)
    assert [p.shape for p in blobs] == [p.shape for p in found.blobs] == [(2, 3), (1,)]
    assert blobs[0].data.tolist() == [[0] * 3] * 2


def test_count():
    assert (count((2, 3, 4)), count((2, 3, 4), 1), count((2, 3, 4), 0, 2), count(())) == (24, 12, 6, 1)


def test_seeds():
    assert choose_seed(7) == 7
    assert choose_seed(-1) != choose_seed(None)
    layer.set_default_seed(5)
    try:
        assert [choose_seed(None), choose_seed(-1), choose_seed(0)] == [5, 5, 0]
    finally:
        layer.set_default_seed(None)
