// Convolution by columns: im2col, then one matrix product for a tile of positions, each thread on tiles of its own.
//
// A tile is as many output positions as keep the columns in the cache: part of a large image, or several small images
// side by side, because a product of 49 columns runs at half the speed of one of 300. Threads share out the rows of all
// images evenly, so that one image also keeps them all busy; where there are too few positions to share, they share the
// outputs too. Most of what is float32 goes to panels.h instead, where the processor is made for it. Who adds what to
// what depends on the geometry and the number of threads only: results repeat.
#include "convolution.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>

#include "blas.h"
#include "cpu.h"
#include "panels.h"

namespace py = pybind11;

namespace {

constexpr int64_t kColumnElements = 1 << 19;    // of a tile's columns, as far as kFewest and kMost allow
constexpr int64_t kFewest = 192, kMost = 1024;  // positions of a tile
constexpr int64_t kShare = 96;                  // positions that a thread should have before another one gets some

// Some rows of one image, or several whole images.
struct Tile {
  int64_t image, images, begin, end;  // the rows [begin, end) of each
};

// Who does what, and where in the scratch memory. A pure function of the geometry and the number of threads.
struct Plan {
  int64_t tile_rows;                         // of one image, when an image has more than that
  int64_t tile_images;                       // otherwise
  int64_t tile;                              // positions of the largest tile
  int64_t columns, gathered, each;           // elements of a thread: its columns, its outputs side by side, both
  int64_t partial;                           // elements of one partial gradient of weights and bias
  int64_t output_shares, output_splits;      // forward: threads = shares of the rows x splits of the outputs
  int64_t gradient_shares, gradient_splits;  // the same for the gradient of the weights
  int64_t scratch;

  Plan(const Geometry& g, int64_t threads) {
    const int64_t target = std::max(kFewest, std::min(kMost, kColumnElements / std::max<int64_t>(1, g.K)));
    const int64_t most_rows = std::max<int64_t>(1, target / std::max<int64_t>(1, g.width));
    if (g.rows > most_rows) {
      tile_rows = divide_up(g.rows, divide_up(g.rows, most_rows));
      tile_images = 1;
      tile = tile_rows * g.width;
    } else {
      tile_rows = g.rows;
      tile_images = std::max<int64_t>(1, target / std::max<int64_t>(1, g.positions));
      tile_images = std::min(tile_images, std::max<int64_t>(1, divide_up(g.batch, threads)));
      tile = tile_images * g.positions;
    }
    columns = align(g.K * tile);
    gathered = tile_images > 1 ? align(g.group_outputs * tile) : 0;
    each = columns + gathered;
    const int64_t all = g.batch * g.positions;
    output_shares = std::max<int64_t>(1, std::min({threads, all / kShare, g.batch * g.rows}));
    output_splits = std::max<int64_t>(1, std::min(threads / output_shares, g.group_outputs));
    partial = align(g.num_output * g.K + g.num_output);
    gradient_shares = std::max<int64_t>(1, std::min(output_shares, 1 + kPartial / std::max<int64_t>(1, partial)));
    gradient_splits = std::max<int64_t>(1, std::min(threads / gradient_shares, g.group_outputs));
    scratch = each * threads + partial * (gradient_shares - 1);
  }
};

// body(tile) for every tile of the rows [begin, end), counted over all images.
template <class Body>
void for_tiles(const Geometry& g, const Plan& plan, int64_t begin, int64_t end, const Body& body) {
  while (begin < end) {
    const int64_t image = begin / g.rows, row = begin % g.rows;
    Tile tile{image, 1, row, std::min(g.rows, row + end - begin)};
    if (plan.tile_rows < g.rows) {
      tile.end = std::min(tile.end, (row / plan.tile_rows + 1) * plan.tile_rows);
    } else if (row == 0) {
      tile.images = std::max<int64_t>(1, std::min(plan.tile_images, (end - begin) / g.rows));
    }
    begin += tile.images * (tile.end - tile.begin);
    body(tile);
  }
}

// body(part, parts, split, splits, thread) on shares x splits threads.
template <class Body>
void on_grid(int64_t shares, int64_t splits, const Body& body) {
  parallel(shares * splits, [&](int64_t first, int64_t last, int thread) {
    for (int64_t n = first; n < last; ++n) body(n / splits, n % splits, thread);
  });
}

template <class T>
CLONES void add_constant(T* y, int64_t count, T constant) {
  for (int64_t i = 0; i < count; ++i) y[i] += constant;
}

template <class T>
CLONES void copy_plus(const T* __restrict__ from, int64_t count, T constant, T* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i] + constant;
}

