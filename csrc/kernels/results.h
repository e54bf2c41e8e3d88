// What the host asks of a pass, gathered on the device so that it is read in one piece.
#pragma once
#include "portable.h"

// total = the sum of x, in double precision; size: elements of x. Needs one element of total.
template <class T>
REDUCTION void total_of(index_t i, const T* x, double* total, index_t size) {
  const double sum = sum_of<double>(size, [&](index_t j) { return double(x[j]); });
  if (leads()) total[i] = sum;
}

// worst = NaN if any of the row numbers is below 0, else 0. Needs one element of worst.
template <class T>
REDUCTION void no_row(index_t i, const int32_t* index, T* worst, index_t size) {
  const T wrong = sum_of<T>(size, [&](index_t j) { return T(index[j] < 0); });
  const T zero = 0;
  if (leads()) worst[i] = wrong > 0 ? zero / zero : zero;
}

// Whether parameters may move: scale = given, or NaN if one of the results is infinite or NaN, which holds an update
// back (see update.h). told = step, by which the host knows whose results it reads. Needs one element of both.
template <class T>
REDUCTION void allow(index_t i, const double* results, T* scale, double* told, T given, uint64_t step, index_t size) {
  const double wrong = sum_of<double>(size, [&](index_t j) { return double(!(results[j] - results[j] == 0)); });
  if (!leads()) return;
  const T zero = 0;
  scale[i] = wrong > 0 ? zero / zero : given;
  told[i] = double(step);
}

// What the host changes between two passes, as arguments: a = x, b = y, c = z, d = w; each pointer may be null.
KERNEL void set_numbers(index_t i, uint64_t* a, double* b, float* c, float* d, uint64_t x, double y, float z, float w) {
  if (a) a[i] = x;
  if (b) b[i] = y;
  if (c) c[i] = z;
  if (d) d[i] = w;
}
