"""Reductions by teams and divisions, as a GPU's compiler sees them, on threads that play a GPU's."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from layerforge.kernels import include_path

ROWS = 21


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    compiler = shutil.which(os.environ.get("CXX", "g++").split()[-1])
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    program = tmp_path_factory.mktemp("grid") / "grid"
    source = Path(__file__).with_name("grid.cpp")
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-pthread", f"-I{include_path()}"]
    built = subprocess.run(
        [compiler, *flags, str(source), "-o", str(program)], capture_output=True, text=True, check=False
    )
    if "barrier" in built.stderr:
        pytest.skip("this C++ compiler has no barriers")
    assert not built.returncode, built.stderr
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


def expected(terms):
    """What the kernels compute of the program's arrays, in float64."""
    i = np.arange(ROWS * terms)
    x = ((i * 37 % 101) / 64 - 0.75).reshape(ROWS, terms)
    dy = ((i * 53 % 89) / 64 - 0.5).reshape(ROWS, terms)
    dz = np.where((x - 0.125) * 1.5 > 0, dy, 0.25 * dy)
    largest = x.max(axis=1)
    return {
        "mean": x.mean(axis=1),
        "square": ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1),
        "sum": dz.sum(axis=1),
        "dot": (dz * (x - 0.125)).sum(axis=1),
        "largest": largest,
        "exponentials": np.exp(x - largest[:, None]).sum(axis=1),
        "columns": x.reshape(terms, ROWS).sum(axis=0),
    }


def test_teams_of_a_warp_and_of_a_block(lines):
    *found, _ = (line.split() for line in lines)
    assert len(found) == 4 * 2 * 7
    assert {team for _, team, *_ in found} == {"32", "256"}
    for name, _, terms, *values in found:
        np.testing.assert_allclose(np.float32(values), expected(int(terms))[name], rtol=1e-5, atol=1e-4)


def test_divisions(lines):
    """Of all sizes, near multiples of the divisor and at the end of 32 bits."""
    assert lines[-1] == "wrong 0"
