// Activations: y = f(x) element by element, and dx = dy * f'(x).
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// y = x where x > 0, else slope * x
template <class T>
KERNEL void relu_forward(index_t i, const T* x, T* y, T slope) {
  y[i] = x[i] > 0 ? x[i] : slope * x[i];
}

// dx = dy * dy/dx; the derivative at x = 0 is taken as slope. dx may be dy.
template <class T>
KERNEL void relu_backward(index_t i, const T* x, const T* dy, T* dx, T slope) {
  dx[i] = x[i] > 0 ? dy[i] : slope * dy[i];
}

// y = 1 / (1 + exp(-x)), by way of tanh so that nothing overflows
template <class T>
KERNEL void sigmoid_forward(index_t i, const T* x, T* y) {
  y[i] = T(0.5) * tanh(T(0.5) * x[i]) + T(0.5);
}

// dx = dy * y * (1 - y)
template <class T>
KERNEL void sigmoid_backward(index_t i, const T* y, const T* dy, T* dx) {
  dx[i] = dy[i] * y[i] * (1 - y[i]);
}

// y = tanh x
template <class T>
KERNEL void tanh_forward(index_t i, const T* x, T* y) {
  y[i] = tanh(x[i]);
}

// dx = dy * (1 - y * y)
template <class T>
KERNEL void tanh_backward(index_t i, const T* y, const T* dy, T* dx) {
  dx[i] = dy[i] * (1 - y[i] * y[i]);
}
