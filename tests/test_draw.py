"""Drawings of nets: what they show, and each format."""

import builtins
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerforge import TEST, TRAIN, draw, draw_formats, schema
from layerforge.errors import DefinitionError

NETS = Path(__file__).resolve().parent.parent / "nets"
DRAWN = [path for path in sorted(NETS.glob("*.prototxt")) if "solver" not in path.name]

NET = """
name: "A <small> \\"net\\""
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { batch_size: 8 source: "x" } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { batch_size: 2 source: "y" } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        param { lr_mult: 1 } param { lr_mult: 2 }
        convolution_param { num_output: 96 kernel_size: 11 stride: 4 weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" relu_param { negative_slope: 0.1 } }
layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "scores" inner_product_param { num_output: 10 } }
layer { name: "accuracy" type: "Accuracy" bottom: "scores" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss" }
"""


def parsed(text):
    return schema.parse(text, "NetParameter").message


def told(drawn):
    """A drawing as text: boxes by their rows, arrows by their boxes' first rows."""
    names = [" + ".join(row.name for row in box.rows) + ("*" if box.is_blob else "") for box in drawn.boxes]
    arrows = [(names[a.source], names[a.target], a.label) for a in drawn.arrows]
    return names, arrows


def test_what_is_drawn():
    names, arrows = told(draw.drawing(parsed(NET), TEST))
    assert names == ["data", "conv1 + relu1", "ip", "accuracy", "loss", "accuracy*", "loss*"]
    assert arrows == [
        ("data", "conv1 + relu1", ""),
        ("conv1 + relu1", "ip", ""),
        ("ip", "accuracy", "scores"),
        ("data", "accuracy", "label"),
        ("ip", "loss", "scores"),
        ("data", "loss", "label"),
        ("accuracy", "accuracy*", ""),
        ("loss", "loss*", ""),
    ]


def test_phases():
    everything = draw.drawing(parsed(NET))
    assert [box.rows[0].details for box in everything.boxes[:2]] == ["batch 8", "batch 2"]
    into_conv = [a.source for a in everything.arrows if everything.boxes[a.target].rows[0].name == "conv1"]
    assert into_conv == [0, 1]  # from the data of both phases
    assert told(draw.drawing(parsed(NET), TRAIN))[0] == ["data", "conv1 + relu1", "ip", "loss", "loss*"]


def test_levels_and_stages():
    net = parsed("""
        layer { name: "a" type: "Input" top: "a" include { stage: "s" } }
        layer { name: "b" type: "Input" top: "b" include { min_level: 2 } }
    """)
    assert told(draw.drawing(net, TEST))[0] == []
    assert told(draw.drawing(net, TEST, stages=["s"]))[0] == ["a", "a*"]
    assert told(draw.drawing(net, TEST, level=3))[0] == ["b", "b*"]


def test_in_place_with_another_input_is_a_box_of_its_own():
    net = parsed("""
        layer { name: "x" type: "Input" top: "x" top: "y" }
        layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "y" top: "x" }
        layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }
    """)
    names, arrows = told(draw.drawing(net))
    assert names == ["x", "sum + relu", "x*"]
    assert arrows == [("x", "sum + relu", ""), ("x", "sum + relu", "y"), ("sum + relu", "x*", "")]


@pytest.mark.parametrize(
    "layer, expected",
    [
        ('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 dilation: 2 }', "4, 3×3, dilation 2"),
        (
            'type: "Convolution" convolution_param { num_output: 64 kernel_h: 1 kernel_w: 7 pad_w: 3 group: 64 }',
            "64, 1×7, pad 0×3, group 64",
        ),
        ('type: "Convolution" convolution_param { kernel_size: 3 kernel_size: 5 kernel_size: 7 stride: 1 }', "3×5×7"),
        ('type: "Deconvolution" convolution_param { num_output: 2 kernel_size: 4 stride: 2 }', "2, 4×4, stride 2"),
        ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', "AVE, global"),
        ('type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 engine: CAFFE }', "MAX, 3×3, stride 2"),
        ('type: "Input" input_param { shape { dim: 1 dim: 3 dim: 5 } shape { dim: 7 } }', "1×3×5, 7"),
        ('type: "Eltwise" eltwise_param { operation: SUM coeff: 1 coeff: -0.5 }', "SUM, coeff 1 -0.5"),
        ('type: "Python" python_param { module: "m" layer: "L" param_str: "{}" }', "m, L"),
        ('type: "ReLU"', ""),
        ('type: "Unknown" lrn_param { local_size: 7 } transform_param { scale: 2 }', "local size 7"),
        ('type: "Scale" scale_param { bias_term: true axis: 2 }', "axis 2"),
    ],
)
def test_details(layer, expected):
    message = schema.parse(layer, "LayerParameter").message
    assert ", ".join(draw.details(message)) == expected


def test_multipliers_of_the_learning_rate():
    message = parsed(NET).layer[2]
    assert draw.details(message, display_lrm=True) == ["96", "11×11", "stride 4", "lr ×1 ×2"]
    assert draw.details(parsed(NET).layer[4], display_lrm=True) == ["10"]


def test_old_nets_are_drawn():
    net = parsed("""
        input: "data" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 4
        layers { name: "r" type: RELU bottom: "data" top: "r" }
    """)
    assert told(draw.drawing(net))[0] == ["input", "r", "r*"]


