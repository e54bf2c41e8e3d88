// Functions that bend or step: y = f(x) element by element, and dx = dy * f'(x). Here y may be x, and dx may be dy.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// y = x within low ... high, else the nearer of the two
template <class T>
KERNEL void clip_forward(index_t i, const T* x, T* y, T low, T high) {
  y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}

// dx = dy where low <= x <= high, else 0
template <class T>
KERNEL void clip_backward(index_t i, const T* x, const T* dy, T* dx, T low, T high) {
  dx[i] = x[i] >= low && x[i] <= high ? dy[i] : T(0);
}

// y = x where x > 0, else alpha * (exp(x) - 1)
template <class T>
KERNEL void elu_forward(index_t i, const T* x, T* y, T alpha) {
  y[i] = x[i] > 0 ? x[i] : alpha * expm1(x[i]);
}

// dx = dy where x > 0, else dy * (y + alpha). For an alpha of 0 or more x may be y, whose sign is the same.
template <class T>
KERNEL void elu_backward(index_t i, const T* x, const T* y, const T* dy, T* dx, T alpha) {
  dx[i] = x[i] > 0 ? dy[i] : dy[i] * (y[i] + alpha);
}

// y = x / (1 + exp(-beta x)), by way of tanh so that nothing overflows
template <class T>
KERNEL void swish_forward(index_t i, const T* x, T* y, T beta) {
  y[i] = x[i] * (T(0.5) * tanh(T(0.5) * beta * x[i]) + T(0.5));
}

// dx = dy * (s + beta * x * s * (1 - s)), with s = 1 / (1 + exp(-beta x))
template <class T>
KERNEL void swish_backward(index_t i, const T* x, const T* dy, T* dx, T beta) {
  const T s = T(0.5) * tanh(T(0.5) * beta * x[i]) + T(0.5);
  dx[i] = dy[i] * s * (1 + beta * x[i] * (1 - s));
}

// y = 1 where x > threshold, else 0
template <class T>
KERNEL void threshold_forward(index_t i, const T* x, T* y, T threshold) {
  y[i] = x[i] > threshold ? T(1) : T(0);
}
