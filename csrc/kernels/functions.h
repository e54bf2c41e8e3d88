// Elementary functions: y = f(x) element by element, and dx = dy * f'(x). Here y may be x, and dx may be dy.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// y = |x|
template <class T>
KERNEL void abs_forward(index_t i, const T* x, T* y) {
  y[i] = fabs(x[i]);
}

// dx = dy * sign(x), and sign(0) = 0
template <class T>
KERNEL void abs_backward(index_t i, const T* x, const T* dy, T* dx) {
  dx[i] = x[i] > 0 ? dy[i] : x[i] < 0 ? -dy[i] : T(0);
}

// y = log(1 + exp(x)), never exp of a positive number
template <class T>
KERNEL void bnll_forward(index_t i, const T* x, T* y) {
  y[i] = (x[i] > 0 ? x[i] : T(0)) + log1p(exp(-fabs(x[i])));
}

// dx = dy / (1 + exp(-x)), never exp of a positive number
template <class T>
KERNEL void bnll_backward(index_t i, const T* x, const T* dy, T* dx) {
  const T small = exp(-fabs(x[i]));
  dx[i] = dy[i] * (x[i] > 0 ? T(1) : small) / (1 + small);
}

// y = outer * exp(inner * x)
template <class T>
KERNEL void exp_forward(index_t i, const T* x, T* y, T inner, T outer) {
  y[i] = outer * exp(inner * x[i]);
}

// dx = dy * inner * y
template <class T>
KERNEL void exp_backward(index_t i, const T* y, const T* dy, T* dx, T inner) {
  dx[i] = dy[i] * inner * y[i];
}

// y = outer * log(scale * x + shift)
template <class T>
KERNEL void log_forward(index_t i, const T* x, T* y, T scale, T shift, T outer) {
  y[i] = outer * log(scale * x[i] + shift);
}

// dx = dy * outer * scale / (scale * x + shift)
template <class T>
KERNEL void log_backward(index_t i, const T* x, const T* dy, T* dx, T scale, T shift, T outer) {
  dx[i] = dy[i] * outer * scale / (scale * x[i] + shift);
}

// y = scale * x + shift
template <class T>
KERNEL void affine(index_t i, const T* x, T* y, T scale, T shift) {
  y[i] = scale * x[i] + shift;
}

// y = (scale * x + shift)^2
template <class T>
KERNEL void square_forward(index_t i, const T* x, T* y, T scale, T shift) {
  const T inner = scale * x[i] + shift;
  y[i] = inner * inner;
}

// dx = dy * 2 * scale * (scale * x + shift)
template <class T>
KERNEL void square_backward(index_t i, const T* x, const T* dy, T* dx, T scale, T shift) {
  dx[i] = dy[i] * 2 * scale * (scale * x[i] + shift);
}

// y = (scale * x + shift)^power
template <class T>
KERNEL void power_forward(index_t i, const T* x, T* y, T scale, T shift, T power) {
  y[i] = pow(scale * x[i] + shift, power);
}

// dx = dy * power * scale * (scale * x + shift)^(power - 1)
template <class T>
KERNEL void power_backward(index_t i, const T* x, const T* dy, T* dx, T scale, T shift, T power) {
  dx[i] = dy[i] * power * scale * pow(scale * x[i] + shift, power - 1);
}
