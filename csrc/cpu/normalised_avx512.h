// Batch normalisation of a block of 16 channels and its derivative, a position at a time, in the order of operations of
// Rows in batch_norm.cpp.
#pragma once
#include "avx512.h"

namespace wide {

// rectify(((x - mean) * scale) * weight + bias), for a block of channels.
struct Normalised {
  __m512 mean, scale, weight, bias, slope;
};

// The gradient of what a batch normalisation reads, from that of what it writes: with dz that before its rectifier,
// ((dz - level) - (x - mean) tilt) scale weight.
struct Differentiated {
  Normalised of;
  __m512 level, tilt;
};

AVX512_INLINE __m512 load_or(const float* values, int64_t c, float otherwise) {
  return values ? _mm512_loadu_ps(values + c) : _mm512_set1_ps(otherwise);
}

// For the channels from c on. Each array may be missing.
AVX512_INLINE Normalised normalised(const float* mean, const float* scale, const float* weight, const float* bias,
                                    float slope, int64_t c) {
  return {load_or(mean, c, 0), load_or(scale, c, 1), load_or(weight, c, 1), load_or(bias, c, 0), _mm512_set1_ps(slope)};
}

// sum and dot over `number` values of a channel: of dz, and of dz (x - mean). Each may be missing.
AVX512_INLINE Differentiated differentiated(const Normalised& of, const float* sum, const float* dot, float number,
                                            int64_t c) {
  const __m512 all = _mm512_set1_ps(number), square = _mm512_mul_ps(of.scale, of.scale), zero = _mm512_setzero_ps();
  const __m512 level = sum ? _mm512_div_ps(_mm512_loadu_ps(sum + c), all) : zero;
  const __m512 tilt = dot ? _mm512_div_ps(_mm512_mul_ps(square, _mm512_loadu_ps(dot + c)), all) : zero;
  return {of, level, tilt};
}

AVX512_INLINE __m512 rectified(__m512 value, __m512 by, __m512 slope) {
  const __mmask16 above = _mm512_cmp_ps_mask(by, _mm512_setzero_ps(), _CMP_GT_OQ);
  return _mm512_mask_mov_ps(_mm512_mul_ps(slope, value), above, value);
}

// Before the rectifier, of x - mean.
AVX512_INLINE __m512 scaled(const Normalised& of, __m512 centred) {
  return _mm512_add_ps(_mm512_mul_ps(_mm512_mul_ps(centred, of.scale), of.weight), of.bias);
}

AVX512_INLINE __m512 normalise(const Normalised& of, __m512 x) {
  const __m512 t = scaled(of, _mm512_sub_ps(x, of.mean));
  return rectified(t, t, of.slope);
}

AVX512_INLINE __m512 differentiate(const Differentiated& by, __m512 x, __m512 dy) {
  const __m512 centred = _mm512_sub_ps(x, by.of.mean);
  const __m512 dz = rectified(dy, scaled(by.of, centred), by.of.slope);
  const __m512 left = _mm512_sub_ps(_mm512_sub_ps(dz, by.level), _mm512_mul_ps(centred, by.tilt));
  return _mm512_mul_ps(_mm512_mul_ps(left, by.of.scale), by.of.weight);
}

}  // namespace wide
