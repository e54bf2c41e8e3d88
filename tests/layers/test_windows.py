import itertools

import pytest

from layerforge.layers._windows import Windows, geometry


@pytest.mark.parametrize("kernel, stride, pad, dilation", list(itertools.product((1, 3, 4), (1, 3), (0, 2), (1, 2))))
def test_output_is_how_many_windows_fit(kernel, stride, pad, dilation):
    windows = Windows((kernel,), (stride,), (pad,), (dilation,))
    for size in range(1, 20):
        last = [o for o in range(30) if o * stride + dilation * (kernel - 1) < size + 2 * pad]
        (out,) = windows.output((size,))
        assert max(out, 0) == len(last)
        if out > 0:
            (least,) = windows.input((out,))
            assert windows.output((least,)) == (out,)
            assert windows.output((least - 1,)) == (out - 1,)


def test_no_spatial_axes():
    windows = Windows((), (), (), ())
    assert windows.extent == windows.output(()) == windows.input(()) == ()


def test_geometry():
    windows = Windows((3, 1), (2, 1), (1, 0), (1, 1))
    g = geometry((2, 5, 6, 7, 8), 2, windows, num_output=4, group=2)
    assert (g.batch, g.channels, g.num_output, g.group) == (10, 6, 4, 2)
    assert (g.spatial, g.output, g.weight_shape) == ((7, 8), (4, 8), (4, 3, 3, 1))
    assert g is geometry((2, 5, 6, 7, 8), 2, windows, num_output=4, group=2)
