// Pooling of float32 planes and of blocks of 16 channels, in vectors of AVX-512. Included by pooling.cpp, which has
// Axis and Span.
//
// In a plane a vector holds 16 windows side by side: tap t of all of them is one load, or for stride 2 one half of two
// loads. What lies beyond the border is not read and counts as -inf, or as 0 in a sum. Backward gathers: each position
// takes from the windows that cover it, in their order, so the bits are those of the loop over windows. In blocks a
// vector holds the channels of one position.
#pragma once

namespace wide {

constexpr int kMostTaps = 16;

// 16 windows of a row, from number `first` on: which lanes there are, and which lanes of each load lie in the image.
struct Strip {
  int first, start;                                // start: the column of the first tap of the first window
  __mmask16 own, low[kMostTaps], high[kMostTaps];  // high: of the second load, for stride 2
};

AVX512_INLINE Strip strip(const Axis& w, int first) {
  Strip s;
  s.first = first;
  s.start = first * w.stride - w.pad;
  s.own = lanes(0, w.output - first);
  for (int tap = 0; tap < w.kernel; ++tap) {
    const int column = s.start + tap;
    if (w.stride <= 2) {
      s.low[tap] = lanes(-column, w.size - column);
      s.high[tap] = lanes(-column - kLanes, w.size - column - kLanes);
    } else {
      s.low[tap] = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        const int at = column + lane * w.stride;
        s.low[tap] |= __mmask16((at >= 0 && at < w.size && first + lane < w.output) << lane);
      }
    }
  }
  return s;
}

// Every second element of two vectors, from the first or from the second on.
AVX512_INLINE __m512 evens(__m512 low, __m512 high) {
  const __m512i index = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  return _mm512_permutex2var_ps(low, index, high);
}
AVX512_INLINE __m512 odds(__m512 low, __m512 high) {
  const __m512i index = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_permutex2var_ps(low, index, high);
}

// The reverse: two vectors interleaved, the first and the second half.
AVX512_INLINE __m512 zip_low(__m512 even, __m512 odd) {
  const __m512i index = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutex2var_ps(even, index, odd);
}
AVX512_INLINE __m512 zip_high(__m512 even, __m512 odd) {
  const __m512i index = _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
  return _mm512_permutex2var_ps(even, index, odd);
}

// The best so far, in each lane, and where it is.
struct Best {
  __m512 most;
  __m512i at;
};

// A value replaces the best if it is larger, or the first NaN.
AVX512_INLINE void compare(__m512 value, __m512i position, Best& best) {
  const __mmask16 larger = _mm512_cmp_ps_mask(value, best.most, _CMP_NLE_UQ);
  const __mmask16 better = _mm512_mask_cmp_ps_mask(larger, best.most, best.most, _CMP_ORD_Q);
  best.most = _mm512_mask_mov_ps(best.most, better, value);
  best.at = _mm512_mask_mov_epi32(best.at, better, position);
}

// What becomes of a row's taps: the best of them, or their sum. `columns` are those of the first taps, `inside` those
// of the first taps in the image, `offset` is what makes them positions.
struct Maximum {
  typedef Best State;
  static constexpr float outside = -__builtin_inff();
  AVX512_INLINE Best start(__m512 value, __m512i inside, int offset) {
    return Best{value, _mm512_add_epi32(inside, _mm512_set1_epi32(offset))};
  }
  AVX512_INLINE void take(__m512 value, __m512i columns, int offset, Best& best) {
    compare(value, _mm512_add_epi32(columns, _mm512_set1_epi32(offset)), best);
  }
};

struct Sum {
  typedef __m512 State;
  static constexpr float outside = 0;
  AVX512_INLINE __m512 start(__m512 value, __m512i, int) { return value; }
  AVX512_INLINE void take(__m512 value, __m512i, int, __m512& sum) { sum = _mm512_add_ps(sum, value); }
};

// Fetches as much of x as is read next, from so far ahead that it is there in time: processors do not do that by
// themselves for planes of short rows. What lies behind the end of x is not touched by this.
AVX512_INLINE void fetch_ahead(const float* x, int count) {
  constexpr int ahead = 2048;
  for (int i = 0; i < count; i += kLanes) _mm_prefetch(reinterpret_cast<const char*>(x + ahead + i), _MM_HINT_T0);
}

