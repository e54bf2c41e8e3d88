// Depthwise convolution of images in blocks of 16 channels, row by row in the first cache: what is read is normalised
// on the way, and what is written is counted, so that the batch normalisations before and behind it pass over memory
// once less each. Included by depthwise_blocks.cpp.
#pragma once
#include "normalised_avx512.h"

namespace wide {

constexpr int64_t kTile = 8;  // outputs whose sums are in registers
constexpr int kTaps = 9;      // weights whose gradients are
constexpr int kMostTaps = 49, kMostStride = 4;

// One plane of a block of channels; output position o reads input positions o * stride - pad + tap * dilation.
struct Depthwise {
  struct Axis {
    int64_t size, output, kernel, stride, pad, dilation;
    int64_t extent() const { return (kernel - 1) * dilation + 1; }
    // Positions before the first output that the gradient of some input reads, and behind the last one.
    int64_t before() const { return std::max<int64_t>(0, divide_up(extent() - 1 - pad, stride)); }
    int64_t behind() const { return std::max<int64_t>(0, (size - 1 + pad) / stride + 1 - output); }
  };
  Axis high, wide;

  int64_t taps() const { return high.kernel * wide.kernel; }
  int64_t x_row() const { return std::max((wide.output - 1) * wide.stride + wide.extent(), wide.size + wide.pad); }
  int64_t x_rows() const { return std::max(high.extent(), high.stride); }
  int64_t dy_row() const { return wide.before() + wide.output + wide.behind(); }
  int64_t dy_rows() const { return (high.extent() - 1) / high.stride + 1; }
  // Of one thread: rows of x, and one of zeros; rows of dy; a row that is worked on.
  int64_t of_x() const { return (x_rows() + 1) * x_row() * kLanes; }
  int64_t of_dy() const { return dy_rows() * dy_row() * kLanes; }
  int64_t scratch() const { return of_x() + of_dy() + std::max(wide.size, wide.output) * kLanes; }
};

// Where each tap reads: of x, down and right of where output 0 does; of dy, up and left of the last output that an
// input reads, for the inputs of one phase: (position + pad) % stride is that along both axes.
struct Taps {
  struct Tap {
    int64_t down, right, up, left;
    int number;
  };
  int count = 0;
  Tap tap[kMostTaps];       // in their order
  Tap of_phase[kMostTaps];  // by their phases
  int begin[kMostStride][kMostStride], end[kMostStride][kMostStride];

  explicit Taps(const Depthwise& g) {
    for (int64_t h = 0; h < g.high.kernel; ++h)
      for (int64_t w = 0; w < g.wide.kernel; ++w, ++count) {
        const int64_t down = h * g.high.dilation, right = w * g.wide.dilation;
        tap[count] = {down, right * kLanes, down / g.high.stride, right / g.wide.stride * kLanes, count};
      }
    int placed = 0;
    for (int64_t h = 0; h < g.high.stride; ++h)
      for (int64_t w = 0; w < g.wide.stride; ++w) {
        begin[h][w] = placed;
        for (int t = 0; t < count; ++t)
          if (tap[t].down % g.high.stride == h && tap[t].right / kLanes % g.wide.stride == w)
            of_phase[placed++] = tap[t];
        end[h][w] = placed;
      }
  }
};

AVX512 static void normalise_row(const float* x, int64_t width, const Normalised& of, float* to) {
  for (int64_t i = 0; i < width * kLanes; i += kLanes) _mm512_storeu_ps(to + i, normalise(of, _mm512_loadu_ps(x + i)));
}

// Copies a row of dy and adds its sum; with `behind`, dy is what comes of it and of x there.
AVX512 static __m512 copy_gradients(const float* dy, const float* x, const Differentiated* behind, int64_t width,
                                    float* to, __m512 sum) {
  if (!behind) {
    for (int64_t i = 0; i < width * kLanes; i += kLanes) {
      const __m512 value = _mm512_loadu_ps(dy + i);
      sum = _mm512_add_ps(sum, value);
      _mm512_storeu_ps(to + i, value);
    }
    return sum;
  }
  for (int64_t i = 0; i < width * kLanes; i += kLanes) {
    const __m512 value = differentiate(*behind, _mm512_loadu_ps(x + i), _mm512_loadu_ps(dy + i));
    sum = _mm512_add_ps(sum, value);
    _mm512_storeu_ps(to + i, value);
  }
  return sum;
}

// The last rows of x that were asked for, with zeros on either side.
struct RowsOfX {
  const float* x;
  const Depthwise::Axis &high, &wide;
  const Normalised* before;
  float* room;
  int64_t length, number, next = 0;

