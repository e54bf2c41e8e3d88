// Dropout: y = x * mask * scale. The mask is drawn from the random key and the element's index, and never stored.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// Element e of an array in plain order (images, channels, positions) lies here where that is in blocks of channels.
KERNEL index_t place_in_blocks(index_t e, index_t positions, index_t block) {
  const index_t channel = e / positions;
  return channel / block * positions * block + e % positions * block + channel % block;
}

// Draw i: elements 4 i ... 4 i + 3, which share one draw of four words. An element is dropped where its word is below
// `threshold`, the ratio times 2^32. y may be x. Elements are counted in plain order (block 1), and lie as
// place_in_blocks says: the same ones are dropped in either order.
template <class T>
KERNEL void dropout(index_t i, const T* x, T* y, index_t size, index_t positions, index_t block, uint32_t threshold,
                    T scale, uint64_t seed, uint32_t stream, uint64_t step) {
  const Words random = philox(seed, stream, step, i);
  const index_t first = 4 * i, rest = size - first;
  for (int k = 0; k < 4 && k < rest; ++k) {
    const index_t at = block == 1 ? first + k : place_in_blocks(first + k, positions, block);
    y[at] = random.word[k] >= threshold ? x[at] * scale : T(0);
  }
}
