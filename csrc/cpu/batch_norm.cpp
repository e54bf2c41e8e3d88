// Batch normalisation by rows: the positions of a channel, or of a block of channels side by side. Where all channels
// of a position lie side by side, by lines: the channels of a position. The second pass over an array goes backwards:
// what the first one read last may still be in the cache.
#include "avx512.h"
#include "column_sums.h"
#include "strips.h"

#ifdef LAYERFORGE_AVX512
#include "normalised_avx512.h"
#endif

namespace {

template <class T>
struct Channels {
  const T *mean, *scale, *w, *b;
  Along<T> m, s, v, o;

  void at(int64_t c, int64_t block) {
    m.fill(mean ? mean + c : nullptr, 0, block);
    s.fill(scale ? scale + c : nullptr, 1, block);
    v.fill(w ? w + c : nullptr, 1, block);
    o.fill(b ? b + c : nullptr, 0, block);
  }
};

// The rows of a share of the channels: where each of them begins, and what is its first channel.
struct Share {
  int64_t groups, positions, count, skipped, first, block;
  Share(int64_t channels, int64_t positions, int64_t block, int64_t first, int64_t all)
      : groups(channels / block),
        positions(positions),
        count(positions * block),
        skipped((all - channels) * positions),
        first(first * positions),
        block(block) {}
  int64_t at(int64_t row) const { return row * count + row / groups * skipped + first; }
  int64_t channel(int64_t row) const { return row % groups * block; }
};

template <class T>
struct Rows {
  CLONES static void moments(int64_t begin, int64_t end, const T* x, T* mean, T* square, Share share) {
    const int64_t count = share.count, block = share.block;
    for (int64_t r = begin; r < end; ++r) {
      const T* row = x + share.at(r);
      T sum[strip<T>] = {}, squares[strip<T>] = {};
#define BODY(e, k) sum[k] += row[e];
      STRIPS(count, BODY);
#undef BODY
      fold(sum, block);
      for (int64_t l = 0; l < block; ++l) mean[r * block + l] = sum[l] / T(share.positions);
      Along<T> m;
      m.fill(mean + r * block, 0, block);
#define BODY(e, k)                 \
  const T d = row[e] - m.value[k]; \
  squares[k] += d * d;
      STRIPS(count, BODY);
#undef BODY
      fold(squares, block);
      for (int64_t l = 0; l < block; ++l) square[r * block + l] = squares[l];
    }
  }

  CLONES static void wide_moments(int64_t begin, int64_t end, const T* x, T* mean, T* square, int64_t positions,
                                  int64_t block) {
    for_wide_lanes(begin, end, x, positions, block, [=](int64_t c, int width, const T* row) {
      T sums[strip<T>] = {}, squares[strip<T>] = {};
      for (int64_t j = 0; j < positions * block; j += block)
        for (int k = 0; k < width; ++k) sums[k] += row[j + k];
      for (int k = 0; k < width; ++k) mean[c + k] = sums[k] /= T(positions);
      for (int64_t j = 0; j < positions * block; j += block)
        for (int k = 0; k < width; ++k) squares[k] += (row[j + k] - sums[k]) * (row[j + k] - sums[k]);
      for (int k = 0; k < width; ++k) square[c + k] = squares[k];
    });
  }

#define VALUE(x, k) ((((x) - of.m.value[k]) * of.s.value[k]) * of.v.value[k] + of.o.value[k])

  CLONES static void forward(int64_t begin, int64_t end, const T* x, Channels<T> of, T* y, T* kept, T slope,
                             Share share) {
    const int64_t count = share.count, block = share.block;
    for (int64_t r = end - 1; r >= begin; --r) {
      of.at(share.channel(r), block);
      const int64_t at = share.at(r);
      const T* from = x + at;
      T* to = y + at;
      if (kept) memcpy(kept + at, from, count * sizeof(T));
      if (slope == 1) {
#define BODY(e, k) to[e] = VALUE(from[e], k);
        STRIPS(count, BODY);
#undef BODY
      } else {
#define BODY(e, k)               \
  const T t = VALUE(from[e], k); \
  to[e] = t > 0 ? t : slope * t;
        STRIPS(count, BODY);
#undef BODY
      }
    }
  }

