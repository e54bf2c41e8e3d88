// Patches of images laid out as columns, and the adjoint. Any number of spatial axes.
//
// `shape` holds int32: the number of axes, then for every axis the input size, then likewise the kernel, the stride,
// the padding, the dilation and the output size (1 + 6 * axes numbers). x is (planes, input...), columns is (planes,
// kernel..., output...); a plane is one channel of one image.
#pragma once
#include "portable.h"

// The product of one of the six lists of `shape`.
KERNEL index_t list_product(const int32_t* shape, int list) {
  index_t product = 1;
  for (int axis = 0; axis < shape[0]; ++axis) product *= shape[1 + list * shape[0] + axis];
  return product;
}

// columns[plane, tap, o] = x[plane, o * stride - pad + tap * dilation], 0 outside.
// i counts (plane, o); it writes that position's column of taps. Needs count=.
template <class T>
KERNEL void im2col(index_t i, const T* x, T* columns, const int32_t* shape) {
  const int axes = shape[0];
  const int32_t *input = shape + 1, *kernel = input + axes, *stride = kernel + axes, *pad = stride + axes;
  const int32_t *dilation = pad + axes, *output = dilation + axes;
  const index_t positions = list_product(shape, 5), taps = list_product(shape, 1);
  x += i / positions * list_product(shape, 0);
  columns += i / positions * taps * positions + i % positions;
  for (index_t tap = 0; tap < taps; ++tap) {
    index_t o = i % positions, k = tap, at = 0, unit = 1;
    bool inside = true;
    for (int axis = axes - 1; axis >= 0; --axis) {
      const index_t where = o % output[axis] * stride[axis] - pad[axis] + k % kernel[axis] * dilation[axis];
      inside = inside && where >= 0 && where < input[axis];
      at += where * unit;
      unit *= input[axis];
      o /= output[axis];
      k /= kernel[axis];
    }
    columns[tap * positions] = inside ? x[at] : T(0);
  }
}

// x[plane, p] = the sum of the column entries that im2col reads from it. i counts the elements of x.
template <class T>
KERNEL void col2im(index_t i, const T* columns, T* x, const int32_t* shape) {
  const int axes = shape[0];
  const int32_t *input = shape + 1, *kernel = input + axes, *stride = kernel + axes, *pad = stride + axes;
  const int32_t *dilation = pad + axes, *output = dilation + axes;
  const index_t positions = list_product(shape, 5), taps = list_product(shape, 1), size = list_product(shape, 0);
  columns += i / size * taps * positions;
  T sum = 0;
  for (index_t tap = 0; tap < taps; ++tap) {
    index_t p = i % size, k = tap, at = 0, unit = 1;
    bool inside = true;
    for (int axis = axes - 1; axis >= 0; --axis) {
      const index_t where = p % input[axis] + pad[axis] - k % kernel[axis] * dilation[axis];
      inside = inside && where >= 0 && where % stride[axis] == 0 && where / stride[axis] < output[axis];
      at += where / stride[axis] * unit;
      unit *= output[axis];
      p /= input[axis];
      k /= kernel[axis];
    }
    if (inside) sum += columns[tap * positions + at];
  }
  x[i] = sum;
}
