// Matrix products. BLAS comes from a library that Python finds when it is first needed; nothing is linked.
//
// BLAS itself runs on the calling thread. Work is spread over threads here, one level above, where it is known how the
// work falls apart: by images for a convolution, by the larger side of the product for a single one. The same
// number of threads gives the same bits.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>

// Finds and loads the library unless that has been done. Needs the GIL; raises DeviceError.
void require_blas();

// C (M, N) = alpha * op(A) (M, K) * op(B) (K, N) + beta * C, row-major, on the calling thread. lda, ldb and ldc are the
// distances between rows as the matrices are stored. With beta = 0, C is not read.
template <class T>
void gemm(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, T alpha, const T* A, int64_t lda,
          const T* B, int64_t ldb, T beta, T* C, int64_t ldc);

// The same, on all threads.
template <class T>
void gemm_parallel(bool transpose_a, bool transpose_b, int64_t M, int64_t N, int64_t K, T alpha, const T* A,
                   int64_t lda, const T* B, int64_t ldb, T beta, T* C, int64_t ldc);

void define_blas(pybind11::module_& m);
