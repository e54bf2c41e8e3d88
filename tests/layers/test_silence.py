import numpy as np

from layerforge.testing import Bench, check_layer


def test_silence():
    check_layer('type: "Silence"', [(2, 3)], lambda x: ())
    check_layer('type: "Silence"', [(2, 3), (4,), ()], lambda x, y, z: ())


def test_its_gradient_is_0():
    bench = Bench('type: "Silence"', [(2,)])
    bench.forward([np.ones(2)], {})
    assert bench.backward([])[0][0].tolist() == [0, 0]
