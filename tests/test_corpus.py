"""Other people's prototxts: every one that Caffe reads parses here, and builds with the shapes that Caffe gives it.

The files are not part of the project. The environment variable LAYERFORGE_CORPUS names a folder that holds them, with

- ``index.tsv``: a row for each file, with the columns file, kind (net, solver or other), strict_bvlc (whether Caffe's
  own schema reads it), bvlc_types_only (whether all its layers are of Caffe's types) and template ("-", or the file is
  one, to be filled in first);
- ``corpus_nets.py``: ``runnable(text)``, which puts constant inputs in place of layers that read data;
- ``shapes.json``: for nets that Caffe builds then, by phase, the shapes of all blobs and parameters.
"""

import csv
import json
import os
import runpy
from pathlib import Path

import pytest

import layerforge as lf
from layerforge import schema, upgrade
from layerforge.errors import DefinitionError, LayerForgeError
from layerforge.layer import load_layers

FOLDER = os.environ.get("LAYERFORGE_CORPUS")
if not FOLDER:
    pytest.skip("LAYERFORGE_CORPUS names no folder of other people's prototxts", allow_module_level=True)

CORPUS = Path(FOLDER)
KINDS = {"net": "NetParameter", "solver": "SolverParameter"}
PHASES = {"TRAIN": lf.TRAIN, "TEST": lf.TEST}
with (CORPUS / "index.tsv").open(encoding="utf-8", newline="") as index:
    ALL = [row for row in csv.DictReader(index, delimiter="\t") if row["kind"] in KINDS]
ROWS = [row for row in ALL if row["template"] == "-"]
SHAPES = json.loads((CORPUS / "shapes.json").read_text(encoding="utf-8"))
runnable = runpy.run_path(str(CORPUS / "corpus_nets.py"))["runnable"]

READ_BY_CAFFE = [row for row in ROWS if row["strict_bvlc"] == "yes" and row["bvlc_types_only"] != "no"]
TEMPLATES = [row for row in ALL if row["template"] != "-" and row["bvlc_types_only"] == "yes"]
NETS = [row["file"] for row in ROWS if row["kind"] == "net" and row["bvlc_types_only"] == "yes"]


@pytest.fixture(scope="module", autouse=True)
def layers():
    load_layers()


def net(file, phase):
    """A net of the corpus with constant inputs, without memory."""
    text, _ = runnable((CORPUS / file).read_text(encoding="utf-8", errors="replace"))
    return lf.Net(schema.parse(text, "NetParameter", file), PHASES[phase], allocate=False)


@pytest.mark.parametrize("row", READ_BY_CAFFE, ids=lambda row: row["file"])
def test_parses_and_upgrades(row):
    kind = KINDS[row["kind"]]
    today = (upgrade.net if row["kind"] == "net" else upgrade.solver)(schema.read(CORPUS / row["file"], kind))
    again = schema.parse(schema.to_text(today.message), kind)
    assert again.message == today.message
    if row["kind"] == "net":
        assert upgrade.net(again).message == today.message, "what is of today stays as it is"


@pytest.mark.parametrize("row", TEMPLATES, ids=lambda row: row["file"])
def test_templates(row):
    with pytest.raises(DefinitionError) as caught:
        schema.read(CORPUS / row["file"], KINDS[row["kind"]])
    assert all("to be filled in: this file is a template" in line for line in str(caught.value).splitlines())


@pytest.mark.parametrize("file", SHAPES)
def test_builds_as_in_caffe(file):
    for phase, expected in SHAPES[file].items():
        built = net(file, phase)
        blobs = {name: list(blob.shape) for name, blob in built.blobs.items()}
        params = {name: [list(blob.shape) for blob in blobs] for name, blobs in built.params.items()}
        assert blobs == expected["blobs"]
        assert params == expected["params"]


@pytest.mark.parametrize("file", [file for file in NETS if file not in SHAPES])
def test_builds_or_says_why_not(file):
    """Files that Caffe does not build, or not without their data: an error has a place and is one of ours."""
    said = []
    for phase in PHASES:
        try:
            net(file, phase)
        except LayerForgeError as error:
            said.append(str(error))
    assert all(text.startswith(f"{file}:") for text in said), said
