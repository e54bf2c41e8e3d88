// The steps of a convolution of 3x3 taps by Winograd's minimal filtering, F(4x4, 3x3), in vectors of AVX-512.
// A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
//
// A tile of 4x4 outputs is a product of polynomials that are known at 6 points along each axis: Y = A^T [U * V] A for
// each pair of channels, with V = B^T d B of the 6x6 inputs d and U = G g G^T of the taps g: 36 multiplications, not
// 144. The points are 0, +-11/16, +-3/2 and infinity: with the usual 0, +-1, +-2 errors are five times as large. All
// constants of B and A are exact. Included by winograd.cpp.
#pragma once
#include "transpose_avx512.h"

namespace winograd {

constexpr int kTile = 4, kPatch = 6, kPoints = 36;
constexpr int kSlack = 16;      // floats from point to point beyond their own, lest all meet in one set of a cache
constexpr int64_t kAhead = 12;  // positions
constexpr float kA = 0.6875f, kB = 1.5f;

// Distances, in floats, from an image to the next, from 16 channels to the next, from a row, from a position.
struct Lies {
  int64_t image, block, row, position;
};

struct Tiles {
  int64_t rows, columns;  // of an image
  int64_t height, width;  // of the input
  int64_t top, left;      // padding
  int64_t bottom, right;  // height and width of the output
};

// B^T d
AVX512_INLINE void at_points(const __m512* d, __m512* v) {
  const __m512 a = _mm512_set1_ps(kA), b = _mm512_set1_ps(kB);
  const __m512 aa = _mm512_set1_ps(kA * kA), bb = _mm512_set1_ps(kB * kB);
  const __m512 sum = _mm512_set1_ps(kA * kA + kB * kB), product = _mm512_set1_ps(kA * kA * kB * kB);
  const __m512 even_a = _mm512_fnmadd_ps(bb, d[2], d[4]), odd_a = _mm512_fnmadd_ps(bb, d[1], d[3]);
  const __m512 even_b = _mm512_fnmadd_ps(aa, d[2], d[4]), odd_b = _mm512_fnmadd_ps(aa, d[1], d[3]);
  v[0] = _mm512_fmadd_ps(product, d[0], _mm512_fnmadd_ps(sum, d[2], d[4]));
  v[1] = _mm512_fmadd_ps(a, odd_a, even_a);
  v[2] = _mm512_fnmadd_ps(a, odd_a, even_a);
  v[3] = _mm512_fmadd_ps(b, odd_b, even_b);
  v[4] = _mm512_fnmadd_ps(b, odd_b, even_b);
  v[5] = _mm512_fmadd_ps(product, d[1], _mm512_fnmadd_ps(sum, d[3], d[5]));
}

// A^T m
AVX512_INLINE void from_points(const __m512* m, __m512* y) {
  const __m512 a = _mm512_set1_ps(kA), b = _mm512_set1_ps(kB);
  const __m512 aa = _mm512_set1_ps(kA * kA), bb = _mm512_set1_ps(kB * kB);
  const __m512 aaa = _mm512_set1_ps(kA * kA * kA), bbb = _mm512_set1_ps(kB * kB * kB);
  const __m512 even_a = _mm512_add_ps(m[1], m[2]), odd_a = _mm512_sub_ps(m[1], m[2]);
  const __m512 even_b = _mm512_add_ps(m[3], m[4]), odd_b = _mm512_sub_ps(m[3], m[4]);
  y[0] = _mm512_add_ps(m[0], _mm512_add_ps(even_a, even_b));
  y[1] = _mm512_fmadd_ps(a, odd_a, _mm512_mul_ps(b, odd_b));
  y[2] = _mm512_fmadd_ps(aa, even_a, _mm512_mul_ps(bb, even_b));
  y[3] = _mm512_fmadd_ps(aaa, odd_a, _mm512_fmadd_ps(bbb, odd_b, m[5]));
}

// G g: the taps' polynomial at each point, over the product of the point's distances from the others
AVX512_INLINE void taps_at_points(const __m512* g, __m512* u) {
  constexpr float at_0 = 1 / (kA * kA * kB * kB);
  constexpr float at_a = 1 / (2 * kA * kA * (kA * kA - kB * kB)), at_b = 1 / (2 * kB * kB * (kB * kB - kA * kA));
  const __m512 a = _mm512_set1_ps(kA), b = _mm512_set1_ps(kB);
  const __m512 of_a = _mm512_set1_ps(at_a), of_b = _mm512_set1_ps(at_b);
  const __m512 even_a = _mm512_fmadd_ps(_mm512_set1_ps(kA * kA), g[2], g[0]);
  const __m512 even_b = _mm512_fmadd_ps(_mm512_set1_ps(kB * kB), g[2], g[0]);
  u[0] = _mm512_mul_ps(_mm512_set1_ps(at_0), g[0]);
  u[1] = _mm512_mul_ps(of_a, _mm512_fmadd_ps(a, g[1], even_a));
  u[2] = _mm512_mul_ps(of_a, _mm512_fnmadd_ps(a, g[1], even_a));
  u[3] = _mm512_mul_ps(of_b, _mm512_fmadd_ps(b, g[1], even_b));
  u[4] = _mm512_mul_ps(of_b, _mm512_fnmadd_ps(b, g[1], even_b));
  u[5] = g[2];
}

// v[point][tile][channel] for the tiles [begin, end) of all images and `blocks` vectors of channels. The points are
// `stride` apart, the tiles ldv.
AVX512 void read_tiles(int64_t begin, int64_t end, const float* x, Lies lies, Tiles tiles, int64_t blocks, float* v,
                       int64_t ldv, int64_t stride) {
  // Memory is read in order: the channels of a position if they are its neighbours, else the positions of a row.
  const int64_t each = tiles.rows * tiles.columns, inner = lies.position > kLanes ? blocks : 1;
  for (int64_t first = begin, last; first < end; first = last) {
    const int64_t n = first / each, start = first % tiles.columns;
    last = std::min(end, first + tiles.columns - start);
    const int64_t h = first % each / tiles.columns * kTile - tiles.top;
    __mmask16 own[kPatch];
    for (int i = 0; i < kPatch; ++i) own[i] = h + i >= 0 && h + i < tiles.height ? 0xFFFF : 0;
    for (int64_t outer = 0; outer < blocks; outer += inner)
      for (int64_t t = first; t < last; ++t) {
        const int64_t w = (start + t - first) * kTile - tiles.left;
        const float* from = x + n * lies.image + outer * lies.block + h * lies.row + w * lies.position;
        float* to = v + (t - begin) * ldv + outer * kLanes;
        for (int64_t c = 0; c < inner; ++c, from += lies.block, to += kLanes) {
          __m512 half[kPatch][kPatch];
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < kTile; ++j)
              _mm_prefetch(reinterpret_cast<const char*>(from + i * lies.row + (j + kAhead) * lies.position),
                           _MM_HINT_T0);
#pragma GCC unroll 6
          for (int j = 0; j < kPatch; ++j) {
            __m512 d[kPatch], p[kPatch];
            const bool inside = w + j >= 0 && w + j < tiles.width;
#pragma GCC unroll 6
            for (int i = 0; i < kPatch; ++i)
              d[i] =
                  inside ? _mm512_maskz_loadu_ps(own[i], from + i * lies.row + j * lies.position) : _mm512_setzero_ps();
            at_points(d, p);
#pragma GCC unroll 6
            for (int i = 0; i < kPatch; ++i) half[i][j] = p[i];
          }
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) {
            __m512 p[kPatch];
            at_points(half[i], p);
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) _mm512_storeu_ps(to + (i * kPatch + j) * stride, p[j]);
          }
        }
      }
  }
}

