// Products of a few rows with a large matrix, in vectors of AVX-512: a fully connected layer of a mini-batch. Libraries
// copy the matrix into panels first, which costs as much as a third of such a product; here it is read where it lies,
// once. Included by products.cpp.
#pragma once
#include "transpose_avx512.h"

namespace wide {

// ---------------------------------------------------------------------------------------------------- y = x w^T

// Up to 4 rows of x: vectors along K. There is nothing to do but to read w, from end to end of a few rows at a time.

constexpr int kFew = 4, kRowsOfW = 4;

// a's, b's, c's and d's sums.
AVX512_INLINE __m128 sums_of_four(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

template <int rows, int columns>
AVX512_INLINE void add_products(const float* x, const float* w, int64_t K, __mmask16 own,
                                __m512 (&sum)[kFew][kRowsOfW]) {
  __m512 row[kFew];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) row[i] = _mm512_maskz_loadu_ps(own, x + i * K);
#pragma GCC unroll 4
  for (int j = 0; j < columns; ++j) {
    const __m512 column = _mm512_maskz_loadu_ps(own, w + j * K);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) sum[i][j] = _mm512_fmadd_ps(row[i], column, sum[i][j]);
  }
}

template <int rows, int columns>
AVX512_INLINE void few_products(const float* x, const float* w, int64_t K, const float* bias, float* y, int64_t N) {
  __m512 sum[kFew][kRowsOfW];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kRowsOfW; ++j) sum[i][j] = _mm512_setzero_ps();
  int64_t k = 0;
  for (; k + kLanes <= K; k += kLanes) add_products<rows, columns>(x + k, w + k, K, 0xFFFF, sum);
  if (k < K) add_products<rows, columns>(x + k, w + k, K, lanes(0, int(K - k)), sum);
  const __mmask8 own = (1 << columns) - 1;
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i) {
    const __m128 start = bias ? _mm_maskz_loadu_ps(own, bias) : _mm_setzero_ps();
    const __m128 sums = sums_of_four(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
    _mm_mask_storeu_ps(y + i * N, own, _mm_add_ps(start, sums));
  }
}

template <int rows>
AVX512 void few_by_rows(int64_t begin, int64_t end, int64_t N, int64_t K, const float* x, const float* w,
                        const float* bias, float* y) {
  int64_t n = begin;
  for (; n + kRowsOfW <= end; n += kRowsOfW)
    few_products<rows, kRowsOfW>(x, w + n * K, K, bias ? bias + n : nullptr, y + n, N);
  for (; n < end; ++n) few_products<rows, 1>(x, w + n * K, K, bias ? bias + n : nullptr, y + n, N);
}

// More of them: vectors along x's rows. x is transposed before, `vectors` times 16 rows, of which the last ones may be
// zeros, and stays in the second cache, 1024 deep at a time. Each value of w is read in one load, for all rows at once.
// Rows of w often lie a multiple of 4 KiB apart, so in a few lines of the first cache: a tile has 8 and no more of
// them.

constexpr int kMostVectors = 3, kTogether = 8;
constexpr int64_t kDepth = 1024;

// packed (K, 16 vectors) = x^T (K, M), with zeros behind M, for columns [begin, end) of x.
AVX512 void pack_rows(int64_t begin, int64_t end, const float* x, int64_t M, int64_t K, int vectors, float* packed) {
  for (int64_t k = begin; k < end; k += kLanes)
    for (int v = 0; v < vectors; ++v) {
      const __mmask16 own = lanes(0, int(std::min<int64_t>(kLanes, end - k)));
      __m512 square[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const int64_t m = v * kLanes + i;
        square[i] = m < M ? _mm512_maskz_loadu_ps(own, x + m * K + k) : _mm512_setzero_ps();
      }
      transpose_square(square);
      for (int i = 0; i < kLanes && k + i < end; ++i)
        _mm512_storeu_ps(packed + ((k + i) * vectors + v) * kLanes, square[i]);
    }
}

// y (M, rows) += x w^T, or with `first` y = bias + x w^T.
template <int vectors, int rows>
AVX512 void tile_of_sums(const float* packed, int64_t M, const float* w, int64_t K, int64_t depth, bool first,
                         const float* bias, float* y, int64_t N) {
  __m512 sum[rows][vectors];
#pragma GCC unroll 8
  for (int j = 0; j < rows; ++j)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sum[j][v] = _mm512_setzero_ps();
  for (int64_t begin = 0; begin < depth; begin += kLanes) {
#pragma GCC unroll 8
    for (int j = 0; j < rows; ++j)  // the next tile's
      _mm_prefetch(reinterpret_cast<const char*>(w + (rows + j) * K + begin), _MM_HINT_T1);
    const int64_t end = std::min(begin + kLanes, depth);
    for (int64_t k = begin; k < end; ++k, packed += vectors * kLanes) {
      __m512 column[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) column[v] = _mm512_loadu_ps(packed + v * kLanes);
#pragma GCC unroll 8
      for (int j = 0; j < rows; ++j) {
        const __m512 one = _mm512_set1_ps(w[j * K + k]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[j][v] = _mm512_fmadd_ps(column[v], one, sum[j][v]);
      }
    }
  }
  const __mmask16 own = lanes(0, rows);
  const __m512 start = bias ? _mm512_maskz_loadu_ps(own, bias) : _mm512_setzero_ps();
#pragma GCC unroll 4
  for (int v = 0; v < vectors; ++v) {
    __m512 square[kLanes];
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) square[j] = j < rows ? sum[j][v] : _mm512_setzero_ps();
    transpose_square(square);
    for (int i = 0; i < kLanes && v * kLanes + i < M; ++i) {
      float* const to = y + (v * kLanes + i) * N;
      const __m512 before = first ? start : _mm512_maskz_loadu_ps(own, to);
      _mm512_mask_storeu_ps(to, own, _mm512_add_ps(before, square[i]));
    }
  }
}

