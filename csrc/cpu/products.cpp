// The products of a fully connected layer in float32, x (M, K) with weights w (N, K): y = x w^T + b, dw += dy^T x.
//
// Only with AVX-512; everyone else takes a library. Sums do not depend on the number of threads.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "avx512.h"
#include "cpu.h"

namespace py = pybind11;

#ifdef LAYERFORGE_AVX512
#include "products_avx512.h"

namespace {

constexpr int64_t kLittle = 1 << 19;  // multiplications that one thread does sooner than it wakes another

typedef py::array_t<float, py::array::c_style> Array;

// The arrays were checked in Python (engines/products.py).
void forward(const Array& x, const Array& w, const py::object& b, Array& y, Array& scratch) {
  const int64_t M = x.shape(0), K = x.shape(1), N = w.shape(0);
  const float* const bias = b.is_none() ? nullptr : py::cast<Array>(b).data();
  const float *const from = x.data(), *const by = w.data();
  float *const to = y.mutable_data(), *const packed = scratch.mutable_data();
  py::gil_scoped_release without_gil;
  // body(begin, end) for whole tiles of rows of w.
  const auto for_rows = [&](int64_t rows, int64_t together, const auto& body) {
    parallel((N + together - 1) / together,
             [&](int64_t begin, int64_t end, int) { body(begin * together, std::min(N, end * together)); },
             1 + kLittle / (rows * together * K));
  };
  if (M <= wide::kFew) {
    constexpr decltype(&wide::few_by_rows<1>) kernels[] = {wide::few_by_rows<1>, wide::few_by_rows<2>,
                                                           wide::few_by_rows<3>, wide::few_by_rows<4>};
    const auto few_by_rows = kernels[M - 1];
    return for_rows(M, wide::kRowsOfW,
                    [&](int64_t begin, int64_t end) { few_by_rows(begin, end, N, K, from, by, bias, to); });
  }
  constexpr decltype(&wide::packed_by_rows<1>) kernels[] = {wide::packed_by_rows<1>, wide::packed_by_rows<2>,
                                                            wide::packed_by_rows<3>};
  int64_t vectors = (M + kLanes - 1) / kLanes, parts = (vectors + wide::kMostVectors - 1) / wide::kMostVectors;
  for (int64_t m = 0; m < M; --parts) {
    const int together = int((vectors + parts - 1) / parts);
    const int64_t rows = std::min<int64_t>(together * kLanes, M - m);
    const auto pack = [&](int64_t begin, int64_t end, int) {
      wide::pack_rows(begin * kLanes, std::min(K, end * kLanes), from + m * K, rows, K, together, packed);
    };
    parallel((K + kLanes - 1) / kLanes, pack, 1 + (1 << 15) / (rows * kLanes));
    const auto packed_by_rows = kernels[together - 1];
    for_rows(rows, wide::kTogether,
             [&](int64_t begin, int64_t end) { packed_by_rows(begin, end, rows, N, K, packed, by, bias, to + m * N); });
    m += rows;
    vectors -= together;
  }
}

void backward_weights(const Array& x, const Array& dy, Array& dw, Array& scratch) {
  const int64_t M = x.shape(0), K = x.shape(1), N = dy.shape(1);
  const float *const from = x.data(), *const by = dy.data();
  float *const to = dw.mutable_data(), *const packed = scratch.mutable_data();
  py::gil_scoped_release without_gil;
  const int64_t strips = (K + wide::kVectors * kLanes - 1) / (wide::kVectors * kLanes);
  for (int64_t m = 0; m < M; m += wide::kBatch) {
    const int64_t rows = std::min(wide::kBatch, M - m);
    const auto pack = [&](int64_t begin, int64_t end, int) {
      wide::pack_columns(begin, end, by + m * N, N, rows, packed);
    };
    parallel((N + wide::kMany - 1) / wide::kMany, pack, 1 + (1 << 15) / (rows * wide::kMany));
    const auto body = [&](int64_t begin, int64_t end, int) {
      wide::columns_by_columns(begin, end, rows, N, K, from + m * K, packed, to);
    };
    parallel(strips, body, 1 + kLittle / (rows * N * wide::kVectors * kLanes));
  }
}

}  // namespace
#endif

void define_products(py::module_& m) {
#ifdef LAYERFORGE_AVX512
  m.def(
      "allow_avx512", [](bool allowed) { allow_avx512 = allowed; }, py::arg("allowed"),
      "For tests: whether functions that are written for AVX-512 are used where the processor has it.");
  if (!has_avx512()) return;
  m.def("product_forward", &forward, py::arg("x").noconvert(), py::arg("w").noconvert(), py::arg("b"),
        py::arg("y").noconvert(), py::arg("scratch").noconvert(),
        "y = x w^T + b; scratch: x^T for 48 rows of x at most, of a multiple of 16 values; no checks.");
  m.def("product_backward_weights", &backward_weights, py::arg("x").noconvert(), py::arg("dy").noconvert(),
        py::arg("dw").noconvert(), py::arg("scratch").noconvert(),
        "dw += dy^T x; scratch: 128 rows of dy at most, of a multiple of 6 values; no checks.");
#else
  m.def("allow_avx512", [](bool) {}, py::arg("allowed"));
#endif
}
