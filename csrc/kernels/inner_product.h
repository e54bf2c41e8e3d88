// What a fully connected layer computes beside its products: a bias for each column of (rows, columns), and a rectifier
// behind it, rectify(t) = t where t > 0, else slope * t.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// y = rectify(y + b)
template <class T>
KERNEL void shift_and_rectify(index_t i, const T* b, T* y, index_t columns, T slope) {
  const T t = y[i] + b[divided(i, columns).rest];
  y[i] = t > 0 ? t : slope * t;
}

// Column i: dy becomes the gradient of what was rectified to y, and db its sum, added to db or not.
template <class T>
REDUCTION ACROSS(columns) void rectified_bias(index_t i, const T* y, T* dy, T* db, index_t rows, index_t columns,
                                              T slope, bool add) {
  y += i;
  dy += i;
  const T sum = sum_in_order<T>(rows, [&](index_t n) {
    T& d = dy[n * columns];
    if (!(y[n * columns] > 0)) d *= slope;
    return d;
  });
  if (leads()) db[i] = add ? db[i] + sum : sum;
}

// The products themselves, where y has few columns: x (rows, values), y (rows, outputs), and w (outputs, values), or
// (values, outputs) where transposed.
KERNEL index_t weight_at(index_t output, index_t value, index_t values, index_t outputs, bool transposed) {
  return transposed ? value * outputs + output : output * values + value;
}

// y = rectify(x w^T + b); b may be null, for 0
template <class T>
REDUCTION void few_outputs(index_t i, const T* x, const T* w, const T* b, T* y, index_t values, index_t outputs,
                           bool transposed, T slope) {
  const Divided at = divided(i, outputs);
  x += at.quotient * values;
  w += weight_at(at.rest, 0, values, outputs, transposed);
  const index_t step = transposed ? outputs : 1;
  T t = sum_of<T>(values, [&](index_t k) { return x[k] * w[k * step]; });
  if (b) t += b[at.rest];
  if (leads()) y[i] = t > 0 ? t : slope * t;
}

// dw = dy^T x, added to dw or not
template <class T>
REDUCTION ACROSS(values) void few_outputs_weights(index_t i, const T* x, const T* dy, T* dw, index_t rows,
                                                  index_t values, index_t outputs, bool transposed, bool add) {
  const Divided at = divided(i, transposed ? outputs : values);
  x += transposed ? at.quotient : at.rest;
  dy += transposed ? at.rest : at.quotient;
  const T sum = sum_of<T>(rows, [&](index_t n) { return x[n * values] * dy[n * outputs]; });
  if (leads()) dw[i] = add ? dw[i] + sum : sum;
}

// dx = dy w
template <class T>
KERNEL void few_outputs_data(index_t i, const T* dy, const T* w, T* dx, index_t values, index_t outputs,
                             bool transposed) {
  const Divided at = divided(i, values);
  dy += at.quotient * outputs;
  T sum = 0;
  for (index_t o = 0; o < outputs; ++o) sum += dy[o] * w[weight_at(o, at.rest, values, outputs, transposed)];
  dx[i] = sum;
}
