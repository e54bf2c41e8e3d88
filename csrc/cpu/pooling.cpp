// Pooling in the plane, in two passes of long loops. The first takes the best (or the sum) of kw neighbours at every
// position of the plane, one position behind the other without regard to where rows end; the second takes the best of
// kh such rows for each row of windows, and picks the positions where windows start. Windows that reach into the
// padding are few, and are done one by one. Volumes (kernels along D) take the portable kernels. With AVX-512, floats
// are pooled by pooling_avx512.h.
#include <vector>

#include "avx512.h"
#include "cpu.h"

namespace portable {
#include "kernels/pooling.h"
}  // namespace portable

namespace {

using portable::Span;
using portable::window;

// Parts of the functions marked CLONES, which work on a plane: compiled with them for each instruction set.
#define INLINE inline __attribute__((always_inline))

// What is needed along one axis of windows.
struct Axis {
  int size, kernel, stride, pad, output;
  Span operator[](int o) const { return window(o, size, kernel, stride, pad); }
  // The windows [first, last) that have all their taps inside the image.
  int first() const { return std::min(output, (pad + stride - 1) / stride); }
  int last() const {
    const int room = size + pad - kernel;
    return room < 0 ? first() : std::max(first(), std::min(output, room / stride + 1));
  }
};

// Whether `value` replaces `most`: it is larger, or the first NaN.
template <class T>
inline bool beats(T value, T most) {
  return !(value <= most) & (most == most);
}

// best[i] = the best of x[i] ... x[i + kernel - 1], the first of equals; at[i] = where it is. Without `indexed`, at is
// not touched.
template <bool indexed, class T>
INLINE void best_of_neighbours(const T* __restrict__ x, int count, int kernel, T* __restrict__ best,
                               int32_t* __restrict__ at) {
  if (indexed && kernel == 3) {  // in one pass; without indices, g++ does not vectorise that
    for (int i = 0; i < count; ++i) {
      const T a = x[i], b = x[i + 1], c = x[i + 2];
      const bool second = beats(b, a);
      const T most = second ? b : a;
      const bool third = beats(c, most);
      best[i] = third ? c : most;
      if (indexed) at[i] = third ? i + 2 : second ? i + 1 : i;
    }
    return;
  }
  for (int i = 0; i < count; ++i) {
    best[i] = x[i];
    if (indexed) at[i] = i;
  }
  for (int tap = 1; tap < kernel; ++tap)
    for (int i = 0; i < count; ++i) {
      const bool better = beats(x[i + tap], best[i]);
      best[i] = better ? x[i + tap] : best[i];
      if (indexed) at[i] = better ? i + tap : at[i];
    }
}

// The best of several rows, the first of equals: best and at are those of the first row, the others follow at a
// distance of `width`.
template <bool indexed, class T>
INLINE void best_of_rows(const T* __restrict__ best, const int32_t* __restrict__ at, int count, int rows, int64_t width,
                         T* __restrict__ y, int32_t* __restrict__ where) {
  if (indexed && rows == 3) {
    for (int i = 0; i < count; ++i) {
      const T a = best[i], b = best[i + width], c = best[i + 2 * width];
      const bool second = beats(b, a);
      const T most = second ? b : a;
      const bool third = beats(c, most);
      y[i] = third ? c : most;
      if (indexed) where[i] = third ? at[i + 2 * width] : second ? at[i + width] : at[i];
    }
    return;
  }
  for (int i = 0; i < count; ++i) {
    y[i] = best[i];
    if (indexed) where[i] = at[i];
  }
  for (int row = 1; row < rows; ++row)
    for (int i = 0; i < count; ++i) {
      const T value = best[i + row * width];
      const bool better = beats(value, y[i]);
      y[i] = better ? value : y[i];
      if (indexed) where[i] = better ? at[i + row * width] : where[i];
    }
}

// to[o] = from[o * stride] + plus
template <class T>
INLINE void pick(const T* __restrict__ from, int count, int stride, T plus, T* __restrict__ to) {
  if (stride == 1)
    for (int o = 0; o < count; ++o) to[o] = from[o] + plus;
  else if (stride == 2)
    for (int o = 0; o < count; ++o) to[o] = from[o * 2] + plus;
  else
    for (int o = 0; o < count; ++o) to[o] = from[o * stride] + plus;
}

// sums[i] = x[i] + ... + x[i + kernel - 1]
template <class T>
INLINE void sums_of_neighbours(const T* __restrict__ x, int count, int kernel, T* __restrict__ sums) {
  for (int i = 0; i < count; ++i) sums[i] = x[i];
  for (int tap = 1; tap < kernel; ++tap)
    for (int i = 0; i < count; ++i) sums[i] += x[i + tap];
}

// In 16 partial sums, which every instruction set can add in the same order.
template <class T>
CLONES T sum(const T* x, int64_t count) {
  T partial[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int j = 0; j < 16; ++j) partial[j] += x[i + j];
  for (int j = 0; i < count; ++i, ++j) partial[j] += x[i];
  for (int half = 8; half; half /= 2)
    for (int j = 0; j < half; ++j) partial[j] += partial[j + half];
  return partial[0];
}

template <class T>
INLINE void add_row(const T* __restrict__ from, int count, T* __restrict__ to) {
  for (int i = 0; i < count; ++i) to[i] += from[i];
}

template <class T>
INLINE void divide_row(const T* __restrict__ divisor, int count, T factor, T* __restrict__ y) {
  for (int i = 0; i < count; ++i) y[i] /= divisor[i] * factor;
}

// The adjoint: adds each window's share to the columns it covers.
template <class T>
INLINE void spread_in_row(const T* __restrict__ shares, Axis w, T* __restrict__ x) {
  const int first = w.first(), last = w.last(), stride = w.stride;
  T* start = x + first * stride - w.pad;
  for (int tap = 0; tap < w.kernel; ++tap)
    for (int o = first; o < last; ++o) start[(o - first) * stride + tap] += shares[o];
  for (int o = 0; o < w.output; ++o) {
    if (o == first) o = last;
    if (o == w.output) break;
    const Span span = w[o];
    for (int column = span.begin; column < span.end; ++column) x[column] += shares[o];
  }
}

// How many positions each window of an axis counts.
template <class T>
std::vector<T> counted(const Axis& axis, bool count_padding) {
  std::vector<T> counts(axis.output);
  for (int o = 0; o < axis.output; ++o) {
    const Span span = axis[o];
    counts[o] = T(count_padding ? span.padded : span.end - span.begin);
    if (span.end <= span.begin) counts[o] = 1;  // its sum is 0
  }
  return counts;
}

#define VOLUME_NUMBERS \
  int D, int H, int W, int kd, int kh, int kw, int sd, int sh, int sw, int pd, int ph, int pw, int od, int oh, int ow
#define VOLUME D, H, W, kd, kh, kw, sd, sh, sw, pd, ph, pw, od, oh, ow

bool plane_only(int kd, int sd, int pd, int D, int od) { return kd == 1 && sd == 1 && pd == 0 && D == od; }

bool lanes_only(int kw, int sw, int pw, int W, int ow) {
  return kw == 1 && sw == 1 && pw == 0 && W == ow && W % 8 == 0;
}

// Loops over the windows of a row run to a multiple of this: whole vectors, where single elements at the end would cost
// mispredicted branches. What lies behind the row's end is computed for nothing.
constexpr int kVector = 16;

INLINE int whole_vectors(int count) { return (count + kVector - 1) / kVector * kVector; }

// Memory for one plane's passes, with room for what is computed for nothing.
template <class T>
struct Rows {
  std::vector<T> plane, row;
  std::vector<int32_t> plane_at, row_at;
  Rows(const Axis& h, const Axis& w, bool indexed)
      : plane(int64_t(h.size) * w.size + kVector),
        row(whole_vectors(std::max(w.size, w.output))),
        plane_at(indexed ? plane.size() : 0),
        row_at(indexed ? row.size() : 0) {}
};

template <bool indexed, class T>
CLONES void max_of_plane(const T* __restrict__ x, T* __restrict__ y, int32_t* __restrict__ mask, int32_t volume, Axis h,
                         Axis w, T* __restrict__ best, int32_t* __restrict__ at, T* __restrict__ best_row,
                         int32_t* __restrict__ at_row) {
  const int first = w.first(), inner = w.last() - first, start = first * w.stride - w.pad;
  const int span =
      inner ? (inner - 1) * w.stride + 1 : 0;  // positions from the first such window's start to the last's
  if (inner) best_of_neighbours<indexed>(x, h.size * w.size - w.kernel + 1, w.kernel, best, at);
  const int lines = h.size * w.size * int(sizeof(T)) / 64, share = (lines + h.output - 1) / h.output;
  for (int o = 0; o < h.output; ++o, y += w.output, mask += indexed ? w.output : 0) {
    // The next plane comes in while this one is computed.
    const char* const next = reinterpret_cast<const char*>(x + h.size * w.size) + o * share * 64;
    for (int line = 0; line < share; ++line) __builtin_prefetch(next + line * 64);
    const Span rows = h[o];
    if (inner && rows.begin < rows.end) {
      const int from = rows.begin * w.size + start;
      best_of_rows<indexed>(best + from, at + (indexed ? from : 0), span, rows.end - rows.begin, w.size, best_row,
                            at_row);
      pick(best_row, inner, w.stride, T(0), y + first);
      if (indexed) pick(at_row, inner, w.stride, volume, mask + first);
    }
    for (int c = 0; c < w.output; ++c) {
      if (c == first && rows.begin < rows.end) c = w.last();
      if (c == w.output) break;
      const Span columns = w[c];
      T most = 0;
      int32_t found = -1;
      for (int row = rows.begin; row < rows.end; ++row)
        for (int column = columns.begin; column < columns.end; ++column) {
          const int32_t position = row * w.size + column;
          if (found >= 0 && !beats(x[position], most)) continue;
          most = x[position];
          found = position;
        }
      y[c] = most;
      if (indexed) mask[c] = found < 0 ? -1 : found + volume;
    }
  }
}

template <class T>
CLONES void average_of_plane(const T* __restrict__ x, T* __restrict__ y, Axis h, Axis w, const T* __restrict__ across,
                             const T* __restrict__ down, T* __restrict__ sums, T* __restrict__ row_sums) {
  const int first = w.first(), inner = w.last() - first, start = first * w.stride - w.pad;
  const int span = inner ? whole_vectors((inner - 1) * w.stride + 1) : 0;
  if (inner) sums_of_neighbours(x, h.size * w.size - w.kernel + 1, w.kernel, sums);
  for (int o = 0; o < h.output; ++o, y += w.output) {
    const Span rows = h[o];
    for (int i = 0; i < span; ++i) row_sums[i] = 0;
    for (int row = rows.begin; inner && row < rows.end; ++row) add_row(sums + row * w.size + start, span, row_sums);
    if (inner) pick(row_sums, inner, w.stride, T(0), y + first);
    for (int c = 0; c < w.output; ++c) {
      if (c == first) c = w.last();
      if (c == w.output) break;
      const Span columns = w[c];
      y[c] = 0;
      for (int row = rows.begin; row < rows.end; ++row)
        for (int column = columns.begin; column < columns.end; ++column) y[c] += x[row * w.size + column];
    }
    divide_row(across, w.output, down[o], y);
  }
}

template <class T>
CLONES void spread_over_plane(const T* __restrict__ dy, T* __restrict__ dx, Axis h, Axis w,
                              const T* __restrict__ across, const T* __restrict__ down, T* __restrict__ shares,
                              T* __restrict__ spread) {
  for (int i = 0; i < h.size * w.size; ++i) dx[i] = 0;
  for (int o = 0; o < h.output; ++o, dy += w.output) {
    const Span rows = h[o];
    for (int c = 0; c < w.output; ++c) shares[c] = dy[c];
    divide_row(across, w.output, down[o], shares);
    for (int i = 0; i < w.size; ++i) spread[i] = 0;
    spread_in_row(shares, w, spread);
    for (int row = rows.begin; row < rows.end; ++row) add_row(spread, w.size, dx + row * w.size);
  }
}

#include "pooling_lanes.h"
#ifdef LAYERFORGE_AVX512
#include "pooling_avx512.h"
#endif

// Whether pooling_avx512.h takes windows over these rows and columns of floats.
template <class T>
bool is_wide(const Axis& h, const Axis& w) {
#ifdef LAYERFORGE_AVX512
  if (sizeof(T) != sizeof(float) || w.kernel > wide::kMostTaps || !has_avx512()) return false;
  for (const Axis& axis : {h, w})
    for (int o = 0; o < axis.output; ++o)
      if (axis[o].begin >= axis[o].end) return false;
  return true;
#else
  return false;
#endif
}

// body(plane) for every plane, on all threads.
template <class Body>
void for_planes(int64_t planes, const Body& body) {
  parallel(planes, [&](int64_t begin, int64_t end, int) {
    for (int64_t plane = begin; plane < end; ++plane) body(plane);
  });
}

template <class T>
void max_forward(index_t count, const T* x, T* y, int32_t* mask, VOLUME_NUMBERS) {
  if (lanes_only(kw, sw, pw, W, ow)) {
    const Axis h{D, kd, sd, pd, od}, w{H, kh, sh, ph, oh};
    const int64_t size = int64_t(D) * H * W, across = int64_t(oh) * ow;
#ifdef LAYERFORGE_AVX512
    if constexpr (sizeof(T) == sizeof(float))
      if (W % kLanes == 0 && is_wide<T>(h, w)) {
        const auto max_of_lanes = mask ? wide::max_of_lanes<true> : wide::max_of_lanes<false>;
        return parallel(count / across, [&](int64_t begin, int64_t end, int) {
          std::vector<T> rows(wide::ring(h, w, W));
          for (int64_t row = begin, next; row < end; row = next) {  // image by image
            const int64_t image = row / od;
            next = std::min(end, (image + 1) * od);
            max_of_lanes(x + image * size, y + row * across, mask ? mask + row * across : nullptr,
                         int(row - image * od), int(next - image * od), h, w, W, rows.data());
          }
        });
      }
#endif
    return parallel(count ? count / across : 0, [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const T* const image = x + row / od * size;
        if (mask)
          max_of_lanes<true>(image, y + row * across, mask + row * across, h[row % od], w, W);
        else
          max_of_lanes<false, T>(image, y + row * across, nullptr, h[row % od], w, W);
      }
    });
  }
  const Axis h{H, kh, sh, ph, oh}, w{W, kw, sw, pw, ow};
  const bool plane_by_plane = plane_only(kd, sd, pd, D, od);
#ifdef LAYERFORGE_AVX512
  if constexpr (sizeof(T) == sizeof(float))
    if (plane_by_plane && count && is_wide<T>(h, w)) {
      const int64_t area = int64_t(H) * W, windows = int64_t(oh) * ow;
      if (D == 1 && area <= wide::kSmall) {
        const auto all = wide::small_windows(h, w);
        return for_planes(count / windows, [&](int64_t plane) {
          wide::max_of_small_plane(x + plane * area, y + plane * windows, mask ? mask + plane * windows : nullptr,
                                   int(area), all);
        });
      }
      const auto max_of_plane = LAYERFORGE_CHOOSE(wide::max_of_plane, w);
      const auto strips = wide::strips(w);
      return for_planes(count / windows, [&](int64_t plane) {
        max_of_plane(x + plane * area, y + plane * windows, mask ? mask + plane * windows : nullptr,
                     int32_t(plane % D * area), h, w, strips);
      });
    }
#endif
  if (!plane_by_plane || kw > 8 || H * W < kw)
    return parallel(count, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) portable::max_forward<T>(i, x, y, mask, VOLUME);
    });
  parallel(count == 0 ? 0 : count / (int64_t(oh) * ow), [&](int64_t begin, int64_t end, int) {
    Rows<T> own(h, w, mask != nullptr);
    for (int64_t plane = begin; plane < end; ++plane) {
      const T* const image = x + plane * H * W;
      T* const out = y + plane * oh * ow;
      const int32_t volume = int32_t(plane % D * H * W);  // the mask counts from the volume's start
      if (mask)
        max_of_plane<true>(image, out, mask + plane * oh * ow, volume, h, w, own.plane.data(), own.plane_at.data(),
                           own.row.data(), own.row_at.data());
      else
        max_of_plane<false, T>(image, out, nullptr, 0, h, w, own.plane.data(), nullptr, own.row.data(), nullptr);
    }
  });
}

