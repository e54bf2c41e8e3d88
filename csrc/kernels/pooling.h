// Pooling over windows of up to three spatial axes. x is (planes, D, H, W), y is (planes, od, oh, ow); with fewer axes
// the first ones have size 1, kernel 1, stride 1, padding 0. Every kernel takes the same 15 numbers at its end, axis by
// axis from D to W: input, kernel, stride, padding and output size.
//
// Window o of an axis covers o * stride - pad ... + kernel - 1, clipped to the image. A window that lies wholly outside
// gives 0, and -1 in the mask; Caffe's layers drop such windows from the output.
#pragma once
#include "portable.h"

// A window along one axis, clipped: [begin, end), and how many positions it has with padding, which ends at size + pad.
struct Span {
  int begin, end, padded;
};

KERNEL Span window(int o, int size, int kernel, int stride, int pad) {
  const int begin = o * stride - pad, end = min(begin + kernel, size + pad);
  return Span{max(begin, 0), min(end, size), end - begin};
}

// The windows [begin, end) that cover position p.
KERNEL Span covering(int p, int kernel, int stride, int pad, int output) {
  const int begin = p + pad < kernel ? 0 : (p + pad - kernel) / stride + 1;
  return Span{begin, min((p + pad) / stride + 1, output), 0};
}

// The same, where the stride is that of all elements of a launch.
KERNEL Span all_covering(int p, int kernel, int stride, int pad, int output) {
  const int begin = p + pad < kernel ? 0 : int(divided(max(p + pad - kernel, 0), stride).quotient) + 1;
  return Span{begin, min(int(divided(p + pad, stride).quotient) + 1, output), 0};
}

// Element i of planes (d, h, w).
struct Place {
  index_t plane;
  int d, h, w;
};

KERNEL Place place_of(index_t i, int D, int H, int W) {
  const Divided row = divided(i, W), slice = divided(row.quotient, H), plane = divided(slice.quotient, D);
  return Place{plane.quotient, int(plane.rest), int(slice.rest), int(row.rest)};
}

// y = the largest x of the window; mask = where it is in its plane, as d * H * W + h * W + w: the first one in that
// order. A NaN counts as larger than anything. mask may be null.
template <class T>
KERNEL void max_forward(index_t i, const T* x, T* y, int32_t* mask, int D, int H, int W, int kd, int kh, int kw, int sd,
                        int sh, int sw, int pd, int ph, int pw, int od, int oh, int ow) {
  const Place o = place_of(i, od, oh, ow);
  const Span d = window(o.d, D, kd, sd, pd), h = window(o.h, H, kh, sh, ph);
  const Span w = window(o.w, W, kw, sw, pw);
  x += o.plane * D * H * W;
  int32_t best = -1;
  T most = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) {
        const int32_t at = (a * H + b) * W + c;
        const T value = x[at];
        const bool more = best < 0 || (!(value <= most) && most == most);
        most = more ? value : most;
        best = more ? at : best;
      }
  y[i] = most;
  if (mask) mask[i] = best;
}

// Where the largest is not above 0, a rectifier that made x lets no gradient through: its place is forgotten.
template <class T>
KERNEL void places_above(index_t i, const T* y, int32_t* mask) {
  if (!(y[i] > 0)) mask[i] = -1;
}

// dx = the sum of dy over the windows whose mask names this position. i counts the elements of x.
template <class T>
KERNEL void max_backward(index_t i, const T* dy, const int32_t* mask, T* dx, int D, int H, int W, int kd, int kh,
                         int kw, int sd, int sh, int sw, int pd, int ph, int pw, int od, int oh, int ow) {
  const Place at = place_of(i, D, H, W);
  const Span d = all_covering(at.d, kd, sd, pd, od), h = all_covering(at.h, kh, sh, ph, oh),
             w = all_covering(at.w, kw, sw, pw, ow);
  const int32_t own = (at.d * H + at.h) * W + at.w;
  const index_t plane = at.plane * od * oh * ow;
  T sum = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) {
        const index_t o = plane + (a * oh + b) * ow + c;
        if (mask[o] == own) sum += dy[o];
      }
  dx[i] = sum;
}

// y = the sum of x over the window / the number of its positions: those in the image, and with count_padding also those
// in the padding, as far as the padding reaches.
template <class T>
KERNEL void average_forward(index_t i, const T* x, T* y, bool count_padding, int D, int H, int W, int kd, int kh,
                            int kw, int sd, int sh, int sw, int pd, int ph, int pw, int od, int oh, int ow) {
  const Place o = place_of(i, od, oh, ow);
  const Span d = window(o.d, D, kd, sd, pd), h = window(o.h, H, kh, sh, ph);
  const Span w = window(o.w, W, kw, sw, pw);
  x += o.plane * D * H * W;
  T sum = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) sum += x[(a * H + b) * W + c];
  const int inside = max(d.end - d.begin, 0) * max(h.end - h.begin, 0) * max(w.end - w.begin, 0);
  const int counted = count_padding ? d.padded * h.padded * w.padded : inside;
  y[i] = inside > 0 ? over(sum, T(counted)) : T(0);
}

