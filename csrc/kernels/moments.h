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
  const T m = sum_of<T>(inner, [&](index_t j) { return x[j]; }) / T(inner);
  const T sum = sum_of<T>(inner, [&](index_t j) { return (x[j] - m) * (x[j] - m); });
  if (!leads()) return;
  mean[i] = m;
  square[i] = sum;
}

// Group i: mean and square of the rows i * first + k * step, k = 0 ... rows - 1, of `inner` elements each. With
// inner = 1, row_mean is the array itself and row_square null.
template <class T>
REDUCTION void group_moments(index_t i, const T* row_mean, const T* row_square, T* mean, T* square, index_t rows,
                             index_t first, index_t step, index_t inner) {
  const index_t at = i * first;
  const T squares = row_square ? sum_of<T>(rows, [&](index_t k) { return row_square[at + k * step]; }) : T(0);
  const T m = sum_of<T>(rows, [&](index_t k) { return row_mean[at + k * step]; }) / T(rows);
  const T between = sum_of<T>(rows, [&](index_t k) {
    const T d = row_mean[at + k * step] - m;
    return d * d;
  });
  const T sum = between * T(inner) + squares;
  if (!leads()) return;
  mean[i] = m;
  square[i] = sum;
}

// scale = 1 / sqrt(variance + eps), with the variance of the batch, square / number; and the running sums:
// running = keep * running + the batch's. The running variance is that of the whole, number / (number - 1) times the
// batch's. Both may be null.
template <class T>
KERNEL void batch_scale(index_t i, const T* mean, const T* square, T* scale, T* running_mean, T* running_variance,
                        T number, T eps, T keep) {
  scale[i] = 1 / sqrt(square[i] / number + eps);
  if (!running_mean) return;
  running_mean[i] = keep * running_mean[i] + mean[i];
  running_variance[i] = keep * running_variance[i] + square[i] / (number > 1 ? number - 1 : T(1));
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
