// Four normal numbers at a time: one block of Philox, two logarithms, two angles, where element by element takes four
// of each. The same operations on the same words, so the same bits.
#include "cpu.h"

template <class T>
void fill_gaussian(index_t count, T* y, double mean, double std, uint64_t seed, uint32_t stream, uint64_t step) {
  parallel((count + 3) / 4, [=](index_t begin, index_t end, int) {
    for (index_t block = begin; block < end; ++block) {
      const Words w = philox(seed, stream, step, block);
      double x[4];
      for (int pair = 0; pair < 4; pair += 2) {
        const double radius = sqrt(-2 * log((w.word[pair] + 0.5) * (1.0 / 4294967296.0)));
        const double angle = w.word[pair + 1] * (6.283185307179586476925286766559 / 4294967296.0);
        x[pair] = radius * cos(angle);
        x[pair + 1] = radius * sin(angle);
      }
      for (index_t i = 4 * block; i < min(count, 4 * block + 4); ++i) y[i] = T(mean + std * x[i - 4 * block]);
    }
  });
}
CPU_KERNEL(fill_gaussian)
