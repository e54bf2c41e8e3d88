// One step of a recurrent layer, over a batch of sequences: what is not a matrix product.
//
// cont (batch) is 0 where a sequence begins, which forgets the state before it, and 1 elsewhere.
#pragma once
#include "portable.h"

template <class T>
KERNEL T logistic(T x) {
  return T(0.5) * tanh(T(0.5) * x) + T(0.5);
}

// y = cont * h, and 0 where a sequence begins, whatever h is. y may be h.
template <class T>
KERNEL void continue_state(index_t i, const T* h, const T* cont, T* y, index_t hidden) {
  const T c = cont[i / hidden];
  y[i] = c == 0 ? T(0) : c * h[i];
}

// dx = (dy + dh) * (1 - h^2); dy or dh may be null.
template <class T>
KERNEL void rnn_backward(index_t i, const T* h, const T* dy, const T* dh, T* dx) {
  const T d = (dy ? dy[i] : T(0)) + (dh ? dh[i] : T(0));
  dx[i] = d * (1 - h[i] * h[i]);
}

// c = f * c_before + i * g; h = o * tanh(c), with i, f, o = 1 / (1 + exp(-x)) and g = tanh(x) of the four parts of
// x (batch, 4, hidden); f is 0 where a sequence begins. gates (batch, 4, hidden) = i, f, o, g; it may be x.
// i counts (batch, hidden). Needs count=.
template <class T>
KERNEL void lstm_forward(index_t i, const T* x, const T* cont, const T* c_before, T* gates, T* c, T* h,
                         index_t hidden) {
  const index_t n = i / hidden, at = n * 4 * hidden + i % hidden;
  const T in = logistic(x[at]), keep = cont[n] == 0 ? T(0) : cont[n] * logistic(x[at + hidden]);
  const T out = logistic(x[at + 2 * hidden]), g = tanh(x[at + 3 * hidden]);
  gates[at] = in;
  gates[at + hidden] = keep;
  gates[at + 2 * hidden] = out;
  gates[at + 3 * hidden] = g;
  const T cell = (cont[n] == 0 ? T(0) : keep * c_before[i]) + in * g;
  c[i] = cell;
  h[i] = out * tanh(cell);
}

// The gradients of x and c_before from those of c and h. The diff of h is the sum of dy and dh; dy, dh and dc may be
// null. dc_before may be dc, and dx may not be gates.
template <class T>
KERNEL void lstm_backward(index_t i, const T* gates, const T* cont, const T* c_before, const T* c, const T* dy,
                          const T* dh, const T* dc, T* dx, T* dc_before, index_t hidden) {
  const index_t n = i / hidden, at = n * 4 * hidden + i % hidden;
  const T in = gates[at], keep = gates[at + hidden], out = gates[at + 2 * hidden], g = gates[at + 3 * hidden];
  const T before = cont[n] == 0 ? T(0) : c_before[i], squashed = tanh(c[i]);
  const T d = (dy ? dy[i] : T(0)) + (dh ? dh[i] : T(0));
  const T cell = (dc ? dc[i] : T(0)) + d * out * (1 - squashed * squashed);
  dx[at] = cell * g * in * (1 - in);
  dx[at + hidden] = cell * before * keep * (1 - keep);
  dx[at + 2 * hidden] = d * squashed * out * (1 - out);
  dx[at + 3 * hidden] = cell * in * (1 - g * g);
  dc_before[i] = cell * keep;
}