  CLONES static void sum(int64_t begin, int64_t end, const T* a, Channels<T> of, const T* b, Channels<T> with, T* y,
                         T slope, int64_t groups, int64_t positions, int64_t block) {
    const int64_t count = positions * block;
    for (int64_t r = begin; r < end; ++r) {
      of.at(r % groups * block, block);
      with.at(r % groups * block, block);
      const T *left = a + r * count, *right = b + r * count;
      T* to = y + r * count;
#define BODY(e, k)                                                                                              \
  const T t =                                                                                                   \
      VALUE(left[e], k) + ((right[e] - with.m.value[k]) * with.s.value[k] * with.v.value[k] + with.o.value[k]); \
  to[e] = t > 0 ? t : slope * t;
      STRIPS(count, BODY);
#undef BODY
    }
  }

  CLONES static void products(int64_t begin, int64_t end, const T* x, Channels<T> of, const T* dy, T* sum, T* dot,
                              T slope, Share share) {
    const int64_t count = share.count, block = share.block;
    for (int64_t r = begin; r < end; ++r) {
      of.at(share.channel(r), block);
      const T *row = x + share.at(r), *d = dy + share.at(r);
      T sums[strip<T>] = {}, dots[strip<T>] = {};
      if (slope == 1) {
#define BODY(e, k) \
  sums[k] += d[e]; \
  dots[k] += d[e] * (row[e] - of.m.value[k]);
        STRIPS(count, BODY);
#undef BODY
      } else {
#define BODY(e, k)                                         \
  const T dz = VALUE(row[e], k) > 0 ? d[e] : slope * d[e]; \
  sums[k] += dz;                                           \
  dots[k] += dz * (row[e] - of.m.value[k]);
        STRIPS(count, BODY);
#undef BODY
      }
      fold(sums, block);
      fold(dots, block);
      for (int64_t l = 0; l < block; ++l) {
        sum[r * block + l] = sums[l];
        dot[r * block + l] = dots[l];
      }
    }
  }

  CLONES static void wide_products(int64_t begin, int64_t end, const T* x, Channels<T> of, const T* dy, T* sum, T* dot,
                                   T slope, int64_t positions, int64_t block) {
    for_wide_lanes(begin, end, x, positions, block, [=](int64_t c, int width, const T* row) mutable {
      const T* const d = dy + (row - x);
      of.at(c % block, width);
      T sums[strip<T>] = {}, dots[strip<T>] = {};
      for (int64_t j = 0; j < positions * block; j += block)
        for (int k = 0; k < width; ++k) {
          const T dz = VALUE(row[j + k], k) > 0 ? d[j + k] : slope * d[j + k];
          sums[k] += dz;
          dots[k] += dz * (row[j + k] - of.m.value[k]);
        }
      for (int k = 0; k < width; ++k) {
        sum[c + k] = sums[k];
        dot[c + k] = dots[k];
      }
    });
  }

