// Whole rows and lines at a time: which element of the small array is met is then known outside the inner loop, which
// has no divisions and runs in wide strips.
#include "cpu.h"

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
void scale_and_shift(index_t count, const T* x, const T* w, const T* b, T* y, index_t size, index_t inner) {
  if (b)
    meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] * w[c] + b[c]; });
  else
    meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] * w[c]; });
}
CPU_KERNEL(scale_and_shift)

template <class T>
void shift(index_t count, const T* x, const T* b, T* y, index_t size, index_t inner) {
  meet(count, size, inner, [=](index_t e, index_t c) { y[e] = x[e] + b[c]; });
}
CPU_KERNEL(shift)

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

// Neighbouring columns side by side, each in the eight lanes of sum_of.
template <class T>
struct Columns {
  static constexpr int64_t width = 64;

  CLONES static void add(const T* rows, T* y, int64_t outer, int64_t size, int64_t columns, bool add) {
    T lane[8][width] = {};
    for (int64_t n = 0; n < outer; ++n) {
      const T* row = rows + n * size;
      T* sum = lane[n % 8];
      for (int64_t c = 0; c < columns; ++c) sum[c] += row[c];
    }
    for (int64_t c = 0; c < columns; ++c) {
      const T sum = ((lane[0][c] + lane[4][c]) + (lane[1][c] + lane[5][c])) +
                    ((lane[2][c] + lane[6][c]) + (lane[3][c] + lane[7][c]));
      y[c] = add ? y[c] + sum : sum;
    }
  }
};

template <class T>
void sum_columns(index_t count, const T* rows, T* y, index_t outer, index_t size, bool add) {
  constexpr int64_t width = Columns<T>::width;
  parallel((count + width - 1) / width, [=](int64_t begin, int64_t end, int) {
    for (int64_t c = begin * width; c < std::min<int64_t>(count, end * width); c += width)
      Columns<T>::add(rows + c, y + c, outer, size, std::min<int64_t>(width, count - c), add);
  });
}
CPU_KERNEL(sum_columns)