// What is done to the sums: bias and term, if any, are added, and they are rectified; or they are the gradient of
// `rectified`, if any, what a rectifier with that slope made. past: to memory, past the caches; y lies at a boundary
// then.
struct Finish {
  const float *bias, *term, *rectified;
  float slope;
  bool rectify, past;
};

// y for the tiles [begin, end) and `vectors` vectors of outputs, from m[point][tile][output].
template <int vectors>
AVX512 void write_tiles(int64_t begin, int64_t end, const float* m, int64_t stride, Finish finish, float* y, Lies lies,
                        Tiles tiles) {
  const int64_t each = tiles.rows * tiles.columns;
  const __m512 zero = _mm512_setzero_ps();
  for (int64_t t = begin; t < end; ++t) {
    const int64_t h = t % each / tiles.columns * kTile, w = t % tiles.columns * kTile;
    const int64_t high = tiles.bottom - h, wide = tiles.right - w;
    int64_t at = t / each * lies.image + h * lies.row + w * lies.position;
    const float* from = m + (t - begin) * vectors * kLanes;
    for (int k = 0; k < vectors; ++k, from += kLanes, at += lies.block) {
      __m512 half[kTile][kPatch];
#pragma GCC unroll 6
      for (int j = 0; j < kPatch; ++j) {
        __m512 p[kPatch], q[kTile];
#pragma GCC unroll 6
        for (int i = 0; i < kPatch; ++i) p[i] = _mm512_loadu_ps(from + (i * kPatch + j) * stride);
        from_points(p, q);
#pragma GCC unroll 4
        for (int i = 0; i < kTile; ++i) half[i][j] = q[i];
      }
      const __m512 start = finish.bias ? _mm512_loadu_ps(finish.bias + k * kLanes) : zero;
#pragma GCC unroll 4
      for (int i = 0; i < kTile; ++i) {
        if (i >= high) break;
        __m512 q[kTile];
        from_points(half[i], q);
#pragma GCC unroll 4
        for (int j = 0; j < kTile; ++j) {
          if (j >= wide) break;
          const int64_t e = at + i * lies.row + j * lies.position;
          __m512 value = _mm512_add_ps(q[j], start);
          if (finish.term) value = _mm512_add_ps(value, _mm512_loadu_ps(finish.term + e));
          if (finish.rectify)
            value = _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(value, zero, _CMP_LE_OQ), zero);  // NaN stays
          if (finish.rectified) {
            const __mmask16 above = _mm512_cmp_ps_mask(_mm512_loadu_ps(finish.rectified + e), zero, _CMP_GT_OQ);
            value = _mm512_mask_mov_ps(_mm512_mul_ps(value, _mm512_set1_ps(finish.slope)), above, value);
          }
          if (finish.past)
            _mm512_stream_ps(y + e, value);
          else
            _mm512_storeu_ps(y + e, value);
        }
      }
    }
  }
  if (finish.past) _mm_sfence();
}