  float* slot(int64_t row) const { return room + row % number * length; }

  // Where the taps read for the output row that begins at this row.
  void find(const Taps& taps, int64_t top, const float** from) const {
    const float* start = nullptr;
    for (int t = 0; t < taps.count; ++t) {
      const int64_t row = top + taps.tap[t].down;
      if (taps.tap[t].right == 0) start = row < 0 || row >= high.size ? room + number * length : slot(row);
      from[t] = start + taps.tap[t].right;
    }
  }

  AVX512 void go_to(int64_t last) {
    for (last = std::min(last, high.size - 1); next <= last; ++next) {
      const float* const from = x + next * wide.size * kLanes;
      float* const to = slot(next) + wide.pad * kLanes;
      if (before)
        normalise_row(from, wide.size, *before, to);
      else
        memcpy(to, from, wide.size * kLanes * sizeof(float));
    }
  }
};

// The sums of taps for `number` outputs; a tap's values for them are `step` apart.
template <int number>
AVX512_INLINE void tile_of_outputs(const float* const* from, const float* const* w, int taps, int64_t at, int64_t step,
                                   __m512 start, float* to, int64_t apart) {
  __m512 sum[number];
#pragma GCC unroll 8
  for (int i = 0; i < number; ++i) sum[i] = start;
  for (int tap = 0; tap < taps; ++tap) {
    const __m512 weight = _mm512_loadu_ps(w[tap]);
    const float* const values = from[tap] + at * step;
#pragma GCC unroll 8
    for (int i = 0; i < number; ++i) sum[i] = _mm512_fmadd_ps(weight, _mm512_loadu_ps(values + i * step), sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < number; ++i) _mm512_storeu_ps(to + i * apart, sum[i]);
}

// The same for up to kTile outputs.
template <int most, class... Arguments>
AVX512_INLINE void tile_of_up_to(int64_t number, Arguments... arguments) {
  if constexpr (most > 1)
    if (number < most) return tile_of_up_to<most - 1>(number, arguments...);
  tile_of_outputs<most>(arguments...);
}

AVX512 static void row_of_outputs(const float* const* from, const float* const* w, int taps, int64_t count,
                                  int64_t step, __m512 start, float* to, int64_t apart) {
  int64_t done = 0;
  for (int64_t tiles = divide_up(count, kTile); tiles > 0; --tiles) {
    const int64_t number = divide_up(count - done, tiles);  // all about as large
    tile_of_up_to<kTile>(number, from, w, taps, done, step, start, to + done * apart, apart);
    done += number;
  }
}

AVX512_INLINE void put(float* to, __m512 value, bool past_caches) {
  past_caches ? _mm512_stream_ps(to, value) : _mm512_storeu_ps(to, value);
}

// Mean and sum of squares about it, of rows of equal length, one after the other (Chan, Golub & LeVeque, 1979).
struct Moments {
  __m512 mean, square;
  int64_t rows;
};

AVX512_INLINE void count_row(Moments& all, __m512 mean, __m512 square, int64_t width) {
  const __m512 apart = _mm512_sub_ps(mean, all.mean);
  const float share = 1 / float(all.rows + 1);
  all.mean = _mm512_add_ps(all.mean, _mm512_mul_ps(apart, _mm512_set1_ps(share)));
  const __m512 between = _mm512_mul_ps(_mm512_mul_ps(apart, apart), _mm512_set1_ps(float(all.rows * width) * share));
  all.square = _mm512_add_ps(all.square, _mm512_add_ps(square, between));
  ++all.rows;
}

// Copies a finished row to y, and counts it.
AVX512 static void finish_row(const float* from, int64_t width, float* to, bool past_caches, Moments* moments) {
  const int64_t count = width * kLanes;
  if (!moments) {
    for (int64_t i = 0; i < count; i += kLanes) put(to + i, _mm512_loadu_ps(from + i), past_caches);
    return;
  }
  __m512 sum = _mm512_setzero_ps(), more = sum, squares = sum, more_squares = sum;
  int64_t i = 0;
  for (; i + kLanes < count; i += 2 * kLanes) {
    sum = _mm512_add_ps(sum, _mm512_loadu_ps(from + i));
    more = _mm512_add_ps(more, _mm512_loadu_ps(from + i + kLanes));
  }
  if (i < count) sum = _mm512_add_ps(sum, _mm512_loadu_ps(from + i));
  const __m512 mean = _mm512_div_ps(_mm512_add_ps(sum, more), _mm512_set1_ps(float(width)));
  for (i = 0; i + kLanes < count; i += 2 * kLanes) {
    const __m512 value = _mm512_loadu_ps(from + i), next = _mm512_loadu_ps(from + i + kLanes);
    const __m512 apart = _mm512_sub_ps(value, mean), next_apart = _mm512_sub_ps(next, mean);
    put(to + i, value, past_caches);
    put(to + i + kLanes, next, past_caches);
    squares = _mm512_fmadd_ps(apart, apart, squares);
    more_squares = _mm512_fmadd_ps(next_apart, next_apart, more_squares);
  }
  if (i < count) {
    const __m512 value = _mm512_loadu_ps(from + i), apart = _mm512_sub_ps(value, mean);
    put(to + i, value, past_caches);
    squares = _mm512_fmadd_ps(apart, apart, squares);
  }
  count_row(*moments, mean, _mm512_add_ps(squares, more_squares), width);
}

// mean and square, if any, get those of the plane's channels.
AVX512 static void depthwise_plane(const Depthwise& g, const Taps& taps, const float* x, const Normalised* before,
                                   const float* w, const float* bias, float* y, bool past_caches, float* mean,
                                   float* square, float* scratch) {
  const Depthwise::Axis &high = g.high, &wide = g.wide;
  RowsOfX rows{x, high, wide, before, scratch, g.x_row() * kLanes, g.x_rows()};
  float* const line = scratch + g.of_x() + g.of_dy();
  const __m512 start = bias ? _mm512_loadu_ps(bias) : _mm512_setzero_ps();
  Moments moments{_mm512_setzero_ps(), _mm512_setzero_ps(), 0};
  const float *from[kMostTaps], *weights[kMostTaps];
  for (int tap = 0; tap < taps.count; ++tap) weights[tap] = w + tap * kLanes;
  for (int64_t o = 0; o < high.output; ++o) {
    const int64_t top = o * high.stride - high.pad;
    rows.go_to(top + high.extent() - 1);
    rows.find(taps, top, from);
    row_of_outputs(from, weights, taps.count, wide.output, wide.stride * kLanes, start, line, kLanes);
    finish_row(line, wide.output, y + o * wide.output * kLanes, past_caches, mean ? &moments : nullptr);
  }
  if (mean) {
    _mm512_storeu_ps(mean, moments.mean);
    _mm512_storeu_ps(square, moments.square);
  }
  if (past_caches) _mm_sfence();
}

// gradients[tap] += dy * what the tap reads of x, for a row.
template <int taps>
AVX512_INLINE void some_gradients(const float* dy, const float* const* from, int64_t count, int64_t step,
                                  float* gradients) {
  __m512 sum[taps];
#pragma GCC unroll 9
  for (int tap = 0; tap < taps; ++tap) sum[tap] = _mm512_loadu_ps(gradients + tap * kLanes);
  for (int64_t i = 0; i < count; ++i) {
    const __m512 d = _mm512_loadu_ps(dy + i * kLanes);
#pragma GCC unroll 9
    for (int tap = 0; tap < taps; ++tap) sum[tap] = _mm512_fmadd_ps(d, _mm512_loadu_ps(from[tap] + i * step), sum[tap]);
  }
#pragma GCC unroll 9
  for (int tap = 0; tap < taps; ++tap) _mm512_storeu_ps(gradients + tap * kLanes, sum[tap]);
}

AVX512 static void gradients_of_row(const float* dy, const float* const* from, int taps, int64_t count, int64_t step,
                                    float* gradients) {
  for (; taps >= kTaps; taps -= kTaps, from += kTaps, gradients += kTaps * kLanes)
    some_gradients<kTaps>(dy, from, count, step, gradients);
  for (; taps >= 3; taps -= 3, from += 3, gradients += 3 * kLanes) some_gradients<3>(dy, from, count, step, gradients);
  for (; taps > 0; --taps, ++from, gradients += kLanes) some_gradients<1>(dy, from, count, step, gradients);
}

// What the layer before learns by: the sums over a row of dz and of dz (x - mean), with dz the gradient before its
// rectifier, whose result is y.
AVX512 static void sums_of_row(const float* d, const float* x, const float* y, int64_t width, const Normalised& of,
                               float* sum, float* dot) {
  __m512 sums = _mm512_setzero_ps(), dots = sums;
  for (int64_t i = 0; i < width * kLanes; i += kLanes) {
    const __m512 dz = rectified(_mm512_loadu_ps(d + i), _mm512_loadu_ps(y + i), of.slope);
    sums = _mm512_add_ps(sums, dz);
    dots = _mm512_fmadd_ps(dz, _mm512_sub_ps(_mm512_loadu_ps(x + i), of.mean), dots);
  }
  _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), sums));
  _mm512_storeu_ps(dot, _mm512_add_ps(_mm512_loadu_ps(dot), dots));
}

