// Arrays filled with random numbers. Element i depends on (seed, stream, step, i) alone; see portable.h.
#pragma once
#include "portable.h"

// y = 32 random bits
KERNEL void fill_bits(index_t i, uint32_t* y, uint64_t seed, uint32_t stream, uint64_t step) {
  y[i] = random_bits(seed, stream, step, i);
}

// y ~ U[low, high)
template <class T>
KERNEL void fill_uniform(index_t i, T* y, double low, double high, uint64_t seed, uint32_t stream, uint64_t step) {
  y[i] = T(low + (high - low) * uniform(seed, stream, step, i));
}

// y ~ N(mean, std^2)
template <class T>
KERNEL void fill_gaussian(index_t i, T* y, double mean, double std, uint64_t seed, uint32_t stream, uint64_t step) {
  y[i] = T(mean + std * gaussian(seed, stream, step, i));
}

// y = 1 with the given probability, else 0; the same draw for float and double
template <class T>
KERNEL void fill_bernoulli(index_t i, T* y, double probability, uint64_t seed, uint32_t stream, uint64_t step) {
  y[i] = uniform(seed, stream, step, i) < probability ? T(1) : T(0);
}

// y ~ one of low, low + 1, ... high - 1
KERNEL void fill_integer(index_t i, int32_t* y, int32_t low, int32_t high, uint64_t seed, uint32_t stream,
                         uint64_t step) {
  const uint64_t range = uint32_t(high) - uint32_t(low);
  y[i] = int32_t(uint32_t(low) + uint32_t(range * random_bits(seed, stream, step, i) >> 32));
}