// blocks (count, positions, 16) of plain (count, 16, positions), or the other way round, for the blocks [begin, end).
AVX512 void turn_blocks(int64_t begin, int64_t end, int64_t positions, bool to_blocks, const float* from, float* to) {
  const int64_t source = to_blocks ? positions : kLanes, target = to_blocks ? kLanes : positions;
  for (int64_t n = begin; n < end; ++n)
    for (int64_t p = 0; p < positions; p += kLanes) {
      const int64_t at = n * positions * kLanes, count = std::min<int64_t>(kLanes, positions - p);
      const float* const read = from + at + (to_blocks ? p : p * kLanes);
      float* const write = to + at + (to_blocks ? p * kLanes : p);
      const __mmask16 some = lanes(0, int(count)), all = 0xFFFF;
      __m512 r[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        r[i] = to_blocks || i < count ? _mm512_maskz_loadu_ps(to_blocks ? some : all, read + i * source)
                                      : _mm512_setzero_ps();
      transpose_square(r);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        if (!to_blocks || i < count) _mm512_mask_storeu_ps(write + i * target, to_blocks ? all : some, r[i]);
    }
}

// m (rows, outputs) = v (rows, depth) u (depth, outputs)
template <int rows, int vectors>
AVX512_INLINE void product(const float* v, int64_t ldv, const float* u, int64_t depth, float* m) {
  __m512 sum[rows][vectors];
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) sum[i][j] = _mm512_setzero_ps();
#pragma GCC unroll 1
  for (int64_t c = 0; c < depth; ++c, u += vectors * kLanes) {
    __m512 by[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) by[j] = _mm512_loadu_ps(u + j * kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const __m512 one = _mm512_set1_ps(v[i * ldv + c]);
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sum[i][j] = _mm512_fmadd_ps(one, by[j], sum[i][j]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) _mm512_storeu_ps(m + (i * vectors + j) * kLanes, sum[i][j]);
}

// The same for fewer rows than `rows`.
template <int rows, int vectors>
AVX512 void product_of_rest(int64_t left, const float* v, int64_t ldv, const float* u, int64_t depth, float* m) {
  if constexpr (rows > 1) {
    if (left < rows - 1)
      product_of_rest<rows - 1, vectors>(left, v, ldv, u, depth, m);
    else
      product<rows - 1, vectors>(v, ldv, u, depth, m);
  }
}

// m[point][tile][output] = sum over c of v[point][tile][c] u[point][c][output]
template <int vectors>
AVX512 void products(int64_t tiles, const float* v, int64_t ldv, int64_t v_stride, const float* u, int64_t depth,
                     int64_t u_stride, float* m, int64_t m_stride) {
  constexpr int rows = vectors == 4 ? 6 : vectors == 3 ? 8 : 12;  // 24 sums in registers
  for (int p = 0; p < kPoints; ++p, v += v_stride, u += u_stride, m += m_stride) {
    int64_t t = 0;
    for (; t + rows <= tiles; t += rows) product<rows, vectors>(v + t * ldv, ldv, u, depth, m + t * vectors * kLanes);
    if (t < tiles) product_of_rest<rows, vectors>(tiles - t, v + t * ldv, ldv, u, depth, m + t * vectors * kLanes);
  }
}

// u[point][channel][output] for the channels [begin, end) and `vectors` vectors of outputs, whose 9 taps lie at
// w + channel * step + output * next. turned: by 180 degrees.
AVX512 void weigh(int64_t begin, int64_t end, const float* w, int64_t step, int64_t next, bool turned,
                  const float* factor, int vectors, float* u, int64_t stride) {
  const __m512i at = _mm512_mullo_epi32(counting(), _mm512_set1_epi32(int(next)));
  for (int64_t c = begin; c < end; ++c)
    for (int k = 0; k < vectors; ++k) {
      const float* const from = w + c * step + k * kLanes * next;
      const __m512 by = factor ? _mm512_loadu_ps(factor + k * kLanes) : _mm512_set1_ps(1);
      __m512 half[3][kPatch];
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) {
        __m512 g[3];
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i)
          g[i] = _mm512_mul_ps(by, _mm512_i32gather_ps(at, from + (turned ? 8 - 3 * i - j : 3 * i + j), 4));
        taps_at_points(g, half[j]);
      }
      float* const to = u + (c * vectors + k) * kLanes;
#pragma GCC unroll 6
      for (int i = 0; i < kPatch; ++i) {
        const __m512 g[3] = {half[0][i], half[1][i], half[2][i]};
        __m512 p[kPatch];
        taps_at_points(g, p);
#pragma GCC unroll 6
        for (int j = 0; j < kPatch; ++j) _mm512_storeu_ps(to + (i * kPatch + j) * stride, p[j]);
      }
    }
}

