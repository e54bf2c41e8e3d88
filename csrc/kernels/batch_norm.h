// Batch normalisation, and what may follow it in the same pass: a scale and a shift for each channel, and a rectifier.
//
//   y = rectify(w * (x - mean) * scale + b), rectify(t) = t where t > 0, else slope * t
//
// w and b may be null, for 1 and 0; slope 1 rectifies nothing. An array is (items, channels / block, positions, block):
// plain with block = 1, or in blocks of channels. Lane i is channel i % channels of item i / channels: its positions.
//
// What is computed may be a share of the channels: `channels` of them, in whole blocks, from `first` on, of `all` that
// the large arrays have. Lanes, and the arrays of one value for a channel or a lane, count the share alone.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// Where lane i of the share begins.
KERNEL index_t lane_start(index_t i, index_t channels, index_t positions, index_t block, index_t first, index_t all) {
  const Divided of_blocks = divided(i, block);
  const index_t at = of_blocks.quotient * positions * block + of_blocks.rest;
  return channels == all ? at : at + (divided(i, channels).quotient * (all - channels) + first) * positions;
}

// What is done to the elements of a channel before they are rectified.
template <class T>
struct Channel {
  T mean, scale, w, b;
};
template <class T>
KERNEL Channel<T> channel(index_t c, const T* mean, const T* scale, const T* w, const T* b) {
  return Channel<T>{mean[c], scale[c], w ? w[c] : T(1), b ? b[c] : T(0)};
}
template <class T>
KERNEL T normalised(const Channel<T>& of, T x) {
  return (x - of.mean) * of.scale * of.w + of.b;
}

// Lane i: mean, and square = the sum of squared deviations from it.
template <class T>
REDUCTION ACROSS(block) void lane_moments(index_t i, const T* x, T* mean, T* square, index_t channels,
                                          index_t positions, index_t block, index_t first, index_t all) {
  x += lane_start(i, channels, positions, block, first, all);
  T m, squares;
  moments_of<T>(positions, [&](index_t j) { return x[j * block]; }, m, squares);
  if (!leads()) return;
  mean[i] = m;
  square[i] = squares;
}

// Channel i: mean and scale = 1 / sqrt(variance + eps) of its lanes, of `inner` elements each, in `items` items. With
// inner = 1, lane_mean is the array itself and lane_square null. And the running statistics, which may be null:
// running = keep * running + the batch's. The running variance is that of the whole, n / (n - 1) times the one of n
// elements; factor, of one element, counts 1 for a batch.
template <class T>
REDUCTION ACROSS(channels) void batch_statistics(index_t i, const T* lane_mean, const T* lane_square, T* mean, T* scale,
                                                 T* running_mean, T* running_variance, T* factor, index_t items,
                                                 index_t channels, index_t inner, T eps, T keep) {
  const auto at = [&](index_t n) { return n * channels + i; };
  T m, between;
  moments_of<T>(items, [&](index_t n) { return lane_mean[at(n)]; }, m, between);
  const T within = lane_square ? sum_of<T>(items, [&](index_t n) { return lane_square[at(n)]; }) : T(0);
  if (!leads()) return;
  const T square = between * T(inner) + within, number = T(items * inner);
  mean[i] = m;
  scale[i] = 1 / sqrt(square / number + eps);
  if (running_mean) running_mean[i] = keep * running_mean[i] + m;
  if (running_variance) running_variance[i] = keep * running_variance[i] + square / (number > 1 ? number - 1 : T(1));
  if (factor && i == 0) factor[i] = keep * factor[i] + 1;
}

// Lane i: y as above, and kept = x, which may be null. y may be x.
template <class T>
REDUCTION ACROSS(block) void batch_norm_forward(index_t i, const T* x, const T* mean, const T* scale, const T* w,
                                                const T* b, T* y, T* kept, T slope, index_t channels, index_t positions,
                                                index_t block, index_t first, index_t all) {
  const Channel<T> of = channel(divided(i, channels).rest, mean, scale, w, b);
  const index_t start = lane_start(i, channels, positions, block, first, all);
  each_of(positions, [&](index_t j) {
    const index_t at = start + j * block;
    const T value = x[at], t = normalised(of, value);
    if (kept) kept[at] = value;
    y[at] = t > 0 ? t : slope * t;
  });
}

