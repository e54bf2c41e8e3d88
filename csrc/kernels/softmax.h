// Softmax over one axis of an array of (outer, channels, inner): y = exp(x) / sum over channels of exp(x).
// Row r = outer * inner + inner position is the vector over channels; its largest element is taken off first, so
// nothing overflows.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// The first element of row `row`, and the row of element `element`.
KERNEL index_t row_start(index_t row, index_t channels, index_t inner) {
  return row / inner * channels * inner + row % inner;
}
KERNEL index_t row_of(index_t element, index_t channels, index_t inner) {
  return element / (channels * inner) * inner + element % inner;
}

// Row i: maximum = max over channels of x, sum = sum over channels of exp(x - maximum). A NaN in x is one in sum.
template <class T>
REDUCTION ACROSS(inner) void softmax_statistics(index_t i, const T* x, T* maximum, T* sum, index_t channels,
                                                index_t inner) {
  const T* row = x + row_start(i, channels, inner);
  const T largest = largest_of<T>(channels, [&](index_t c) { return row[c * inner]; });
  const T total = sum_in_order<T>(channels, [&](index_t c) { return exp(row[c * inner] - largest); });
  if (!leads()) return;
  maximum[i] = largest;
  sum[i] = total;
}

// y = exp(x - maximum) / sum. y may be x.
template <class T>
KERNEL void softmax_forward(index_t i, const T* x, const T* maximum, const T* sum, T* y, index_t channels,
                            index_t inner) {
  const index_t row = row_of(i, channels, inner);
  y[i] = exp(x[i] - maximum[row]) / sum[row];
}

// Row i: dot = sum over channels of y * dy
template <class T>
REDUCTION ACROSS(inner) void softmax_dot(index_t i, const T* y, const T* dy, T* dot, index_t channels, index_t inner) {
  const index_t start = row_start(i, channels, inner);
  const T total = sum_in_order<T>(channels, [&](index_t c) { return y[start + c * inner] * dy[start + c * inner]; });
  if (leads()) dot[i] = total;
}

// dx = y * (dy - dot). dx may be dy.
template <class T>
KERNEL void softmax_backward(index_t i, const T* y, const T* dy, const T* dot, T* dx, index_t channels, index_t inner) {
  dx[i] = y[i] * (dy[i] - dot[row_of(i, channels, inner)]);
}
