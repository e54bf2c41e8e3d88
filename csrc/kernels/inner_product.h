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
REDUCTION void rectified_bias(index_t i, const T* y, T* dy, T* db, index_t rows, index_t columns, T slope, bool add) {
  y += i;
  dy += i;
  const T sum = sum_in_order<T>(rows, [&](index_t n) {
    T& d = dy[n * columns];
    if (!(y[n * columns] > 0)) d *= slope;
    return d;
  });
  if (leads()) db[i] = add ? db[i] + sum : sum;
}
