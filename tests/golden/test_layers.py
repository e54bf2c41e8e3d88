"""What BVLC Caffe computed, case by case: forward, and backward from given top diffs.

The files in `layers` decide the cases. Keys of a case: ``text`` (the prototxt), ``phase``; ``in/<blob>`` and
``param/<layer>/<i>``, set before the forward pass; ``out/<blob>`` after it, and ``pafter/<layer>/<i>`` where it changes
parameters; ``topdiff/<blob>``, set before the backward pass (losses keep their weight); ``diff/<blob>`` and
``pdiff/<layer>/<i>`` after it.
"""

from pathlib import Path

import numpy as np
import pytest

import layerforge as lf
from layerforge.testing import assert_close, available

CASES = sorted(Path(__file__).with_name("layers").glob("*.npz"))


def cancels(*arrays):
    """Whether the terms of a gradient add up to nothing: what is left in float32 is rounding."""
    return all(np.abs(array).max(initial=0) < 1e-6 for array in arrays) and any(array.any() for array in arrays)


@pytest.mark.parametrize("device", available())
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path, device, tmp_path):
    case = np.load(path)
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(str(case["text"]))
    net = lf.Net(str(prototxt), getattr(lf, str(case["phase"])), device=device)

    def array(key):
        kind, name, *index = key.split("/")
        if index:
            parameter = net.params[name][int(index[0])]
            return parameter.diff if kind == "pdiff" else parameter.data
        return net.blobs[name].diff if "diff" in kind else net.blobs[name].data

    def write(*kinds):
        for key in case.files:
            if key.split("/")[0] in kinds:
                array(key)[...] = case[key]

    def compare(*kinds):
        for key in case.files:
            if key.split("/")[0] in kinds and not cancels(array(key), case[key]):
                # One layer agrees to rounding; through a whole net, errors add up.
                assert_close(array(key), case[key], 1e-4 if path.stem.startswith("net-") else 1e-5, key)

    write("in", "param")
    net.forward()
    compare("out", "pafter")
    if any(key.startswith(("diff/", "pdiff/")) for key in case.files):
        write("topdiff")
        net.backward()
        compare("diff", "pdiff")
