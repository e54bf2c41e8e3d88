// The inner loops of panels.cpp, for one instruction set. Included in a namespace for each, with these defined:
//
//   TARGET    the function attribute that allows the instructions
//   LANES     floats of a vector V, PANEL vectors of a panel
//   V, load, store, load_some, store_some, broadcast, fma, add, zero, transpose_block
//
// No include guard.

constexpr int kWidth = LANES * PANEL;

// Stores under a mask are slow where what they wrote is soon read again: the rest of a run goes in halves, then singly.

TARGET inline void copy(const float* from, int64_t count, float* to) {
  for (; count >= LANES; count -= LANES, from += LANES, to += LANES) store(to, load(from));
  if (count >= HALF) {
    store_half(to, load_half(from));
    count -= HALF, from += HALF, to += HALF;
  }
  for (; count > 0; --count) *to++ = *from++;
}

TARGET inline void add_to(const float* from, int64_t count, float* to) {
  for (; count >= LANES; count -= LANES, from += LANES, to += LANES) store(to, add(load(to), load(from)));
  if (count >= HALF) {
    store_half(to, add_half(load_half(to), load_half(from)));
    count -= HALF, from += HALF, to += HALF;
  }
  for (; count > 0; --count) *to++ += *from++;
}

// Whole vectors, each of which writes over the end of the one before: the panel has room for one more.
TARGET void pack(const float* x, const int64_t* offsets, int64_t count, const Run* runs, int number, float* panel) {
  for (int64_t k = 0; k < count; ++k, panel += kWidth) {
    for (int n = 0; n < number; ++n) {
      const float* from = x + offsets[k] + runs[n].from;
      float* to = panel + runs[n].at;
      int64_t rest = runs[n].length;
      for (; rest >= LANES; rest -= LANES, from += LANES, to += LANES) store(to, load(from));
      if (rest > 0) store(to, load_some(from, int(rest)));
    }
  }
}

TARGET void scatter(const float* panel, const int64_t* offsets, int64_t count, const Run* runs, int number, float* x) {
  for (int64_t k = 0; k < count; ++k, panel += kWidth) {
    float* const to = x + offsets[k];
    for (int n = 0; n < number; ++n) add_to(panel + runs[n].at, runs[n].length, to + runs[n].from);
  }
}

// Rows rows and vectors vectors of C (+)= A B in registers. A: depth x rows, B: depth x kWidth.
template <int rows, int vectors>
TARGET void product(int64_t depth, const float* a, const float* b, float* c, int64_t stride, const float* start,
                    bool adds, int live, int last) {
  V sum[rows][vectors];
  UNROLL for (int i = 0; i < rows; ++i) {
    const float* const from = c + i * stride;
    UNROLL for (int v = 0; v < vectors; ++v) {
      if (!adds)
        sum[i][v] = start && i < live ? broadcast(start[i]) : zero();
      else if (i >= live)
        sum[i][v] = zero();
      else
        sum[i][v] = v + 1 < vectors ? load(from + v * LANES) : load_some(from + v * LANES, last);
    }
  }
  for (int64_t k = 0; k < depth; ++k, a += rows, b += kWidth) {
    V column[vectors];
    UNROLL for (int v = 0; v < vectors; ++v) column[v] = load(b + v * LANES);
    UNROLL for (int i = 0; i < rows; ++i) {
      const V factor = broadcast(a[i]);
      UNROLL for (int v = 0; v < vectors; ++v) sum[i][v] = fma(factor, column[v], sum[i][v]);
    }
  }
  UNROLL for (int i = 0; i < rows; ++i) {
    if (i >= live) break;
    float* const to = c + i * stride;
    UNROLL for (int v = 0; v + 1 < vectors; ++v) store(to + v * LANES, sum[i][v]);
    if (last == LANES)
      store(to + (vectors - 1) * LANES, sum[i][vectors - 1]);
    else
      store_some(to + (vectors - 1) * LANES, sum[i][vectors - 1], last);
  }
}