// All taps of one row for 16 windows. kernel and stride are known when this is compiled, or 0.
template <class Method, int kernel, int stride>
AVX512_INLINE typename Method::State row_of_taps(const float* row, const Strip& s, const Axis& w, __m512i columns,
                                                 __m512i inside, int offset) {
  const int taps = kernel ? kernel : w.kernel;
  const __m512 fill = _mm512_set1_ps(Method::outside);
  const float* const start = row + s.start;
  typename Method::State state;
  if (stride == 1) {
    state = Method::start(_mm512_mask_loadu_ps(fill, s.low[0], start), inside, offset);
    for (int tap = 1; tap < taps; ++tap)
      Method::take(_mm512_mask_loadu_ps(fill, s.low[tap], start + tap), columns, offset + tap, state);
  } else if (stride == 2) {
    for (int tap = 0; tap < taps; tap += 2) {
      const __m512 low = _mm512_mask_loadu_ps(fill, s.low[tap], start + tap);
      const __m512 high = _mm512_mask_loadu_ps(fill, s.high[tap], start + tap + kLanes);
      if (tap == 0)
        state = Method::start(evens(low, high), inside, offset);
      else
        Method::take(evens(low, high), columns, offset + tap, state);
      if (tap + 1 < taps) Method::take(odds(low, high), columns, offset + tap + 1, state);
    }
  } else {
    const __m512i index = _mm512_mullo_epi32(counting(), _mm512_set1_epi32(w.stride));
    state = Method::start(_mm512_mask_i32gather_ps(fill, s.low[0], index, start, 4), inside, offset);
    for (int tap = 1; tap < taps; ++tap)
      Method::take(_mm512_mask_i32gather_ps(fill, s.low[tap], index, start + tap, 4), columns, offset + tap, state);
  }
  return state;
}

// The strips of a row of windows.
AVX512 std::vector<Strip> strips(const Axis& w) {
  std::vector<Strip> all;
  for (int first = 0; first < w.output; first += kLanes) all.push_back(strip(w, first));
  return all;
}

// mask may be null. No window lies wholly outside the image.
template <int kernel, int stride>
AVX512 void max_of_plane(const float* x, float* y, int32_t* mask, int32_t volume, const Axis& h, const Axis& w,
                         const std::vector<Strip>& strips) {
  const __m512i steps = _mm512_mullo_epi32(counting(), _mm512_set1_epi32(w.stride));
  for (int o = 0; o < h.output; ++o, y += w.output, mask += mask ? w.output : 0) {
    const Span rows = h[o];
    fetch_ahead(x + o * h.stride * w.size, h.stride * w.size);
    for (const Strip& s : strips) {
      const __m512i columns = _mm512_add_epi32(steps, _mm512_set1_epi32(s.start));
      const __m512i inside = _mm512_mask_mov_epi32(columns, _mm512_movepi32_mask(columns), _mm512_setzero_si512());
      int at = rows.begin * w.size;
      Best best = row_of_taps<Maximum, kernel, stride>(x + at, s, w, columns, inside, volume + at);
      for (int row = rows.begin + 1; row < rows.end; ++row) {
        at += w.size;
        const Best next = row_of_taps<Maximum, kernel, stride>(x + at, s, w, columns, inside, volume + at);
        compare(next.most, next.at, best);
      }
      _mm512_mask_storeu_ps(y + s.first, s.own, best.most);
      if (mask) _mm512_mask_storeu_epi32(mask + s.first, s.own, best.at);
    }
  }
}

// A plane that four vectors hold: each tap of 16 windows, in whatever rows they are, is a permutation of these.
constexpr int kSmall = 4 * kLanes;

struct Tap {
  int32_t position[kLanes];  // of the tap in the plane, for each of 16 windows
  __mmask16 inside, upper;   // where there is such a tap; where it lies in the upper two vectors
};

struct Windows {
  __mmask16 own;
  int32_t first[kLanes];  // the position of the first tap that is inside
  std::vector<Tap> taps;
};

// The windows of a small plane, 16 at a time.
AVX512 std::vector<Windows> small_windows(const Axis& h, const Axis& w) {
  std::vector<Windows> all;
  const int count = h.output * w.output;
  for (int begin = 0; begin < count; begin += kLanes) {
    Windows windows{lanes(0, count - begin), {}, std::vector<Tap>(h.kernel * w.kernel)};
    for (int tap = h.kernel * w.kernel - 1; tap >= 0; --tap) {
      Tap& made = windows.taps[tap];
      for (int lane = 0; lane < kLanes && begin + lane < count; ++lane) {
        const int row = (begin + lane) / w.output * h.stride - h.pad + tap / w.kernel;
        const int column = (begin + lane) % w.output * w.stride - w.pad + tap % w.kernel;
        if (row < 0 || row >= h.size || column < 0 || column >= w.size) continue;
        made.position[lane] = windows.first[lane] = row * w.size + column;
        made.inside |= __mmask16(1 << lane);
        made.upper |= __mmask16((made.position[lane] >= kSmall / 2) << lane);
      }
    }
    all.push_back(windows);
  }
  return all;
}

