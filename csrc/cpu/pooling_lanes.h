// Pooling over (rows, columns) of positions that have a multiple of 8 lanes each, which no window spans: a blob that
// lies in blocks of channels. Included by pooling.cpp, which has Axis, Span and beats(). The number of lanes is a
// variable, because the compiler unrolls short loops of a known length instead of vectorising them. The windows of one
// row at a time, which cover `rows` of the image x.
#pragma once

// One tap: y and mask hold the best so far of each lane. mask counts positions and lanes together:
// (row * columns + column) * lanes + lane.
template <bool indexed, class T>
INLINE void best_lanes(const T* __restrict__ x, int32_t at, int count, T* __restrict__ y, int32_t* __restrict__ mask) {
  for (int l = 0; l < count; ++l) {
    const bool better = beats(x[l], y[l]);
    y[l] = better ? x[l] : y[l];
    if (indexed) mask[l] = better ? at + l : mask[l];
  }
}

template <bool indexed, class T>
CLONES void max_of_lanes(const T* __restrict__ x, T* __restrict__ y, int32_t* __restrict__ mask, Span rows, Axis w,
                         int lanes) {
  for (int c = 0; c < w.output; ++c, y += lanes, mask += indexed ? lanes : 0) {
    const Span columns = w[c];
    const bool outside = rows.begin >= rows.end || columns.begin >= columns.end;
    const int32_t start = (rows.begin * w.size + columns.begin) * lanes;
    for (int l = 0; l < lanes; ++l) y[l] = outside ? 0 : x[start + l];
    for (int l = 0; indexed && l < lanes; ++l) mask[l] = outside ? -1 : start + l;
    for (int row = rows.begin; row < rows.end; ++row)
      for (int column = columns.begin; column < columns.end; ++column) {
        const int32_t at = (row * w.size + column) * lanes;
        best_lanes<indexed>(x + at, at, lanes, y, mask);
      }
  }
}

// across, down: how many positions the windows of each axis count. sums: memory for w.size * lanes elements.
template <class T>
CLONES void average_of_lanes(const T* __restrict__ x, T* __restrict__ y, Span rows, Axis w, int lanes,
                             const T* __restrict__ across, T down, T* __restrict__ sums) {
  const int length = w.size * lanes;
  for (int i = 0; i < length; ++i) sums[i] = 0;
  for (int row = rows.begin; row < rows.end; ++row)
    for (int i = 0; i < length; ++i) sums[i] += x[row * length + i];
  for (int c = 0; c < w.output; ++c, y += lanes) {
    const Span columns = w[c];
    for (int l = 0; l < lanes; ++l) y[l] = 0;
    for (int column = columns.begin; column < columns.end; ++column)
      for (int l = 0; l < lanes; ++l) y[l] += sums[column * lanes + l];
    const T count = across[c] * down;
    for (int l = 0; l < lanes; ++l) y[l] /= count;
  }
}

template <class T>
CLONES void spread_over_lanes(const T* __restrict__ dy, T* __restrict__ dx, Axis h, Axis w, int lanes,
                              const T* __restrict__ across, const T* __restrict__ down, T* __restrict__ shares) {
  const int length = w.size * lanes;
  for (int i = 0; i < h.size * length; ++i) dx[i] = 0;
  for (int o = 0; o < h.output; ++o) {
    const Span rows = h[o];
    for (int i = 0; i < length; ++i) shares[i] = 0;
    for (int c = 0; c < w.output; ++c, dy += lanes) {
      const Span columns = w[c];
      const T count = across[c] * down[o];
      for (int column = columns.begin; column < columns.end; ++column)
        for (int l = 0; l < lanes; ++l) shares[column * lanes + l] += dy[l] / count;
    }
    for (int row = rows.begin; row < rows.end; ++row)
      for (int i = 0; i < length; ++i) dx[row * length + i] += shares[i];
  }
}
