// A strip of draws at a time: the ten rounds of the generator then run in every lane of a register at once.
#include "cpu.h"

namespace portable {
#include "kernels/dropout.h"
}  // namespace portable

namespace {

constexpr int strip = 64;  // blocks of four elements

template <class T>
struct Strip {
  // Strip number n: elements 4 * strip * n and following, `count` of them.
  CLONES static void draw(index_t n, uint32_t* bits, uint64_t seed, uint32_t stream, uint64_t step) {
    uint32_t word[4][strip];
    for (int b = 0; b < strip; ++b) {
      const Words random = philox(seed, stream, step, n * strip + b);
      for (int k = 0; k < 4; ++k) word[k][b] = random.word[k];
    }
    for (int b = 0; b < strip; ++b)
      for (int k = 0; k < 4; ++k) bits[4 * b + k] = word[k][b];
  }
  CLONES static void drop(const uint32_t* bits, const T* x, T* y, int count, uint32_t threshold, T scale) {
    for (int e = 0; e < count; ++e) y[e] = bits[e] >= threshold ? x[e] * scale : T(0);
  }
  // The same, with `block` between one element and the next: chosen without a branch, which nobody could predict.
  static void drop(const uint32_t* bits, const T* x, T* y, int count, index_t block, uint32_t threshold, T scale) {
    for (int e = 0; e < count; ++e) {
      const T either[2] = {T(0), x[e * block] * scale};
      y[e * block] = either[bits[e] >= threshold];
    }
  }
};

}  // namespace

template <class T>
void dropout(index_t, const T* x, T* y, index_t size, index_t positions, index_t block, uint32_t threshold, T scale,
             uint64_t seed, uint32_t stream, uint64_t step) {
  constexpr index_t elements = 4 * strip;
  parallel((size + elements - 1) / elements, [&](int64_t begin, int64_t end, int) {
    uint32_t bits[elements];
    for (index_t n = begin; n < end; ++n) {
      const index_t first = n * elements, stop = min(size, first + elements);
      Strip<T>::draw(n, bits, seed, stream, step);
      if (block == 1) {
        Strip<T>::drop(bits, x + first, y + first, int(stop - first), threshold, scale);
        continue;
      }
      for (index_t e = first; e < stop;) {  // channel by channel
        const index_t count = min(stop, (e / positions + 1) * positions) - e;
        const index_t at = portable::place_in_blocks(e, positions, block);
        Strip<T>::drop(bits + (e - first), x + at, y + at, int(count), block, threshold, scale);
        e += count;
      }
    }
  });
}
CPU_KERNEL(dropout)