// mask may be null. No window lies wholly outside the image.
AVX512 void max_of_small_plane(const float* x, float* y, int32_t* mask, int size, const std::vector<Windows>& all) {
  const __m512 nothing = _mm512_set1_ps(Maximum::outside);
  __m512 part[4];
  for (int i = 0; i < 4; ++i) part[i] = _mm512_maskz_loadu_ps(lanes(0, size - i * kLanes), x + i * kLanes);
  for (size_t v = 0; v < all.size(); ++v) {
    Best best{nothing, _mm512_loadu_si512(all[v].first)};
    for (const Tap& tap : all[v].taps) {
      const __m512i position = _mm512_loadu_si512(tap.position);
      const __m512 low = _mm512_permutex2var_ps(part[0], position, part[1]);
      const __m512 high = _mm512_permutex2var_ps(part[2], position, part[3]);
      const __m512 value = _mm512_mask_mov_ps(low, tap.upper, high);
      compare(_mm512_mask_mov_ps(nothing, tap.inside, value), position, best);
    }
    _mm512_mask_storeu_ps(y + v * kLanes, all[v].own, best.most);
    if (mask) _mm512_mask_storeu_epi32(mask + v * kLanes, all[v].own, best.at);
  }
}

template <int kernel, int stride>
AVX512 void average_of_plane(const float* x, float* y, const Axis& h, const Axis& w, const float* across,
                             const float* down, const std::vector<Strip>& strips) {
  for (int o = 0; o < h.output; ++o, y += w.output) {
    const Span rows = h[o];
    fetch_ahead(x + o * h.stride * w.size, h.stride * w.size);
    for (const Strip& s : strips) {
      __m512 total = _mm512_setzero_ps();
      const __m512i none = _mm512_setzero_si512();
      for (int row = rows.begin; row < rows.end; ++row)
        total = _mm512_add_ps(total, row_of_taps<Sum, kernel, stride>(x + row * w.size, s, w, none, none, 0));
      const __m512 number = _mm512_mul_ps(_mm512_maskz_loadu_ps(s.own, across + s.first), _mm512_set1_ps(down[o]));
      _mm512_mask_storeu_ps(y + s.first, s.own, _mm512_maskz_div_ps(s.own, total, number));
    }
  }
}

// What 16 columns of the image, each `stride` from the next, get of a row of windows: through tap after tap, the last
// one first, so that windows come in their order. For each tap, the windows that have it there: the first one, and
// which lanes there are.
struct Covered {
  int taps = 0;
  int first[kMostTaps];
  __mmask16 own[kMostTaps];
};

// For the columns of a row, 16 * stride at a time: `stride` entries, those of the columns `begin`, `begin` + 1, ...
AVX512 std::vector<Covered> covered(const Axis& w) {
  std::vector<Covered> all;
  for (int begin = 0; begin < w.size; begin += kLanes * w.stride)
    for (int column = begin; column < begin + w.stride; ++column) {
      Covered c;
      for (int tap = w.kernel - 1; tap >= 0; --tap) {
        const int distance = column + w.pad - tap;  // from the start of window 0
        if (distance % w.stride) continue;
        const int first = distance / w.stride;
        c.first[c.taps] = first;
        c.own[c.taps++] = lanes(-first, w.output - first);
      }
      all.push_back(c);
    }
  return all;
}

AVX512_INLINE void store(float* dx, int size, int column, __m512 values) {
  _mm512_mask_storeu_ps(dx + column, lanes(0, size - column), values);
}

AVX512_INLINE __m512 gather_sum(const float* shares, const Covered& c) {
  __m512 sum = _mm512_setzero_ps();
  for (int tap = 0; tap < c.taps; ++tap)
    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(c.own[tap], shares + c.first[tap]));
  return sum;
}

