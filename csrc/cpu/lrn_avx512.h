// Local response normalisation of blobs in blocks of 16 channels, or with all channels of a position side by side, in
// vectors of AVX-512: a vector holds 16 channels of a position, and its neighbours are two vectors shifted against each
// other. The same bits as in plain order. Included by lrn.cpp, for beta 0.75.
#pragma once

namespace wide {

constexpr int64_t kPositions = 32;  // walked together: what is read again is in the cache
constexpr int kMost = 31;           // channels of a sum: they lie in three blocks at most

// How far it is from a position to the next, and from a vector of a position to its next.
struct Way {
  int64_t step, distance;
  Way(const Shape& shape, int block) : step(block), distance(block > kLanes ? kLanes : shape.positions * kLanes) {}
};

bool takes(const Shape& shape, int block) {
  const bool whole = block == shape.channels && block % kLanes == 0;
  return (block == kLanes || whole) && shape.size <= kMost;
}

// s^-3/4, as ThreeQuarters does it.
AVX512_INLINE __m512 power(__m512 s) {
  const __m512i bits = _mm512_castps_si512(s);
  const __m512i third = _mm512_mullo_epi32(_mm512_srai_epi32(bits, 2), _mm512_set1_epi32(3));
  const __m512 one = _mm512_set1_ps(1), quarter = _mm512_set1_ps(0.25f), more = _mm512_set1_ps(0.15625f);
  __m512 p = _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(0x6F14E800), third));
  for (int step = 0; step < 2; ++step) {
    const __m512 root = _mm512_mul_ps(s, p);
    const __m512 e = _mm512_sub_ps(one, _mm512_mul_ps(_mm512_mul_ps(root, root), _mm512_mul_ps(root, p)));
    const __m512 by = _mm512_add_ps(quarter, _mm512_mul_ps(more, e));
    p = _mm512_add_ps(p, _mm512_mul_ps(_mm512_mul_ps(p, e), by));
  }
  const __m512 largest = _mm512_set1_ps(std::numeric_limits<float>::max());
  p = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(s, largest, _CMP_LE_OQ), p);
  const __mmask16 positive = _mm512_cmp_ps_mask(s, _mm512_setzero_ps(), _CMP_GT_OQ);
  return _mm512_mask_mov_ps(_mm512_set1_ps(std::numeric_limits<float>::quiet_NaN()), positive, p);
}

// The sum over `number` channels from c - before on, of each channel c of `own`, in their order. size: number, or 0.
template <int size>
AVX512_INLINE __m512 sum_of_near(__m512 last, __m512 own, __m512 next, int number, int before) {
  if (size) number = size, before = size / 2;
  __m512 sum = _mm512_setzero_ps();
  for (int near = -before; near < number - before; ++near) {
    const __m512i index = _mm512_add_epi32(counting(), _mm512_set1_epi32(near & 15));
    const __m512 value = near < 0   ? _mm512_permutex2var_ps(last, index, own)
                         : near > 0 ? _mm512_permutex2var_ps(own, index, next)
                                    : own;
    sum = near == -before ? value : _mm512_add_ps(sum, value);
  }
  return sum;
}

AVX512_INLINE __m512 load(const float* x, int64_t distance, int block, int blocks) {
  return block >= 0 && block < blocks ? _mm512_loadu_ps(x + block * distance) : _mm512_setzero_ps();
}

AVX512_INLINE __m512 squared(__m512 x) { return _mm512_mul_ps(x, x); }

// What comes next in memory of each block, while these positions are computed.
AVX512_INLINE void fetch(const float* x, int64_t step) {
  _mm_prefetch(reinterpret_cast<const char*>(x + kPositions * step), _MM_HINT_T0);
}

template <int size>
AVX512 void forward_of(const float* x, float* y, const Shape& shape, Way way, int64_t width, float scale, float k) {
  const int blocks = shape.channels / kLanes;
  const int64_t step = way.step, distance = way.distance;
  for (int64_t p = 0; p < width; ++p, x += step, y += step) {
    __m512 last = _mm512_setzero_ps(), value = _mm512_loadu_ps(x), own = squared(value);
    for (int block = 0; block < blocks; ++block) {
      fetch(x + block * distance, step);
      const __m512 coming = load(x, distance, block + 1, blocks), next = squared(coming);
      const __m512 sum = sum_of_near<size>(last, own, next, shape.size, shape.before());
      const __m512 s = _mm512_add_ps(_mm512_set1_ps(k), _mm512_mul_ps(_mm512_set1_ps(scale), sum));
      _mm512_storeu_ps(y + block * distance, _mm512_mul_ps(value, power(s)));
      last = own, own = next, value = coming;
    }
  }
}

void forward(const float* x, float* y, const Shape& shape, Way way, int64_t width, float scale, float k) {
  (shape.size == 5 ? forward_of<5> : forward_of<0>)(x, y, shape, way, width, scale, k);
}

template <int size>
AVX512 void backward_of(const float* x, const float* dy, float* dx, const Shape& shape, Way way, int64_t width,
                        float scale, float k, float factor, float slope) {
  const int blocks = shape.channels / kLanes;
  const int64_t step = way.step, distance = way.distance;
  for (int64_t p = 0; p < width; ++p, x += step, dy += step, dx += step) {
    __m512 last = _mm512_setzero_ps(), own = last, value = _mm512_loadu_ps(x), next = squared(value);
    __m512 last_ratio = last, ratio = last, share = last, value_before = last;
    for (int block = 0; block <= blocks; ++block) {  // dx of the block before
      __m512 next_ratio = _mm512_setzero_ps(), next_share = next_ratio;
      last = own, own = next;
      const __m512 now = value;
      if (block < blocks) {
        fetch(x + block * distance, step);
        fetch(dy + block * distance, step);
        value = load(x, distance, block + 1, blocks);
        next = squared(value);
        const __m512 sum = sum_of_near<size>(last, own, next, shape.size, shape.before());
        const __m512 s = _mm512_add_ps(_mm512_set1_ps(k), _mm512_mul_ps(_mm512_set1_ps(scale), sum));
        const __m512 by = power(s), diff = _mm512_loadu_ps(dy + block * distance);
        next_share = _mm512_mul_ps(diff, by);
        next_ratio = _mm512_div_ps(_mm512_mul_ps(_mm512_mul_ps(diff, now), by), s);
      }
      if (block) {  // over the channels whose sums have this one: before and after change places
        const __m512 sum = sum_of_near<size>(last_ratio, ratio, next_ratio, shape.size, shape.after());
        const __m512 less = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(factor), value_before), sum);
        const __m512 d = _mm512_sub_ps(share, less), below = _mm512_mul_ps(_mm512_set1_ps(slope), d);
        const __mmask16 above = _mm512_cmp_ps_mask(value_before, _mm512_setzero_ps(), _CMP_GT_OQ);
        _mm512_storeu_ps(dx + (block - 1) * distance, _mm512_mask_mov_ps(below, above, d));
      }
      last_ratio = ratio, ratio = next_ratio, share = next_share, value_before = now;
    }
  }
}

void backward(const float* x, const float* dy, float* dx, const Shape& shape, Way way, int64_t width, float scale,
              float k, float factor, float slope) {
  (shape.size == 5 ? backward_of<5> : backward_of<0>)(x, dy, dx, shape, way, width, scale, k, factor, slope);
}

}  // namespace wide
