// Convolution of 3x3 taps by Winograd's F(4x4, 3x3): forward, and both gradients. Only with AVX-512.
//
// x and y lie in blocks of 16 channels (N, C / 16, H, W, 16) or with all channels of a position side by side
// (N, H, W, C), weights plain. Plain x or y is copied, into blocks or from them. Every group has whole blocks. The same
// bits with any number of threads.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "avx512.h"
#include "convolution.h"
#include "kept.h"

namespace py = pybind11;

#ifdef LAYERFORGE_AVX512
#include "winograd_avx512.h"

namespace winograd {
namespace {

constexpr int64_t kAtATime = 48;                     // tiles: products with 64 outputs stay in the second cache,
constexpr int64_t kLargeWeights = int64_t(4) << 20;  // and with more weights twice as many, or memory is read too often
constexpr int64_t kLeastTransformed = 1 << 15, kMostTransformed = 1 << 18;  // values at a point, of x and dy together
constexpr int64_t kFew = 1 << 19;  // multiplications that one thread does sooner than it wakes another

// 16 to 64 outputs of a group.
struct Block {
  int64_t group, first;  // vector of outputs, of all groups
  int vectors;
  int64_t at, stride;  // where its transformed weights begin, and from point to point
};

// Plain arrays are copied into blocks.
Lies lies(int64_t channels, const std::vector<int64_t>& plane, int block) {
  const int64_t positions = plane[0] * plane[1];
  if (block == channels) return {positions * channels, kLanes, plane[1] * channels, channels};
  return {positions * channels, positions * kLanes, plane[1] * kLanes, kLanes};
}

void turn(int64_t values, int64_t positions, bool to_blocks, const float* from, float* to) {
  const int64_t each = positions * kLanes;
  const auto body = [&](int64_t begin, int64_t end, int) { turn_blocks(begin, end, positions, to_blocks, from, to); };
  parallel(values / each, body, 1 + (1 << 15) / each);
}

// All tiles of y from x. The gradient of the input is such a pass, too: from dy, with the taps turned by 180 degrees
// and the sides exchanged.
class Pass {
 public:
  Pass(const Geometry& g, bool gradient, int x_block, int y_block, int threads)
      : gradient(gradient),
        group(g.group),
        inputs(gradient ? g.num_output : g.channels),
        outputs(gradient ? g.channels : g.num_output),
        depth(inputs / group),
        from(lies(inputs, gradient ? g.output : g.spatial, gradient ? y_block : x_block)),
        to(lies(outputs, gradient ? g.spatial : g.output, gradient ? x_block : y_block)) {
    const std::vector<int64_t>&in = gradient ? g.output : g.spatial, &out = gradient ? g.spatial : g.output;
    const int64_t top = gradient ? 2 - g.pad[0] : g.pad[0], left = gradient ? 2 - g.pad[1] : g.pad[1];
    tiles = {divide_up(out[0], kTile), divide_up(out[1], kTile), in[0], in[1], top, left, out[0], out[1]};
    total = g.batch * tiles.rows * tiles.columns;
    size = g.batch * outputs * out[0] * out[1];
    if ((gradient ? y_block : x_block) == 1) copy_of_x = g.batch * inputs * in[0] * in[1];
    if ((gradient ? x_block : y_block) == 1) copy_of_y = size;
    const int64_t vectors = outputs / group / kLanes, parts = divide_up(vectors, 4);
    for (int64_t n = 0; n < group * parts; ++n) {
      const int64_t begin = vectors * (n % parts) / parts, count = vectors * (n % parts + 1) / parts - begin;
      const int64_t stride = depth * count * kLanes + kSlack;
      blocks.push_back({n / parts, n / parts * vectors + begin, int(count), values, stride});
      values += kPoints * stride;
    }
    together = total <= kAtATime;
    chunk = std::min(total, values > kLargeWeights ? 2 * kAtATime : kAtATime);
    shares = std::max<int64_t>(1, std::min<int64_t>(threads, total * kPoints * depth * outputs / kFew));
  }

  int64_t weights() const { return values; }

  int64_t scratch() const {
    return kPoints * ((together ? 1 : shares) * v_stride() + shares * m_stride()) + copy_of_x + copy_of_y;
  }

  void weigh(const float* w, const float* factor, float* u) const {
    const int64_t each = outputs / group, step = gradient ? each * 9 : 9, next = gradient ? 9 : depth * 9;
    const auto body = [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end;) {
        const Block& b = blocks[i / depth];
        const int64_t first = i % depth, last = std::min(depth, first + end - i), output = b.first * kLanes;
        const float* const of = w + b.group * depth * each * 9 * gradient + (output - b.group * each * gradient) * next;
        winograd::weigh(first, last, of, step, next, gradient, factor ? factor + output : nullptr, b.vectors, u + b.at,
                        b.stride);
        i += last - first;
      }
    };
    parallel(int64_t(blocks.size()) * depth, body, 64);
  }

