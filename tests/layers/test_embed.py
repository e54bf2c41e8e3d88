import numpy as np
import pytest

from layerforge.errors import DataError, DefinitionError
from layerforge.testing import Bench, check_layer

EMBED = 'name: "e" type: "Embed"'


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_embed(shape, bias):
    words = np.random.default_rng(0).integers(0, 6, shape)

    def expected(x, weight, bias=0):
        return weight[x.astype(int)] + bias

    options = f"embed_param {{ num_output: 7 input_dim: 6 bias_term: {str(bias).lower()} }}"
    check_layer(f"{EMBED} {options}", [shape], expected, bottoms=[words])


def test_many_words():
    words = np.random.default_rng(0).integers(0, 40, (11, 30)) ** 2
    check_layer(
        f"{EMBED} embed_param {{ num_output: 33 input_dim: 1600 }}",
        [words.shape],
        lambda x, weight, bias: weight[x.astype(int)] + bias,
        bottoms=[words],
    )


def test_blobs():
    filler = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { value: 2 }'
    bench = Bench(f"{EMBED} embed_param {{ num_output: 4 input_dim: 5 {filler} }}", [(3,)])
    assert [(p.shape, p.filler.type) for p in bench.layer.blobs] == [((5, 4), "gaussian"), ((4,), "constant")]


@pytest.mark.parametrize(
    "shape, words, text",
    [
        ((3,), [0, 5, 1], 'index 5 of item 1 in bottom "w" (3,) must be one of 0 to 4'),
        ((2, 2), [[0, 1], [2, -3]], 'index -3 of item 1, at (1, 1), in bottom "w" (2, 2) must be one of 0 to 4'),
        ((), np.inf, 'index inf of the only item in bottom "w" () must be one of 0 to 4'),
    ],
)
def test_bad_words(shape, words, text):
    bench = Bench(f'{EMBED}\nbottom: "w" embed_param {{ num_output: 4 input_dim: 5 }}', [shape])
    with pytest.raises(DataError) as caught:
        bench.forward([words], {})
    assert str(caught.value) == f'<text>:2:1: layer "e" (Embed): {text}'


@pytest.mark.parametrize(
    "options, text",
    [
        ("input_dim: 5", ': layer "e" (Embed): num_output is missing: write num_output: 256, say'),
        ("num_output: 5", ': layer "e" (Embed): input_dim is missing: write input_dim: 8000, say'),
        ("num_output: 5 input_dim: 0", ':2:15: layer "e" (Embed): input_dim: 0 must be at least 1'),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(DefinitionError) as caught:
        Bench(f"{EMBED} embed_param {{\n{options} }}", [(3,)])
    assert str(caught.value) == f"<text>{text}"
