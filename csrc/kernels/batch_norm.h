// Batch normalisation, and what may follow it in the same pass: a scale and a shift for each channel, and a rectifier.
//
//   y = rectify(w * (x - mean) * scale + b), rectify(t) = t where t > 0, else slope * t
//
// w and b may be null, for 1 and 0; slope 1 rectifies nothing. An array is (items, channels / block, positions, block):
// plain with block = 1, or in blocks of channels. Lane i is channel i % channels of item i / channels.
//
// What is computed may be a share of the channels: `channels` of them, in whole blocks, from `first` on, of `all` that
// the large arrays have. Indices, and the arrays of one value for a channel or a lane, count the share alone.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// The channel that element i belongs to.
KERNEL index_t channel_of(index_t i, index_t channels, index_t positions, index_t block) {
  const index_t row = divided(i, positions * block).quotient;
  const index_t of_blocks = divided(row, channels / block).rest;
  return block == 1 ? of_blocks : of_blocks * block + i % block;
}

// Where element i of the share is.
KERNEL index_t within(index_t i, index_t channels, index_t positions, index_t first, index_t all) {
  return channels == all ? i : i + (i / (channels * positions) * (all - channels) + first) * positions;
}

// What is rectified.
template <class T>
KERNEL T normalised(T x, index_t c, const T* mean, const T* scale, const T* w, const T* b) {
  const T value = (x - mean[c]) * scale[c] * (w ? w[c] : T(1));
  return b ? value + b[c] : value;
}

// Lane i: mean, and square = the sum of squared deviations from it.
template <class T>
REDUCTION void lane_moments(index_t i, const T* x, T* mean, T* square, index_t channels, index_t positions,
                            index_t block, index_t first, index_t all) {
  x += within(i / block * positions * block + i % block, channels, positions, first, all);
  const T m = over(sum_of<T>(positions, [&](index_t j) { return x[j * block]; }), T(positions));
  const T sum = sum_of<T>(positions, [&](index_t j) { return (x[j * block] - m) * (x[j * block] - m); });
  if (!leads()) return;
  mean[i] = m;
  square[i] = sum;
}

// y as above, and kept = x, which may be null. y may be x.
template <class T>
KERNEL void batch_norm_forward(index_t i, const T* x, const T* mean, const T* scale, const T* w, const T* b, T* y,
                               T* kept, T slope, index_t channels, index_t positions, index_t block, index_t first,
                               index_t all) {
  const index_t at = within(i, channels, positions, first, all);
  const T value = x[at];
  if (kept) kept[at] = value;
  const T t = normalised(value, channel_of(i, channels, positions, block), mean, scale, w, b);
  y[at] = t > 0 ? t : slope * t;
}

// y = rectify(a' + b'), where a' and b' are a and b, each normalised, scaled and shifted as above if it has a mean. y
// may be a or b.
template <class T>
KERNEL void normalised_sum(index_t i, const T* a, const T* mean_a, const T* scale_a, const T* w_a, const T* b_a,
                           const T* b, const T* mean_b, const T* scale_b, const T* w_b, const T* b_b, T* y, T slope,
                           index_t channels, index_t positions, index_t block) {
  const index_t c = channel_of(i, channels, positions, block);
  const T t = (mean_a ? normalised(a[i], c, mean_a, scale_a, w_a, b_a) : a[i]) +
              (mean_b ? normalised(b[i], c, mean_b, scale_b, w_b, b_b) : b[i]);
  y[i] = t > 0 ? t : slope * t;
}

// Lane i: sum = the sum of dz, dot = that of dz * (x - mean), where dz is the gradient of what is rectified.
template <class T>
REDUCTION void lane_products(index_t i, const T* x, const T* mean, const T* scale, const T* w, const T* b, const T* dy,
                             T* sum, T* dot, T slope, index_t channels, index_t positions, index_t block, index_t first,
                             index_t all) {
  const index_t c = i % channels;
  const index_t at = within(i / block * positions * block + i % block, channels, positions, first, all);
  x += at;
  dy += at;
  const auto dz = [&](index_t j) {
    return normalised(x[j * block], c, mean, scale, w, b) > 0 ? dy[j * block] : slope * dy[j * block];
  };
  const T m = mean[c];
  T sums, dots;
  sums_of<T>(positions, dz, [&](index_t j) { return dz(j) * (x[j * block] - m); }, sums, dots);
  if (!leads()) return;
  sum[i] = sums;
  dot[i] = dots;
}

// dx = (dz - sum / number - (x - mean) * scale^2 * dot / number) * scale * w, with sum and dot those of all `number`
// elements of the channel. With both null, mean and scale are constants: dx = dz * scale * w. dx may be dy. between =
// dz * w, the gradient of what is scaled, may be null or dy.
template <class T>
KERNEL void batch_norm_backward(index_t i, const T* x, const T* mean, const T* scale, const T* w, const T* b,
                                const T* dy, const T* sum, const T* dot, T* dx, T* between, T slope, T number,
                                index_t channels, index_t positions, index_t block, index_t first, index_t all) {
  const index_t c = channel_of(i, channels, positions, block), at = within(i, channels, positions, first, all);
  const T dz = normalised(x[at], c, mean, scale, w, b) > 0 ? dy[at] : slope * dy[at], weight = w ? w[c] : T(1);
  const T level = sum ? over(sum[c], number) : T(0), tilt = dot ? over(scale[c] * scale[c] * dot[c], number) : T(0);
  if (between) between[at] = dz * weight;
  dx[at] = ((dz - level) - (x[at] - mean[c]) * tilt) * scale[c] * weight;
}

// Channel i: dw += scale * dot and db += sum, the gradients of w and b, either of which may be null.
template <class T>
KERNEL void learn_scale(index_t i, const T* scale, const T* sum, const T* dot, T* dw, T* db) {
  if (dw) dw[i] += scale[i] * dot[i];
  if (db) db[i] += sum[i];
}
