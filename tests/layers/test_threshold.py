import pytest

from layerforge.testing import check_layer


@pytest.mark.parametrize("options, threshold", [("", 0), ("threshold_param { threshold: 0.5 }", 0.5)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (7,)])
def test_threshold(options, threshold, shape):
    check_layer(f'type: "Threshold" {options}', [shape], lambda x: 1.0 * (x > threshold), in_place=True)
