// The largest values along one axis of an array (outer, values, inner), and where they are.
#pragma once
#include "portable.h"

// Whether a, at place i, comes before b, at place j: it is larger, or equal and behind. A NaN is larger than anything.
template <class T>
KERNEL bool comes_before(T a, index_t i, T b, index_t j) {
  const bool a_is_nan = a != a, b_is_nan = b != b;
  if (a_is_nan || b_is_nan) return a_is_nan && (!b_is_nan || i > j);
  return a > b || (a == b && i > j);
}

// Row i, one of outer * inner: the first k values in that order. y is (outer, lists, k, inner), where the lists are the
// indices (what = 0), the values (1), or both (2). Needs count=.
template <class T>
KERNEL void largest(index_t i, const T* x, T* y, index_t values, index_t inner, index_t k, int32_t what) {
  x += i / inner * values * inner + i % inner;
  y += i / inner * (what == 2 ? 2 : 1) * k * inner + i % inner;
  index_t last = -1;
  for (index_t rank = 0; rank < k; ++rank) {
    index_t best = -1;
    for (index_t c = 0; c < values; ++c) {
      const bool open = last < 0 || comes_before(x[last * inner], last, x[c * inner], c);
      if (open && (best < 0 || comes_before(x[c * inner], c, x[best * inner], best))) best = c;
    }
    if (what != 1) y[rank * inner] = T(best);
    if (what != 0) y[(what == 2 ? k + rank : rank) * inner] = x[best * inner];
    last = best;
  }
}
