// Whole pieces of rows at a time.
#include <cstring>

#include "cpu.h"

namespace {

// body(from, at, length) for the pieces of rows that make up a part: where each begins in the part, and in the whole.
template <class Body>
void pieces(int64_t count, index_t width, index_t distance, index_t offset, const Body& body) {
  constexpr int64_t run = 1 << 14;  // elements that are worth a thread
  parallel((count + run - 1) / run, [=](int64_t begin, int64_t end, int) {
    const int64_t stop = std::min(count, end * run);
    for (int64_t i = begin * run; i < stop;) {
      const int64_t row = i / width, length = std::min(stop, (row + 1) * width) - i;
      body(i, row * distance + offset + i - row * width, length);
      i += length;
    }
  });
}

template <class T>
void take_part(index_t count, const T* whole, T* part, index_t width, index_t distance, index_t offset) {
  pieces(count, width, distance, offset,
         [=](int64_t from, int64_t at, int64_t length) { std::memcpy(part + from, whole + at, length * sizeof(T)); });
}

template <class T>
CLONES void rectify(const T* from, const T* x, T slope, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = x[i] > 0 ? from[i] : slope * from[i];
}

template <class T>
void take_rectified_part(index_t count, const T* whole, const T* x, T* part, T slope, index_t width, index_t distance,
                         index_t offset) {
  pieces(count, width, distance, offset,
         [=](int64_t from, int64_t at, int64_t length) { rectify(whole + at, x + from, slope, length, part + from); });
}

template <class T>
void put_part(index_t count, const T* part, T* whole, index_t width, index_t distance, index_t offset) {
  pieces(count, width, distance, offset,
         [=](int64_t from, int64_t at, int64_t length) { std::memcpy(whole + at, part + from, length * sizeof(T)); });
}

}  // namespace

CPU_KERNEL(take_part)
CPU_KERNEL(take_rectified_part)
CPU_KERNEL(put_part)
