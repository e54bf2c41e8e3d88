import numpy as np
import pytest

import layerforge as lf
from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shape", [(2, 3), (4,), ()])
def test_parameter(shape):
    dims = " ".join(f"dim: {n}" for n in shape)
    definition = f'type: "Parameter" parameter_param {{ shape {{ {dims} }} }}'
    check_layer(definition, [], lambda weight: weight)


def test_in_a_net():
    text = """
        layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 2 } } param { lr_mult: 3 } }
        layer { name: "t" type: "DummyData" top: "t" dummy_data_param { shape { dim: 2 } data_filler { value: 1 } } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "t" top: "loss" }
    """
    net = lf.Net(lf.schema.parse(text, "NetParameter"), lf.TRAIN)
    (weight,) = net.params["w"]
    assert not weight.data.any() and weight.lr_mult == 3
    for _ in range(2):
        assert net.forward_backward() == 0.5
    np.testing.assert_allclose(weight.diff, [-1, -1])


def test_no_shape():
    with pytest.raises(DefinitionError) as caught:
        Bench('name: "w" type: "Parameter"', [])
    assert str(caught.value) == (
        '<text>: layer "w" (Parameter): shape is missing: write parameter_param { shape { dim: 10 dim: 3 } }, say'
    )
