// A large array against a small one, which is repeated along it: element i of the large one meets element
// (i / inner) % size of the small one. And the sums over the large one that their gradients are.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// The element of a small array of `size` that element i meets in a large one (..., size / block, inner, block), which
// is plain where block is 1, or in blocks of channels.
KERNEL index_t met_in_blocks(index_t i, index_t size, index_t inner, index_t block) {
  const index_t row = divided(i, inner * block).quotient;
  const index_t of_blocks = divided(row, size / block).rest;
  return block == 1 ? of_blocks : of_blocks * block + divided(i, block).rest;
}

// y = x * w + b; w and b may be null, for 1 and 0. y may be x.
template <class T>
KERNEL void scale_and_shift(index_t i, const T* x, const T* w, const T* b, T* y, index_t size, index_t inner,
                            index_t block) {
  const index_t c = met_in_blocks(i, size, inner, block);
  const T value = w ? x[i] * w[c] : x[i];
  y[i] = b ? value + b[c] : value;
}

// y = x + b, where x is plain. y may be x.
template <class T>
KERNEL void shift(index_t i, const T* x, const T* b, T* y, index_t size, index_t inner) {
  y[i] = x[i] + b[divided(divided(i, inner).quotient, size).rest];
}

// Lane i of (rows, inner, block), (i / block, j, i % block): the sum of x, or with y, which may be null, of x * y
template <class T>
REDUCTION ACROSS(block) void lane_sums(index_t i, const T* x, const T* y, T* sum, index_t inner, index_t block) {
  const index_t at = i / block * inner * block + i % block;
  x += at;
  if (y) y += at;
  const T total = sum_of<T>(inner, [&](index_t j) { return y ? x[j * block] * y[j * block] : x[j * block]; });
  if (leads()) sum[i] = total;
}

// y = x where x > 0, else w * x. y may be x.
template <class T>
KERNEL void prelu_forward(index_t i, const T* x, const T* w, T* y, index_t size, index_t inner) {
  y[i] = x[i] > 0 ? x[i] : w[i / inner % size] * x[i];
}

// dx = dy where x > 0, else w * dy. dx may be dy.
template <class T>
KERNEL void prelu_backward(index_t i, const T* x, const T* w, const T* dy, T* dx, index_t size, index_t inner) {
  dx[i] = x[i] > 0 ? dy[i] : w[i / inner % size] * dy[i];
}

// rows_i = sum over row i of dy * x where x <= 0: (rows, inner) -> (rows)
template <class T>
REDUCTION void prelu_rows(index_t i, const T* x, const T* dy, T* rows, index_t inner) {
  x += i * inner;
  dy += i * inner;
  const T sum = sum_of<T>(inner, [&](index_t j) { return x[j] > 0 ? T(0) : dy[j] * x[j]; });
  if (leads()) rows[i] = sum;
}

// The same over lane i of (rows, inner, block), as in lane_sums
template <class T>
REDUCTION ACROSS(block) void prelu_lanes(index_t i, const T* x, const T* dy, T* sum, index_t inner, index_t block) {
  const index_t at = i / block * inner * block + i % block;
  x += at;
  dy += at;
  const T total = sum_of<T>(inner, [&](index_t j) { return x[j * block] > 0 ? T(0) : dy[j * block] * x[j * block]; });
  if (leads()) sum[i] = total;
}

// rows_i = factor * sum over row i of x: (rows, inner) -> (rows)
template <class T>
REDUCTION void sum_rows(index_t i, const T* x, T* rows, index_t inner, T factor) {
  x += i * inner;
  const T sum = sum_of<T>(inner, [&](index_t j) { return x[j]; });
  if (leads()) rows[i] = factor * sum;
}

// rows_i = factor * sum over row i of |x|
template <class T>
REDUCTION void abs_sum_rows(index_t i, const T* x, T* rows, index_t inner, T factor) {
  x += i * inner;
  const T sum = sum_of<T>(inner, [&](index_t j) { return fabs(x[j]); });
  if (leads()) rows[i] = factor * sum;
}

// rows_i = factor * sum over row i of a * b
template <class T>
REDUCTION void dot_rows(index_t i, const T* a, const T* b, T* rows, index_t inner, T factor) {
  a += i * inner;
  b += i * inner;
  const T sum = sum_of<T>(inner, [&](index_t j) { return a[j] * b[j]; });
  if (leads()) rows[i] = factor * sum;
}

// y_i = sum over n of rows_(n, i), added to y_i or not: (outer, size) -> (size)
template <class T>
REDUCTION ACROSS(size) void sum_columns(index_t i, const T* rows, T* y, index_t outer, index_t size, bool add) {
  const T sum = sum_of<T>(outer, [&](index_t n) { return rows[n * size + i]; });
  if (leads()) y[i] = add ? y[i] + sum : sum;
}

// dx_(o, j) = the sum over k of dy_(o, k, j), k = 0 ... copies - 1: the gradient of repeating each row `copies` times
template <class T>
KERNEL void sum_copies(index_t i, const T* dy, T* dx, index_t copies, index_t inner) {
  dy += i / inner * copies * inner + i % inner;
  dx[i] = sum_of<T>(copies, [&](index_t k) { return dy[k * inner]; });
}

// dx = factor * dy of the row: the gradient of sum_rows
template <class T>
KERNEL void spread_rows(index_t i, const T* dy, T* dx, index_t inner, T factor) {
  dx[i] = factor * dy[i / inner];
}

// dx = factor * dy of the row * sign(x): the gradient of abs_sum_rows
template <class T>
KERNEL void spread_signs(index_t i, const T* x, const T* dy, T* dx, index_t inner, T factor) {
  const T slope = factor * dy[i / inner];
  dx[i] = x[i] > 0 ? slope : x[i] < 0 ? -slope : T(0);
}

// dx = factor * dy of the row * x: the gradient of half a sum of squares
template <class T>
KERNEL void spread_products(index_t i, const T* x, const T* dy, T* dx, index_t inner, T factor) {
  dx[i] = factor * dy[i / inner] * x[i];
}
