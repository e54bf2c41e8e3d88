// Statistics and what is normalised by them, by rows: a row of one channel is one strip, and where the channels are the
// last axis, a row of all of them. Sums run in many lanes, in an order that the sizes alone decide.
#include "cpu.h"

namespace {

#define INLINE inline __attribute__((always_inline))

// The sum of body(j) over a strip, in as many lanes as keep the adders busy.
template <class T, int lanes, class Body>
INLINE T add_in_lanes(int64_t count, Body body) {
  T lane[lanes] = {};
  int64_t j = 0;
  for (; j + lanes <= count; j += lanes)
    for (int k = 0; k < lanes; ++k) lane[k] += body(j + k);
  for (int k = 0; j < count; ++j, ++k) lane[k] += body(j);
  for (int half = lanes / 2; half; half /= 2)
    for (int k = 0; k < half; ++k) lane[k] += lane[k + half];
  return lane[0];
}

template <class T, class Body>
INLINE T add_up(int64_t count, Body body) {
  constexpr int most = 256 / sizeof(T);  // four of the widest registers
  return count >= 4 * most ? add_in_lanes<T, most>(count, body) : add_in_lanes<T, 8>(count, body);
}

template <class T>
struct Rows {
  CLONES static void moments(int64_t begin, int64_t end, const T* x, T* mean, T* square, int64_t inner) {
    for (int64_t i = begin; i < end; ++i) {
      const T* row = x + i * inner;
      const T m = add_up<T>(inner, [=](int64_t j) { return row[j]; }) / T(inner);
      mean[i] = m;
      square[i] = add_up<T>(inner, [=](int64_t j) { return (row[j] - m) * (row[j] - m); });
    }
  }

  CLONES static void products(int64_t begin, int64_t end, const T* x, const T* mean, const T* dy, T* sum, T* dot,
                              int64_t size, int64_t rows, int64_t inner) {
    for (int64_t i = begin; i < end; ++i) {
      const T *row = x + i * inner, *d = dy + i * inner;
      const T m = mean[i / rows % size];
      sum[i] = add_up<T>(inner, [=](int64_t j) { return d[j]; });
      dot[i] = add_up<T>(inner, [=](int64_t j) { return d[j] * (row[j] - m); });
    }
  }
};

template <class Body>
struct Loop {
  CLONES static void run(int64_t count, Body body) {
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) body(j);
  }
};

template <class Body>
void loop(int64_t count, Body body) {
  Loop<Body>::run(count, body);
}

// body(e, c) for every element e of an array (..., size, inner) and the statistic c that it meets.
template <class Body>
void meet(int64_t count, int64_t size, int64_t inner, Body body) {
  if (count == 0) return;
  if (inner == 1)
    parallel(count / size, [=](int64_t begin, int64_t end, int) {
      for (int64_t n = begin; n < end; ++n) loop(size, [=](int64_t c) { body(n * size + c, c); });
    });
  else
    parallel(count / inner, [=](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t first = row * inner, c = row % size;
        loop(inner, [=](int64_t j) { body(first + j, c); });
      }
    });
}

template <class T>
void row_moments(index_t count, const T* x, T* mean, T* square, index_t inner) {
  parallel(count, [=](int64_t begin, int64_t end, int) { Rows<T>::moments(begin, end, x, mean, square, inner); });
}

template <class T>
void group_moments(index_t count, const T* row_mean, const T* row_square, T* mean, T* square, index_t rows,
                   index_t inner) {
  parallel(count, [=](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const T *means = row_mean + i * rows, *squares = row_square + i * rows;
      const T m = add_up<T>(rows, [=](int64_t k) { return means[k]; }) / T(rows);
      mean[i] = m;
      square[i] = T(inner) * add_up<T>(rows, [=](int64_t k) { return (means[k] - m) * (means[k] - m); });
      square[i] += add_up<T>(rows, [=](int64_t k) { return squares[k]; });
    }
  });
}

template <class T>
void normalise(index_t count, const T* x, const T* mean, const T* scale, T* y, T* kept, index_t size, index_t inner) {
  if (kept)
    meet(count, size, inner, [=](int64_t e, int64_t c) {
      const T value = x[e];
      kept[e] = value;
      y[e] = scale ? (value - mean[c]) * scale[c] : value - mean[c];
    });
  else if (scale)
    meet(count, size, inner, [=](int64_t e, int64_t c) { y[e] = (x[e] - mean[c]) * scale[c]; });
  else
    meet(count, size, inner, [=](int64_t e, int64_t c) { y[e] = x[e] - mean[c]; });
}

template <class T>
void row_products(index_t count, const T* x, const T* mean, const T* dy, T* sum, T* dot, index_t size, index_t rows,
                  index_t inner) {
  if (inner == 1 && rows == 1) {
    meet(count, size, 1, [=](int64_t e, int64_t c) {
      sum[e] = dy[e];
      dot[e] = dy[e] * (x[e] - mean[c]);
    });
    return;
  }
  parallel(count, [=](int64_t begin, int64_t end, int) {
    Rows<T>::products(begin, end, x, mean, dy, sum, dot, size, rows, inner);
  });
}

template <class T>
void normalise_backward(index_t count, const T* x, const T* mean, const T* scale, const T* dy, const T* sum,
                        const T* dot, T* dx, index_t size, index_t inner, T number) {
  if (scale)
    meet(count, size, inner, [=](int64_t e, int64_t c) {
      const T slope = scale[c] * scale[c] * dot[c] / number, level = sum[c] / number;
      dx[e] = ((dy[e] - level) - (x[e] - mean[c]) * slope) * scale[c];
    });
  else
    meet(count, size, inner, [=](int64_t e, int64_t c) {
      const T level = sum[c] / number;
      dx[e] = dy[e] - level;
    });
}

}  // namespace

CPU_KERNEL(row_moments)
CPU_KERNEL(group_moments)
CPU_KERNEL(normalise)
CPU_KERNEL(row_products)
CPU_KERNEL(normalise_backward)
