#include "blas.h"

#include <pybind11/numpy.h>

#include <algorithm>

#include "cpu/cpu.h"

namespace py = pybind11;

namespace {

// CBLAS, with 32-bit integers. These are the standard's numbers for row-major, not transposed and transposed.
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

template <class T>
struct Library {
  typedef void (*Gemm)(int, int, int, int, int, int, T, const T*, int, const T*, int, T, T*, int);
  typedef void (*Gemv)(int, int, int, int, T, const T*, int, const T*, int, T, T*, int);
  static Gemm gemm;
  static Gemv gemv;
};
template <class T>
typename Library<T>::Gemm Library<T>::gemm = nullptr;
template <class T>
typename Library<T>::Gemv Library<T>::gemv = nullptr;

}  // namespace

void require_blas() {
  if (!Library<float>::gemm) py::module_::import("layerforge.device.blas").attr("load")();
}

template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, T alpha, const T* A, int64_t lda,
          const T* B, int64_t ldb, T beta, T* C, int64_t ldc) {
  if (M == 0 || N == 0) return;
  if (K == 0) {  // an empty sum; the library wants leading dimensions of at least 1
    for (int64_t row = 0; row < M; ++row)
      for (int64_t column = 0; column < N; ++column)
        C[row * ldc + column] = beta == 0 ? T(0) : beta * C[row * ldc + column];
    return;
  }
  if (M == 1 && N > 1) {  // c = op(B)^T a: a vector is not worth packing B for
    Library<T>::gemv(kRowMajor, transpose_b ? kPlain : kTransposed, int(transpose_b ? N : K), int(transpose_b ? K : N),
                     alpha, B, int(ldb), A, int(transpose_a ? lda : 1), beta, C, 1);
    return;
  }
  if (N == 1 && M > 1) {  // c = op(A) b
    Library<T>::gemv(kRowMajor, transpose_a ? kTransposed : kPlain, int(transpose_a ? K : M), int(transpose_a ? M : K),
                     alpha, A, int(lda), B, int(transpose_b ? 1 : ldb), beta, C, int(ldc));
    return;
  }
  Library<T>::gemm(kRowMajor, transpose_a ? kTransposed : kPlain, transpose_b ? kTransposed : kPlain, int(M), int(N),
                   int(K), alpha, A, int(lda), B, int(ldb), beta, C, int(ldc));
}

template <class T>
void gemm_parallel(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, T alpha, const T* A,
                   int64_t lda, const T* B, int64_t ldb, T beta, T* C, int64_t ldc) {
  constexpr int64_t few = 1 << 15;  // multiplications that one thread does sooner than it wakes another
  constexpr int64_t tile = 16;      // rows or columns: the library's kernels are that wide
  const int64_t tiles = (std::max(M, N) + tile - 1) / tile;
  if (M * N * K < few) return gemm(transpose_a, transpose_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
  parallel(tiles, [&](int64_t first, int64_t last, int) {
    const int64_t begin = first * tile, end = std::min(std::max(M, N), last * tile);
    if (M >= N)
      gemm(transpose_a, transpose_b, end - begin, N, K, alpha, A + begin * (transpose_a ? 1 : lda), lda, B, ldb, beta,
           C + begin * ldc, ldc);
    else
      gemm(transpose_a, transpose_b, M, end - begin, K, alpha, A, lda, B + begin * (transpose_b ? ldb : 1), ldb, beta,
           C + begin, ldc);
  });
}

template void gemm(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t, float,
                   float*, int64_t);
template void gemm(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t, const double*, int64_t,
                   double, double*, int64_t);
template void gemm_parallel(bool, bool, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*, int64_t,
                            float, float*, int64_t);
template void gemm_parallel(bool, bool, int64_t, int64_t, int64_t, double, const double*, int64_t, const double*,
                            int64_t, double, double*, int64_t);

// The arrays were checked in Python (device/cpu.py); sizes are those of the stored matrices.
template <class T>
static void gemm_arrays(const py::array& a, const py::array& b, py::array& out, bool transpose_a, bool transpose_b,
                        double alpha, double beta) {
  const int64_t M = out.shape(0), N = out.shape(1), K = a.shape(transpose_a ? 0 : 1);
  const T *A = static_cast<const T*>(a.data()), *B = static_cast<const T*>(b.data());
  T* C = static_cast<T*>(out.mutable_data());
  const int64_t lda = std::max<int64_t>(1, a.shape(1)), ldb = std::max<int64_t>(1, b.shape(1));
  py::gil_scoped_release without_gil;
  gemm_parallel(transpose_a, transpose_b, M, N, K, T(alpha), A, lda, B, ldb, T(beta), C, std::max<int64_t>(1, N));
}

void define_blas(py::module_& m) {
  m.def(
      "set_blas",
      [](uintptr_t sgemm, uintptr_t dgemm, uintptr_t sgemv, uintptr_t dgemv) {
        Library<double>::gemm = reinterpret_cast<Library<double>::Gemm>(dgemm);
        Library<float>::gemv = reinterpret_cast<Library<float>::Gemv>(sgemv);
        Library<double>::gemv = reinterpret_cast<Library<double>::Gemv>(dgemv);
        Library<float>::gemm = reinterpret_cast<Library<float>::Gemm>(sgemm);
      },
      "Takes the addresses of a CBLAS library's sgemm, dgemm, sgemv and dgemv.");
  m.def(
      "gemm",
      [](const py::array& a, const py::array& b, py::array& out, bool transpose_a, bool transpose_b, double alpha,
         double beta) {
        require_blas();
        if (out.itemsize() == sizeof(float))
          gemm_arrays<float>(a, b, out, transpose_a, transpose_b, alpha, beta);
        else
          gemm_arrays<double>(a, b, out, transpose_a, transpose_b, alpha, beta);
      },
      py::arg("a").noconvert(), py::arg("b").noconvert(), py::arg("out").noconvert(), py::arg("transpose_a"),
      py::arg("transpose_b"), py::arg("alpha"), py::arg("beta"), "out = alpha * op(a) op(b) + beta * out; no checks.");
}
