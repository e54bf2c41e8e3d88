// Whole rows and lines at a time: which element of the small array is met is then known outside the inner loop, which
// has no divisions and runs in wide strips.
#include "column_sums.h"
#include "strips.h"

namespace {

template <class Body>
struct Loop {
  CLONES static void run(index_t count, Body body) {
#pragma GCC ivdep
    for (index_t j = 0; j < count; ++j) body(j);
  }
};

template <class Body>
void loop(index_t count, Body body) {
  Loop<Body>::run(count, body);
}

// body(e, c) for every element e of the large array and the element c of the small one that it meets.
template <class Body>
void meet(index_t count, index_t size, index_t inner, Body body) {
  if (count == 0) return;
  if (inner == 1)
    parallel(count / size, [=](int64_t begin, int64_t end, int) {
      for (index_t n = begin; n < end; ++n) loop(size, [=](index_t c) { body(n * size + c, c); });
    });
  else
    parallel(count / inner, [=](int64_t begin, int64_t end, int) {
      for (index_t row = begin; row < end; ++row) {
        const index_t first = row * inner, c = row % size;
        loop(inner, [=](index_t j) { body(first + j, c); });
      }
    });
}

}  // namespace

template <class T>
struct Blocks {
  CLONES static void scale_and_shift(int64_t begin, int64_t end, const T* x, const T* w, const T* b, T* y,
                                     int64_t groups, int64_t inner, int64_t block) {
    const int64_t count = inner * block;
    Along<T> v, o;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t c = r % groups * block;
      v.fill(w ? w + c : nullptr, 1, block);
      o.fill(b ? b + c : nullptr, 0, block);
      const T* from = x + r * count;
      T* to = y + r * count;
#define BODY(e, k) to[e] = from[e] * v.value[k] + o.value[k];
      STRIPS(count, BODY);
#undef BODY
    }
  }

  CLONES static void sums(int64_t begin, int64_t end, const T* x, const T* y, T* sum, int64_t inner, int64_t block) {
    const int64_t count = inner * block;
    for (int64_t r = begin; r < end; ++r) {
      const T *a = x + r * count, *b = y + r * count;
      T lanes[strip<T>] = {};
      if (y) {
#define BODY(e, k) lanes[k] += a[e] * b[e];
        STRIPS(count, BODY);
#undef BODY
      } else {
#define BODY(e, k) lanes[k] += a[e];
        STRIPS(count, BODY);
#undef BODY
      }
      fold(lanes, block);
      for (int64_t l = 0; l < block; ++l) sum[r * block + l] = lanes[l];
    }
  }

  CLONES static void wide_sums(int64_t begin, int64_t end, const T* x, const T* y, T* sum, int64_t inner,
                               int64_t block) {
    for_wide_lanes(begin, end, x, inner, block, [=](int64_t c, int width, const T* a) {
      T lanes[strip<T>] = {};
      for (int64_t j = 0; j < inner * block; j += block)
        for (int k = 0; k < width; ++k) lanes[k] += y ? a[j + k] * y[a - x + j + k] : a[j + k];
      for (int k = 0; k < width; ++k) sum[c + k] = lanes[k];
    });
  }
};

template <class T>
void scale_and_shift(index_t count, const T* x, const T* w, const T* b, T* y, index_t size, index_t inner,
                     index_t block) {
  if (count == 0) return;
  if (block == size) inner = 1;  // lines of all channels
  if (block > 1 && block < size)
    parallel(count / (inner * block), [=](int64_t begin, int64_t end, int) {
      Blocks<T>::scale_and_shift(begin, end, x, w, b, y, size / block, inner, block);
    });
  else if (w && b)
    meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] * w[c] + b[c]; });
  else if (w)
    meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] * w[c]; });
  else
    meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] + b[c]; });
}
CPU_KERNEL(scale_and_shift)

template <class T>
void shift(index_t count, const T* x, const T* b, T* y, index_t size, index_t inner) {
  meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] + b[c]; });
}
CPU_KERNEL(shift)

template <class T>
void lane_sums(index_t count, const T* x, const T* y, T* sum, index_t inner, index_t block) {
  const auto sums = block > strip<T> ? Blocks<T>::wide_sums : Blocks<T>::sums;
  parallel(count / block, [=](int64_t begin, int64_t end, int) { sums(begin, end, x, y, sum, inner, block); });
}
CPU_KERNEL(lane_sums)

template <class T>
void prelu_forward(index_t count, const T* x, const T* w, T* y, index_t size, index_t inner) {
  meet(count, size, inner, [=](index_t e, index_t c) {
    const T slope = w[c];
    y[e] = x[e] > 0 ? x[e] : slope * x[e];
  });
}
CPU_KERNEL(prelu_forward)

template <class T>
void prelu_backward(index_t count, const T* x, const T* w, const T* dy, T* dx, index_t size, index_t inner) {
  meet(count, size, inner, [=](index_t e, index_t c) {
    const T slope = w[c];
    dx[e] = x[e] > 0 ? dy[e] : slope * dy[e];
  });
}
CPU_KERNEL(prelu_backward)

template <class T>
void spread_rows(index_t count, const T* dy, T* dx, index_t inner, T factor) {
  meet(count, count / inner, inner, [=](index_t e, index_t c) { dx[e] = factor * dy[c]; });
}
CPU_KERNEL(spread_rows)

template <class T>
void spread_signs(index_t count, const T* x, const T* dy, T* dx, index_t inner, T factor) {
  meet(count, count / inner, inner, [=](index_t e, index_t c) {
    const T slope = factor * dy[c];
    dx[e] = x[e] > 0 ? slope : x[e] < 0 ? -slope : T(0);
  });
}
CPU_KERNEL(spread_signs)

template <class T>
void spread_products(index_t count, const T* x, const T* dy, T* dx, index_t inner, T factor) {
  meet(count, count / inner, inner, [=](index_t e, index_t c) { dx[e] = factor * dy[c] * x[e]; });
}
CPU_KERNEL(spread_products)

template <class T>
void sum_columns(index_t count, const T* rows, T* y, index_t outer, index_t size, bool add) {
  add_columns(count, rows, y, outer, size, add);
}
CPU_KERNEL(sum_columns)
