// Products of a few rows with a large matrix, in vectors of AVX-512: a fully connected layer of a mini-batch. Libraries
// copy the matrix into panels first, which costs as much as a third of such a product; here it is read where it lies,
// once. Included by products.cpp.
#pragma once

namespace wide {

// ---------------------------------------------------------------------------------------------------- y = x w^T

constexpr int kFew = 4, kMany = 6;  // rows of x and of w in a tile: 24 sums in registers
constexpr int64_t kDepth = 1024;    // values of a row at a time: a tile's rows of w stay in the first cache,
constexpr int64_t kRowsOfX = 96;    // and as many rows of x in the second

// a's, b's, c's and d's sums.
AVX512_INLINE __m128 sums_of_four(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// y += x w^T for a tile, or with `start` (rows of x alike) y = start + x w^T.
template <int rows, int columns>
AVX512_INLINE void tile_of_sums(const float* x, int64_t ldx, const float* w, int64_t ldw, int64_t depth, float* y,
                                int64_t ldy, bool first, const float* bias) {
  __m512 sum[kFew][kMany];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < kMany; ++j) sum[i][j] = _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; k += kLanes) {
    const __mmask16 own = depth - k >= kLanes ? __mmask16(0xFFFF) : lanes(0, int(depth - k));
    __m512 row[kFew];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) row[i] = _mm512_maskz_loadu_ps(own, x + i * ldx + k);
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) {
      const __m512 column = _mm512_maskz_loadu_ps(own, w + j * ldw + k);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) sum[i][j] = _mm512_fmadd_ps(row[i], column, sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    const __mmask8 low = __mmask8((1 << (columns < 4 ? columns : 4)) - 1),
                   high = columns > 4 ? (1 << (columns - 4)) - 1 : 0;
    const __m512 zero = _mm512_setzero_ps();
    const __m128 a = sums_of_four(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
    const __m128 b = sums_of_four(sum[i][4], sum[i][5], zero, zero);
    const float* const before = first ? bias : y + i * ldy;
    const __m128 c = before ? _mm_maskz_loadu_ps(low, before) : _mm_setzero_ps();
    const __m128 d = before ? _mm_maskz_loadu_ps(high, before + 4) : _mm_setzero_ps();
    _mm_mask_storeu_ps(y + i * ldy, low, _mm_add_ps(c, a));
    _mm_mask_storeu_ps(y + i * ldy + 4, high, _mm_add_ps(d, b));
  }
}

template <int columns>
AVX512 void rows_of_tiles(const float* x, int64_t ldx, int64_t M, const float* w, int64_t ldw, int64_t depth, float* y,
                          int64_t ldy, bool first, const float* bias) {
  // The next tile's rows of w come in meanwhile.
  const int64_t lines = (depth + kLanes - 1) / kLanes, tiles = (M + kFew - 1) / kFew;
  int64_t fetched = 0;
  for (int64_t m = 0; m < M; m += kFew) {
    const int64_t wanted = lines * columns * (m / kFew + 1) / tiles;
    for (; fetched < wanted; ++fetched)
      _mm_prefetch(reinterpret_cast<const char*>(w + (columns + fetched / lines) * ldw + fetched % lines * kLanes),
                   _MM_HINT_T1);
    const float* const from = x + m * ldx;
    float* const to = y + m * ldy;
    switch (M - m) {
      case 1:
        tile_of_sums<1, columns>(from, ldx, w, ldw, depth, to, ldy, first, bias);
        break;
      case 2:
        tile_of_sums<2, columns>(from, ldx, w, ldw, depth, to, ldy, first, bias);
        break;
      case 3:
        tile_of_sums<3, columns>(from, ldx, w, ldw, depth, to, ldy, first, bias);
        break;
      default:
        tile_of_sums<4, columns>(from, ldx, w, ldw, depth, to, ldy, first, bias);
    }
  }
}

// y (M, N) = x (M, K) w^T (N, K) + bias, which may be null, for the rows [begin, end) of w. K is not 0.
AVX512 void rows_by_rows(int64_t begin, int64_t end, int64_t M, int64_t N, int64_t K, const float* x, const float* w,
                         const float* bias, float* y) {
  for (int64_t m = 0; m < M; m += kRowsOfX)
    for (int64_t k = 0; k < K; k += kDepth)
      for (int64_t n = begin; n < end; n += kMany) {
        const int64_t rows = std::min(kRowsOfX, M - m), depth = std::min(kDepth, K - k);
        const float *const from = x + m * K + k, *const by = w + n * K + k;
        const float* const start = bias ? bias + n : nullptr;
        float* const to = y + m * N + n;
        const auto tiles = end - n >= 6   ? rows_of_tiles<6>
                           : end - n == 5 ? rows_of_tiles<5>
                           : end - n == 4 ? rows_of_tiles<4>
                           : end - n == 3 ? rows_of_tiles<3>
                           : end - n == 2 ? rows_of_tiles<2>
                                          : rows_of_tiles<1>;
        tiles(from, K, rows, by, K, depth, to, N, k == 0, start);
      }
}

// ---------------------------------------------------------------------------------------------------- dw += dy^T x

constexpr int64_t kBatch = 128;  // rows at a time
constexpr int kVectors = 4;      // 64 columns of x stay in the first cache

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
