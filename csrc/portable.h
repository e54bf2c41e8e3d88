// What the C++ compiler, nvcc and NVRTC must agree on. The only header that a kernel header includes.
//
// A kernel computes element i of its outputs and knows nothing of threads, blocks or Python:
//
//   template <class T>
//   KERNEL void relu_forward(index_t i, const T* x, T* y, T slope) { y[i] = x[i] > 0 ? x[i] : slope * x[i]; }
//
// It writes element i of its outputs, or row i, and no other (gather, never scatter), so there are no atomics and the
// result does not depend on the number of threads. It may read element i of an array that it also writes (in place).
// A KERNEL function that returns void and whose first parameter is `index_t i` can be called from Python; any other
// KERNEL function is a helper. Helpers are KERNEL too: everything in a kernel header has internal linkage.
#pragma once

#if defined(__CUDACC__)
#define KERNEL __device__ __forceinline__
#if defined(__CUDACC_RTC__)  // NVRTC has neither <cstdint> nor <cmath>; its mathematical functions are built in
typedef unsigned char uint8_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif
#else
#include <math.h>  // not <cmath>: the overloads for float must stand in the global namespace, as they do in CUDA

#include <algorithm>
#include <cstdint>
#define KERNEL static inline __attribute__((always_inline, unused))
using std::max;
using std::min;
#endif

// 32 bits, unless a count or an array needs more: half the registers on a GPU, twice the lanes on a CPU.
#ifdef LAYERFORGE_WIDE_INDEX
typedef int64_t index_t;
#else
typedef int32_t index_t;
#endif

// i / by and i % by, for i >= 0 and by > 0.
//
// A GPU divides with some thirty instructions, and a kernel that moves an element has a dozen. Where `by` is the same
// for all elements, what a thread needs of it is found once, before its loop over the grid; each element then costs a
// multiplication: the upper half of i * inverse is i / by, or one less.
struct Divided {
  index_t quotient, rest;
};
KERNEL Divided divided(index_t i, index_t by) {
#if defined(LAYERFORGE_GRID) && !defined(LAYERFORGE_WIDE_INDEX)
  const uint32_t n = uint32_t(i), d = uint32_t(by), inverse = 0xFFFFFFFFu / d;
  const uint32_t low = uint32_t((uint64_t(n) * inverse) >> 32), rest = n - low * d;
  const bool less = rest >= d;
  return Divided{index_t(low + less), index_t(less ? rest - d : rest)};
#else
  return Divided{i / by, i % by};
#endif
}

// x / y. A GPU takes two instructions for it instead of a dozen where the last bit or two may be wrong.
template <class T>
KERNEL T over(T x, T y) {
  return x / y;
}
#if defined(__CUDACC__)
KERNEL float over(float x, float y) { return __fdividef(x, y); }
#endif

// A kernel whose index i stands for a row of terms is a REDUCTION instead of a KERNEL: it adds them up or finds the
// largest, by sum_of, sums_of, moments_of, sum_in_order and largest_of, or writes to each of them, by each_of. What it
// does with the result stands behind `if (leads())`. Where rows are long, a GPU gives each i a team of threads: the
// header is then compiled with LAYERFORGE_TEAM, and those functions are the work of all threads together, always in the
// same order. Elsewhere a REDUCTION is a kernel like any other.
//
// ACROSS(side) says that the terms of so many neighbouring rows lie side by side, `side` being one of the parameters:
// then a GPU's neighbouring threads read for neighbouring rows, and all rows must call these functions alike.
#define REDUCTION KERNEL
#define ACROSS(side)

#ifdef LAYERFORGE_TEAM

#if defined(__CUDACC__)
// The threads of a block: x for neighbouring rows, y for the terms of each, z for teams. A team, all x and y, is a warp
// or the block; a thread has the terms y, y + blockDim.y, y + 2 blockDim.y ...
constexpr int kWarp = 32, kWarps = 8;  // threads in a warp, and warps in a block that is one team
KERNEL bool leads() { return threadIdx.y == 0; }

// What a team's warps tell each other.
template <class T>
KERNEL T* between_warps() {
  __shared__ T values[kWarps * kWarp];
  return values;
}

