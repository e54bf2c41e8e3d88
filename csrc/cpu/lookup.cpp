// Whole rows at a time; and the chains of equal indices by sorting, which does not compare every item with every other.
#include <cstring>
#include <vector>

#include "cpu.h"

namespace {

// Shares out rows, as many at a time as are worth a thread.
template <class Body>
void on_rows(int64_t rows, int64_t inner, const Body& body) {
  const int64_t run = std::max<int64_t>(1, 4096 / std::max<int64_t>(1, inner));
  parallel((rows + run - 1) / run, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin * run; row < std::min(rows, end * run); ++row) body(row);
  });
}

template <class T>
CLONES void add_row(const T* a, const T* b, T* y, int64_t count) {
  INDEPENDENT
  for (int64_t j = 0; j < count; ++j) y[j] = a[j] + b[j];
}

template <class T>
void take_rows(index_t count, const T* w, const int32_t* index, const T* b, T* y, index_t inner) {
  if (count == 0) return;
  on_rows(count / inner, inner, [=](int64_t m) {
    const T* row = w + index[m] * int64_t(inner);
    if (b)
      add_row(row, b, y + m * inner, inner);
    else
      std::memcpy(y + m * inner, row, inner * sizeof(T));
  });
}

void chain_items(index_t count, const int32_t* index, int32_t* next, int32_t* first, index_t items) {
  (void)items;
  std::vector<std::pair<int32_t, int32_t>> order(count);
  for (int64_t i = 0; i < count; ++i) order[i] = {index[i], int32_t(i)};
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < count; ++i) {
    const bool last = i + 1 == count || order[i + 1].first != order[i].first;
    next[order[i].second] = last ? -1 : order[i + 1].second;
    first[order[i].second] = i == 0 || order[i - 1].first != order[i].first;
  }
}

template <class T>
void add_rows(index_t count, const int32_t* index, const int32_t* next, const int32_t* first, const T* dy, T* dw,
              index_t inner) {
  if (count == 0) return;
  on_rows(count / inner, inner, [=](int64_t m) {
    T* row = dw + index[m] * int64_t(inner);
    for (int64_t item = first[m] ? m : -1; item >= 0; item = next[item]) add_row(row, dy + item * inner, row, inner);
  });
}

template <class T>
void place_rows(index_t count, const T* dy, const int32_t* place, T* dx, index_t inner) {
  if (count == 0) return;
  on_rows(count / inner, inner, [=](int64_t n) {
    if (place[n] < 0)
      std::fill_n(dx + n * inner, inner, T(0));
    else
      std::memcpy(dx + n * inner, dy + place[n] * int64_t(inner), inner * sizeof(T));
  });
}

}  // namespace

CPU_KERNEL(take_rows)
CPU_KERNEL_WITHOUT_TYPE(chain_items)
CPU_KERNEL(add_rows)
CPU_KERNEL(place_rows)