  CLONES static void backward(int64_t begin, int64_t end, const T* x, Channels<T> of, const T* dy, const T* sum,
                              const T* dot, T* dx, T* between, T slope, T number, Share share) {
    const int64_t count = share.count, block = share.block;
    Along<T> level, tilt;
    for (int64_t r = end - 1; r >= begin; --r) {
      const int64_t c = share.channel(r), at = share.at(r);
      of.at(c, block);
      level.fill(sum ? sum + c : nullptr, 0, block);
      tilt.fill(dot ? dot + c : nullptr, 0, block);
      for (int k = 0; k < strip<T>; ++k) {
        level.value[k] /= number;
        tilt.value[k] = of.s.value[k] * of.s.value[k] * tilt.value[k] / number;
      }
      const T *row = x + at, *d = dy + at;
      T *to = dx + at, *also = between + at;
#define DX(dz, e, k) \
  (((dz) - level.value[k]) - (row[e] - of.m.value[k]) * tilt.value[k]) * of.s.value[k] * of.v.value[k]
      if (between) {
#define BODY(e, k)                                         \
  const T dz = VALUE(row[e], k) > 0 ? d[e] : slope * d[e]; \
  also[e] = dz * of.v.value[k];                            \
  to[e] = DX(dz, e, k);
        STRIPS(count, BODY);
#undef BODY
      } else if (slope == 1) {
#define BODY(e, k) to[e] = DX(d[e], e, k);
        STRIPS(count, BODY);
#undef BODY
      } else {
#define BODY(e, k)                                         \
  const T dz = VALUE(row[e], k) > 0 ? d[e] : slope * d[e]; \
  to[e] = DX(dz, e, k);
        STRIPS(count, BODY);
#undef BODY
      }
#undef DX
    }
  }
#undef VALUE
};

#ifdef LAYERFORGE_AVX512
// Rows<float>::forward past the caches, for blocks of 16 channels: what is overwritten is not read first.
AVX512 static void forward_past_caches(int64_t begin, int64_t end, const float* x, const Channels<float>& of, float* y,
                                       float* kept, float slope, Share share) {
  for (int64_t r = end - 1; r >= begin; --r) {
    const wide::Normalised by = wide::normalised(of.mean, of.scale, of.w, of.b, slope, share.channel(r));
    const int64_t at = share.at(r);
    for (int64_t j = at; j < at + share.count; j += kLanes) {
      const __m512 value = _mm512_loadu_ps(x + j);
      if (kept) _mm512_stream_ps(kept + j, value);
      _mm512_stream_ps(y + j, wide::normalise(by, value));
    }
  }
  _mm_sfence();
}

// Rows<float>::backward, in the same way.
AVX512 static void backward_past_caches(int64_t begin, int64_t end, const float* x, const Channels<float>& of,
                                        const float* dy, const float* sum, const float* dot, float* dx, float slope,
                                        float number, Share share) {
  for (int64_t r = end - 1; r >= begin; --r) {
    const int64_t c = share.channel(r), at = share.at(r);
    const wide::Normalised read = wide::normalised(of.mean, of.scale, of.w, of.b, slope, c);
    const wide::Differentiated by = wide::differentiated(read, sum, dot, number, c);
    for (int64_t j = at; j < at + share.count; j += kLanes)
      _mm512_stream_ps(dx + j, wide::differentiate(by, _mm512_loadu_ps(x + j), _mm512_loadu_ps(dy + j)));
  }
  _mm_sfence();
}
#endif

// A single position: the channels of an item are a row of their own, and nothing is laid out.
template <class Body>
struct Line {
  CLONES static void run(int64_t begin, int64_t end, int64_t channels, Body body) {
    for (int64_t n = begin; n < end; ++n) {
      INDEPENDENT
      for (int64_t c = 0; c < channels; ++c) body(n * channels + c, c);
    }
  }
};

template <class Body>
void lines(int64_t count, int64_t channels, Body body) {
  if (count > 0)
    parallel(count / channels, [=](int64_t begin, int64_t end, int) { Line<Body>::run(begin, end, channels, body); });
}

// Whether the channels of an item's position are a row, and all of them are meant.
bool is_line(index_t channels, index_t positions, index_t block, index_t all) {
  return all == channels && (positions == 1 || block == channels);
}

template <class T>
void lane_moments(index_t count, const T* x, T* mean, T* square, index_t channels, index_t positions, index_t block,
                  index_t first, index_t all) {
  if (block > strip<T>)
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      Rows<T>::wide_moments(begin, end, x, mean, square, positions, block);
    });
  else
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      Rows<T>::moments(begin, end, x, mean, square, {channels, positions, block, first, all});
    });
}

