"""The pages of docs/ do what they show: files are written, commands are run, and the output is compared.

A block whose first line is ``# name.ext`` is a file. In a block marked ``console``, a line after ``$ `` is a command,
and the lines below it are what it prints. All files of a page are there before its first command runs.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import layerforge

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def run(command, folder):
    """What a command prints, on either channel."""
    words = shlex.split(command)
    program = {"python": [sys.executable], "layerforge": [sys.executable, "-m", "layerforge"]}[words[0]]
    # The package under test, from a folder where it is not.
    path = os.pathsep.join(filter(None, [str(Path(layerforge.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*program, *words[1:]], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout


PAGES = [page for page in sorted(DOCS.glob("*.md")) if any(kind == "console" for kind, _ in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page(page, tmp_path):
    consoles = []
    for kind, text in blocks(page):
        name = re.match(r"# ([\w.]+\.\w+)\n", text)
        if kind == "console":
            consoles.append(text)
        elif name:
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    for text in consoles:
        for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            assert run(command, tmp_path) == output, command


def test_a_layer_is_a_file_of_under_40_lines():
    (text,) = [text for _, text in blocks(DOCS / "add-a-layer.md") if text.startswith("# scaled_tanh.py")]
    assert len(text.splitlines()) < 40