  void run(const float* x, const float* u, Finish finish, float* y, float* scratch) const {
    float *const blocks_of_x = scratch, *const blocks_of_y = scratch + copy_of_x;
    scratch = blocks_of_y + copy_of_y;
    if (copy_of_x) turn(copy_of_x, tiles.height * tiles.width, true, x, blocks_of_x);
    run_blocks(copy_of_x ? blocks_of_x : x, u, finish, copy_of_y ? blocks_of_y : y, scratch);
    if (copy_of_y) turn(copy_of_y, tiles.bottom * tiles.right, false, blocks_of_y, y);
  }

 private:
  void run_blocks(const float* x, const float* u, Finish finish, float* y, float* scratch) const {
    finish.past = goes_past_caches(size, y);
    float* const products = scratch + kPoints * (together ? 1 : shares) * v_stride();
    if (together) {
      // So few tiles that reading the weights takes the time: each thread reads its own.
      const auto read = [&](int64_t begin, int64_t end, int64_t) {
        read_tiles(begin, end, x, from, tiles, inputs / kLanes, scratch + begin * inputs, inputs, v_stride());
      };
      in_shares(total, read);
      const int64_t parts = blocks.size() % shares ? std::min(shares, total) : 1;
      const auto write = [&](int64_t begin, int64_t end, int64_t share) {
        for (int64_t i = begin; i < end; ++i)
          compute(blocks[i / parts], total * (i % parts) / parts, total * (i % parts + 1) / parts, 0, scratch, u,
                  products + share * kPoints * m_stride(), finish, y);
      };
      in_shares(int64_t(blocks.size()) * parts, write);
      return;
    }
    const auto body = [&](int64_t begin, int64_t end, int64_t share) {
      float *const v = scratch + share * kPoints * v_stride(), *const m = products + share * kPoints * m_stride();
      const int64_t chunks = divide_up(end - begin, chunk);
      for (int64_t i = 0; i < chunks; ++i) {
        const int64_t first = begin + (end - begin) * i / chunks, last = begin + (end - begin) * (i + 1) / chunks;
        read_tiles(first, last, x, from, tiles, inputs / kLanes, v, inputs, v_stride());
        const int64_t parts = divide_up(last - first, kAtATime);
        for (const Block& b : blocks)
          for (int64_t k = 0; k < parts; ++k)
            compute(b, first + (last - first) * k / parts, first + (last - first) * (k + 1) / parts, first, v, u, m,
                    finish, y);
      }
    };
    in_shares(total, body);
  }

  int64_t v_stride() const { return chunk * inputs + kSlack; }
  int64_t m_stride() const { return std::min(chunk, kAtATime) * 4 * kLanes + kSlack; }

  // parallel() with as many shares as there is scratch memory for, whatever the number of threads is now.
  template <class Body>
  void in_shares(int64_t count, const Body& body) const {
    const int64_t all = std::min(shares, count);
    const auto some = [&](int64_t begin, int64_t end, int) {
      for (int64_t share = begin; share < end; ++share) body(count * share / all, count * (share + 1) / all, share);
    };
    parallel(all, some);
  }

  // A block's outputs for the tiles [begin, end); v begins with tile `first`.
  void compute(const Block& b, int64_t begin, int64_t end, int64_t first, const float* v, const float* u, float* m,
               Finish finish, float* y) const {
    const auto kernels = b.vectors == 4   ? compute_vectors<4>
                         : b.vectors == 3 ? compute_vectors<3>
                         : b.vectors == 2 ? compute_vectors<2>
                                          : compute_vectors<1>;
    kernels(*this, b, begin, end, v + (begin - first) * inputs + b.group * depth, u + b.at, m, finish, y);
  }

  template <int vectors>
  static void compute_vectors(const Pass& p, const Block& b, int64_t begin, int64_t end, const float* v, const float* u,
                              float* m, Finish finish, float* y) {
    products<vectors>(end - begin, v, p.inputs, p.v_stride(), u, p.depth, b.stride, m, p.m_stride());
    const int64_t offset = b.first * p.to.block;
    if (finish.bias) finish.bias += b.first * kLanes;
    if (finish.term) finish.term += offset;
    if (finish.rectified) finish.rectified += offset;
    write_tiles<vectors>(begin, end, m, p.m_stride(), finish, y + offset, p.to, p.tiles);
  }

