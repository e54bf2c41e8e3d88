// Columns by rows. For one tap, where each row starts in the input is the same for all channels, so it is
// looked up once; then every channel is a few copies of whole rows, or one copy where rows lie one behind the other.
#include <cstring>

#include "convolution.h"
#include "cpu.h"

Geometry::Geometry(const int64_t* numbers) {
  batch = numbers[0], channels = numbers[1], num_output = numbers[2], group = numbers[3];
  const int64_t axes = numbers[4];
  const int64_t* next = numbers + 5;
  for (auto* list : {&spatial, &kernel, &stride, &pad, &dilation, &output}) {
    list->assign(next, next + axes);
    if (axes == 0) list->push_back(list == &pad ? 0 : 1);  // no spatial axis: one position
    next += axes;
  }
  plane = taps = rows = 1;
  direct = true;
  for (size_t a = 0; a < spatial.size(); ++a) {
    plane *= spatial[a];
    taps *= kernel[a];
    if (a + 1 < spatial.size()) rows *= output[a];
    direct = direct && kernel[a] == 1 && stride[a] == 1 && pad[a] == 0;
  }
  width = output.back();
  positions = rows * width;
  group_channels = channels / group;
  group_outputs = num_output / group;
  K = group_channels * taps;
}

void Reads::look_up(const Geometry& g, int64_t index, int64_t begin, int64_t end) {
  const int last_axis = int(g.spatial.size()) - 1;
  const int64_t tap = index % g.kernel[last_axis];
  index /= g.kernel[last_axis];
  stride = g.stride[last_axis];
  const int64_t shift = tap * g.dilation[last_axis] - g.pad[last_axis], size = g.spatial[last_axis];
  low = shift < 0 ? (-shift + stride - 1) / stride : 0;
  high = size - shift > 0 ? (size - shift + stride - 1) / stride : 0;
  low = std::min(low, g.width);
  high = std::max(low, std::min(high, g.width));
  start = low * stride + shift;

  row.resize(end - begin);
  first = end - begin, last = 0;
  for (int64_t r = begin; r < end; ++r) {
    int64_t rest = r, taps = index, offset = 0, unit = size;
    for (int axis = last_axis - 1; axis >= 0; --axis) {
      const int64_t o = rest % g.output[axis], k = taps % g.kernel[axis];
      rest /= g.output[axis], taps /= g.kernel[axis];
      const int64_t i = o * g.stride[axis] - g.pad[axis] + k * g.dilation[axis];
      if (i < 0 || i >= g.spatial[axis]) offset = -1;
      if (offset >= 0) offset += i * unit;
      unit *= g.spatial[axis];
    }
    row[r - begin] = offset;
    if (offset >= 0) {
      first = std::min(first, r - begin);
      last = r - begin + 1;
    }
  }
  if (low == high) last = first = 0;
  first = std::min(first, last);
  together = stride == 1;
  for (int64_t r = first + 1; r < last; ++r) together = together && row[r] == row[r - 1] + g.width && row[r - 1] >= 0;
}

namespace {

template <int step, class T>
inline void copy_strided(const T* from, int64_t stride, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * (step ? step : stride)];
}

template <class T>
CLONES void copy_rows(const Reads& reads, const T* x, int64_t width, T* to) {
  const int64_t low = reads.low, count = reads.high - reads.low, stride = reads.stride, rows = reads.row.size();
  const int64_t* const row = reads.row.data();
  for (int64_t r = 0; r < rows; ++r, to += width) {
    if (row[r] < 0 || count == 0) {
      std::fill(to, to + width, T(0));
      continue;
    }
    const T* from = x + row[r] + reads.start;
    for (int64_t i = 0; i < low; ++i) to[i] = 0;
    if (stride == 1)
      copy_strided<1>(from, stride, count, to + low);
    else if (stride == 2)
      copy_strided<2>(from, stride, count, to + low);
    else if (stride == 4)
      copy_strided<4>(from, stride, count, to + low);
    else
      copy_strided<0>(from, stride, count, to + low);
    for (int64_t i = low + count; i < width; ++i) to[i] = 0;
  }
}

