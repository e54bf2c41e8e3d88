"""What tests of a GPU's engines share."""

import numpy as np
import pytest

from layerforge import device, order


@pytest.fixture
def three_ways():
    """Lets an engine compute on the emulated device: y, dx, dw and db, in plain order."""
    return _three_ways


def _three_ways(engine, g, block=(1, 1)):
    there = device.get("emulated")

    def put(values):
        array = there.zeros(values.shape, values.dtype)
        there.from_numpy(array, values)
        return array

    rng = np.random.default_rng(1)
    shapes = (g.input_shape, g.weight_shape, (g.num_output,), g.output_shape)
    x, w, b, dy = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    dw, db = put(np.ones_like(w)), put(np.ones_like(b))
    x_there, dy_there = put(order.in_blocks(x, block[0])), put(order.in_blocks(dy, block[1]))
    y, dx = put(np.full_like(dy, np.nan)), put(np.full_like(x, np.nan))
    scratch = put(np.full(engine.scratch(g), np.nan, np.float32))
    engine.forward(x_there, put(w), put(b), y, g, scratch)
    engine.backward_data(dy_there, put(w), dx, g, scratch)
    engine.backward_weights(x_there, dy_there, dw, db, g, scratch)
    y, dx = order.plain(there.to_numpy(y), block[1]), order.plain(there.to_numpy(dx), block[0])
    return {"y": y, "dx": dx, "dw": there.to_numpy(dw), "db": there.to_numpy(db)}
