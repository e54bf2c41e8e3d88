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

// db[c] = db[c] + the sum of dy over images and positions. dy is (images, channels, positions); i counts channels.
template <class T>
KERNEL void add_channel_sums(index_t i, const T* dy, T* db, index_t images, index_t channels, index_t positions) {
  T total = 0;
  for (index_t n = 0; n < images; ++n) {
    const T* row = dy + (n * channels + i) * positions;
    T lane[16] = {};
    index_t j = 0;
    for (; j + 16 <= positions; j += 16)
      for (int k = 0; k < 16; ++k) lane[k] += row[j + k];
    for (int k = 0; k < 15; ++k)
      if (j + k < positions) lane[k] += row[j + k];
    for (int half = 8; half; half /= 2)
      for (int k = 0; k < half; ++k) lane[k] += lane[k + half];
    total += lane[0];
  }
  db[i] += total;
}

// y = y + b[channel]. y is (images, channels, positions).
template <class T>
KERNEL void add_channels(index_t i, const T* b, T* y, index_t channels, index_t positions) {
  y[i] += b[i / positions % channels];
}