// The gradient of the weights: dw = G^T (sum over tiles of V * (A dy A^T)) G

// A dy
AVX512_INLINE void gradient_at_points(const __m512* y, __m512* d) {
  const __m512 a = _mm512_set1_ps(kA), b = _mm512_set1_ps(kB);
  const __m512 aa = _mm512_set1_ps(kA * kA), bb = _mm512_set1_ps(kB * kB);
  const __m512 even_a = _mm512_fmadd_ps(aa, y[2], y[0]), odd_a = _mm512_fmadd_ps(aa, y[3], y[1]);
  const __m512 even_b = _mm512_fmadd_ps(bb, y[2], y[0]), odd_b = _mm512_fmadd_ps(bb, y[3], y[1]);
  d[0] = y[0];
  d[1] = _mm512_fmadd_ps(a, odd_a, even_a);
  d[2] = _mm512_fnmadd_ps(a, odd_a, even_a);
  d[3] = _mm512_fmadd_ps(b, odd_b, even_b);
  d[4] = _mm512_fnmadd_ps(b, odd_b, even_b);
  d[5] = y[3];
}

// d[point][tile][output] for the tiles [begin, end) of dy, and behind the points the sums of each tile.
AVX512 void read_gradient(int64_t begin, int64_t end, const float* dy, Lies lies, Tiles tiles, int64_t blocks, float* d,
                          int64_t ldd, int64_t stride) {
  const int64_t each = tiles.rows * tiles.columns, inner = lies.position > kLanes ? blocks : 1;
  for (int64_t first = begin, last; first < end; first = last) {
    const int64_t n = first / each, start = first % tiles.columns;
    last = std::min(end, first + tiles.columns - start);
    const int64_t h = first % each / tiles.columns * kTile;
    __mmask16 own[kTile];
    for (int i = 0; i < kTile; ++i) own[i] = h + i < tiles.bottom ? 0xFFFF : 0;
    for (int64_t outer = 0; outer < blocks; outer += inner)
      for (int64_t t = first; t < last; ++t) {
        const int64_t w = (start + t - first) * kTile;
        const float* from = dy + n * lies.image + outer * lies.block + h * lies.row + w * lies.position;
        float* to = d + (t - begin) * ldd + outer * kLanes;
        for (int64_t c = 0; c < inner; ++c, from += lies.block, to += kLanes) {
          __m512 half[kPatch][kTile], sum = _mm512_setzero_ps();
#pragma GCC unroll 4
          for (int i = 0; i < kTile; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < kTile; ++j)
              _mm_prefetch(reinterpret_cast<const char*>(from + i * lies.row + (j + kAhead) * lies.position),
                           _MM_HINT_T0);
#pragma GCC unroll 4
          for (int j = 0; j < kTile; ++j) {
            __m512 y[kTile], p[kPatch];
            const bool inside = w + j < tiles.right;
#pragma GCC unroll 4
            for (int i = 0; i < kTile; ++i)
              y[i] =
                  inside ? _mm512_maskz_loadu_ps(own[i], from + i * lies.row + j * lies.position) : _mm512_setzero_ps();
            gradient_at_points(y, p);
            sum = _mm512_add_ps(sum, _mm512_add_ps(_mm512_add_ps(y[0], y[1]), _mm512_add_ps(y[2], y[3])));
#pragma GCC unroll 6
            for (int i = 0; i < kPatch; ++i) half[i][j] = p[i];
          }
#pragma GCC unroll 6
          for (int i = 0; i < kPatch; ++i) {
            __m512 p[kPatch];
            gradient_at_points(half[i], p);
#pragma GCC unroll 6
            for (int j = 0; j < kPatch; ++j) _mm512_storeu_ps(to + (i * kPatch + j) * stride, p[j]);
          }
          _mm512_storeu_ps(to + kPoints * stride, sum);
        }
      }
  }
}

