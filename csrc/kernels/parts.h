// Parts of a larger array. The whole is (rows, distance), a part of it (rows, width) begins at `offset` of each row.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// Where element i of a part lies in the whole.
KERNEL index_t place_of(index_t i, index_t width, index_t distance, index_t offset) {
  const Divided row = divided(i, width);
  return row.quotient * distance + offset + row.rest;
}

// part = its place in the whole
template <class T>
KERNEL void take_part(index_t i, const T* whole, T* part, index_t width, index_t distance, index_t offset) {
  part[i] = whole[place_of(i, width, distance, offset)];
}

// The same, times the slope where x, which is laid as the part, is not above 0
template <class T>
KERNEL void take_rectified_part(index_t i, const T* whole, const T* x, T* part, T slope, index_t width,
                                index_t distance, index_t offset) {
  const T value = whole[place_of(i, width, distance, offset)];
  part[i] = x[i] > 0 ? value : slope * value;
}

// The place in the whole = part. One call per element of the part; no two of them have the same place.
template <class T>
KERNEL void put_part(index_t i, const T* part, T* whole, index_t width, index_t distance, index_t offset) {
  whole[place_of(i, width, distance, offset)] = part[i];
}