template <class T>
void max_backward(index_t count, const T* dy, const int32_t* mask, T* dx, VOLUME_NUMBERS) {
  const int64_t size = int64_t(D) * H * W, windows = int64_t(od) * oh * ow;
  if (count == 0) return;
#ifdef LAYERFORGE_AVX512
  if constexpr (sizeof(T) == sizeof(float)) {
    const Axis h{D, kd, sd, pd, od}, w{H, kh, sh, ph, oh};
    if (lanes_only(kw, sw, pw, W, ow) && W == kLanes && kd * kh <= 16 && is_wide<T>(h, w))
      return for_planes(count / size, [&](int64_t plane) {
        wide::max_backward_of_blocks(dy + plane * windows, mask + plane * windows, dx + plane * size, h, w);
      });
  }
#endif
  parallel(count / size, [&](int64_t begin, int64_t end, int) {
    const int64_t few = std::max<int64_t>(1, 4096 / size);  // planes that become 0 and are added to in the first cache
    for (int64_t plane = begin; plane < end; ++plane) {
      const T* gradient = dy + plane * windows;
      const int32_t* where = mask + plane * windows;
      T* const image = dx + plane * size;
      if ((plane - begin) % few == 0) std::fill(image, image + std::min(few, end - plane) * size, T(0));
      for (int64_t o = 0; o < windows; ++o)
        if (where[o] >= 0) image[where[o]] += gradient[o];
    }
  });
}