// What the threads of each row have, combined two by two.
template <class T, class Combine>
KERNEL T by_team(T mine, Combine combine) {
  const int side = int(blockDim.x);
  for (int half = kWarp / 2; half; half /= 2) {
    const T other = __shfl_down_sync(0xffffffffu, mine, half);
    if (half >= side) mine = combine(mine, other);
  }
  if (side * int(blockDim.y) == kWarp) return __shfl_sync(0xffffffffu, mine, threadIdx.x);
  T* const values = between_warps<T>();
  const int thread = int(threadIdx.y) * side + int(threadIdx.x);
  if (thread % kWarp < side) values[thread / kWarp * side + thread % kWarp] = mine;
  __syncthreads();
  T result = values[threadIdx.x];
  for (int warp = 1; warp < kWarps; ++warp) result = combine(result, values[warp * side + int(threadIdx.x)]);
  __syncthreads();  // before somebody writes the next ones
  return result;
}
template <class T>
KERNEL T sum_by_team(T mine) {
  return by_team(mine, [](T a, T b) { return a + b; });
}

template <class T, class Term>
KERNEL T sum_of(index_t count, Term term) {
  T sum = 0;
  for (index_t j = index_t(threadIdx.y); j < count; j += index_t(blockDim.y)) sum += term(j);
  return sum_by_team(sum);
}
template <class T, class First, class Second>
KERNEL void sums_of(index_t count, First first, Second second, T& a, T& b) {
  T one = 0, two = 0;
  for (index_t j = index_t(threadIdx.y); j < count; j += index_t(blockDim.y)) {
    one += first(j);
    two += second(j);
  }
  a = sum_by_team(one);
  b = sum_by_team(two);
}
template <class T, class Term>
KERNEL T largest_of(index_t count, Term term) {
  const index_t first = index_t(threadIdx.y);
  T largest = term(first < count ? first : 0);
  for (index_t j = first; j < count; j += index_t(blockDim.y)) largest = term(j) > largest ? term(j) : largest;
  return by_team(largest, [](T a, T b) { return b > a ? b : a; });
}
template <class Body>
KERNEL void each_of(index_t count, Body body) {
#pragma unroll 4
  for (index_t j = index_t(threadIdx.y); j < count; j += index_t(blockDim.y)) body(j);
}

// The terms are read once, a few at a time: the mean of these, and the sum of squared deviations from it, are joined to
// those of the terms before. T. Chan, G. Golub & R. LeVeque, Updating formulae and a pairwise algorithm for computing
// sample variances, 1979.
template <class T, class Term>
KERNEL void moments_of(index_t count, Term term, T& mean, T& square) {
  constexpr int few = 4;
  const index_t step = index_t(blockDim.y);
  T m = 0, squares = 0, number = 0;
  const auto join = [&](T of, T mean_of, T squares_of) {
    const T share = over(of, number + of), d = mean_of - m;
    m += share * d;
    squares += squares_of + d * d * number * share;
    number += of;
  };
  index_t j = index_t(threadIdx.y);
  for (; j < count - (few - 1) * step; j += few * step) {
    T value[few], sum = 0, deviations = 0;
    for (int k = 0; k < few; ++k) value[k] = term(j + k * step);
    for (int k = 0; k < few; ++k) sum += value[k];
    for (int k = 0; k < few; ++k) deviations += (value[k] - sum / few) * (value[k] - sum / few);
    join(T(few), sum / few, deviations);
  }
  for (; j < count; j += step) join(T(1), term(j), T(0));
  mean = over(sum_by_team(number * m), T(count));
  square = sum_by_team(squares + number * (m - mean) * (m - mean));
}

#else  // on the CPU, for tests: the threads of a team one after the other
constexpr int kTeam = 32;
KERNEL bool leads() { return true; }

// What all threads have, combined two by two: part(k) is made of the terms k, k + kTeam, k + 2 kTeam ...
template <class T, class Part, class Combine>
KERNEL T by_team(Part part, Combine combine) {
  T parts[kTeam];
  for (int k = 0; k < kTeam; ++k) parts[k] = part(k);
  for (int half = kTeam / 2; half; half /= 2)
    for (int k = 0; k < half; ++k) parts[k] = combine(parts[k], parts[k + half]);
  return parts[0];
}

template <class T, class Term>
KERNEL T sum_of(index_t count, Term term) {
  const auto part = [&](int k) {
    T sum = 0;
    for (index_t j = k; j < count; j += kTeam) sum += term(j);
    return sum;
  };
  return by_team<T>(part, [](T a, T b) { return a + b; });
}
template <class T, class Term>
KERNEL T largest_of(index_t count, Term term) {
  const auto part = [&](int k) {
    T largest = term(k < count ? k : 0);
    for (index_t j = k; j < count; j += kTeam) largest = term(j) > largest ? term(j) : largest;
    return largest;
  };
  return by_team<T>(part, [](T a, T b) { return b > a ? b : a; });
}
#endif

