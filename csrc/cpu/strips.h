// Rows of channels: the positions of one channel, or of a block of channels side by side. A row runs in strips as wide
// as four registers; what belongs to a channel is laid out once for a row, as often as it fits into a strip. Sums run
// in the lanes of a strip, in an order that the sizes alone decide. Blocks that are wider than a strip, all channels of
// an image, take other loops: over the positions, as many channels at a time as a strip is wide.
#pragma once
#include <cstring>

#include "cpu.h"

namespace {

template <class T>
constexpr int strip = 256 / sizeof(T);

// What belongs to the channels of a row, repeated along a strip.
template <class T>
struct Along {
  T value[strip<T>];

  void fill(const T* of, T otherwise, int64_t block) {
    for (int64_t l = 0; l < block; ++l) value[l] = of ? of[l] : otherwise;
    for (int64_t have = block; have < strip<T>; have *= 2) memcpy(value + have, value, have * sizeof(T));
  }
};

// body(j, k) for every element j of a row, k its place in the strip.
#define STRIPS(count, body)                          \
  do {                                               \
    int64_t j = 0;                                   \
    for (; j + strip<T> <= (count); j += strip<T>) { \
      INDEPENDENT                                    \
      for (int k = 0; k < strip<T>; ++k) {           \
        body(j + k, k)                               \
      }                                              \
    }                                                \
    const int rest = int((count) - j);               \
    INDEPENDENT                                      \
    for (int k = 0; k < rest; ++k) {                 \
      body(j + k, k)                                 \
    }                                                \
  } while (0)

// The sums over a strip's lanes of each channel.
template <class T>
void fold(T* lanes, int64_t block) {
  for (int64_t half = strip<T> / 2; half >= block; half /= 2)
    for (int64_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
}

// body(c, width, x) for the channels [c, c + width) of each of the rows [begin, end), whose values begin at x and have
// `block` channels a position, and c counts through all rows.
template <class T, class Body>
void for_wide_lanes(int64_t begin, int64_t end, const T* x, int64_t positions, int64_t block, Body body) {
  for (int64_t r = begin; r < end; ++r)
    for (int64_t l = 0; l < block; l += strip<T>)
      body(r * block + l, int(std::min<int64_t>(strip<T>, block - l)), x + r * positions * block + l);
}

}  // namespace
