// Elementary functions that g++ can vectorise: no calls, no branches, no tables. For float; double takes the library's.
// The same bits in a vector and alone, so results do not depend on how a range is shared out.
#pragma once
#include <cstring>
#include <limits>

#include "portable.h"

// e^x within 1.5 units in the last place: x = n log 2 + r, a polynomial for e^r, 2^n by its bits. Underflows to 0 a
// little early, below 2^-126.
KERNEL float vector_exp(float x) {
  const float largest = 88.72284f, smallest = -87.33654f;
  const float clamped = x > largest ? largest : x < smallest ? smallest : x;  // a NaN stays
  const float shifted = clamped * 1.44269504f + 12582912.0f;                  // 1.5 * 2^23: the rest is rounded off
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts
  float p = 1.9875691500e-4f;                                         // S. Moshier, Cephes, 1989
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r * r + r) + 1;
  // In two halves, because n may be 128.
  const int32_t whole = int32_t(n), half = whole / 2;
  const int32_t low_bits = (half + 127) << 23, high_bits = (whole - half + 127) << 23;
  float low, high;
  memcpy(&low, &low_bits, sizeof low);
  memcpy(&high, &high_bits, sizeof high);
  const float y = p * low * high;
  return x > largest ? std::numeric_limits<float>::infinity() : x < smallest ? 0 : y;
}

// tanh x within 2 units in the last place: a polynomial near 0, where the exponentials would cancel.
KERNEL float vector_tanh(float x) {
  const float size = fabs(x), square = x * x;
  float p = -5.70498872745e-3f;  // S. Moshier, Cephes, 1989
  p = p * square + 2.06390887954e-2f;
  p = p * square - 5.37397155531e-2f;
  p = p * square + 1.33314422036e-1f;
  p = p * square - 3.33332819422e-1f;
  const float near = p * square * x + x, far = 1 - 2 / (vector_exp(2 * size) + 1);
  return size < 0.625f ? near : x < 0 ? -far : far;
}
