// A strip of draws at a time: the ten rounds of the generator then run in every lane of a register at once.
#include "cpu.h"

namespace {

constexpr int strip = 64;  // blocks of four elements

template <class T>
struct Strip {
  // Strip number n: elements 4 * strip * n and following, `count` of them.
  CLONES static void run(index_t n, const T* x, T* y, int count, uint32_t threshold, T scale, uint64_t seed,
                         uint32_t stream, uint64_t step) {
    uint32_t word[4][strip], bits[4 * strip];
    for (int b = 0; b < strip; ++b) {
      const Words random = philox(seed, stream, step, n * strip + b);
      for (int k = 0; k < 4; ++k) word[k][b] = random.word[k];
    }
    for (int b = 0; b < strip; ++b)
      for (int k = 0; k < 4; ++k) bits[4 * b + k] = word[k][b];
    for (int e = 0; e < count; ++e) y[e] = bits[e] >= threshold ? x[e] * scale : T(0);
  }
};

}  // namespace

template <class T>
void dropout(index_t, const T* x, T* y, index_t size, uint32_t threshold, T scale, uint64_t seed, uint32_t stream,
             uint64_t step) {
  constexpr index_t elements = 4 * strip;
  parallel((size + elements - 1) / elements, [&](int64_t begin, int64_t end, int) {
    for (index_t n = begin; n < end; ++n) {
      const index_t first = n * elements;
      Strip<T>::run(n, x + first, y + first, int(min(elements, size - first)), threshold, scale, seed, stream, step);
    }
  });
}
CPU_KERNEL(dropout)
