// Sums, products and maxima of whole arrays. An output may be one of the inputs.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// y = 0
template <class T>
KERNEL void clear(index_t i, T* y) {
  y[i] = 0;
}

// y = a + b
template <class T>
KERNEL void add(index_t i, const T* a, const T* b, T* y) {
  y[i] = a[i] + b[i];
}

// y = a + b + c + d, from the left; d may be null, and so may c and d
template <class T>
KERNEL void add_all(index_t i, const T* a, const T* b, const T* c, const T* d, T* y) {
  T sum = a[i] + b[i];
  if (c) sum += c[i];
  if (d) sum += d[i];
  y[i] = sum;
}

// y = ca * a + cb * b
template <class T>
KERNEL void sum(index_t i, const T* a, const T* b, T* y, T ca, T cb) {
  y[i] = ca * a[i] + cb * b[i];
}

// y = rectify(ca * a + cb * b), rectify(t) = t where t > 0, else slope * t
template <class T>
KERNEL void rectified_sum(index_t i, const T* a, const T* b, T* y, T ca, T cb, T slope) {
  const T t = ca * a[i] + cb * b[i];
  y[i] = t > 0 ? t : slope * t;
}

// dx = the gradient of what was rectified to y, where y's is d, or the sum of d and e, which may be null. dx may be d.
template <class T>
KERNEL void rectified_gradient(index_t i, const T* y, const T* d, const T* e, T* dx, T slope) {
  const T dy = e ? d[i] + e[i] : d[i];
  dx[i] = y[i] > 0 ? dy : slope * dy;
}

// y = c * x
template <class T>
KERNEL void scale(index_t i, const T* x, T* y, T c) {
  y[i] = c * x[i];
}

// y = c * s * x, for a single number s
template <class T>
KERNEL void scale_by(index_t i, const T* x, const T* s, T* y, T c) {
  y[i] = c * s[0] * x[i];
}

// y = a * b
template <class T>
KERNEL void product(index_t i, const T* a, const T* b, T* y) {
  y[i] = a[i] * b[i];
}

// dx = dy * y / x: the gradient of a product y with a factor x
template <class T>
KERNEL void product_without(index_t i, const T* dy, const T* y, const T* x, T* dx) {
  dx[i] = dy[i] * y[i] / x[i];
}

// y = max(a, b), winner = 0 where it is a, else 1; b wins a tie, NaN wins over all
template <class T>
KERNEL void larger(index_t i, const T* a, const T* b, T* y, int32_t* winner) {
  const bool first = a[i] > b[i] || a[i] != a[i];
  y[i] = first ? a[i] : b[i];
  winner[i] = first ? 0 : 1;
}

// y = max(x, y), winner = k where it is x; y wins a tie, NaN wins over all
template <class T>
KERNEL void larger_still(index_t i, const T* x, T* y, int32_t* winner, int32_t k) {
  const bool taken = x[i] > y[i] || x[i] != x[i];
  y[i] = taken ? x[i] : y[i];
  winner[i] = taken ? k : winner[i];
}

// dx = dy where k is the winner, else 0
template <class T>
KERNEL void won(index_t i, const int32_t* winner, const T* dy, T* dx, int32_t k) {
  dx[i] = winner[i] == k ? dy[i] : T(0);
}