// shares: memory for h.output * w.output elements; sums: for w.output.
template <int stride>
AVX512 void spread_over_plane(const float* dy, float* dx, const Axis& h, const Axis& w, const float* across,
                              const float* down, const std::vector<Covered>& covered, float* shares, float* sums) {
  for (int o = 0; o < h.output; ++o)
    for (int c = 0; c < w.output; c += kLanes) {
      const __mmask16 own = lanes(0, w.output - c);
      const __m512 number = _mm512_mul_ps(_mm512_maskz_loadu_ps(own, across + c), _mm512_set1_ps(down[o]));
      const int at = o * w.output + c;
      _mm512_mask_storeu_ps(shares + at, own, _mm512_maskz_div_ps(own, _mm512_maskz_loadu_ps(own, dy + at), number));
    }
  for (int row = 0; row < h.size; ++row, dx += w.size) {
    const Span rows = portable::covering(row, h.kernel, h.stride, h.pad, h.output);
    for (int c = 0; c < w.output; c += kLanes) {
      const __mmask16 own = lanes(0, w.output - c);
      __m512 sum = _mm512_setzero_ps();
      for (int o = rows.begin; o < rows.end; ++o)
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(own, shares + o * w.output + c));
      _mm512_mask_storeu_ps(sums + c, own, sum);
    }
    const Covered* c = covered.data();
    for (int column = 0; column < w.size; column += stride * kLanes, c += stride) {
      const __m512 even = gather_sum(sums, c[0]);
      if (stride == 1) {
        store(dx, w.size, column, even);
      } else {
        const __m512 odd = gather_sum(sums, c[1]);
        store(dx, w.size, column, zip_low(even, odd));
        store(dx, w.size, column + kLanes, zip_high(even, odd));
      }
    }
  }
}

// Fetches what the next row of windows reads and this one does not: a share of it for each window.
AVX512_INLINE void fetch_row(const float* x, const Axis& h, const Axis& w, int o, int c) {
  const float* const next = x + int64_t(o * h.stride - h.pad + h.kernel) * w.size * kLanes;
  for (int i = 0; i < h.stride * w.stride; ++i)
    _mm_prefetch(reinterpret_cast<const char*>(next + (c * h.stride * w.stride + i) * kLanes), _MM_HINT_T0);
}

// Over positions that have `lanes` channels side by side, a multiple of 16: all of an image, or a block of 16. mask
// counts positions and lanes together: (row * columns + column) * lanes + lane. No window is empty.
//
// The best of each row for the windows of that row, kept for the h.kernel rows that windows span, a ring. So a value is
// met by w.kernel + h.kernel comparisons and not by w.kernel * h.kernel. rows: memory for `ring` elements.
inline int64_t ring(const Axis& h, const Axis& w, int lanes) { return int64_t(h.kernel) * w.output * 2 * lanes; }

template <bool indexed>
AVX512 void best_of_row(const float* x, int row, const Axis& w, int lanes, float* best) {
  for (int c = 0; c < w.output; ++c) {
    const Span columns = w[c];
    // A share of the next row: taps that lie `lanes` apart hide from the processor that it is read from end to end.
    const float* next = x + (int64_t(row + 1) * w.size + c * w.stride) * lanes;
    for (int l = 0; l < lanes; l += kLanes, best += indexed ? 2 * kLanes : kLanes) {
      for (int i = 0; i < w.stride; ++i, next += kLanes) _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
      const int32_t first = (row * w.size + columns.begin) * lanes + l;
      __m512i position = _mm512_add_epi32(counting(), _mm512_set1_epi32(first));
      Best state{_mm512_loadu_ps(x + first), position};
      for (int column = columns.begin + 1; column < columns.end; ++column) {
        if (indexed) position = _mm512_add_epi32(position, _mm512_set1_epi32(lanes));
        compare(_mm512_loadu_ps(x + (row * w.size + column) * lanes + l), position, state);
      }
      _mm512_storeu_ps(best, state.most);
      if (indexed) _mm512_storeu_epi32(best + kLanes, state.at);
    }
  }
}

// The rows [begin, end) of windows of an image x; y and mask are those of row `begin`.
template <bool indexed>
AVX512 void max_of_lanes(const float* x, float* y, int32_t* mask, int begin, int end, const Axis& h, const Axis& w,
                         int lanes, float* rows) {
  constexpr int each = indexed ? 2 * kLanes : kLanes;
  const int64_t length = int64_t(w.output) * (lanes / kLanes) * each;
  int seen = 0;
  for (int o = begin; o < end; ++o) {
    const Span span = h[o];
    for (seen = std::max(seen, span.begin); seen < span.end; ++seen)
      best_of_row<indexed>(x, seen, w, lanes, rows + seen % h.kernel * length);
    const float *const first = rows + span.begin % h.kernel * length, *const last = rows + (h.kernel - 1) * length;
    for (int64_t i = 0; i < length; i += each, y += kLanes, mask += indexed ? kLanes : 0) {
      const float* from = first + i;
      Best best{_mm512_loadu_ps(from), indexed ? _mm512_loadu_si512(from + kLanes) : _mm512_setzero_si512()};
      for (int row = span.begin + 1; row < span.end; ++row) {
        from = from < last ? from + length : rows + i;
        compare(_mm512_loadu_ps(from), indexed ? _mm512_loadu_si512(from + kLanes) : best.at, best);
      }
      _mm512_storeu_ps(y, best.most);
      if (indexed) _mm512_storeu_epi32(mask, best.at);
    }
  }
}