template <class T>
void average_forward(index_t count, const T* x, T* y, bool count_padding, VOLUME_NUMBERS) {
  if (lanes_only(kw, sw, pw, W, ow)) {
    const Axis h{D, kd, sd, pd, od}, w{H, kh, sh, ph, oh};
    const std::vector<T> across = counted<T>(w, count_padding), down = counted<T>(h, count_padding);
    const int64_t size = int64_t(D) * H * W, windows = int64_t(od) * oh * ow;
#ifdef LAYERFORGE_AVX512
    if constexpr (sizeof(T) == sizeof(float))
      if (W == kLanes && count && is_wide<T>(h, w))
        return for_planes(count / windows, [&](int64_t plane) {
          wide::average_of_blocks(x + plane * size, y + plane * windows, h, w, across.data(), down.data());
        });
#endif
    const int64_t length = int64_t(oh) * ow;
    return parallel(count ? count / length : 0, [&](int64_t begin, int64_t end, int) {
      std::vector<T> sums(int64_t(H) * W);
      for (int64_t row = begin; row < end; ++row)
        average_of_lanes(x + row / od * size, y + row * length, h[row % od], w, W, across.data(), down[row % od],
                         sums.data());
    });
  }
  if (!plane_only(kd, sd, pd, D, od))
    return parallel(count, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) portable::average_forward<T>(i, x, y, count_padding, VOLUME);
    });
  const Axis h{H, kh, sh, ph, oh}, w{W, kw, sw, pw, ow};
  const std::vector<T> across = counted<T>(w, count_padding), down = counted<T>(h, count_padding);
  const int64_t area = int64_t(H) * W;
  if (count == 0) return;
  if (oh == 1 && ow == 1 && kh == H && kw == W && ph == 0 && pw == 0)  // the whole plane
    return parallel(count, [&](int64_t begin, int64_t end, int) {
      for (int64_t plane = begin; plane < end; ++plane) y[plane] = sum(x + plane * area, area) / T(area);
    });