// u (rows, outputs) += v^T (tiles, rows) d (tiles, outputs); first: =
template <int rows, int vectors>
AVX512_INLINE void outer_product(int64_t tiles, const float* v, int64_t ldv, const float* d, int64_t ldd, float* u,
                                 int64_t ldu, bool first) {
  __m512 sum[rows][vectors];
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) sum[i][j] = _mm512_setzero_ps();
#pragma GCC unroll 1
  for (int64_t t = 0; t < tiles; ++t, v += ldv, d += ldd) {
    __m512 by[vectors];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) by[j] = _mm512_loadu_ps(d + j * kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const __m512 one = _mm512_set1_ps(v[i]);
#pragma GCC unroll 4
      for (int j = 0; j < vectors; ++j) sum[i][j] = _mm512_fmadd_ps(one, by[j], sum[i][j]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; ++j) {
      float* const at = u + i * ldu + j * kLanes;
      _mm512_storeu_ps(at, first ? sum[i][j] : _mm512_add_ps(_mm512_loadu_ps(at), sum[i][j]));
    }
}

// u[channel][output] += sum over the tiles of v[tile][channel] d[tile][output], for one point and an even number of
// channels
template <int vectors>
AVX512 void outer_products(int64_t tiles, int64_t depth, const float* v, int64_t ldv, const float* d, int64_t ldd,
                           float* u, int64_t ldu, bool first) {
  constexpr int rows = vectors == 4 ? 6 : vectors == 3 ? 8 : 12;
  int64_t c = 0;
  for (; c + rows <= depth; c += rows) outer_product<rows, vectors>(tiles, v + c, ldv, d, ldd, u + c * ldu, ldu, first);
  if constexpr (rows == 8) return;
  for (; c + 4 <= depth; c += 4) outer_product<4, vectors>(tiles, v + c, ldv, d, ldd, u + c * ldu, ldu, first);
  for (; c + 2 <= depth; c += 2) outer_product<2, vectors>(tiles, v + c, ldv, d, ldd, u + c * ldu, ldu, first);
}

