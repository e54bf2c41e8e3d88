// Rows of an array, taken by number: y_m = w_(index[m]), and the sums over the m of one row that its gradients are.
#pragma once
#include "portable.h"

// index = the row that x names, its fraction cut off; -1 where there is no such row.
template <class T>
KERNEL void read_rows(index_t i, const T* x, int32_t* index, int32_t rows) {
  index[i] = x[i] > T(-1) && x[i] < T(rows) ? int32_t(x[i]) : -1;
}

// y_(m, j) = w_(index[m], j) + b_j, NaN where index[m] is -1; b may be null. i counts the elements of y (items, inner).
template <class T>
KERNEL void take_rows(index_t i, const T* w, const int32_t* index, const T* b, T* y, index_t inner) {
  const int32_t row = index[i / inner];
  const T zero = 0, value = row < 0 ? zero / zero : w[row * inner + i % inner];
  y[i] = b ? value + b[i % inner] : value;
}

// The items with one index, as a chain: next = the next item with the index of this one, or -1; first = 1 if there is
// none before it, else 0.
KERNEL void chain_items(index_t i, const int32_t* index, int32_t* next, int32_t* first, index_t items) {
  index_t before = i - 1, after = i + 1;
  while (before >= 0 && index[before] != index[i]) --before;
  while (after < items && index[after] != index[i]) ++after;
  next[i] = after < items ? int32_t(after) : -1;
  first[i] = before < 0;
}

// dw_(r, j) = dw_(r, j) + the sum of dy_(m, j) over the items m with index r, in their order. i counts the elements of
// dy (items, inner); the first item of a chain writes. Needs count=.
template <class T>
KERNEL void add_rows(index_t i, const int32_t* index, const int32_t* next, const int32_t* first, const T* dy, T* dw,
                     index_t inner) {
  index_t m = i / inner;
  const index_t j = i % inner, at = index[m] * inner + j;
  if (!first[m] || at < 0) return;
  T sum = dw[at];
  for (; m >= 0; m = next[m]) sum += dy[m * inner + j];
  dw[at] = sum;
}

// dx_(n, j) = dy_(place[n], j), 0 where place[n] is -1: the gradient of taking each row once, or not at all.
template <class T>
KERNEL void place_rows(index_t i, const T* dy, const int32_t* place, T* dx, index_t inner) {
  const int32_t from = place[i / inner];
  dx[i] = from < 0 ? T(0) : dy[from * inner + i % inner];
}