// Rows rows and vectors vectors of C (+)= X^T Y, where row i of X is read where it lies, position by position.
template <int rows, int vectors>
TARGET void contract(const float* const* x, const Run* runs, int number, const float* y, int64_t width, float* c,
                     int64_t stride, bool adds, int live) {
  V sum[rows][vectors];
  UNROLL for (int i = 0; i < rows; ++i) UNROLL for (int v = 0; v < vectors; ++v) sum[i][v] =
      adds && i < live ? load(c + i * stride + v * LANES) : zero();
  const float* from[rows];
  UNROLL for (int i = 0; i < rows; ++i) from[i] = x[i];
  for (int n = 0; n < number; ++n) {
    const int64_t end = runs[n].from + runs[n].length;
    for (int64_t p = runs[n].from; p < end; ++p, y += width) {
      V row[vectors];
      UNROLL for (int v = 0; v < vectors; ++v) row[v] = load(y + v * LANES);
      UNROLL for (int i = 0; i < rows; ++i) {
        const V factor = broadcast(from[i][p]);
        UNROLL for (int v = 0; v < vectors; ++v) sum[i][v] = fma(factor, row[v], sum[i][v]);
      }
    }
  }
  UNROLL for (int i = 0; i < rows; ++i) {
    if (i >= live) break;
    UNROLL for (int v = 0; v < vectors; ++v) store(c + i * stride + v * LANES, sum[i][v]);
  }
}

// to (columns, width) = from (rows, columns)^T, and zeros where rows end before a whole vector does.
TARGET void transpose(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to, int64_t width) {
  for (int64_t r = 0; r < rows; r += LANES) {
    const int live = int(std::min<int64_t>(LANES, rows - r));
    for (int64_t c = 0; c < columns; c += LANES) {
      const int across = int(std::min<int64_t>(LANES, columns - c));
      V block[LANES];
      for (int i = 0; i < LANES; ++i) block[i] = i < live ? load_some(from + (r + i) * stride + c, across) : zero();
      transpose_block(block);
      for (int i = 0; i < across; ++i) store(to + (c + i) * width + r, block[i]);
    }
  }
}

// sums (width) += the sum over rows of y (rows, width); both in whole vectors.
TARGET void sum_rows(const float* y, int64_t rows, int64_t width, float* sums) {
  for (int64_t column = 0; column < width; column += LANES) {
    V sum = load(sums + column);
    for (int64_t r = 0; r < rows; ++r) sum = add(sum, load(y + r * width + column));
    store(sums + column, sum);
  }
}

// product<4 ... 6, 1 ... PANEL>; contract by its vectors, with as many rows as there are registers for.
template <int rows, size_t... v>
void fill_products(PanelKernels* kernels, std::index_sequence<v...>) {
  ((kernels->product[rows][v + 1] = product<rows, int(v) + 1>), ...);
}

template <int vectors, int least, size_t... r>
void fill_contractions(PanelKernels* kernels, std::index_sequence<r...>) {
  ((kernels->contract[vectors][r + least] = contract<int(r) + least, vectors>), ...);
  kernels->least[vectors] = least;
  kernels->most[vectors] = least + int(sizeof...(r)) - 1;
}

PanelKernels make() {
  PanelKernels kernels{};
  kernels.lanes = LANES;
  kernels.vectors = PANEL;
  kernels.pack = pack;
  kernels.scatter = scatter;
  kernels.transpose = transpose;
  kernels.sum_rows = sum_rows;
  kernels.copy = copy;
  kernels.add = add_to;
  fill_products<4>(&kernels, std::make_index_sequence<PANEL>());
  fill_products<5>(&kernels, std::make_index_sequence<PANEL>());
  fill_products<6>(&kernels, std::make_index_sequence<PANEL>());
  fill_contractions<1, 8>(&kernels, std::make_index_sequence<5>());
  if constexpr (PANEL == 2) {
    fill_contractions<2, 4>(&kernels, std::make_index_sequence<3>());
  } else {
    fill_contractions<2, 8>(&kernels, std::make_index_sequence<5>());
    fill_contractions<3, 5>(&kernels, std::make_index_sequence<4>());
    fill_contractions<4, 4>(&kernels, std::make_index_sequence<3>());
  }
  return kernels;
}
