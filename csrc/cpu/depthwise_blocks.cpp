// Depthwise convolution of images in blocks of 16 channels (N, C / 16, H, W, 16), each plane in one pass.
//
// Forward reads x once, and all gradients together read x and dy once. What normalises x before, and what counts y
// behind, happens on the way. Only with AVX-512; everyone else takes a library. Sums do not depend on the number of
// threads.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>

#include "avx512.h"
#include "convolution.h"
#include "cpu.h"

namespace py = pybind11;

#ifdef LAYERFORGE_AVX512
#include "depthwise_avx512.h"

namespace {

typedef py::array_t<int64_t, py::array::c_style> Numbers;

float* pointer(const py::handle& array) {
  return array.is_none() ? nullptr
                         : static_cast<float*>(const_cast<void*>(py::reinterpret_borrow<py::array>(array).data()));
}

struct Shape {
  int64_t batch, channels, groups;
  wide::Depthwise plane;

  explicit Shape(const Numbers& numbers) {
    const Geometry g(numbers.data());
    batch = g.batch, channels = g.channels, groups = g.channels / kLanes;
    wide::Depthwise::Axis* const axes[] = {&plane.high, &plane.wide};
    for (int a = 0; a < 2; ++a)
      *axes[a] = {g.spatial[a], g.output[a], g.kernel[a], g.stride[a], g.pad[a], g.dilation[a]};
  }

  int64_t weights() const { return align(channels * plane.taps()); }
  int64_t gradients() const { return align(batch * channels * (plane.taps() + 1)); }
  int64_t each() const { return align(plane.scratch()); }
  int64_t x_plane() const { return plane.high.size * plane.wide.size * kLanes; }
  int64_t y_plane() const { return plane.high.output * plane.wide.output * kLanes; }
};

// What is done to x on the way, and what is counted for it: arrays of channels, maybe without weight and bias.
struct Before {
  const float *mean, *scale, *weight, *bias;
  float slope;

  Before(const py::object& mean, const py::object& scale, const py::object& weight, const py::object& bias, float slope)
      : mean(pointer(mean)), scale(pointer(scale)), weight(pointer(weight)), bias(pointer(bias)), slope(slope) {}

  AVX512 wide::Normalised at(int64_t c) const { return wide::normalised(mean, scale, weight, bias, slope, c); }
};

// What the gradient of y is made of, where a normalisation of y leaves that to us: its sums over all of a channel.
struct Behind {
  Before of;
  const float *y, *sum, *dot;
  float number;

  Behind(const Before& of, const py::object& y, const py::object& sum, const py::object& dot, float number)
      : of(of), y(pointer(y)), sum(pointer(sum)), dot(pointer(dot)), number(number) {}