// dx = the sum of dy / number of positions over the windows that cover this position. i counts the elements of x.
template <class T>
KERNEL void average_backward(index_t i, const T* dy, T* dx, bool count_padding, int D, int H, int W, int kd, int kh,
                             int kw, int sd, int sh, int sw, int pd, int ph, int pw, int od, int oh, int ow) {
  const Place at = place_of(i, D, H, W);
  const Span d = all_covering(at.d, kd, sd, pd, od), h = all_covering(at.h, kh, sh, ph, oh),
             w = all_covering(at.w, kw, sw, pw, ow);
  dy += at.plane * od * oh * ow;
  T sum = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) {
        const Span e = window(a, D, kd, sd, pd), f = window(b, H, kh, sh, ph), g = window(c, W, kw, sw, pw);
        const int inside = (e.end - e.begin) * (f.end - f.begin) * (g.end - g.begin);
        sum += over(dy[(a * oh + b) * ow + c], T(count_padding ? e.padded * f.padded * g.padded : inside));
      }
  dx[i] = sum;
}

// For x >= 0: y = one x of the window, drawn with a probability proportional to it; mask = where it is. The first one
// at which the running sum reaches u * sum, u ~ U[0, 1). Zeiler & Fergus, ICLR 2013. Backward is max_backward.
template <class T>
KERNEL void stochastic_forward(index_t i, const T* x, T* y, int32_t* mask, uint64_t seed, uint32_t stream,
                               uint64_t step, int D, int H, int W, int kd, int kh, int kw, int sd, int sh, int sw,
                               int pd, int ph, int pw, int od, int oh, int ow) {
  const Place o = place_of(i, od, oh, ow);
  const Span d = window(o.d, D, kd, sd, pd), h = window(o.h, H, kh, sh, ph);
  const Span w = window(o.w, W, kw, sw, pw);
  x += o.plane * D * H * W;
  T sum = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) sum += x[(a * H + b) * W + c];
  const T threshold = T(uniform(seed, stream, step, i)) * sum;
  int32_t chosen = -1;
  T running = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) {
        const int32_t at = (a * H + b) * W + c;
        if (chosen >= 0 && !(running < threshold)) continue;
        running += x[at];
        chosen = at;
      }
  y[i] = chosen >= 0 ? (sum == sum ? x[chosen] : sum) : T(0);
  if (mask) mask[i] = chosen;
}

// What stochastic pooling gives on average: y = sum of x^2 / sum of x over the window, 0 where the sum is not above 0.
template <class T>
KERNEL void stochastic_mean(index_t i, const T* x, T* y, int D, int H, int W, int kd, int kh, int kw, int sd, int sh,
                            int sw, int pd, int ph, int pw, int od, int oh, int ow) {
  const Place o = place_of(i, od, oh, ow);
  const Span d = window(o.d, D, kd, sd, pd), h = window(o.h, H, kh, sh, ph);
  const Span w = window(o.w, W, kw, sw, pw);
  x += o.plane * D * H * W;
  T sum = 0, squares = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) {
        const T value = x[(a * H + b) * W + c];
        sum += value;
        squares += value * value;
      }
  y[i] = sum <= 0 ? T(0) : squares / sum;
}

// dx = the sum of dy * (2 x - y) / (sum of x over the window) over the windows that cover this position: the gradient
// of stochastic_mean. i counts the elements of x.
template <class T>
KERNEL void stochastic_mean_backward(index_t i, const T* x, const T* y, const T* dy, T* dx, int D, int H, int W, int kd,
                                     int kh, int kw, int sd, int sh, int sw, int pd, int ph, int pw, int od, int oh,
                                     int ow) {
  const Place at = place_of(i, D, H, W);
  const Span d = covering(at.d, kd, sd, pd, od), h = covering(at.h, kh, sh, ph, oh), w = covering(at.w, kw, sw, pw, ow);
  const T* plane = x + at.plane * D * H * W;
  const index_t first = at.plane * od * oh * ow;
  T total = 0;
  for (int a = d.begin; a < d.end; ++a)
    for (int b = h.begin; b < h.end; ++b)
      for (int c = w.begin; c < w.end; ++c) {
        const Span e = window(a, D, kd, sd, pd), f = window(b, H, kh, sh, ph), g = window(c, W, kw, sw, pw);
        T sum = 0;
        for (int p = e.begin; p < e.end; ++p)
          for (int q = f.begin; q < f.end; ++q)
            for (int r = g.begin; r < g.end; ++r) sum += plane[(p * H + q) * W + r];
        const index_t o = first + (a * oh + b) * ow + c;
        if (!(sum <= 0)) total += dy[o] * (2 * x[i] - y[o]) / sum;
      }
  dx[i] = total;
}