// Sets the entries of rows [first, last) that lie outside along the last axis.
template <class T>
inline void clear_sides(const Reads& reads, int64_t width, T* to) {
  if (reads.low == 0 && reads.high == width) return;
  for (int64_t r = reads.first; r < reads.last; ++r) {
    for (int64_t i = 0; i < reads.low; ++i) to[r * width + i] = 0;
    for (int64_t i = reads.high; i < width; ++i) to[r * width + i] = 0;
  }
}

template <class T>
CLONES void add(const T* __restrict__ from, int64_t count, T* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

template <int step, class T>
inline void add_strided(const T* __restrict__ from, int64_t stride, int64_t count, T* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i * (step ? step : stride)] += from[i];
}

template <class T>
CLONES void add_rows(const Reads& reads, const T* from, int64_t width, T* x) {
  const int64_t low = reads.low, count = reads.high - reads.low, stride = reads.stride;
  const int64_t* const row = reads.row.data();
  for (int64_t r = reads.first; r < reads.last; ++r) {
    if (row[r] < 0) continue;
    T* to = x + row[r] + reads.start;
    const T* entries = from + r * width + low;
    if (stride == 1)
      add_strided<1>(entries, stride, count, to);
    else if (stride == 2)
      add_strided<2>(entries, stride, count, to);
    else
      add_strided<0>(entries, stride, count, to);
  }
}

}  // namespace

template <class T>
void gather_columns(const Geometry& g, const T* x, int64_t channels, int64_t begin, int64_t end, T* columns,
                    int64_t stride) {
  static thread_local Reads reads;
  for (int64_t tap = 0; tap < g.taps; ++tap) {
    reads.look_up(g, tap, begin, end);
    const int64_t first = reads.first * g.width + reads.low;
    const int64_t count = reads.last > reads.first ? (reads.last - 1) * g.width + reads.high - first : 0;
    for (int64_t c = 0; c < channels; ++c) {
      T* to = columns + (c * g.taps + tap) * stride;
      const T* plane = x + c * g.plane;
      if (reads.together) {
        std::fill(to, to + reads.first * g.width, T(0));
        if (count) std::memcpy(to + first, plane + reads.row[reads.first] + reads.start, count * sizeof(T));
        clear_sides(reads, g.width, to);
        std::fill(to + reads.last * g.width, to + (end - begin) * g.width, T(0));
      } else {
        copy_rows(reads, plane, g.width, to);
      }
    }
  }
}

template <class T>
void scatter_columns(const Geometry& g, T* columns, int64_t channels, int64_t begin, int64_t end, T* x,
                     int64_t stride) {
  static thread_local Reads reads;
  for (int64_t tap = 0; tap < g.taps; ++tap) {
    reads.look_up(g, tap, begin, end);
    if (reads.first == reads.last) continue;
    const int64_t first = reads.first * g.width + reads.low;
    const int64_t count = (reads.last - 1) * g.width + reads.high - first;
    for (int64_t c = 0; c < channels; ++c) {
      T* from = columns + (c * g.taps + tap) * stride;
      T* plane = x + c * g.plane;
      if (reads.together) {
        clear_sides(reads, g.width, from);
        add(from + first, count, plane + reads.row[reads.first] + reads.start);
      } else {
        add_rows(reads, from, g.width, plane);
      }
    }
  }
}

template void gather_columns(const Geometry&, const float*, int64_t, int64_t, int64_t, float*, int64_t);
template void gather_columns(const Geometry&, const double*, int64_t, int64_t, int64_t, double*, int64_t);
template void scatter_columns(const Geometry&, float*, int64_t, int64_t, int64_t, float*, int64_t);
template void scatter_columns(const Geometry&, double*, int64_t, int64_t, int64_t, double*, int64_t);
