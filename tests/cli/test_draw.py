"""layerforge draw: flags, and files of every kind."""

import xml.etree.ElementTree as ElementTree

import pytest


def texts(path):
    return [text.text for text in ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")]


def test_a_net(lab):
    ran = lab.run("draw", "net.prototxt", "net.svg")
    assert (ran.status, ran.out, ran.err) == (0, "net.svg: drawn.\n", "")
    assert {"conv", "4, 3×3", "accuracy"} <= set(texts(lab.folder / "net.svg"))


def test_phase_of_the_net_of_a_solver(lab):
    lab.run("draw", "solver.prototxt", "net.svg", "-phase", "train")
    assert "accuracy" not in texts(lab.folder / "net.svg")
    assert lab.run("draw_net", "solver.prototxt", "net.svg", "--phase=TEST").status == 0
    assert "accuracy" in texts(lab.folder / "net.svg")


def test_multipliers(lab):
    lab.change("net.prototxt", 'top: "ip"', 'top: "ip" param { lr_mult: 0.5 }')
    lab.run("draw", "net.prototxt", "net.svg", "--display_lrm")
    assert "3, lr ×0.5" in texts(lab.folder / "net.svg")


def test_direction(lab):
    sizes = {}
    for rankdir in ("LR", "TB"):
        lab.run("draw", "net.prototxt", "net.svg", "--rankdir", rankdir)
        root = ElementTree.parse(lab.folder / "net.svg").getroot()
        sizes[rankdir] = float(root.get("width")) > float(root.get("height"))
    assert sizes == {"LR": True, "TB": False}


@pytest.mark.parametrize("ext, begin", [("dot", b'digraph "Toy" {'), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_formats(lab, ext, begin):
    assert lab.run("draw", "net.prototxt", f"net.{ext}").status == 0
    assert (lab.folder / f"net.{ext}").read_bytes().startswith(begin)


@pytest.mark.parametrize(
    "argv, status, text",
    [
        (["net.prototxt"], 2, "layerforge draw: the following arguments are required: OUT"),
        (
            ["net.prototxt", "n.svg", "--rankdir", "UP"],
            2,
            'layerforge draw: argument --rankdir: "UP" is none of LR, TB, BT, RL',
        ),
        (
            ["net.prototxt", "n.svg", "--phase", "BOTH"],
            2,
            'layerforge draw: argument --phase: "BOTH" is none of ALL, TRAIN, TEST',
        ),
        (["none.prototxt", "n.svg"], 1, "none.prototxt: there is no such file; a net or a solver is wanted."),
        (["net.prototxt", "net"], 1, '"" is no format of drawings: there are dot, svg, png and pdf.'),
    ],
)
def test_mistakes(lab, argv, status, text):
    ran = lab.run("draw", *argv)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.splitlines()[0] == text
