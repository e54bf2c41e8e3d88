// Local response normalisation in wide strips: a strip is a run of positions of one image, walked channel by channel.
// What a channel needs of its neighbours lies in rings of rows in the cache, so x is read from memory once.
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "avx512.h"
#include "cpu.h"

namespace portable {
#include "kernels/lrn.h"
}  // namespace portable

namespace {

constexpr int64_t kStrip = 3072;  // positions: rows of 12 KiB, long enough for the memory to stream

// s^-beta for any beta.
template <class T>
struct AnyPower {
  T beta;
  T operator()(T s) const { return portable::inverse_power(s, beta); }
};

// s^-3/4 without roots or divisions: a first guess p from the bits of s, then twice p (1 - e)^(-1/4) to second order,
// where e = 1 - s^3 p^4. The guess is within 4.4 %; what is left is within 1.2e-7.
struct ThreeQuarters {
  float operator()(float s) const {
    int32_t bits;
    std::memcpy(&bits, &s, sizeof bits);
    bits = 0x6F14E800 - (bits >> 2) * 3;
    float p;
    std::memcpy(&p, &bits, sizeof p);
    for (int step = 0; step < 2; ++step) {
      const float root = s * p, e = 1 - (root * root) * (root * p);
      p += p * e * (0.25f + 0.15625f * e);
    }
    p = s <= std::numeric_limits<float>::max() ? p : 0;
    return s > 0 ? p : std::numeric_limits<float>::quiet_NaN();
  }
};

template <class T>
CLONES void square(const T* __restrict__ x, int64_t count, T* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] = x[i] * x[i];
}

template <class T>
CLONES void sum_rows(const T* const* rows, int number, int64_t count, T* __restrict__ sum) {
  const T* __restrict__ a = rows[0], * __restrict__ b = rows[number > 1 ? 1 : 0];
  if (number == 5) {
    const T* __restrict__ c = rows[2], * __restrict__ d = rows[3], * __restrict__ e = rows[4];
    for (int64_t i = 0; i < count; ++i) sum[i] = (((a[i] + b[i]) + c[i]) + d[i]) + e[i];
    return;
  }
  for (int64_t i = 0; i < count; ++i) sum[i] = number > 1 ? a[i] + b[i] : a[i];
  for (int row = 2; row < number; ++row) {
    const T* __restrict__ next = rows[row];
    for (int64_t i = 0; i < count; ++i) sum[i] += next[i];
  }
}

template <class T, class Power>
CLONES void normalise(const T* __restrict__ x, const T* __restrict__ sum, int64_t count, T scale, T k, Power power,
                      T* __restrict__ y) {
  for (int64_t i = 0; i < count; ++i) y[i] = x[i] * power(k + scale * sum[i]);
}

// own = dy s^-beta; ratio = own x / s
template <class T, class Power>
CLONES void weigh(const T* __restrict__ x, const T* __restrict__ dy, const T* __restrict__ sum, int64_t count, T scale,
                  T k, Power power, T* __restrict__ own, T* __restrict__ ratio) {
  for (int64_t i = 0; i < count; ++i) {
    const T s = k + scale * sum[i];
    own[i] = dy[i] * power(s);
    ratio[i] = dy[i] * x[i] * power(s) / s;
  }
}

template <class T>
CLONES void combine(const T* __restrict__ x, const T* __restrict__ own, const T* __restrict__ sum, int64_t count,
                    T factor, T slope, T* __restrict__ dx) {
  for (int64_t i = 0; i < count; ++i) {
    const T d = own[i] - factor * x[i] * sum[i];
    dx[i] = x[i] > 0 ? d : slope * d;
  }
}

// The last `size` rows of a strip, by channel.
template <class T>
class Ring {
 public:
  Ring(int size, int64_t width) : size(size), width(width), memory(size * width), order(size) {}
  T* row(int channel) { return memory.data() + (channel + size) % size * width; }
  // The rows that end with a channel, in the order of channels.
  const T* const* up_to(int channel) {
    for (int n = 0; n < size; ++n) order[n] = row(channel + 1 + n);
    return order.data();
  }
  void clear() { std::fill(memory.begin(), memory.end(), T(0)); }
  void clear(int channel) { std::fill(row(channel), row(channel) + width, T(0)); }