template <class T, class Term>
KERNEL T sum_in_order(index_t count, Term term) {
  return sum_of<T>(count, term);
}

#else

KERNEL bool leads() { return true; }

// The sum of term(0) ... term(count - 1), one after the other.
template <class T, class Term>
KERNEL T sum_in_order(index_t count, Term term) {
  T sum = 0;
  for (index_t j = 0; j < count; ++j) sum += term(j);
  return sum;
}

// The largest of term(0) ... term(count - 1), of which there is one at least.
template <class T, class Term>
KERNEL T largest_of(index_t count, Term term) {
  T largest = term(0);
  for (index_t j = 1; j < count; ++j) largest = term(j) > largest ? term(j) : largest;
  return largest;
}

// The sum of term(0) ... term(count - 1), in eight lanes: quicker and more exact than one.
template <class T, class Term>
KERNEL T sum_of(index_t count, Term term) {
  T lane[8] = {};
  index_t j = 0;
  for (; j + 8 <= count; j += 8)
    for (int k = 0; k < 8; ++k) lane[k] += term(j + k);
  for (int k = 0; k < 7; ++k)  // k known when compiled: the lanes stay in a GPU's registers
    if (j + k < count) lane[k] += term(j + k);
  return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

#endif

#if !defined(LAYERFORGE_TEAM) || !defined(__CUDACC__)
// a = sum_of(count, first), b = sum_of(count, second).
template <class T, class First, class Second>
KERNEL void sums_of(index_t count, First first, Second second, T& a, T& b) {
  a = sum_of<T>(count, first);
  b = sum_of<T>(count, second);
}

// mean of term(0) ... term(count - 1), and square = the sum of their squared deviations from it.
template <class T, class Term>
KERNEL void moments_of(index_t count, Term term, T& mean, T& square) {
  const T m = sum_of<T>(count, term) / T(count);
  square = sum_of<T>(count, [&](index_t j) { return (term(j) - m) * (term(j) - m); });
  mean = m;
}

// body(0) ... body(count - 1), in any order.
template <class Body>
KERNEL void each_of(index_t count, Body body) {
  for (index_t j = 0; j < count; ++j) body(j);
}
#endif

// ---------------------------------------------------------------------------------------------------- random numbers
// Philox 4x32-10: J. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
// The same four words for the same counter and key on every device, in any order, with nothing to store.

struct Words {
  uint32_t word[4];
};

KERNEL Words philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
    c1 = uint32_t(p1);
    c3 = uint32_t(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Words{{c0, c1, c2, c3}};
}

// The four words of `block`. The key is the seed; the counter is (block, stream, step), without collisions as long as
// either the block or the step stays below 2^32.
KERNEL Words philox(uint64_t seed, uint32_t stream, uint64_t step, uint64_t block) {
  return philox4x32(uint32_t(block), uint32_t(block >> 32) ^ uint32_t(step >> 32), stream, uint32_t(step),
                    uint32_t(seed), uint32_t(seed >> 32));
}

// 32 random bits for an element: word element % 4 of block element / 4.
KERNEL uint32_t random_bits(uint64_t seed, uint32_t stream, uint64_t step, uint64_t element) {
  const Words w = philox(seed, stream, step, element >> 2);
  const uint32_t low = element & 1 ? w.word[1] : w.word[0], high = element & 1 ? w.word[3] : w.word[2];
  return element & 2 ? high : low;
}

// U[0, 1), a multiple of 2^-32.
KERNEL double uniform(uint64_t seed, uint32_t stream, uint64_t step, uint64_t element) {
  return random_bits(seed, stream, step, element) * (1.0 / 4294967296.0);
}

// N(0, 1) by Box and Muller: elements 2j and 2j + 1 are the cosine and the sine of one pair of uniform numbers.
// The first is moved half a step away from 0, so the largest value is sqrt(2 log 2^33) = 6.76.
KERNEL double gaussian(uint64_t seed, uint32_t stream, uint64_t step, uint64_t element) {
  const Words w = philox(seed, stream, step, element >> 2);
  const uint32_t first = element & 2 ? w.word[2] : w.word[0], second = element & 2 ? w.word[3] : w.word[1];
  const double radius = sqrt(-2 * log((first + 0.5) * (1.0 / 4294967296.0)));
  const double angle = second * (6.283185307179586476925286766559 / 4294967296.0);
  return radius * (element & 1 ? sin(angle) : cos(angle));
}
