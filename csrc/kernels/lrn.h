// Local response normalisation across channels. x and y are (images, channels, positions), plain where block is 1, or
// (images, channels / block, positions, block) in blocks of channels.
//
//   s_c = k + alpha / size * sum of x_c'^2 over c' = c - (size - 1) / 2 ... c + size / 2    where there are such
//   channels y_c = x_c * s_c^-beta
//
// Nothing but y is kept: backward computes s again. Krizhevsky et al., NIPS 2012.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// s^-0.75. Where the last bit or two may be wrong a GPU needs half of the instructions.
template <class T>
KERNEL T three_quarters(T s) {
  const T root = sqrt(s);
  return 1 / (root * sqrt(root));
}
#if defined(__CUDACC__)
KERNEL float three_quarters(float s) {
  const float root = rsqrtf(s);
  return root * (root * rsqrtf(fmaxf(root, 1e-37f)));  // 0, not NaN, where s is infinite
}
#endif

// s^-beta. 0.75 is what nearly every net has, and two roots are quicker than a power.
template <class T>
KERNEL T inverse_power(T s, T beta) {
  if (beta == T(0.75)) return three_quarters(s);
  if (beta == T(0.5)) return 1 / sqrt(s);
  if (beta == T(1)) return 1 / s;
  return pow(s, -beta);
}

// Where channel c of a position lies, counted from channel 0.
KERNEL index_t channel_at(int c, index_t positions, int block) {
  return block == 1 ? c * positions : c / block * positions * block + c % block;
}

// The channel of element i.
KERNEL int channel_of(index_t i, int channels, index_t positions, int block) {
  const index_t row = divided(i, positions * block).quotient;
  const index_t of_blocks = divided(row, channels / block).rest;
  return int(block == 1 ? of_blocks : of_blocks * block + i % block);
}

// s of channel c, at the position whose channel 0 is x.
template <class T>
KERNEL T lrn_scale(const T* x, int c, int channels, index_t positions, int block, int size, T alpha, T k) {
  const int begin = max(c - (size - 1) / 2, 0), end = min(c + size / 2 + 1, channels);
  T sum = 0;
  for (int near = begin; near < end; ++near) {
    const T value = x[channel_at(near, positions, block)];
    sum += value * value;
  }
  return k + alpha / T(size) * sum;
}

// The same in plain order, of element i, for a window of `size` channels that is known when this is compiled.
template <int size, class T>
KERNEL T plain_scale(index_t i, const T* x, int channels, index_t positions, T alpha, T k) {
  const int c = int(divided(divided(i, positions).quotient, channels).rest);
  T sum = 0;
  for (int n = -(size - 1) / 2; n <= size / 2; ++n) {
    const T value = c + n >= 0 && c + n < channels ? x[i + n * positions] : T(0);
    sum += value * value;
  }
  return k + alpha / T(size) * sum;
}

// y = x * s^-beta
template <class T>
KERNEL void lrn_forward(index_t i, const T* x, T* y, int channels, index_t positions, int block, int size, T alpha,
                        T beta, T k) {
  if (block == 1 && size == 5) {
    y[i] = x[i] * inverse_power(plain_scale<5>(i, x, channels, positions, alpha, k), beta);
    return;
  }
  const int c = channel_of(i, channels, positions, block);
  const T s = lrn_scale(x + i - channel_at(c, positions, block), c, channels, positions, block, size, alpha, k);
  y[i] = x[i] * inverse_power(s, beta);
}