  const bool gradient;
  const int64_t group, inputs, outputs, depth;  // depth: inputs that one output sees
  const Lies from, to;
  Tiles tiles;
  int64_t total, size, chunk, shares, values = 0;  // tiles; values of y; tiles at a time; threads; weights
  int64_t copy_of_x = 0, copy_of_y = 0;            // values, where that side is plain
  bool together;
  std::vector<Block> blocks;
};

// The gradient of the weights, and of the bias.
class Sums {
 public:
  Sums(const Geometry& g, int x_block, int y_block)
      : group(g.group),
        inputs(g.channels),
        outputs(g.num_output),
        depth(g.group_channels),
        of_x(lies(inputs, g.spatial, x_block)),
        of_y(lies(outputs, g.output, y_block)) {
    tiles = {divide_up(g.output[0], kTile),
             divide_up(g.output[1], kTile),
             g.spatial[0],
             g.spatial[1],
             g.pad[0],
             g.pad[1],
             g.output[0],
             g.output[1]};
    total = g.batch * tiles.rows * tiles.columns;
    // Many tiles at a time where there are many sums, which are read and written each time.
    const int64_t wanted = std::min(kMostTransformed, std::max(kLeastTransformed, 2 * inputs * outputs));
    chunk = std::max<int64_t>(1, std::min(total, wanted / (inputs + outputs)));
    if (x_block == 1) copy_of_x = g.batch * inputs * g.spatial[0] * g.spatial[1];
    if (y_block == 1) copy_of_y = g.batch * outputs * g.output[0] * g.output[1];
  }

  int64_t scratch() const {
    return copy_of_x + copy_of_y + kPoints * (v_stride() + u_stride()) + (kPoints + 1) * d_stride();
  }

  void run(const float* x, const float* dy, float* dw, float* db, float* scratch) const {
    float *const blocks_of_x = scratch, *const blocks_of_y = blocks_of_x + copy_of_x,
                 *const v = blocks_of_y + copy_of_y;
    float *const d = v + kPoints * v_stride(), *const u = d + (kPoints + 1) * d_stride();
    if (copy_of_x) turn(copy_of_x, tiles.height * tiles.width, true, x, blocks_of_x);
    if (copy_of_y) turn(copy_of_y, tiles.bottom * tiles.right, true, dy, blocks_of_y);
    const float *const from = copy_of_x ? blocks_of_x : x, *const by = copy_of_y ? blocks_of_y : dy;
    const int64_t chunks = divide_up(total, chunk), vectors = outputs / group / kLanes, parts = divide_up(vectors, 4);
    for (int64_t i = 0; i < chunks; ++i) {
      const int64_t first = total * i / chunks, count = total * (i + 1) / chunks - first;
      const auto read = [&](int64_t begin, int64_t end, int) {
        read_tiles(first + begin, first + end, from, of_x, tiles, inputs / kLanes, v + begin * ldv(), ldv(),
                   v_stride());
        read_gradient(first + begin, first + end, by, of_y, tiles, outputs / kLanes, d + begin * ldd(), ldd(),
                      d_stride());
      };
      parallel(count, read, 1 + kFew / (kPoints * (inputs + outputs)));
      const auto add = [&](int64_t begin, int64_t end, int) {
        for (int64_t n = begin; n < end; ++n) {
          const int64_t p = n / (group * parts), of = n / parts % group, part = n % parts;
          const int64_t start = vectors * part / parts, each = vectors * (part + 1) / parts - start;
          const int64_t k = (of * vectors + start) * kLanes;
          const auto products = each == 4   ? outer_products<4>
                                : each == 3 ? outer_products<3>
                                : each == 2 ? outer_products<2>
                                            : outer_products<1>;
          products(count, depth, v + p * v_stride() + of * depth, ldv(), d + p * d_stride() + k, ldd(),
                   u + p * u_stride() + k, outputs, i == 0);
        }
      };
      parallel(kPoints * group * parts, add, 1 + kFew * parts / (count * depth * outputs));
      if (db) add_tiles(count, d + kPoints * d_stride(), ldd(), outputs / kLanes, db);
    }
    const auto finish = [&](int64_t begin, int64_t end, int) {
      add_taps(begin, end, u, u_stride(), outputs, outputs / kLanes, dw, depth * 9);
    };
    parallel(depth, finish, 1 + kFew / (kPoints * kLanes * outputs));
  }

 private:
  // From tile to tile; not a multiple of what one set of a cache lies apart.
  int64_t ldv() const { return inputs + kSlack; }
  int64_t ldd() const { return outputs + kSlack; }
  int64_t v_stride() const { return chunk * ldv() + kSlack; }
  int64_t d_stride() const { return chunk * ldd() + kSlack; }
  int64_t u_stride() const { return depth * outputs + kSlack; }

  const int64_t group, inputs, outputs, depth;
  const Lies of_x, of_y;
  Tiles tiles;
  int64_t total, chunk, copy_of_x = 0, copy_of_y = 0;
};

typedef py::array_t<float, py::array::c_style> Array;

class Convolution {
 public:
  Convolution(const py::array_t<int64_t, py::array::c_style>& numbers, int x_block, int y_block, int threads)
      : geometry(numbers.data()),
        forward(geometry, false, x_block, y_block, threads),
        gradient(geometry, true, x_block, y_block, threads),
        sums(geometry, x_block, y_block) {}

