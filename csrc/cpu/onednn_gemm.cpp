// Matrix products by oneDNN, which chooses its instructions by itself, on all threads.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>

#include "onednn.h"
#include "registry.h"

namespace py = pybind11;

namespace onednn {

// The arrays were checked in Python (engines/products.py).
static void gemm(const py::array& a, const py::array& b, py::array& out, bool transpose_a, bool transpose_b,
                 float beta) {
  const int64_t M = out.shape(0), N = out.shape(1), K = a.shape(transpose_a ? 0 : 1);
  const int64_t lda = std::max<int64_t>(1, a.shape(1)), ldb = std::max<int64_t>(1, b.shape(1));
  const float *A = static_cast<const float*>(a.data()), *B = static_cast<const float*>(b.data());
  float* C = static_cast<float*>(out.mutable_data());
  py::gil_scoped_release without_gil;
  constexpr int64_t few = 1 << 20;  // multiplications that one thread does sooner than it wakes another
  const WithThreads with(M * N * K < few ? 1 : threads());
  check(library().dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', M, N, K, 1, A, lda, B, ldb, beta, C, N),
        "dnnl_sgemm");
}

void define_gemm(py::module_& m) {
  m.def("onednn_gemm", &gemm, py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("out").noconvert(),
        py::arg("transpose_a"), py::arg("transpose_b"), py::arg("beta"),
        "out = op(a) op(b) + beta * out in float32; no checks, and none of the sizes may be 0.");
}

}  // namespace onednn
