import pytest

import layerforge as lf
from layerforge.errors import DefinitionError
from layerforge.testing import Bench, check_layer


@pytest.mark.parametrize("shapes", ["shape { dim: 2 dim: 3 }", "shape { dim: 4 } shape { dim: [1, 2] }", ""])
def test_input(shapes):
    check_layer(f'type: "Input" top: "a" top: "b" input_param {{ {shapes} }}', [])


@pytest.mark.parametrize(
    "text, shapes",
    [
        ("input_param { shape { dim: 2 dim: 3 } }", [(2, 3), (2, 3)]),
        ("input_param { shape { dim: 2 dim: 3 } shape { dim: 4 } }", [(2, 3), (4,)]),
        ("", [(0,), (0,)]),
    ],
)
def test_shapes(text, shapes):
    made = Bench(f'type: "Input" top: "a" top: "b" {text}', [])
    assert [top.shape for top in made.top] == shapes


def test_what_is_written_stays(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 } } }\n'
        'layer { name: "double" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }'
    )
    net = lf.Net(str(tmp_path / "net.prototxt"), lf.TEST)
    net.blobs["x"].data[...] = [1, 2, 3]
    for _ in range(2):
        assert net.forward()["y"].tolist() == [2, 4, 6]


def test_shapes_that_do_not_match_the_tops():
    with pytest.raises(DefinitionError) as error:
        Bench(
            'name: "in" type: "Input" top: "a" top: "b" top: "c"\ninput_param { shape { dim: 1 } shape { dim: 2 } }',
            [],
        )
    assert str(error.value) == (
        '<text>:2:15: layer "in" (Input): 2 shapes for 3 tops: give one shape for each, one for all, or none'
    )