// Neighbouring channels side by side.
template <class Body>
struct Each {
  CLONES static void run(int64_t begin, int64_t end, Body body) {
    INDEPENDENT
    for (int64_t c = begin; c < end; ++c) body(c);
  }
};
template <class Body>
void each(int64_t begin, int64_t end, Body body) {
  Each<Body>::run(begin, end, body);
}

template <class T>
void batch_statistics(index_t count, const T* lane_mean, const T* lane_square, T* mean, T* scale, T* running_mean,
                      T* running_variance, T* factor, index_t items, index_t channels, index_t inner, T eps, T keep) {
  parallel(count, [=](int64_t begin, int64_t end, int) {
    const T number = T(items * inner), others = number > 1 ? number - 1 : T(1);
    T* const square = scale;  // until it is known
    std::fill(mean + begin, mean + end, T(0));
    std::fill(square + begin, square + end, T(0));
    for (int64_t n = 0; n < items; ++n) {
      const T* const line = lane_mean + n * channels;
      each(begin, end, [=](int64_t c) { mean[c] += line[c]; });
    }
    each(begin, end, [=](int64_t c) { mean[c] /= T(items); });
    for (int64_t n = 0; n < items; ++n) {
      const T* const line = lane_mean + n * channels;
      each(begin, end, [=](int64_t c) { square[c] += (line[c] - mean[c]) * (line[c] - mean[c]); });
    }
    each(begin, end, [=](int64_t c) { square[c] *= T(inner); });
    for (int64_t n = 0; lane_square && n < items; ++n) {
      const T* const line = lane_square + n * channels;
      each(begin, end, [=](int64_t c) { square[c] += line[c]; });
    }
    if (running_mean) each(begin, end, [=](int64_t c) { running_mean[c] = keep * running_mean[c] + mean[c]; });
    if (running_variance)
      each(begin, end, [=](int64_t c) { running_variance[c] = keep * running_variance[c] + square[c] / others; });
    each(begin, end, [=](int64_t c) { scale[c] = 1 / std::sqrt(square[c] / number + eps); });
  });
  if (factor) factor[0] = keep * factor[0] + 1;
}

template <class T>
void batch_norm_forward(index_t count, const T* x, const T* mean, const T* scale, const T* w, const T* b, T* y, T* kept,
                        T slope, index_t channels, index_t positions, index_t block, index_t first, index_t all) {
  if (count == 0) return;
  if (is_line(channels, positions, block, all))
    lines(count * positions, channels, [=](int64_t e, int64_t c) {
      const T value = x[e];
      if (kept) kept[e] = value;
      const T t = ((value - mean[c]) * scale[c]) * (w ? w[c] : T(1)) + (b ? b[c] : T(0));
      y[e] = t > 0 ? t : slope * t;
    });
  else
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      const Share share(channels, positions, block, first, all);
#ifdef LAYERFORGE_AVX512
      if constexpr (std::is_same_v<T, float>)
        if (has_avx512() && block == kLanes && x != y && goes_past_caches(count / channels * all * positions, y, kept))
          return forward_past_caches(begin, end, x, {mean, scale, w, b}, y, kept, slope, share);
#endif
      Rows<T>::forward(begin, end, x, {mean, scale, w, b}, y, kept, slope, share);
    });
}

template <class T>
void normalised_sum(index_t count, const T* a, const T* mean_a, const T* scale_a, const T* w_a, const T* b_a,
                    const T* b, const T* mean_b, const T* scale_b, const T* w_b, const T* b_b, T* y, T slope,
                    index_t channels, index_t positions, index_t block) {
  if (count == 0) return;
  if (positions == 1 || block == channels)
    lines(count * positions, channels, [=](int64_t e, int64_t c) {
      const T left = mean_a ? ((a[e] - mean_a[c]) * scale_a[c]) * (w_a ? w_a[c] : T(1)) + (b_a ? b_a[c] : T(0)) : a[e];
      const T right = mean_b ? ((b[e] - mean_b[c]) * scale_b[c]) * (w_b ? w_b[c] : T(1)) + (b_b ? b_b[c] : T(0)) : b[e];
      const T t = left + right;
      y[e] = t > 0 ? t : slope * t;
    });
  else
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      Rows<T>::sum(begin, end, a, {mean_a, scale_a, w_a, b_a}, b, {mean_b, scale_b, w_b, b_b}, y, slope,
                   channels / block, positions, block);
    });
}

