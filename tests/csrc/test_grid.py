"""Reductions by teams and divisions, as a GPU's compiler sees them, on threads that play a GPU's."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from layerforge.kernels import include_path

TEAMS = [(1, 32), (1, 256), (8, 4), (8, 32), (32, 1), (32, 8)]  # threads for neighbouring rows, and for each row


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


def expected(side, terms):
    """What the kernels compute of the program's arrays, in float64."""
    items, channels = (3, 7) if side == 1 else (2, 32)
    rows = items * channels
    i = np.arange(rows * terms)
    flat, gradients = (i * 37 % 101) / 64 - 0.75, (i * 53 % 89) / 64 - 0.5
    lies, order = ((rows, terms), (0, 1)) if side == 1 else ((items, terms, channels), (0, 2, 1))
    x, dy = (each.reshape(lies).transpose(order).reshape(rows, terms) for each in (flat, gradients))
    dz = np.where((x - 0.125) * 1.5 > 0, dy, 0.25 * dy)
    dx = ((dz - 0.125) - (x - 0.125) * 1.5**2 * 0.125) * 1.5
    largest = x.max(axis=1)
    columns, squares = flat.reshape(terms, rows), gradients.reshape(terms, rows)
    whole = columns.var(axis=0) * terms * 5 + squares.sum(axis=0)
    return {
        "mean": x.mean(axis=1),
        "square": ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1),
        "far_square": np.float32(x + 1000).var(axis=1, dtype=np.float64) * terms,
        "sum": dz.sum(axis=1),
        "dot": (dz * (x - 0.125)).sum(axis=1),
        "gradient": (dx * (np.arange(terms) % 7)).mean(axis=1),
        "largest": largest,
        "exponentials": np.exp(x - largest[:, None]).sum(axis=1),
        "columns": columns.sum(axis=0),
        "column_means": columns.mean(axis=0),
        "scales": (whole / terms / 5 + 1) ** -0.5,
        "running": columns.mean(axis=0) + 0.5,
        "variances": whole / (5 * terms - 1) + 0.5,
        "factor": [1.5],
    }


def test_teams(lines):
    """Warps and blocks, for one row and for several that lie side by side."""
    *found, _ = (line.split() for line in lines)
    assert len(found) == 4 * len(TEAMS) * 14
    assert {(int(side), int(each)) for _, side, each, *_ in found} == set(TEAMS)
    for name, side, _, terms, *values in found:
        wanted = expected(int(side), int(terms))[name]
        assert len(values) == len(wanted)
        tolerance = 1e-4 if name == "far_square" else 1e-5  # the mean is a thousand deviations from 0
        np.testing.assert_allclose(np.float32(values), wanted, rtol=tolerance, atol=1e-4)


def test_divisions(lines):
    """Of all sizes, near multiples of the divisor and at the end of 32 bits."""
    assert lines[-1] == "wrong 0"
