"""What README.md and the other pages show is so."""

import re
from pathlib import Path

import pytest

from layerforge.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def block(kind):
    return re.search(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[1]


def test_first_screen():
    commands = block("sh").splitlines()
    assert commands == [
        "pip install . && layerforge train --solver nets/alexnet_solver.prototxt --max-iter 20",
        "pip install '.[test]' && pytest",
    ]
    assert README.index("pip install '.[test]'") < 1500


def test_the_layer_is_that_of_the_net():
    assert block("prototxt") in (ROOT / "nets" / "alexnet_train_val.prototxt").read_text(encoding="utf-8")


def test_the_mistake_is_explained_like_that(tmp_path, monkeypatch, capfd):
    (expected,) = re.findall(r"^ *(mine\.prototxt:.*)$", README, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    data = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }\n'
    conv = 'layer {\n  name: "conv2"\n  type: "Convolutoin"\n  bottom: "data"\n  top: "conv2"\n}\n'
    Path("mine.prototxt").write_text(data + conv)
    assert main(["check", "mine.prototxt"]) == 1
    captured = capfd.readouterr()
    assert (captured.out + captured.err).strip() == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
