import pytest

from layerforge.kernel_source import (
    Parameter,
    Signature,
    emulation,
    grid_name,
    grid_source,
    registration,
    signatures,
)

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


def test_reductions():
    text = HEADER.replace("KERNEL void count", "REDUCTION void count")
    assert [(each.name, each.reduces, each.across) for each in signatures(text)] == [
        ("scale", False, None), ("count", True, None)
    ]  # fmt: skip
    text = HEADER.replace("KERNEL void count", "REDUCTION ACROSS(stride) void count")
    assert [(each.reduces, each.across) for each in signatures(text)] == [(False, None), (True, 3)]
    assert grid_source("a.h", False, True) == (
        '#define LAYERFORGE_GRID\n#define LAYERFORGE_TEAM\n#include "kernels/a.h"\n#include "grid.h"\n'
    )


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


def test_grid_source_and_names():
    text = """
    template <class T>
    KERNEL void mix(index_t i, const T* x, uint8_t* y, T slope, index_t inner, uint64_t step) { y[i] = x[i]; }
    KERNEL void fill(index_t i, int* y) { y[i] = 0; }
    """
    mix, fill = signatures(text)
    assert grid_name(mix, "double") == "over_grid<mix<double>, const double*, uint8_t*, double, index_t, uint64_t>"
    assert grid_name(fill, "double") == "over_grid<fill, int32_t*>"
    assert grid_source("mix.h", False) == '#define LAYERFORGE_GRID\n#include "kernels/mix.h"\n#include "grid.h"\n'
    assert grid_source("mix.h", True) == (
        '#define LAYERFORGE_GRID\n#define LAYERFORGE_WIDE_INDEX\n#include "kernels/mix.h"\n#include "grid.h"\n'
    )


def test_emulation(tmp_path):
    header = tmp_path / "mix.h"
    header.write_text(
        "template <class T>\nKERNEL void mix(index_t i, T* x) { x[i] = 0; }\nKERNEL void fill(index_t i, int* y) {}\n"
    )
    assert emulation(header, wide=True) == (
        "// Written by the build; see layerforge/kernel_source.py.\n"
        "#define LAYERFORGE_GRID\n"
        "#define LAYERFORGE_WIDE_INDEX\n"
        '#include "kernels/mix.h"\n'
        '#include "emulate.h"\n'
        "\n"
        "static const bool registered = [] {\n"
        '  add_body("mix/mix/float/wide", Emulated<mix<float>>::run);\n'
        '  add_body("mix/mix/double/wide", Emulated<mix<double>>::run);\n'
        '  add_body("mix/fill/float/wide", Emulated<fill>::run);\n'
        "  return true;\n"
        "}();\n"
    )