// Window by window; rows become 0 just before the first window adds to them, while they are in the cache.
AVX512 void max_backward_of_blocks(const float* dy, const int32_t* mask, float* dx, const Axis& h, const Axis& w) {
  int cleared = 0;
  for (int o = 0; o <= h.output; ++o) {
    const Span rows = o < h.output ? h[o] : Span{h.size, h.size, 0};
    for (; cleared < rows.end; ++cleared)
      for (int i = 0; i < w.size; ++i) _mm512_storeu_ps(dx + (cleared * w.size + i) * kLanes, _mm512_setzero_ps());
    for (int c = 0; o < h.output && c < w.output; ++c, dy += kLanes, mask += kLanes) {
      const Span columns = w[c];
      const __m512i where = _mm512_sub_epi32(_mm512_loadu_epi32(mask), counting());
      const __m512 diff = _mm512_loadu_ps(dy);
      for (int row = rows.begin; row < rows.end; ++row)
        for (int column = columns.begin; column < columns.end; ++column) {
          const int32_t at = (row * w.size + column) * kLanes;
          const __m512 sum = _mm512_loadu_ps(dx + at);
          const __mmask16 here = _mm512_cmpeq_epi32_mask(where, _mm512_set1_epi32(at));
          _mm512_storeu_ps(dx + at, _mm512_mask_add_ps(sum, here, sum, diff));
        }
    }
  }
}

AVX512 void average_of_blocks(const float* x, float* y, const Axis& h, const Axis& w, const float* across,
                              const float* down) {
  for (int o = 0; o < h.output; ++o) {
    const Span rows = h[o];
    for (int c = 0; c < w.output; ++c, y += kLanes) {
      const Span columns = w[c];
      fetch_row(x, h, w, o, c);
      __m512 total = _mm512_setzero_ps();
      for (int row = rows.begin; row < rows.end; ++row) {
        __m512 sum = _mm512_setzero_ps();
        for (int column = columns.begin; column < columns.end; ++column)
          sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + (row * w.size + column) * kLanes));
        total = _mm512_add_ps(total, sum);
      }
      _mm512_storeu_ps(y, _mm512_div_ps(total, _mm512_set1_ps(across[c] * down[o])));
    }
  }
}

// shares: memory for h.output * w.output * 16 elements.
AVX512 void spread_over_blocks(const float* dy, float* dx, const Axis& h, const Axis& w, const float* across,
                               const float* down, float* shares) {
  for (int o = 0; o < h.output; ++o)
    for (int c = 0; c < w.output; ++c) {
      const int64_t at = (int64_t(o) * w.output + c) * kLanes;
      const __m512 number = _mm512_set1_ps(across[c] * down[o]);
      _mm512_storeu_ps(shares + at, _mm512_div_ps(_mm512_loadu_ps(dy + at), number));
    }
  for (int row = 0; row < h.size; ++row) {
    const Span rows = portable::covering(row, h.kernel, h.stride, h.pad, h.output);
    for (int column = 0; column < w.size; ++column, dx += kLanes) {
      const Span columns = portable::covering(column, w.kernel, w.stride, w.pad, w.output);
      __m512 sum = _mm512_setzero_ps();
      for (int o = rows.begin; o < rows.end; ++o)
        for (int c = columns.begin; c < columns.end; ++c)
          sum = _mm512_add_ps(sum, _mm512_loadu_ps(shares + (int64_t(o) * w.output + c) * kLanes));
      _mm512_storeu_ps(dx, sum);
    }
  }
}

// Whether a position is covered by so few windows that asking all of them is quicker than a loop over windows.
inline bool is_gathered(const Axis& h, const Axis& w) {
  const int down = (h.kernel + h.stride - 1) / h.stride, across = (w.kernel + w.stride - 1) / w.stride;
  return w.stride <= 2 && down * across <= 16;
}

// The function for a kernel and stride along rows.
#define LAYERFORGE_CHOOSE(function, w)                   \
  ((w).kernel == 2 && (w).stride == 2   ? function<2, 2> \
   : (w).kernel == 3 && (w).stride == 2 ? function<3, 2> \
   : (w).kernel == 3 && (w).stride == 1 ? function<3, 1> \
   : (w).stride == 1                    ? function<0, 1> \
   : (w).stride == 2                    ? function<0, 2> \
                                        : function<0, 0>)

}  // namespace wide