template <class T>
void lane_products(index_t count, const T* x, const T* mean, const T* scale, const T* w, const T* b, const T* dy,
                   T* sum, T* dot, T slope, index_t channels, index_t positions, index_t block, index_t first,
                   index_t all) {
  if (positions == 1 && all == channels)
    lines(count, channels, [=](int64_t e, int64_t c) {
      const T t = ((x[e] - mean[c]) * scale[c]) * (w ? w[c] : T(1)) + (b ? b[c] : T(0));
      const T dz = t > 0 ? dy[e] : slope * dy[e];
      sum[e] = dz;
      dot[e] = dz * (x[e] - mean[c]);
    });
  else if (block > strip<T>)
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      Rows<T>::wide_products(begin, end, x, {mean, scale, w, b}, dy, sum, dot, slope, positions, block);
    });
  else
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      Rows<T>::products(begin, end, x, {mean, scale, w, b}, dy, sum, dot, slope,
                        {channels, positions, block, first, all});
    });
}

template <class T>
void batch_products(index_t count, const T* lane_sum, const T* lane_dot, const T* scale, T* sum, T* dot, T* dw, T* db,
                    index_t items, index_t channels) {
  add_columns(count, lane_sum, sum, items, channels, false);
  add_columns(count, lane_dot, dot, items, channels, false);
  if (dw) each(0, count, [=](int64_t c) { dw[c] += scale[c] * dot[c]; });
  if (db) each(0, count, [=](int64_t c) { db[c] += sum[c]; });
}

template <class T>
void batch_norm_backward(index_t count, const T* x, const T* mean, const T* scale, const T* w, const T* b, const T* dy,
                         const T* sum, const T* dot, T* dx, T* between, T slope, T number, index_t channels,
                         index_t positions, index_t block, index_t first, index_t all) {
  if (count == 0) return;
  if (is_line(channels, positions, block, all))
    lines(count * positions, channels, [=](int64_t e, int64_t c) {
      const T v = w ? w[c] : T(1);
      const T t = ((x[e] - mean[c]) * scale[c]) * v + (b ? b[c] : T(0));
      const T dz = t > 0 ? dy[e] : slope * dy[e];
      const T level = sum ? sum[c] / number : T(0), tilt = dot ? scale[c] * scale[c] * dot[c] / number : T(0);
      if (between) between[e] = dz * v;
      dx[e] = ((dz - level) - (x[e] - mean[c]) * tilt) * scale[c] * v;
    });
  else
    parallel(count / block, [=](int64_t begin, int64_t end, int) {
      const Share share(channels, positions, block, first, all);
#ifdef LAYERFORGE_AVX512
      if constexpr (std::is_same_v<T, float>)
        if (has_avx512() && block == kLanes && !between && x != dx && dy != dx &&
            goes_past_caches(count / channels * all * positions, dx))
          return backward_past_caches(begin, end, x, {mean, scale, w, b}, dy, sum, dot, dx, slope, number, share);
#endif
      Rows<T>::backward(begin, end, x, {mean, scale, w, b}, dy, sum, dot, dx, between, slope, number, share);
    });
}

}  // namespace

CPU_KERNEL(lane_moments)
CPU_KERNEL(batch_statistics)
CPU_KERNEL(batch_norm_forward)
CPU_KERNEL(normalised_sum)
CPU_KERNEL(lane_products)
CPU_KERNEL(batch_products)
CPU_KERNEL(batch_norm_backward)
