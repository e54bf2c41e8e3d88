// Mean and variance, along the rows of an array or over several rows, and what is normalised by them.
//
// An array is (outer, size, inner): element i meets statistic (i / inner) % size, and row r = i / inner. The sum of
// squares is always that of the deviations from the mean, so nothing cancels.
#pragma once
#include "portable.h"

// Row i: mean, and square = the sum of squared deviations from it: (rows, inner) -> (rows)
template <class T>
REDUCTION void row_moments(index_t i, const T* x, T* mean, T* square, index_t inner) {
  x += i * inner;
  T m, squares;
  moments_of<T>(inner, [&](index_t j) { return x[j]; }, m, squares);
  if (!leads()) return;
  mean[i] = m;
  square[i] = squares;
}

// Group i: mean and square of `rows` rows that follow each other, of `inner` elements each: (groups, rows) -> (groups)
template <class T>
REDUCTION void group_moments(index_t i, const T* row_mean, const T* row_square, T* mean, T* square, index_t rows,
                             index_t inner) {
  row_mean += i * rows;
  row_square += i * rows;
  T m, between;
  moments_of<T>(rows, [&](index_t k) { return row_mean[k]; }, m, between);
  const T within = sum_of<T>(rows, [&](index_t k) { return row_square[k]; });
  if (!leads()) return;
  mean[i] = m;
  square[i] = between * T(inner) + within;
}

// mean and scale = 1 / sqrt(variance + eps) of the running sums, which are divided by factor; 0 / 0 counts as 0.
template <class T>
KERNEL void running_scale(index_t i, const T* running_mean, const T* running_variance, const T* factor, T* mean,
                          T* scale, T eps) {
  const T share = factor[0] == 0 ? T(0) : 1 / factor[0];
  mean[i] = share * running_mean[i];
  scale[i] = 1 / sqrt(share * running_variance[i] + eps);
}

// scale = 1 / (standard deviation + eps)
template <class T>
KERNEL void deviation_scale(index_t i, const T* square, T* scale, T number, T eps) {
  scale[i] = 1 / (sqrt(square[i] / number) + eps);
}

// y = (x - mean) * scale, and kept = x; scale and kept may be null. y may be x.
template <class T>
KERNEL void normalise(index_t i, const T* x, const T* mean, const T* scale, T* y, T* kept, index_t size,
                      index_t inner) {
  const index_t c = i / inner % size;
  const T value = x[i];
  if (kept) kept[i] = value;
  y[i] = scale ? (value - mean[c]) * scale[c] : value - mean[c];
}

// Row i: sum = the sum of dy, dot = that of dy * (x - mean). Each statistic is that of `rows` rows that follow each
// other: row i meets statistic (i / rows) % size.
template <class T>
REDUCTION void row_products(index_t i, const T* x, const T* mean, const T* dy, T* sum, T* dot, index_t size,
                            index_t rows, index_t inner) {
  x += i * inner;
  dy += i * inner;
  const T m = mean[i / rows % size];
  T sums, dots;
  sums_of<T>(inner, [&](index_t j) { return dy[j]; }, [&](index_t j) { return dy[j] * (x[j] - m); }, sums, dots);
  if (!leads()) return;
  sum[i] = sums;
  dot[i] = dots;
}

// dx = (dy - sum / number - y * (scale * dot) / number) * scale, where y = (x - mean) * scale and sum and dot are those
// of all `number` elements that share the statistic. dx may be dy. With scale null: dx = dy - sum / number.
template <class T>
KERNEL void normalise_backward(index_t i, const T* x, const T* mean, const T* scale, const T* dy, const T* sum,
                               const T* dot, T* dx, index_t size, index_t inner, T number) {
  const index_t c = i / inner % size;
  const T centred = dy[i] - sum[c] / number;
  dx[i] = scale ? (centred - (x[i] - mean[c]) * (scale[c] * scale[c] * dot[c] / number)) * scale[c] : centred;
}