// G^T u
AVX512_INLINE void taps_from_points(const __m512* u, __m512* g) {
  constexpr float at_0 = 1 / (kA * kA * kB * kB);
  constexpr float at_a = 1 / (2 * kA * kA * (kA * kA - kB * kB)), at_b = 1 / (2 * kB * kB * (kB * kB - kA * kA));
  const __m512 of_a = _mm512_set1_ps(at_a), of_b = _mm512_set1_ps(at_b);
  const __m512 even_a = _mm512_mul_ps(of_a, _mm512_add_ps(u[1], u[2])),
               odd_a = _mm512_mul_ps(of_a, _mm512_sub_ps(u[1], u[2]));
  const __m512 even_b = _mm512_mul_ps(of_b, _mm512_add_ps(u[3], u[4])),
               odd_b = _mm512_mul_ps(of_b, _mm512_sub_ps(u[3], u[4]));
  g[0] = _mm512_fmadd_ps(_mm512_set1_ps(at_0), u[0], _mm512_add_ps(even_a, even_b));
  g[1] = _mm512_fmadd_ps(_mm512_set1_ps(kA), odd_a, _mm512_mul_ps(_mm512_set1_ps(kB), odd_b));
  g[2] = _mm512_fmadd_ps(_mm512_set1_ps(kA * kA), even_a, _mm512_fmadd_ps(_mm512_set1_ps(kB * kB), even_b, u[5]));
}

// sums[output] += d[tile][output], for `vectors` vectors of outputs
AVX512 void add_tiles(int64_t tiles, const float* d, int64_t ldd, int64_t vectors, float* sums) {
  for (int64_t k = 0; k < vectors * kLanes; k += kLanes) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t t = 0; t < tiles; ++t) sum = _mm512_add_ps(sum, _mm512_loadu_ps(d + t * ldd + k));
    _mm512_storeu_ps(sums + k, _mm512_add_ps(_mm512_loadu_ps(sums + k), sum));
  }
}

// dw[output][channel][tap] += G^T u G for the channels [begin, end) of u[point][channel][output] and `vectors` vectors
// of outputs, which are `next` apart in dw.
AVX512 void add_taps(int64_t begin, int64_t end, const float* u, int64_t stride, int64_t ldu, int64_t vectors,
                     float* dw, int64_t next) {
  const __m512i at = _mm512_mullo_epi32(counting(), _mm512_set1_epi32(int(next)));
  for (int64_t c = begin; c < end; ++c)
    for (int64_t k = 0; k < vectors; ++k) {
      const float* const from = u + c * ldu + k * kLanes;
      __m512 half[3][kPatch];
#pragma GCC unroll 6
      for (int j = 0; j < kPatch; ++j) {
        __m512 p[kPatch], g[3];
#pragma GCC unroll 6
        for (int i = 0; i < kPatch; ++i) p[i] = _mm512_loadu_ps(from + (i * kPatch + j) * stride);
        taps_from_points(p, g);
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) half[i][j] = g[i];
      }
      float* const to = dw + k * kLanes * next + c * 9;
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) {
        __m512 g[3];
        taps_from_points(half[i], g);
#pragma GCC unroll 3
        for (int j = 0; j < 3; ++j) {
          float* const tap = to + 3 * i + j;
          _mm512_i32scatter_ps(tap, at, _mm512_add_ps(g[j], _mm512_i32gather_ps(at, tap, 4)), 4);
        }
      }
    }
}

}  // namespace winograd