 private:
  const int size;
  const int64_t width;
  std::vector<T> memory;
  std::vector<const T*> order;
};

struct Shape {
  int channels, size;
  int64_t positions;
  int before() const { return (size - 1) / 2; }  // channels before c in its sum
  int after() const { return size / 2; }         // and after it
};

// body(offset, width) for the strips of all images: where channel 0 of a strip lies, and its positions.
template <class Body>
void for_strips(int64_t count, const Shape& shape, const Body& body) {
  const int64_t image = shape.channels * shape.positions, strips = (shape.positions + kStrip - 1) / kStrip;
  if (image == 0) return;
  parallel(count / image * strips, [&](int64_t begin, int64_t end, int) {
    for (auto strip = body(); begin < end; ++begin) {
      const int64_t from = shape.positions * (begin % strips) / strips;
      const int64_t to = shape.positions * (begin % strips + 1) / strips;
      strip(begin / strips * image + from, to - from);
    }
  });
}

// A strip forward: f(offset, width), with its rings.
template <class T, class Power>
auto forward_of_strip(const T* x, T* y, const Shape& shape, int64_t longest, T scale, T k, Power power) {
  return [=, squares = Ring<T>(shape.size, longest), sum = std::vector<T>(longest)](int64_t offset,
                                                                                    int64_t width) mutable {
    squares.clear();
    for (int c = -shape.after(); c < shape.channels; ++c) {
      const int next = c + shape.after();
      if (next < shape.channels)
        square(x + offset + next * shape.positions, width, squares.row(next));
      else
        squares.clear(next);
      if (c < 0) continue;
      const int64_t at = offset + c * shape.positions;
      sum_rows(squares.up_to(next), shape.size, width, sum.data());
      normalise(x + at, sum.data(), width, scale, k, power, y + at);
    }
  };
}

template <class T, class Power>
auto backward_of_strip(const T* x, const T* dy, T* dx, const Shape& shape, int64_t longest, T scale, T k, T factor,
                       T slope, Power power) {
  return [=, squares = Ring<T>(shape.size, longest), ratios = Ring<T>(shape.size, longest),
          own = Ring<T>(shape.before() + 1, longest),
          sum = std::vector<T>(longest)](int64_t offset, int64_t width) mutable {
    squares.clear();
    ratios.clear();
    for (int c = -shape.after(); c < shape.channels + shape.before(); ++c) {
      const int next = c + shape.after(), done = c - shape.before();
      const int64_t at = offset + c * shape.positions, finished = offset + done * shape.positions;
      if (next < shape.channels)
        square(x + offset + next * shape.positions, width, squares.row(next));
      else
        squares.clear(next);
      if (c < 0) continue;
      if (c < shape.channels) {
        sum_rows(squares.up_to(next), shape.size, width, sum.data());
        weigh(x + at, dy + at, sum.data(), width, scale, k, power, own.row(c), ratios.row(c));
      } else {
        ratios.clear(c);
      }
      if (done < 0) continue;
      sum_rows(ratios.up_to(c), shape.size, width, sum.data());
      combine(x + finished, own.row(done), sum.data(), width, factor, slope, dx + finished);
    }
  };
}

constexpr int64_t kFew = 256;  // positions of a blob in blocks at a time

// Channels of `width` positions, out of blocks to rows of kFew, and back.
template <class T>
CLONES void to_rows(const T* from, const Shape& shape, int block, int64_t width, T* to) {
  for (int c = 0; c < shape.channels; c += block)
    for (int l = 0; l < block; ++l)
      for (int64_t p = 0; p < width; ++p) to[(c + l) * kFew + p] = from[c * shape.positions + p * block + l];
}
template <class T>
CLONES void to_blocks(const T* from, const Shape& shape, int block, int64_t width, T* to) {
  for (int c = 0; c < shape.channels; c += block)
    for (int64_t p = 0; p < width; ++p)
      for (int l = 0; l < block; ++l) to[c * shape.positions + p * block + l] = from[(c + l) * kFew + p];
}

