import pytest

from layerforge.kernel_source import Parameter, Signature, registration, signatures

HEADER = """
// A comment that speaks of KERNEL void nothing(index_t i, const T* x) { and of others.
template <class T>
KERNEL T helper(T x) { return x; }

KERNEL void also_a_helper(int i, float* y) { y[i] = 0; }

template <typename T>
KERNEL void scale(index_t i, const T* x,  // the input
                  T * y, T factor, bool negative) {
  y[i] = negative ? -factor * x[i] : factor * x[i];
}

KERNEL void count(index_t i, int32_t* y, const uint8_t* bytes, int n, index_t stride, uint64_t seed) { y[i] = n; }
"""


def test_signatures():
    assert signatures(HEADER) == [
        Signature(
            "scale",
            True,
            (
                Parameter("x", "T", True, True),
                Parameter("y", "T", True, False),
                Parameter("factor", "T", False, False),
                Parameter("negative", "bool", False, False),
            ),
        ),
        Signature(
            "count",
            False,
            (
                Parameter("y", "int32_t", True, False),
                Parameter("bytes", "uint8_t", True, True),
                Parameter("n", "int32_t", False, False),
                Parameter("stride", "index_t", False, False),
                Parameter("seed", "uint64_t", False, False),
            ),
        ),
    ]


@pytest.mark.parametrize("parameter", ["const std::string& name", "short x", "index_t* where", "T x[3]", "T** x"])
def test_a_parameter_that_python_cannot_give(parameter):
    with pytest.raises(ValueError) as caught:
        signatures(f"template <class T>\nKERNEL void f(index_t i, {parameter}) {{}}")
    assert str(caught.value) == (
        f"kernel f: parameter `{parameter}` is of no type a kernel may have: "
        "T, float, double, int32_t, int, int64_t, uint8_t, uint32_t, uint64_t, index_t, bool"
    )


def test_registration(tmp_path):
    header = tmp_path / "mine.h"
    header.write_text(HEADER, encoding="utf-8")
    text = registration(header, wide=False)
    assert text == (
        "// Written by the build; see layerforge/kernel_source.py.\n"
        '#include "kernels/mine.h"\n'
        '#include "range.h"\n'
        "\n"
        "static const bool registered = [] {\n"
        '  add<scale<float>, scale<double>>("mine", "scale", {"x", "y", "factor", "negative"});\n'
        '  add<count>("mine", "count", {"y", "bytes", "n", "stride", "seed"});\n'
        "  return true;\n"
        "}();\n"
    )
    head, rest = text.split("\n", 1)
    assert registration(header, wide=True) == f"{head}\n#define LAYERFORGE_WIDE_INDEX\n{rest}"