// All gradients of a plane, from that of y, or of what normalises y behind: of x if dx; of the weights and then of the
// bias: gradients (taps + 1, 16), which are overwritten; for what is before, its sums.
AVX512 static void depthwise_plane_backward(const Depthwise& g, const Taps& taps, const float* x,
                                            const Normalised* before, const float* dy, const float* y,
                                            const Differentiated* behind, const float* w, float* dx, bool past_caches,
                                            float* gradients, float* sum, float* dot, float* scratch) {
  const Depthwise::Axis &high = g.high, &wide = g.wide;
  RowsOfX rows{x, high, wide, before, scratch, g.x_row() * kLanes, g.x_rows()};
  float *const rows_of_dy = scratch + g.of_x(), *const line = rows_of_dy + g.of_dy();
  const float *from[kMostTaps], *weights[kMostTaps];
  __m512 bias = _mm512_setzero_ps();
  memset(gradients, 0, (taps.count + 1) * kLanes * sizeof(float));
  if (sum) {
    memset(sum, 0, kLanes * sizeof(float));
    memset(dot, 0, kLanes * sizeof(float));
  }
  int64_t next = 0;  // row of dx
  for (int64_t o = 0; o < high.output || (dx && next < high.size); ++o) {
    const int64_t top = o * high.stride - high.pad;
    rows.go_to(top + g.x_rows() - 1);
    if (o < high.output) {
      const int64_t at = o * wide.output * kLanes;
      float* const copy = rows_of_dy + (o % g.dy_rows() * g.dy_row() + wide.before()) * kLanes;
      bias = copy_gradients(dy + at, behind ? y + at : nullptr, behind, wide.output, copy, bias);
      rows.find(taps, top, from);
      gradients_of_row(copy, from, taps.count, wide.output, wide.stride * kLanes, gradients);
    }
    if (!dx) continue;
    // The rows that no later row of dy adds to.
    for (const int64_t last = std::min(high.size - 1, top + high.stride - 1); next <= last; ++next) {
      const int64_t lowest = (next + high.pad) / high.stride, phase = (next + high.pad) % high.stride;
      for (int64_t first = 0; first < std::min(wide.stride, wide.size); ++first) {  // and every stride-th of its values
        const int64_t rightmost = wide.before() + (first + wide.pad) / wide.stride,
                      side = (first + wide.pad) % wide.stride;
        int used = 0;
        for (int t = taps.begin[phase][side]; t < taps.end[phase][side]; ++t) {
          const Taps::Tap& tap = taps.of_phase[t];
          const int64_t row = lowest - tap.up;
          if (row < 0 || row >= high.output) continue;
          from[used] = rows_of_dy + (row % g.dy_rows() * g.dy_row() + rightmost) * kLanes - tap.left;
          weights[used++] = w + tap.number * kLanes;
        }
        row_of_outputs(from, weights, used, divide_up(wide.size - first, wide.stride), kLanes, _mm512_setzero_ps(),
                       line + first * kLanes, wide.stride * kLanes);
      }
      const int64_t at = next * wide.size * kLanes;
      if (sum) sums_of_row(line, x + at, rows.slot(next) + wide.pad * kLanes, wide.size, *before, sum, dot);
      for (int64_t i = 0; i < wide.size * kLanes; i += kLanes) put(dx + at + i, _mm512_loadu_ps(line + i), past_caches);
    }
  }
  _mm512_storeu_ps(gradients + taps.count * kLanes, bias);
  if (past_caches) _mm_sfence();
}

}  // namespace wide
