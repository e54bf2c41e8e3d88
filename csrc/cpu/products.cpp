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

constexpr int64_t kFew = 1 << 19;  // multiplications that one thread does sooner than it wakes another

typedef py::array_t<float, py::array::c_style> Array;

// The arrays were checked in Python (engines/products.py).
void forward(const Array& x, const Array& w, const py::object& b, Array& y) {
  const int64_t M = x.shape(0), K = x.shape(1), N = w.shape(0);
  const float* const bias = b.is_none() ? nullptr : py::cast<Array>(b).data();
  const float *const from = x.data(), *const by = w.data();
  float* const to = y.mutable_data();
  py::gil_scoped_release without_gil;
  const int64_t tiles = (N + wide::kMany - 1) / wide::kMany;
  const auto body = [&](int64_t begin, int64_t end, int) {
    wide::rows_by_rows(begin * wide::kMany, std::min(N, end * wide::kMany), M, N, K, from, by, bias, to);
  };
  parallel(tiles, body, 1 + kFew / (M * wide::kMany * K));
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
    parallel(strips, body, 1 + kFew / (rows * N * wide::kVectors * kLanes));
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
        py::arg("y").noconvert(), "y = x w^T + b; no checks.");
  m.def("product_backward_weights", &backward_weights, py::arg("x").noconvert(), py::arg("dy").noconvert(),
        py::arg("dw").noconvert(), py::arg("scratch").noconvert(),
        "dw += dy^T x; scratch: 128 rows of dy at most, of a multiple of 6 values; no checks.");
#else
  m.def("allow_avx512", [](bool) {}, py::arg("allowed"));
#endif
}
