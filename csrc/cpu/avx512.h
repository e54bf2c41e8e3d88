// Functions for processors with AVX-512, written in its instructions: where the compiler finds no vectors by itself.
//
// Each has a twin that runs everywhere; has_avx512() chooses. Results are the same bits as the twin's unless the
// function says otherwise. No lambdas in here: they would not inherit the target.
#pragma once
#include "registry.h"

#if defined(__x86_64__) && defined(__GNUC__)
// Whether the processor has all of it that functions are compiled for.
inline bool processor_has_avx512() {
  static const bool found = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512cd");
  return found;
}
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && defined(__linux__)
#define LAYERFORGE_AVX512
// GCC 12 takes the undefined vectors inside its own intrinsics for mistakes of ours (bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define AVX512 __attribute__((target("arch=x86-64-v4")))
#define AVX512_INLINE static inline __attribute__((always_inline, target("arch=x86-64-v4")))

// For tests: false lets the twins run.
inline bool allow_avx512 = true;

inline bool has_avx512() { return processor_has_avx512() && allow_avx512; }

constexpr int kLanes = 16;  // floats of a vector

// Whether so many floats are to be written past the caches, to one array and maybe to another: no cache holds 16 MiB
// until somebody reads them. Both begin with a line of the cache.
inline bool goes_past_caches(int64_t count, const float* to, const float* also = nullptr) {
  const bool aligned = (reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(also)) % 64 == 0;
  return to && aligned && count >= int64_t(4) << 20;
}

// The lanes [begin, end), of which any may lie outside the vector.
AVX512_INLINE __mmask16 lanes(int begin, int end) {
  begin = begin < 0 ? 0 : begin > kLanes ? kLanes : begin;
  end = end < 0 ? 0 : end > kLanes ? kLanes : end;
  return __mmask16(((1u << end) - 1) & ~((1u << begin) - 1));
}

// 0, 1, ... 15
AVX512_INLINE __m512i counting() { return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0); }

#endif