// dx of lrn_backward, before the slope, in plain order for beta = 0.75 and a window of `size` channels that is known
// when this is compiled: what the sums of nearby channels have in common is read once, and stays in registers.
template <int size, class T>
KERNEL T plain_gradient(index_t i, const T* x, const T* dy, int channels, index_t positions, T alpha, T k) {
  const int c = int(divided(divided(i, positions).quotient, channels).rest);
  T values[2 * size - 1];
  for (int n = 0; n < 2 * size - 1; ++n) {
    const int near = c - (size - 1) + n;
    values[n] = near >= 0 && near < channels ? x[i + (near - c) * positions] : T(0);
  }
  T sum = 0, own = 0;
  for (int n = 0; n < size; ++n) {
    const int near = c - size / 2 + n;
    if (near < 0 || near >= channels) continue;
    T squares = 0;
    for (int m = 0; m < size; ++m) squares += values[n + m] * values[n + m];
    const T s = k + alpha / T(size) * squares, power = three_quarters(s), d = dy[i + (near - c) * positions];
    sum += over(d * values[n + (size - 1) / 2] * power, s);
    if (near == c) own = d * power;
  }
  return own - 2 * alpha * T(0.75) / T(size) * values[size - 1] * sum;
}

// dx_c = dy_c s_c^-beta - 2 alpha beta / size * x_c * sum of dy_c' x_c' s_c'^(-beta - 1) over the c' whose sums have
// x_c; times the slope where x is not above 0, for a rectifier that made x
template <class T>
KERNEL void lrn_backward(index_t i, const T* x, const T* dy, T* dx, int channels, index_t positions, int block,
                         int size, T alpha, T beta, T k, T slope) {
  if (block == 1 && size == 5 && beta == T(0.75)) {
    const T d = plain_gradient<5>(i, x, dy, channels, positions, alpha, k);
    dx[i] = x[i] > 0 ? d : slope * d;
    return;
  }
  const int c = channel_of(i, channels, positions, block);
  const int begin = max(c - size / 2, 0), end = min(c + (size - 1) / 2 + 1, channels);
  const index_t first = i - channel_at(c, positions, block);
  T sum = 0, own = 0;
  for (int near = begin; near < end; ++near) {
    const T s = lrn_scale(x + first, near, channels, positions, block, size, alpha, k), power = inverse_power(s, beta);
    const index_t at = first + channel_at(near, positions, block);
    sum += over(dy[at] * x[at] * power, s);
    if (near == c) own = dy[at] * power;
  }
  const T d = own - 2 * alpha * beta / T(size) * x[i] * sum;
  dx[i] = x[i] > 0 ? d : slope * d;
}

// Within a channel: images are planes of H rows and W columns, and the window is a square of size x size around the
// position, cut off at the border. Jarrett et al., ICCV 2009.

// The sum of x over the window around position i.
template <class T>
KERNEL T window_sum(index_t i, const T* x, int H, int W, int size) {
  const int h = int(i / W % H), w = int(i % W), reach = size / 2;
  const T* plane = x + i / W / H * H * W;
  T sum = 0;
  for (int a = max(h - reach, 0); a < min(h + reach + 1, H); ++a)
    for (int b = max(w - reach, 0); b < min(w + reach + 1, W); ++b) sum += plane[a * W + b];
  return sum;
}

// scale = 1 + alpha / size^2 * sum of x^2 over the window; squares holds x^2
template <class T>
KERNEL void within_scale(index_t i, const T* squares, T* scale, int H, int W, int size, T alpha) {
  scale[i] = 1 + alpha / T(size * size) * window_sum(i, squares, H, W, size);
}

// y = x * scale^-beta
template <class T>
KERNEL void within_forward(index_t i, const T* x, const T* scale, T* y, T beta) {
  y[i] = x[i] * inverse_power(scale[i], beta);
}

// ratio = dy * x * scale^(-beta - 1)
template <class T>
KERNEL void within_ratio(index_t i, const T* x, const T* scale, const T* dy, T* ratio, T beta) {
  ratio[i] = dy[i] * x[i] * inverse_power(scale[i], beta) / scale[i];
}

// dx = dy * scale^-beta - 2 alpha beta / size^2 * x * sum of ratio over the window
template <class T>
KERNEL void within_backward(index_t i, const T* x, const T* scale, const T* dy, const T* ratio, T* dx, int H, int W,
                            int size, T alpha, T beta) {
  const T sum = window_sum(i, ratio, H, W, size);
  dx[i] = dy[i] * inverse_power(scale[i], beta) - 2 * alpha * beta / T(size * size) * x[i] * sum;
}