template <class T>
CLONES void add_to(const T* __restrict__ from, int64_t count, T* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// In 16 partial sums, which every instruction set can add in the same order.
template <class T>
CLONES T sum(const T* x, int64_t count) {
  T partial[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (int j = 0; j < 16; ++j) partial[j] += x[i + j];
  for (int j = 0; i < count; ++i, ++j) partial[j] += x[i];
  for (int half = 8; half; half /= 2)
    for (int j = 0; j < half; ++j) partial[j] += partial[j + half];
  return partial[0];
}

template <class T>
class Convolution {
 public:
  Convolution(const Geometry& g, int64_t threads, T* scratch) : g(g), plan(g, threads), scratch(scratch) {}

  void forward(const T* x, const T* w, const T* bias, T* y) const {
    if (is_depthwise(g)) return depthwise_forward(g, x, w, bias, y);
    const int64_t rows = g.batch * g.rows;
    on_grid(plan.output_shares, plan.output_splits, [&](int64_t share, int64_t split, int thread) {
      T* const columns = scratch + thread * plan.each;
      T* const side_by_side = columns + plan.columns;
      const int64_t from = g.group_outputs * split / plan.output_splits;
      const int64_t to = g.group_outputs * (split + 1) / plan.output_splits;
      const int64_t begin = rows * share / plan.output_shares, end = rows * (share + 1) / plan.output_shares;
      for_tiles(g, plan, begin, end, [&](const Tile& tile) {
        const int64_t part = (tile.end - tile.begin) * g.width, size = part * tile.images;
        for (int64_t group = 0; group < g.group; ++group) {
          const int64_t first = group * g.group_outputs + from;
          int64_t stride;
          const T* input = input_columns(x, tile, group, columns, &stride);
          T* const output = at_output(y, tile.image, first, tile.begin);
          const bool alone = tile.images == 1;
          gemm(false, false, to - from, size, g.K, T(1), w + first * g.K, g.K, input, stride, T(0),
               alone ? output : side_by_side, alone ? g.positions : size);
          if (alone) {
            for (int64_t m = 0; bias && m < to - from; ++m)
              add_constant(output + m * g.positions, size, bias[first + m]);
            continue;
          }
          for (int64_t n = 0; n < tile.images; ++n)
            for (int64_t m = 0; m < to - from; ++m)
              copy_plus(side_by_side + m * size + n * part, part, bias ? bias[first + m] : T(0),
                        output + (n * g.num_output + m) * g.positions);
        }
      });
    });
  }

  // Threads share out the channels of all images, so that each element of dx has one writer.
  void backward_data(const T* dy, const T* w, T* dx) const {
    if (is_depthwise(g)) return depthwise_data(g, dy, w, dx);
    const int64_t shares = threads_for(g.batch * g.channels);
    parallel(shares, [&](int64_t first_share, int64_t last_share, int thread) {
      T* const columns = scratch + thread * plan.each;
      int64_t begin = g.batch * g.channels * first_share / shares;
      const int64_t end = g.batch * g.channels * last_share / shares;
      while (begin < end) {  // the rest of an image that another thread began, whole images, part of an image
        const int64_t image = begin / g.channels, channel = begin % g.channels;
        const int64_t to = std::min(g.channels, channel + end - begin);
        const int64_t images = to - channel == g.channels ? (end - begin) / g.channels : 1;
        for_tiles(g, plan, image * g.rows, (image + images) * g.rows,
                  [&](const Tile& tile) { tile_data(dy, w, dx, tile, channel, to, columns); });
        begin += images * (to - channel);
      }
    });
  }

  void backward_weights(const T* x, const T* dy, T* dw, T* db) const {
    const int64_t rows = g.batch * g.rows, weights = g.num_output * g.K;
    if (rows == 0) return;
    if (is_depthwise(g)) return depthwise_weights(g, x, dy, dw, db);
    T* const partials = scratch + plan.each * threads();
    on_grid(plan.gradient_shares, plan.gradient_splits, [&](int64_t share, int64_t split, int thread) {
      T* const columns = scratch + thread * plan.each;
      // The first share adds to the gradient itself, the others to partial ones, which are added in their order below.
      T* const own_dw = share ? partials + (share - 1) * plan.partial : dw;
      T* const own_db = share ? own_dw + weights : db;
      const int64_t from = g.group_outputs * split / plan.gradient_splits;
      const int64_t to = g.group_outputs * (split + 1) / plan.gradient_splits;
      const int64_t begin = rows * share / plan.gradient_shares, end = rows * (share + 1) / plan.gradient_shares;
      bool fresh = share > 0;
      for_tiles(g, plan, begin, end, [&](const Tile& tile) {
        tile_weights(x, dy, own_dw, db ? own_db : nullptr, tile, from, to, fresh, columns);
        fresh = false;
      });
    });
    parallel(divide_up(weights, 4096), [&](int64_t first, int64_t last, int) {
      const int64_t begin = first * 4096, end = std::min(weights, last * 4096);
      for (int64_t share = 1; share < plan.gradient_shares; ++share)
        add_to(partials + (share - 1) * plan.partial + begin, end - begin, dw + begin);
    });
    for (int64_t share = 1; db && share < plan.gradient_shares; ++share)
      add_to(partials + (share - 1) * plan.partial + weights, g.num_output, db);
  }

 private:
  template <class Element>
  Element* at_output(Element* y, int64_t image, int64_t output, int64_t row) const {
    return y + (image * g.num_output + output) * g.positions + row * g.width;
  }

  template <class Element>
  Element* at_input(Element* x, int64_t image, int64_t channel) const {
    return x + (image * g.channels + channel) * g.plane;
  }

  static int64_t threads_for(int64_t work) { return std::max<int64_t>(1, std::min<int64_t>(threads(), work)); }

  // A group's columns (K, positions of the tile), and the distance between their rows.
  const T* input_columns(const T* x, const Tile& tile, int64_t group, T* columns, int64_t* stride) const {
    const int64_t channel = group * g.group_channels;
    if (g.direct && tile.images == 1) {
      *stride = g.plane;
      return at_input(x, tile.image, channel) + tile.begin * g.width;
    }
    const int64_t part = (tile.end - tile.begin) * g.width;
    *stride = part * tile.images;
    for (int64_t n = 0; n < tile.images; ++n)
      gather_columns(g, at_input(x, tile.image + n, channel), g.group_channels, tile.begin, tile.end,
                     columns + n * part, *stride);
    return columns;
  }

  // A group's output gradients (outputs from ... to - 1, positions of the tile), and the distance between their rows.
  const T* output_side_by_side(const T* dy, const Tile& tile, int64_t group, int64_t from, int64_t to, T* memory,
                               int64_t* stride) const {
    const int64_t first = group * g.group_outputs + from;
    const T* output = at_output(dy, tile.image, first, tile.begin);
    *stride = g.positions;
    if (tile.images == 1) return output;
    *stride = g.positions * tile.images;
    for (int64_t m = 0; m < to - from; ++m)
      for (int64_t n = 0; n < tile.images; ++n)
        std::memcpy(memory + m * *stride + n * g.positions, output + (n * g.num_output + m) * g.positions,
                    g.positions * sizeof(T));
    return memory;
  }

  void tile_data(const T* dy, const T* w, T* dx, const Tile& tile, int64_t begin, int64_t end, T* columns) const {
    const int64_t part = (tile.end - tile.begin) * g.width, size = part * tile.images;
    for (int64_t group = begin / g.group_channels; group * g.group_channels < end; ++group) {
      const int64_t from = std::max(begin, group * g.group_channels);
      const int64_t to = std::min(end, (group + 1) * g.group_channels);
      int64_t stride;
      const T* output = output_side_by_side(dy, tile, group, 0, g.group_outputs, columns + plan.columns, &stride);
      const T* weights = w + group * g.group_outputs * g.K + (from - group * g.group_channels) * g.taps;
      const bool straight = g.direct && tile.images == 1;
      T* const result = straight ? at_input(dx, tile.image, from) + tile.begin * g.width : columns;
      gemm(true, false, (to - from) * g.taps, size, g.group_outputs, T(1), weights, g.K, output, stride, T(0), result,
           straight ? g.plane : size);
      if (straight) continue;
      for (int64_t n = 0; n < tile.images; ++n) {
        T* const input = at_input(dx, tile.image + n, from);
        if (tile.begin == 0) std::fill(input, input + (to - from) * g.plane, T(0));
        scatter_columns(g, columns + n * part, to - from, tile.begin, tile.end, input, size);
      }
    }
  }

  void tile_weights(const T* x, const T* dy, T* dw, T* db, const Tile& tile, int64_t from, int64_t to, bool fresh,
                    T* columns) const {
    const int64_t size = (tile.end - tile.begin) * g.width * tile.images;
    for (int64_t group = 0; group < g.group; ++group) {
      const int64_t first = group * g.group_outputs + from;
      int64_t stride, output_stride;
      const T* input = input_columns(x, tile, group, columns, &stride);
      const T* output = output_side_by_side(dy, tile, group, from, to, columns + plan.columns, &output_stride);
      gemm(false, true, to - from, g.K, size, T(1), output, output_stride, input, stride, T(fresh ? 0 : 1),
           dw + first * g.K, g.K);
      for (int64_t m = 0; db && m < to - from; ++m)
        db[first + m] = (fresh ? T(0) : db[first + m]) + sum(output + m * output_stride, size);
    }
  }

  const Geometry& g;
  const Plan plan;
  T* const scratch;
};

// Arrays arrive checked from engines/im2col.py.
template <class T>
T* pointer(const py::object& array) {
  return array.is_none() ? nullptr
                         : static_cast<T*>(const_cast<void*>(py::reinterpret_borrow<py::array>(array).data()));
}

Geometry geometry_of(const py::array_t<int64_t, py::array::c_style>& numbers) { return Geometry(numbers.data()); }

// task: 0 forward (x, w, bias, y), 1 data gradient (dy, w, dx), 2 weight gradient (x, dy, dw, db)
template <class T>
void run(int task, const Geometry& g, const py::object& a, const py::object& b, const py::object& c,
         const py::object& d, const py::object& scratch) {
  T* const memory = pointer<T>(scratch);
  T *const pa = pointer<T>(a), *const pb = pointer<T>(b), *const pc = pointer<T>(c), *const pd = pointer<T>(d);
  py::gil_scoped_release without_gil;
  if constexpr (std::is_same_v<T, float>) {
    if (has_panels(g)) {
      if (task == 0) panel_forward(g, pa, pb, pc, pd, memory);
      if (task == 1) panel_data(g, pa, pb, pc, memory);
      if (task == 2) panel_weights(g, pa, pb, pc, pd, memory);
      return;
    }
  }
  const Convolution<T> convolution(g, threads(), memory);
  if (task == 0) convolution.forward(pa, pb, pc, pd);
  if (task == 1) convolution.backward_data(pa, pb, pc);
  if (task == 2) convolution.backward_weights(pa, pb, pc, pd);
}

}  // namespace

void define_convolution(py::module_& m) {
  m.def("limit_panels", limit_panels, py::arg("lanes"),
        "For tests: convolution by panels uses vectors of at most so many floats; 0: none, columns and BLAS instead.");
  m.def(
      "convolution_scratch",
      [](const py::array_t<int64_t, py::array::c_style>& numbers) {
        const Geometry g = geometry_of(numbers);
        const int64_t columns = Plan(g, threads()).scratch;
        return has_panels(g) ? std::max(columns, panel_scratch(g, threads())) : columns;
      },
      "Elements of scratch memory that a convolution needs with the present number of threads.");
  m.def(
      "convolution",
      [](int task, const py::array_t<int64_t, py::array::c_style>& numbers, const py::object& a, const py::object& b,
         const py::object& c, const py::object& d, const py::array& scratch) {
        require_blas();
        const Geometry g = geometry_of(numbers);
        if (scratch.itemsize() == sizeof(float))
          run<float>(task, g, a, b, c, d, scratch);
        else
          run<double>(task, g, a, b, c, d, scratch);
      },
      "0: forward (x, w, bias, y), 1: data gradient (dy, w, dx, None), 2: weight gradient (x, dy, dw, db); no checks.");
}
