// How parameters move, given their gradients: one sweep over flat arenas.
//
// w: parameters, moved in place; g: their gradients, summed over batches; history arrays likewise, element for element.
// `rates` and `decays` hold one multiplier for each block of 64 elements (no block belongs to two parameters): the
// parameter's lr_mult, and weight_decay * decay_mult. In all formulas
//
//   g = scale * g + decay * w          l1: decay * sign(w) instead of decay * w
//   r = rate * rates
//
// A scale that is NaN holds everything as it is: so an update can be launched before anybody knows whether the loss is
// a number.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

constexpr int kBlock = 64;

// The gradient with its regularisation.
template <class T>
KERNEL T regularised(T g, T w, T scale, T decay, bool l1) {
  const T pull = l1 ? T(w > 0) - T(w < 0) : w;
  return g * scale + decay * pull;
}

KERNEL bool held(float scale) { return scale != scale; }
KERNEL bool held(double scale) { return scale != scale; }

// Momentum. h = momentum * h + r g; w = w - h
template <class T>
KERNEL void sgd_step(T& w, T g, T& h, T r, T momentum) {
  h = momentum * h + r * g;
  w -= h;
}

// Nesterov's accelerated gradient. h' = momentum * h + r g; w = w - ((1 + momentum) h' - momentum h)
template <class T>
KERNEL void nesterov_step(T& w, T g, T& h, T r, T momentum) {
  const T before = h;
  h = momentum * h + r * g;
  w -= (1 + momentum) * h - momentum * before;
}

// AdaGrad. h = h + g^2; w = w - r g / (sqrt h + delta)
template <class T>
KERNEL void adagrad_step(T& w, T g, T& h, T r, T delta) {
  h += g * g;
  w -= r * (g / (sqrt(h) + delta));
}

// RMSProp. h = decay h + (1 - decay) g^2; w = w - r g / (sqrt h + delta)
template <class T>
KERNEL void rmsprop_step(T& w, T g, T& h, T r, T mean_decay, T delta) {
  h = mean_decay * h + (1 - mean_decay) * g * g;
  w -= r * (g / (sqrt(h) + delta));
}

// AdaDelta. h = momentum h + (1 - momentum) g^2; u = g sqrt((d + delta) / (h + delta));
// d = momentum d + (1 - momentum) u^2; w = w - r u
template <class T>
KERNEL void adadelta_step(T& w, T g, T& h, T& d, T r, T momentum, T delta) {
  h = momentum * h + (1 - momentum) * g * g;
  const T u = g * sqrt((d + delta) / (h + delta));
  d = momentum * d + (1 - momentum) * u * u;
  w -= r * u;
}

// Adam. m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2; w = w - r correction m / (sqrt v + delta),
// where the caller's correction is sqrt(1 - beta2^t) / (1 - beta1^t) at step t = 1, 2, ...
template <class T>
KERNEL void adam_step(T& w, T g, T& m, T& v, T r, T beta1, T beta2, T correction, T delta) {
  m = beta1 * m + (1 - beta1) * g;
  v = beta2 * v + (1 - beta2) * g * g;
  w -= r * correction * m / (sqrt(v) + delta);
}

template <class T>
KERNEL void sgd(index_t i, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T momentum, T scale,
                bool l1) {
  if (held(scale)) return;
  const index_t b = i / kBlock;
  sgd_step(w[i], regularised(g[i], w[i], scale, decays[b], l1), h[i], rate * rates[b], momentum);
}

template <class T>
KERNEL void nesterov(index_t i, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T momentum, T scale,
                     bool l1) {
  if (held(scale)) return;
  const index_t b = i / kBlock;
  nesterov_step(w[i], regularised(g[i], w[i], scale, decays[b], l1), h[i], rate * rates[b], momentum);
}

template <class T>
KERNEL void adagrad(index_t i, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T delta, T scale,
                    bool l1) {
  if (held(scale)) return;
  const index_t b = i / kBlock;
  adagrad_step(w[i], regularised(g[i], w[i], scale, decays[b], l1), h[i], rate * rates[b], delta);
}

template <class T>
KERNEL void rmsprop(index_t i, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T mean_decay, T delta,
                    T scale, bool l1) {
  if (held(scale)) return;
  const index_t b = i / kBlock;
  rmsprop_step(w[i], regularised(g[i], w[i], scale, decays[b], l1), h[i], rate * rates[b], mean_decay, delta);
}

template <class T>
KERNEL void adadelta(index_t i, T* w, const T* g, T* h, T* d, const T* rates, const T* decays, T rate, T momentum,
                     T delta, T scale, bool l1) {
  if (held(scale)) return;
  const index_t b = i / kBlock;
  adadelta_step(w[i], regularised(g[i], w[i], scale, decays[b], l1), h[i], d[i], rate * rates[b], momentum, delta);
}

template <class T>
KERNEL void adam(index_t i, T* w, const T* g, T* m, T* v, const T* rates, const T* decays, T rate, T beta1, T beta2,
                 T correction, T delta, T scale, bool l1) {
  if (held(scale)) return;
  const index_t b = i / kBlock;
  adam_step(w[i], regularised(g[i], w[i], scale, decays[b], l1), m[i], v[i], rate * rates[b], beta1, beta2, correction,
            delta);
}