// body() gives each thread a function of (offset, width): a few positions of one image, and where they lie.
template <class Body>
void for_positions(int64_t count, const Shape& shape, int block, int64_t most, const Body& body) {
  const int64_t image = shape.channels * shape.positions, strips = (shape.positions + most - 1) / most;
  if (image == 0) return;
  parallel(count / image * strips, [&](int64_t begin, int64_t end, int) {
    for (auto strip = body(); begin < end; ++begin) {
      const int64_t from = begin % strips * most;
      strip(begin / strips * image + from * block, std::min(most, shape.positions - from));
    }
  });
}

#ifdef LAYERFORGE_AVX512
#include "lrn_avx512.h"
#endif

template <class T, class Power>
void forward(int64_t count, const T* x, T* y, const Shape& shape, int block, T scale, T k, Power power) {
  if (block == 1)
    return for_strips(count, shape, [&] { return forward_of_strip(x, y, shape, kStrip, scale, k, power); });
#ifdef LAYERFORGE_AVX512
  if constexpr (std::is_same_v<Power, ThreeQuarters>)
    if (wide::takes(shape, block) && has_avx512())
      return for_positions(count, shape, block, wide::kPositions, [&] {
        return
            [&](int64_t at, int64_t width) { wide::forward(x + at, y + at, shape, {shape, block}, width, scale, k); };
      });
#endif
  for_positions(count, shape, block, kFew, [&] {
    const Shape rows{shape.channels, shape.size, kFew};
    std::vector<T> in(shape.channels * kFew), out(in.size());
    return [&, in, out, rows, block](int64_t at, int64_t width) mutable {
      to_rows(x + at, shape, block, width, in.data());
      forward_of_strip<T>(in.data(), out.data(), rows, width, scale, k, power)(0, width);
      to_blocks(out.data(), shape, block, width, y + at);
    };
  });
}

template <class T, class Power>
void backward(int64_t count, const T* x, const T* dy, T* dx, const Shape& shape, int block, T scale, T k, T factor,
              T slope, Power power) {
  if (block == 1)
    return for_strips(count, shape,
                      [&] { return backward_of_strip(x, dy, dx, shape, kStrip, scale, k, factor, slope, power); });
#ifdef LAYERFORGE_AVX512
  if constexpr (std::is_same_v<Power, ThreeQuarters>)
    if (wide::takes(shape, block) && has_avx512())
      return for_positions(count, shape, block, wide::kPositions, [&] {
        return [&](int64_t at, int64_t width) {
          wide::backward(x + at, dy + at, dx + at, shape, {shape, block}, width, scale, k, factor, slope);
        };
      });
#endif
  for_positions(count, shape, block, kFew, [&] {
    const Shape rows{shape.channels, shape.size, kFew};
    std::vector<T> in(shape.channels * kFew), diff(in.size()), out(in.size());
    return [&, in, diff, out, rows, block](int64_t at, int64_t width) mutable {
      to_rows(x + at, shape, block, width, in.data());
      to_rows(dy + at, shape, block, width, diff.data());
      backward_of_strip<T>(in.data(), diff.data(), out.data(), rows, width, scale, k, factor, slope, power)(0, width);
      to_blocks(out.data(), shape, block, width, dx + at);
    };
  });
}

template <class T>
void lrn_forward(index_t count, const T* x, T* y, int channels, index_t positions, int block, int size, T alpha, T beta,
                 T k) {
  const Shape shape{channels, size, positions};
  if constexpr (sizeof(T) == sizeof(float))
    if (beta == 0.75f) return forward(count, x, y, shape, block, alpha / size, k, ThreeQuarters());
  forward(count, x, y, shape, block, alpha / size, k, AnyPower<T>{beta});
}

template <class T>
void lrn_backward(index_t count, const T* x, const T* dy, T* dx, int channels, index_t positions, int block, int size,
                  T alpha, T beta, T k, T slope) {
  const Shape shape{channels, size, positions};
  const T factor = 2 * alpha * beta / size;
  if constexpr (sizeof(T) == sizeof(float))
    if (beta == 0.75f) return backward(count, x, dy, dx, shape, block, alpha / size, k, factor, slope, ThreeQuarters());
  backward(count, x, dy, dx, shape, block, alpha / size, k, factor, slope, AnyPower<T>{beta});
}

}  // namespace

CPU_KERNEL(lrn_forward)
CPU_KERNEL(lrn_backward)
