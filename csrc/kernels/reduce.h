// Sums, in an order that depends on sizes only, and the arithmetic of whole arrays.
#pragma once
#include "portable.h"

constexpr int kSumBlock = 4096;

// partial[i] = the sum of squares of block i of x, a block being 4096 elements; size: elements of x.
// The caller adds the partial sums, of which there are ceil(size / 4096).
template <class T>
REDUCTION void sum_of_squares(index_t i, const T* x, double* partial, index_t size) {
  const index_t begin = i * kSumBlock, count = min(size - begin, index_t(kSumBlock));
  x += begin;
  const double sum = sum_of<double>(count, [&](index_t j) { return double(x[j]) * double(x[j]); });
  if (leads()) partial[i] = sum;
}

// norm = the square root of the sum of `number` partial sums; scale = wanted, or where the norm is above `bound`,
// wanted
// * bound / norm. Needs one element of both.
template <class T>
REDUCTION void clip(index_t i, const double* partial, double* norm, T* scale, index_t number, double wanted,
                    double bound) {
  const double length = sqrt(sum_of<double>(number, [&](index_t j) { return partial[j]; }));
  if (!leads()) return;
  norm[i] = length;
  scale[i] = T(length > bound ? wanted * (bound / length) : wanted);
}

// x = factor * x
template <class T>
KERNEL void scale(index_t i, T* x, T factor) {
  x[i] *= factor;
}

// y = y + factor * x
template <class T>
KERNEL void axpy(index_t i, const T* x, T* y, T factor) {
  y[i] += factor * x[i];
}