#ifdef LAYERFORGE_AVX512
  if constexpr (sizeof(T) == sizeof(float))
    if (is_wide<T>(h, w)) {
      const auto average_of_plane = LAYERFORGE_CHOOSE(wide::average_of_plane, w);
      const auto strips = wide::strips(w);
      return for_planes(count / (int64_t(oh) * ow), [&](int64_t plane) {
        average_of_plane(x + plane * area, y + plane * oh * ow, h, w, across.data(), down.data(), strips);
      });
    }
#endif
  parallel(count / (int64_t(oh) * ow), [&](int64_t begin, int64_t end, int) {
    Rows<T> own(h, w, false);
    for (int64_t plane = begin; plane < end; ++plane)
      average_of_plane(x + plane * area, y + plane * oh * ow, h, w, across.data(), down.data(), own.plane.data(),
                       own.row.data());
  });
}

template <class T>
void average_backward(index_t count, const T* dy, T* dx, bool count_padding, VOLUME_NUMBERS) {
  if (lanes_only(kw, sw, pw, W, ow)) {
    const Axis h{D, kd, sd, pd, od}, w{H, kh, sh, ph, oh};
    const std::vector<T> across = counted<T>(w, count_padding), down = counted<T>(h, count_padding);
    const int64_t size = int64_t(D) * H * W, windows = int64_t(od) * oh * ow;
#ifdef LAYERFORGE_AVX512
    if constexpr (sizeof(T) == sizeof(float))
      if (W == kLanes && count && is_wide<T>(h, w) && wide::is_gathered(h, w))
        return parallel(count / size, [&](int64_t begin, int64_t end, int) {
          std::vector<T> shares(windows);
          for (int64_t plane = begin; plane < end; ++plane)
            wide::spread_over_blocks(dy + plane * windows, dx + plane * size, h, w, across.data(), down.data(),
                                     shares.data());
        });
#endif
    return parallel(count ? count / size : 0, [&](int64_t begin, int64_t end, int) {
      std::vector<T> row(int64_t(H) * W);
      for (int64_t plane = begin; plane < end; ++plane)
        spread_over_lanes(dy + plane * windows, dx + plane * size, h, w, W, across.data(), down.data(), row.data());
    });
  }
  if (!plane_only(kd, sd, pd, D, od))
    return parallel(count, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) portable::average_backward<T>(i, dy, dx, count_padding, VOLUME);
    });
  const Axis h{H, kh, sh, ph, oh}, w{W, kw, sw, pw, ow};
  const std::vector<T> across = counted<T>(w, count_padding), down = counted<T>(h, count_padding);
  if (count == 0) return;
  if (oh == 1 && ow == 1 && kh == H && kw == W && ph == 0 && pw == 0)  // the whole plane
    return parallel(count / (int64_t(H) * W), [&](int64_t begin, int64_t end, int) {
      const int64_t area = int64_t(H) * W;
      for (int64_t plane = begin; plane < end; ++plane)
        std::fill(dx + plane * area, dx + (plane + 1) * area, dy[plane] / T(area));
    });