// Lane i: y = rectify(a' + b'), where a' and b' are a and b, each normalised, scaled and shifted as above if it has a
// mean. y may be a or b.
template <class T>
REDUCTION ACROSS(block) void normalised_sum(index_t i, const T* a, const T* mean_a, const T* scale_a, const T* w_a,
                                            const T* b_a, const T* b, const T* mean_b, const T* scale_b, const T* w_b,
                                            const T* b_b, T* y, T slope, index_t channels, index_t positions,
                                            index_t block) {
  const index_t c = divided(i, channels).rest;
  const Channel<T> same{0, 1, 1, 0};
  const Channel<T> of_a = mean_a ? channel(c, mean_a, scale_a, w_a, b_a) : same;
  const Channel<T> of_b = mean_b ? channel(c, mean_b, scale_b, w_b, b_b) : same;
  const index_t start = lane_start(i, channels, positions, block, 0, channels);
  each_of(positions, [&](index_t j) {
    const index_t at = start + j * block;
    const T t = normalised(of_a, a[at]) + normalised(of_b, b[at]);
    y[at] = t > 0 ? t : slope * t;
  });
}

// Lane i: sum = the sum of dz, dot = that of dz * (x - mean), where dz is the gradient of what is rectified.
template <class T>
REDUCTION ACROSS(block) void lane_products(index_t i, const T* x, const T* mean, const T* scale, const T* w, const T* b,
                                           const T* dy, T* sum, T* dot, T slope, index_t channels, index_t positions,
                                           index_t block, index_t first, index_t all) {
  const Channel<T> of = channel(divided(i, channels).rest, mean, scale, w, b);
  const index_t start = lane_start(i, channels, positions, block, first, all);
  x += start;
  dy += start;
  const auto dz = [&](index_t j) { return normalised(of, x[j * block]) > 0 ? dy[j * block] : slope * dy[j * block]; };
  T sums, dots;
  sums_of<T>(positions, dz, [&](index_t j) { return dz(j) * (x[j * block] - of.mean); }, sums, dots);
  if (!leads()) return;
  sum[i] = sums;
  dot[i] = dots;
}

// Channel i: sum and dot are those of its lanes, in `items` items, together. dw += scale * dot and db += sum, the
// gradients of w and b, either of which may be null.
template <class T>
REDUCTION ACROSS(channels) void batch_products(index_t i, const T* lane_sum, const T* lane_dot, const T* scale, T* sum,
                                               T* dot, T* dw, T* db, index_t items, index_t channels) {
  const auto at = [&](index_t n) { return n * channels + i; };
  T sums, dots;
  sums_of<T>(items, [&](index_t n) { return lane_sum[at(n)]; }, [&](index_t n) { return lane_dot[at(n)]; }, sums, dots);
  if (!leads()) return;
  sum[i] = sums;
  dot[i] = dots;
  if (dw) dw[i] += scale[i] * dots;
  if (db) db[i] += sums;
}

// Lane i: dx = (dz - sum / number - (x - mean) * scale^2 * dot / number) * scale * w, with sum and dot those of all
// `number` elements of the channel. With both null, mean and scale are constants: dx = dz * scale * w. dx may be dy.
// between = dz * w, the gradient of what is scaled, may be null or dy.
template <class T>
REDUCTION ACROSS(block) void batch_norm_backward(index_t i, const T* x, const T* mean, const T* scale, const T* w,
                                                 const T* b, const T* dy, const T* sum, const T* dot, T* dx, T* between,
                                                 T slope, T number, index_t channels, index_t positions, index_t block,
                                                 index_t first, index_t all) {
  const index_t c = divided(i, channels).rest, start = lane_start(i, channels, positions, block, first, all);
  const Channel<T> of = channel(c, mean, scale, w, b);
  const T level = sum ? over(sum[c], number) : T(0), tilt = dot ? over(of.scale * of.scale * dot[c], number) : T(0);
  each_of(positions, [&](index_t j) {
    const index_t at = start + j * block;
    const T value = x[at], gradient = dy[at], dz = normalised(of, value) > 0 ? gradient : slope * gradient;
    if (between) between[at] = dz * of.w;
    dx[at] = ((dz - level) - (value - of.mean) * tilt) * of.scale * of.w;
  });
}