  // Elements of float32, wherever the array begins: for any of the three functions; for weights that are kept.
  int64_t scratch() const {
    const int64_t passes = std::max(forward.scratch() + forward.weights(), gradient.scratch() + gradient.weights());
    return std::max(passes, sums.scratch()) + 32;
  }
  int64_t kept() const { return Keeper::size(forward.weights()); }

  // y = rectify(w * x + b + term), where b, term and the rectifier may be missing; the factor of each output is
  // multiplied into the weights. term may be y, and is for a y that is not plain. kept: see kept(); zeros at first.
  // same: nothing that they were made of has changed. Arrays arrive checked from engines/winograd.py.
  void run_forward(const Array& x, const Array& w, const py::object& b, Array& y, Array& scratch,
                   const py::object& factor, const py::object& kept, const py::object& term, bool rectify,
                   bool same) const {
    const float *const px = x.data(), *const pw = w.data(), *const by = pointer(factor);
    const Finish finish{pointer(b), pointer(term), nullptr, 1, rectify, false};
    float *const py = y.mutable_data(), *const room = boundary(scratch.mutable_data());
    float *const lent = const_cast<float*>(pointer(kept)), *u = boundary(room + forward.scratch());
    const int64_t values = w.size();
    py::gil_scoped_release without_gil;
    const auto make = [&](float* to) { forward.weigh(pw, by, to); };
    if (lent)
      u = keeper.weights(lent, pw, values, by, geometry.num_output, same, make);
    else
      make(u);
    forward.run(px, u, finish, py, room);
  }

  // dx = the gradient of the input, or of what a rectifier made that of, where it is given: for a dx that is not plain.
  void run_data(const Array& dy, const Array& w, Array& dx, Array& scratch, const py::object& rectified,
                float slope) const {
    const Finish finish{nullptr, nullptr, pointer(rectified), slope, false, false};
    const float *const from = dy.data(), *const by = w.data();
    float *const to = dx.mutable_data(), *const room = boundary(scratch.mutable_data());
    py::gil_scoped_release without_gil;
    float* const u = boundary(room + gradient.scratch());
    gradient.weigh(by, nullptr, u);
    gradient.run(from, u, finish, to, room);
  }

  // dw += the gradient of the weights, db, if any, += that of the bias
  void run_weights(const Array& x, const Array& dy, Array& dw, const py::object& db, Array& scratch) const {
    const float *const from = x.data(), *const by = dy.data();
    float *const to = dw.mutable_data(), *const bias = const_cast<float*>(pointer(db));
    float* const room = boundary(scratch.mutable_data());
    py::gil_scoped_release without_gil;
    sums.run(from, by, to, bias, room);
  }

 private:
  static const float* pointer(const py::object& array) {
    return array.is_none() ? nullptr : static_cast<const float*>(py::reinterpret_borrow<py::array>(array).data());
  }

  const Keeper keeper;
  const Geometry geometry;
  const Pass forward, gradient;
  const Sums sums;
};

}  // namespace
}  // namespace winograd
#endif

void define_winograd(py::module_& m) {
#ifdef LAYERFORGE_AVX512
  if (!has_avx512()) return;
  using winograd::Convolution;
  py::class_<Convolution>(m, "WinogradConvolution", "One convolution of 3x3 taps, for a number of threads; no checks.")
      .def(py::init<const py::array_t<int64_t, py::array::c_style>&, int, int, int>(), py::arg("numbers"),
           py::arg("x_block"), py::arg("y_block"), py::arg("threads"))
      .def_property_readonly("scratch", &Convolution::scratch)
      .def_property_readonly("kept", &Convolution::kept)
      .def("forward", &Convolution::run_forward, py::arg("x").noconvert(), py::arg("w").noconvert(), py::arg("b"),
           py::arg("y").noconvert(), py::arg("scratch").noconvert(), py::arg("factor") = py::none(),
           py::arg("kept") = py::none(), py::arg("term") = py::none(), py::arg("rectify") = false,
           py::arg("same") = false)
      .def("backward_data", &Convolution::run_data, py::arg("dy").noconvert(), py::arg("w").noconvert(),
           py::arg("dx").noconvert(), py::arg("scratch").noconvert(), py::arg("rectified") = py::none(),
           py::arg("slope") = 1.0f)
      .def("backward_weights", &Convolution::run_weights, py::arg("x").noconvert(), py::arg("dy").noconvert(),
           py::arg("dw").noconvert(), py::arg("db"), py::arg("scratch").noconvert());
#endif
}
