// Dropout: y = x * mask * scale. The mask is drawn from the random key and the element's index, and never stored.
#pragma once
#include "portable.h"

// Block i: elements 4 i ... 4 i + 3, which share one draw of four words. An element is dropped where its word is below
// `threshold`, the ratio times 2^32. y may be x.
template <class T>
KERNEL void dropout(index_t i, const T* x, T* y, index_t size, uint32_t threshold, T scale, uint64_t seed,
                    uint32_t stream, uint64_t step) {
  const Words random = philox(seed, stream, step, i);
  const index_t first = 4 * i, rest = size - first;
  for (int k = 0; k < 4 && k < rest; ++k) y[first + k] = random.word[k] >= threshold ? x[first + k] * scale : T(0);
}