#ifdef LAYERFORGE_AVX512
  if constexpr (sizeof(T) == sizeof(float))
    if (is_wide<T>(h, w) && wide::is_gathered(h, w)) {
      const auto spread_over_plane = w.stride == 1 ? wide::spread_over_plane<1> : wide::spread_over_plane<2>;
      const auto covered = wide::covered(w);
      return parallel(count / (int64_t(H) * W), [&](int64_t begin, int64_t end, int) {
        std::vector<T> shares(int64_t(oh) * ow), sums(ow);
        for (int64_t plane = begin; plane < end; ++plane)
          spread_over_plane(dy + plane * oh * ow, dx + plane * H * W, h, w, across.data(), down.data(), covered,
                            shares.data(), sums.data());
      });
    }
#endif
  parallel(count / (int64_t(H) * W), [&](int64_t begin, int64_t end, int) {
    std::vector<T> shares(ow), spread(W);
    for (int64_t plane = begin; plane < end; ++plane)
      spread_over_plane(dy + plane * oh * ow, dx + plane * H * W, h, w, across.data(), down.data(), shares.data(),
                        spread.data());
  });
}

}  // namespace

CPU_KERNEL(max_forward)
CPU_KERNEL(max_backward)
CPU_KERNEL(average_forward)
CPU_KERNEL(average_backward)