  AVX512 wide::Differentiated at(int64_t c) const { return wide::differentiated(of.at(c), sum, dot, number, c); }
};

// w (C, taps) as (C / 16, taps, 16).
void pack(const Shape& s, const float* w, float* packed) {
  const int64_t taps = s.plane.taps();
  for (int64_t c = 0; c < s.channels; ++c)
    for (int64_t tap = 0; tap < taps; ++tap)
      packed[(c / kLanes * taps + tap) * kLanes + c % kLanes] = w[c * taps + tap];
}

struct Forward {
  const float *x, *w, *bias;
  float *y, *mean, *square;
  bool past_caches;
};

AVX512 void planes(const Shape& s, const Before& before, const Forward& a, int64_t begin, int64_t end, float* scratch) {
  const wide::Taps taps(s.plane);
  memset(scratch, 0, s.each() * sizeof(float));
  for (int64_t p = begin; p < end; ++p) {
    const int64_t group = p % s.groups, c = group * kLanes;
    const wide::Normalised normalised = before.at(c);
    wide::depthwise_plane(s.plane, taps, a.x + p * s.x_plane(), before.mean ? &normalised : nullptr,
                          a.w + group * taps.count * kLanes, a.bias ? a.bias + c : nullptr, a.y + p * s.y_plane(),
                          a.past_caches, a.mean ? a.mean + p * kLanes : nullptr,
                          a.mean ? a.square + p * kLanes : nullptr, scratch);
  }
}

struct Backward {
  const float *x, *dy, *w;
  float *dx, *gradients, *sum, *dot;
  bool past_caches;
};

AVX512 void planes_backward(const Shape& s, const Before& before, const Behind& behind, const Backward& a,
                            int64_t begin, int64_t end, float* scratch) {
  const wide::Taps taps(s.plane);
  memset(scratch, 0, s.each() * sizeof(float));
  for (int64_t p = begin; p < end; ++p) {
    const int64_t group = p % s.groups, c = group * kLanes;
    const wide::Normalised normalised = before.at(c);
    const wide::Differentiated differentiated = behind.at(c);
    wide::depthwise_plane_backward(s.plane, taps, a.x + p * s.x_plane(), before.mean ? &normalised : nullptr,
                                   a.dy + p * s.y_plane(), behind.y ? behind.y + p * s.y_plane() : nullptr,
                                   behind.y ? &differentiated : nullptr, a.w + group * taps.count * kLanes,
                                   a.dx ? a.dx + p * s.x_plane() : nullptr, a.past_caches,
                                   a.gradients + p * (taps.count + 1) * kLanes, a.sum ? a.sum + p * kLanes : nullptr,
                                   a.sum ? a.dot + p * kLanes : nullptr, scratch);
  }
}

int64_t scratch_size(const Numbers& numbers) {
  const Shape s(numbers);
  return s.weights() + s.gradients() + s.each() * threads();
}

// The arrays were checked in Python (engines/depthwise.py), but for those of channels.
void forward(const Numbers& numbers, const py::array& x, const py::array& w, const py::object& bias, const py::array& y,
             const py::array& scratch, const Before& before, const py::object& mean, const py::object& square) {
  const Shape s(numbers);
  const float* const from = pointer(w);
  float *const packed = pointer(scratch), *const rows = packed + s.weights();
  const bool past_caches = goes_past_caches(y.size(), pointer(y));
  const Forward a{pointer(x), packed, pointer(bias), pointer(y), pointer(mean), pointer(square), past_caches};
  py::gil_scoped_release without_gil;
  pack(s, from, packed);
  parallel(s.batch * s.groups,
           [&](int64_t begin, int64_t end, int share) { planes(s, before, a, begin, end, rows + share * s.each()); });
}

void backward(const Numbers& numbers, const py::array& x, const py::array& dy, const py::array& w, const py::object& dx,
              const py::object& dw, const py::object& db, const py::array& scratch, const Before& before,
              const py::object& sum, const py::object& dot, const Behind& behind) {
  const Shape s(numbers);
  const int64_t taps = s.plane.taps();
  const float* const from = pointer(w);
  float *const packed = pointer(scratch), *const gradients = packed + s.weights();
  float *const rows = gradients + s.gradients(), *const to_weights = pointer(dw), *const to_bias = pointer(db);
  const bool past_caches = goes_past_caches(x.size(), pointer(dx));
  const Backward a{pointer(x), pointer(dy), packed, pointer(dx), gradients, pointer(sum), pointer(dot), past_caches};
  py::gil_scoped_release without_gil;
  pack(s, from, packed);
  parallel(s.batch * s.groups, [&](int64_t begin, int64_t end, int share) {
    planes_backward(s, before, behind, a, begin, end, rows + share * s.each());
  });
  parallel(s.groups, [&](int64_t begin, int64_t end, int) {
    for (int64_t group = begin; group < end; ++group)
      for (int64_t n = 0; n < s.batch; ++n) {
        const float* const of = gradients + (n * s.groups + group) * (taps + 1) * kLanes;
        for (int lane = 0; lane < kLanes; ++lane) {
          const int64_t c = group * kLanes + lane;
          for (int64_t tap = 0; to_weights && tap < taps; ++tap) to_weights[c * taps + tap] += of[tap * kLanes + lane];
          if (to_bias) to_bias[c] += of[taps * kLanes + lane];
        }
      }
  });
}

}  // namespace
#endif

void define_depthwise(py::module_& m) {
#ifdef LAYERFORGE_AVX512
  if (!has_avx512()) return;
  const py::none none;
  py::class_<Before>(m, "Before", "rectify(((x - mean) * scale) * weight + bias) for each channel of x, or nothing.")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&, float>(),
           py::arg("mean") = none, py::arg("scale") = none, py::arg("weight") = none, py::arg("bias") = none,
           py::arg("slope") = 1.0f);
  py::class_<Behind>(m, "Behind", "What makes dy the gradient of y: the sums of a normalisation of y; or nothing.")
      .def(py::init<const Before&, const py::object&, const py::object&, const py::object&, float>(),
           py::arg("of") = Before(none, none, none, none, 1), py::arg("y") = none, py::arg("sum") = none,
           py::arg("dot") = none, py::arg("number") = 1.0f);
  m.attr("depthwise_most") = py::make_tuple(wide::kMostTaps, wide::kMostStride);
  m.def("depthwise_scratch", &scratch_size, py::arg("numbers"), "Elements of scratch memory.");
  m.def("depthwise_forward", &forward, py::arg("numbers"), py::arg("x"), py::arg("w"), py::arg("bias"), py::arg("y"),
        py::arg("scratch"), py::arg("before"), py::arg("mean") = none, py::arg("square") = none,
        "y = w * before(x) + bias, and the mean and squares of each channel of an image; no checks.");
  m.def("depthwise_backward", &backward, py::arg("numbers"), py::arg("x"), py::arg("dy"), py::arg("w"), py::arg("dx"),
        py::arg("dw"), py::arg("db"), py::arg("scratch"), py::arg("before"), py::arg("sum"), py::arg("dot"),
        py::arg("behind"), "dx =, dw +=, db += the gradients, and what before learns by; no checks.");
#endif
}
