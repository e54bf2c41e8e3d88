// The contrastive loss of pairs: those alike are drawn together, the others apart as far as a margin.
#pragma once
#include "portable.h"

// Pair i: value = distance^2 if alike, else max(0, margin - distance)^2, or max(0, margin - distance^2) in the legacy
// version. `square` holds the squared distances.
template <class T>
KERNEL void contrastive_values(index_t i, const T* square, const T* alike, T* value, T margin, bool legacy) {
  const T room = margin - (legacy ? square[i] : sqrt(square[i])), out = room <= 0 ? T(0) : room;
  value[i] = trunc(alike[i]) != 0 ? square[i] : legacy ? out : out * out;
}

// dx = dloss / divisor * 2 * difference if alike, else its opposite, times (margin - distance) / distance unless in the
// legacy version, and 0 beyond the margin. As in Caffe, 1e-4 is added to the distance that is divided by.
template <class T>
KERNEL void contrastive_backward(index_t i, const T* difference, const T* square, const T* alike, const T* dloss,
                                 const T* divisor, T* dx, index_t size, T margin, bool legacy, T sign) {
  const index_t pair = i / size;
  T slope = 2 * sign * (dloss[0] / divisor[0]);
  if (trunc(alike[pair]) == 0) {
    const T distance = legacy ? square[pair] : sqrt(square[pair]), room = margin - distance;
    slope = room <= 0 ? T(0) : legacy ? -slope : -slope * room / (distance + T(1e-4));
  }
  dx[i] = slope * difference[i];
}
