// im2col and col2im of whole blobs, by rows; see columns.cpp.
#include "convolution.h"
#include "cpu.h"

namespace {

Geometry geometry_of(const int32_t* shape) {
  std::vector<int64_t> numbers = {1, 1, 1, 1};
  numbers.insert(numbers.end(), shape, shape + 1 + 6 * shape[0]);
  return Geometry(numbers.data());
}

template <class T>
void im2col(index_t count, const T* x, T* columns, const int32_t* shape) {
  const Geometry g = geometry_of(shape);
  parallel(count / std::max<int64_t>(1, g.positions), [&](int64_t begin, int64_t end, int) {
    gather_columns(g, x + begin * g.plane, end - begin, 0, g.rows, columns + begin * g.taps * g.positions, g.positions);
  });
}

// Scattering clears the sides of the columns, so it gets a copy of each plane's.
template <class T>
void col2im(index_t count, const T* columns, T* x, const int32_t* shape) {
  const Geometry g = geometry_of(shape);
  parallel(count / std::max<int64_t>(1, g.plane), [&](int64_t begin, int64_t end, int) {
    const int64_t size = g.taps * g.positions;
    std::vector<T> copy(size);
    std::fill(x + begin * g.plane, x + end * g.plane, T(0));
    for (int64_t plane = begin; plane < end; ++plane) {
      std::copy(columns + plane * size, columns + (plane + 1) * size, copy.begin());
      scatter_columns(g, copy.data(), 1, 0, g.rows, x + plane * g.plane, g.positions);
    }
  });
}

}  // namespace

CPU_KERNEL(im2col)
CPU_KERNEL(col2im)
