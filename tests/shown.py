"""What a net shows after its passes: for tests that hold a net to another, which computes the same in another way."""

import numpy as np


def backward(net):
    """A backward pass of drawn gradients, alone in the diffs of the parameters."""
    for name in net.outputs:
        net.blobs[name].diff[...] = np.random.default_rng(2).standard_normal(net.blobs[name].shape)
    net.clear_param_diffs()
    net.run_backward()


def everything(net):
    """The data and diffs of all blobs, and the diffs of all parameters, as copies."""
    kinds = ("data", "diff")
    found = {f"{name} {kind}": np.array(getattr(net.blobs[name], kind)) for kind in kinds for name in net.blobs}
    return found | {
        f"{name} {i} diff": np.array(p.diff) for name, each in net.params.items() for i, p in enumerate(each)
    }


def assert_same(found, expected):
    """Arrays by name, the same but for rounding."""
    assert list(found) == list(expected)
    for key, values in expected.items():
        size = np.abs(values).max(initial=1e-6)
        np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-5 * size, err_msg=key)