// y (M, N) = x (M, K) w^T (N, K) + bias, which may be null, for the rows [begin, end) of w; packed is x, as pack_rows
// makes it. K is not 0.
template <int vectors>
AVX512 void packed_by_rows(int64_t begin, int64_t end, int64_t M, int64_t N, int64_t K, const float* packed,
                           const float* w, const float* bias, float* y) {
  for (int64_t k = 0; k < K; k += kDepth) {
    const int64_t depth = std::min(kDepth, K - k);
    const float *const x = packed + k * vectors * kLanes, *const from = w + k;
    int64_t n = begin;
    for (; n + kTogether <= end; n += kTogether)
      tile_of_sums<vectors, kTogether>(x, M, from + n * K, K, depth, k == 0, bias ? bias + n : nullptr, y + n, N);
    for (; n + 2 <= end; n += 2)
      tile_of_sums<vectors, 2>(x, M, from + n * K, K, depth, k == 0, bias ? bias + n : nullptr, y + n, N);
    if (n < end) tile_of_sums<vectors, 1>(x, M, from + n * K, K, depth, k == 0, bias ? bias + n : nullptr, y + n, N);
  }
}

// ---------------------------------------------------------------------------------------------------- dw += dy^T x

constexpr int kMany = 6;         // columns of dy in a tile, by
constexpr int kVectors = 4;      // 64 columns of x, which stay in the first cache
constexpr int64_t kBatch = 128;  // rows at a time

// Tiles [begin, end) of 6 columns of dy, transposed: (tiles, rows, 6), with zeros behind the last column.
AVX512 void pack_columns(int64_t begin, int64_t end, const float* dy, int64_t N, int64_t rows, float* packed) {
  packed += begin * rows * kMany;
  for (int64_t n = begin * kMany; n < end * kMany; n += kMany)
    for (int64_t m = 0; m < rows; ++m, packed += kMany)
      for (int j = 0; j < kMany; ++j) packed[j] = n + j < N ? dy[m * N + n + j] : 0;
}

template <int columns>
AVX512_INLINE void tile_of_products(const float* x, const float* packed, int64_t M, int64_t K, const __mmask16* own,
                                    float* dw) {
  __m512 sum[kMany][kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < columns; ++j)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sum[j][v] = _mm512_setzero_ps();
      _mm_prefetch(reinterpret_cast<const char*>(dw + (columns + j) * K + v * kLanes), _MM_HINT_T0);
    }
  for (int64_t m = 0; m < M; ++m, x += kVectors * kLanes, packed += kMany) {
    __m512 row[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) row[v] = _mm512_loadu_ps(x + v * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) {
      const __m512 one = _mm512_set1_ps(packed[j]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[j][v] = _mm512_fmadd_ps(row[v], one, sum[j][v]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < columns; ++j)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      float* const at = dw + j * K + v * kLanes;
      _mm512_mask_storeu_ps(at, own[v], _mm512_add_ps(_mm512_maskz_loadu_ps(own[v], at), sum[j][v]));
    }
}

template <int columns>
AVX512 void products_of_tile(const float* x, const float* packed, int64_t M, int64_t K, const __mmask16* own,
                             float* dw) {
  tile_of_products<columns>(x, packed, M, K, own, dw);
}

// dw (N, K) += dy^T (N, M) x (M, K) for strips [begin, end) of 64 columns of x; `packed` is dy, as pack_columns makes
// it.
AVX512 void columns_by_columns(int64_t begin, int64_t end, int64_t M, int64_t N, int64_t K, const float* x,
                               const float* packed, float* dw) {
  alignas(64) float strip[kBatch * kVectors * kLanes];
  for (int64_t s = begin; s < end; ++s) {
    const int64_t k = s * kVectors * kLanes;
    __mmask16 own[kVectors];
    for (int v = 0; v < kVectors; ++v) own[v] = lanes(0, int(std::min<int64_t>(kLanes, K - k - v * kLanes)));
    for (int64_t m = 0; m < M; ++m)
      for (int v = 0; v < kVectors; ++v)
        _mm512_store_ps(strip + (m * kVectors + v) * kLanes, _mm512_maskz_loadu_ps(own[v], x + m * K + k + v * kLanes));
    for (int64_t n = 0; n < N; n += kMany) {
      const int64_t rest = N - n;
      const auto tile = rest >= 6   ? products_of_tile<6>
                        : rest == 5 ? products_of_tile<5>
                        : rest == 4 ? products_of_tile<4>
                        : rest == 3 ? products_of_tile<3>
                        : rest == 2 ? products_of_tile<2>
                                    : products_of_tile<1>;
      tile(strip, packed + n * M, M, K, own, dw + n * K + k);
    }
  }
}

}  // namespace wide
