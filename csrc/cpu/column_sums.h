// Sums over the rows of a matrix.
#pragma once
#include "cpu.h"

namespace {

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

// y = the sum of `outer` rows of `size` elements, added to y or not, for the first `count` columns.
template <class T>
void add_columns(int64_t count, const T* rows, T* y, int64_t outer, int64_t size, bool add) {
  constexpr int64_t width = Columns<T>::width, few = 1 << 15;  // elements
  const auto body = [=](int64_t begin, int64_t end, int) {
    for (int64_t c = begin * width; c < std::min<int64_t>(count, end * width); c += width)
      Columns<T>::add(rows + c, y + c, outer, size, std::min<int64_t>(width, count - c), add);
  };
  parallel((count + width - 1) / width, body, 1 + few / (width * std::max<int64_t>(1, outer)));
}

}  // namespace