def test_dot():
    text = draw.draw_net(parsed(NET), "TB", "dot", TEST).decode()
    lines = text.splitlines()
    assert lines[0] == 'digraph "A <small> \\"net\\"" {'
    assert lines[1].startswith("  rankdir=TB;")
    assert lines[4] == (
        '  n0 [label=<<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" COLOR="#7f93aa"><TR><TD BGCOLOR="#e3e9f0"'
        ' CELLPADDING="6"><B>data</B>  Data<BR/><FONT POINT-SIZE="10" COLOR="#5b6270">batch 2</FONT></TD></TR></TABLE>'
        ">];"
    )
    assert "  n0 -> n1;" in lines
    assert '  n2 -> n3 [label="scores"];' in lines
    assert lines[-1] == "}"


@pytest.mark.parametrize("rankdir", draw.RANKDIRS)
def test_svg(rankdir):
    raw = draw.draw_net(parsed(NET), rankdir, "svg", display_lrm=True)
    root = ElementTree.fromstring(raw)
    space = "{http://www.w3.org/2000/svg}"
    texts = {text.text for text in root.iter(f"{space}text")}
    assert {"conv1", "Convolution", "96, 11×11, stride 4, lr ×1 ×2", "label", "relu1", "slope 0.1"} <= texts
    assert root.find(f"{space}title").text == 'A <small> "net"'
    width, height = float(root.get("width")), float(root.get("height"))
    assert (width > height) == (rankdir in ("LR", "RL"))
    for path in root.iter(f"{space}path"):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]
        assert min(numbers) >= 0 and max(numbers[::2]) <= width and max(numbers[1::2]) <= height


def test_directions_are_mirror_images():
    first = {}
    for rankdir in draw.RANKDIRS:
        made = draw_formats.picture(draw.drawing(parsed(NET), TEST), rankdir)
        first[rankdir] = next(text.at for text in made.texts if text.text == "data"), (made.width, made.height)
    assert first["TB"][0][1] < first["TB"][1][1] / 2 < first["BT"][0][1]
    assert first["LR"][0][0] < first["LR"][1][0] / 2 < first["RL"][0][0]
    assert first["TB"][1] == first["BT"][1] and first["LR"][1] == first["RL"][1]


def test_texts_fit_their_boxes():
    """The widths that drawings count with are those of the letters that matplotlib draws."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for text, bold in (
        ("conv1 Convolution 96, 11x11", False),
        ("inception_3a/5x5_reduce", True),
        ("WWW iii 3×3", False),
    ):
        weight = "bold" if bold else "normal"
        drawn = TextPath((0, 0), text, prop=FontProperties(family="DejaVu Sans", weight=weight, size=12))
        assert drawn.get_extents().width <= draw_formats.text_width(text, 12, bold) * 1.02


def test_png(tmp_path):
    path = tmp_path / "net.png"
    draw.draw_net_to_file(parsed(NET), path, "LR", TEST)
    image = cv2.imread(str(path))
    made = draw_formats.picture(draw.drawing(parsed(NET), TEST), "LR")
    assert image.shape[:2] == (pytest.approx(made.height * 2, abs=2), pytest.approx(made.width * 2, abs=2))
    assert (image[0] == 255).all() and (image[:, -1] == 255).all()
    colours = {tuple(colour) for colour in image.reshape(-1, 3)[::7].tolist()}
    for fill, _ in (draw.COLOURS["convolution"], draw.COLOURS["activation"], draw.COLOURS["loss"]):
        assert tuple(int(fill[i : i + 2], 16) for i in (5, 3, 1)) in colours
    path.unlink()
    draw.draw_net_to_file(parsed(NET), str(path))  # pycaffe's defaults
    assert path.exists()


def test_a_picture_of_a_deep_net_stays_within_bounds(monkeypatch):
    monkeypatch.setattr(draw_formats, "MOST_PIXELS", 300)
    raw = draw.draw_net(parsed(NET), "LR", "png")
    assert cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR).shape[1] in (299, 300)


def test_pdf_and_repetition():
    assert draw.draw_net(parsed(NET), ext="pdf").startswith(b"%PDF")
    for ext in ("dot", "svg", "png", "pdf"):
        assert draw.draw_net(parsed(NET), ext=ext) == draw.draw_net(parsed(NET), ext=ext)


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_every_net_can_be_drawn(path):
    ElementTree.fromstring(draw.draw_net(str(path), "LR", "svg"))


def test_mistakes(monkeypatch, tmp_path):
    with pytest.raises(DefinitionError) as error:
        draw.draw_net(parsed(NET), "UP")
    assert str(error.value) == 'rankdir: "UP" is none of TB, LR, BT, RL'
    with pytest.raises(DefinitionError) as error:
        draw.draw_net_to_file(parsed(NET), tmp_path / "net.pgn")
    assert str(error.value) == ('"pgn" is no format of drawings: there are dot, svg, png and pdf. Did you mean "png"?')
    assert list(tmp_path.iterdir()) == []

    def no_matplotlib(name, *rest, really=builtins.__import__):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return really(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(DefinitionError) as error:
        draw.draw_net(parsed(NET), "LR", "png")
    assert str(error.value) == (
        "PNG is drawn by matplotlib, which is not installed. Run: pip install 'layerforge[plot]'. Or write an .svg or a"
        " .dot file, which need nothing"
    )
    assert draw.draw_net(parsed(NET), "LR", "svg")
