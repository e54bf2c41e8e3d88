// Convolution by oneDNN: forward, and the gradients of the input and of the weights.
//
// x and y lie plain (N, C, spatial...), in blocks of 8 or 16 channels (N, C / block, spatial..., block) or with all
// channels of a position side by side (N, spatial..., C), weights and their gradients plain. Inside, oneDNN chooses its
// own layouts; the Task reorders. The same layouts and number of threads give the same bits.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "convolution.h"
#include "kept.h"
#include "onednn.h"

namespace py = pybind11;

namespace onednn {
namespace {

typedef std::vector<int64_t> Axes;

// block: 1 for plain memory, 0 for oneDNN's choice; with `whole`, all channels of a position lie side by side.
Layout image(int64_t batch, int64_t channels, const Axes& spatial, int block, bool whole = false) {
  Axes axes{batch, channels};
  axes.insert(axes.end(), spatial.begin(), spatial.end());
  constexpr dnnl_format_tag_t by_8[] = {dnnl_aBc8b, dnnl_aBcd8b, dnnl_aBcde8b};
  constexpr dnnl_format_tag_t by_16[] = {dnnl_aBc16b, dnnl_aBcd16b, dnnl_aBcde16b};
  constexpr dnnl_format_tag_t last[] = {dnnl_acb, dnnl_acdb, dnnl_acdeb};
  const size_t n = spatial.size() - 1;
  return layout(axes, block == 0   ? dnnl_format_tag_any
                      : block == 1 ? plain(axes.size())
                      : whole      ? last[n]
                      : block == 8 ? by_8[n]
                                   : by_16[n]);
}

Layout weights(const Geometry& g, dnnl_format_tag_t tag) {
  Axes axes;
  if (g.group > 1) axes.push_back(g.group);
  axes.push_back(g.group_outputs);
  axes.push_back(g.group_channels);
  axes.insert(axes.end(), g.kernel.begin(), g.kernel.end());
  return layout(axes, tag == dnnl_format_tag_any ? tag : plain(axes.size()));
}

Axes less_one(Axes values) {
  for (int64_t& value : values) --value;
  return values;
}

enum { FORWARD, DATA, WEIGHTS, TASKS };

class Convolution {
 public:
  // affine, relu, adds: what forward does to its result, see attributes(); such a convolution has no gradients. adds is
  // 1 for a term of its own, 2 for one that lies in y. turned: inside, x and y lie with all channels of a position side
  // by side, but for the gradient of the weights, and where a term is added. second: by the second implementation that
  // oneDNN has, if any, the gradient of the weights, or forward with a term in y.
  Convolution(const py::array_t<int64_t, py::array::c_style>& numbers, int x_block, int y_block, bool bias, int threads,
              bool affine, int relu, int adds, bool turned, bool second)
      : threads(threads), bias(bias), affine(affine) {
    const Geometry g(numbers.data());
    outputs = g.num_output;
    const WithThreads with(threads);
    // Blocks of 16 channels of 16 are both: what they are taken for depends on the other side.
    const bool whole = (x_block == 1 || x_block == g.channels) && (y_block == 1 || y_block == g.num_output);
    const Layout x = image(g.batch, g.channels, g.spatial, x_block, whole),
                 y = image(g.batch, g.num_output, g.output, y_block, whole);
    const Layout w = weights(g, dnnl_a), b = layout({g.num_output}, dnnl_a);
    // A plain array may lie otherwise inside, y as x does; a blocked one is used as it lies.
    const Layout x_in = image(g.batch, g.channels, g.spatial, x_block == 1 ? 0 : x_block, whole);
    const int plain_y = whole && x_block > 1 ? int(g.num_output) : 0;
    const Layout y_in = image(g.batch, g.num_output, g.output, y_block == 1 ? plain_y : y_block, whole);
    const bool turn = turned && !adds;
    const Layout x_turned = image(g.batch, g.channels, g.spatial, turn ? int(g.channels) : 1, true);
    const Layout y_turned = image(g.batch, g.num_output, g.output, turn ? int(g.num_output) : 1, true);
    const const_dnnl_memory_desc_t x_last = (turn ? x_turned : x_in).get(), y_last = (turn ? y_turned : y_in).get();
    const Layout w_in = weights(g, dnnl_format_tag_any);
    const Axes gaps = less_one(g.dilation);
    const const_dnnl_memory_desc_t b_in = bias ? b.get() : nullptr;
    const auto direct = dnnl_convolution_direct;

    Axes channels(g.spatial.size() + 2, 1);
    channels[1] = g.num_output;
    const Layout each = layout(channels, plain(channels.size()));

    dnnl_primitive_desc_t desc;
    check(library().dnnl_convolution_forward_primitive_desc_create(
              &desc, library().engine, dnnl_forward_training, direct, x_last, w_in.get(), b_in, y_last, g.stride.data(),
              gaps.data(), g.pad.data(), g.pad.data(),
              attributes(adds == 2, affine ? each.get() : nullptr, adds == 1 ? y.get() : nullptr, Relu(relu)).get()),
          "dnnl_convolution_forward_primitive_desc_create");
    if (second && adds == 2) library().dnnl_primitive_desc_next_impl(desc);
    Task& forward = *(tasks[FORWARD] = std::make_unique<Task>(desc));
    forward.reads(DNNL_ARG_SRC, x.get());
    forward.reads(DNNL_ARG_WEIGHTS, w.get());
    if (bias) forward.reads(DNNL_ARG_BIAS, b.get());
    forward.writes(DNNL_ARG_DST, y.get());
    if (affine)
      for (int i : {0, 1}) forward.reads(DNNL_ARG_ATTR_MULTIPLE_POST_OP(i) | DNNL_ARG_SRC_1, each.get());
    if (adds == 1) forward.reads(DNNL_ARG_ATTR_MULTIPLE_POST_OP(affine ? 2 : 0) | DNNL_ARG_SRC_1, y.get());
    if (affine || relu || adds) return;
    const const_dnnl_primitive_desc_t hint = forward.operation.desc.get();

    check(library().dnnl_convolution_backward_data_primitive_desc_create(
              &desc, library().engine, direct, x_last, w_in.get(), y_last, g.stride.data(), gaps.data(), g.pad.data(),
              g.pad.data(), hint, attributes().get()),
          "dnnl_convolution_backward_data_primitive_desc_create");
    Task& data = *(tasks[DATA] = std::make_unique<Task>(desc));
    data.reads(DNNL_ARG_DIFF_DST, y.get());
    data.reads(DNNL_ARG_WEIGHTS, w.get());
    data.writes(DNNL_ARG_DIFF_SRC, x.get());

    check(library().dnnl_convolution_backward_weights_primitive_desc_create(
              &desc, library().engine, direct, x_in.get(), w_in.get(), b_in, y_in.get(), g.stride.data(), gaps.data(),
              g.pad.data(), g.pad.data(), hint, attributes().get()),
          "dnnl_convolution_backward_weights_primitive_desc_create");
    if (second) library().dnnl_primitive_desc_next_impl(desc);  // stays at the first where there is no other
    Task& gradient = *(tasks[WEIGHTS] = std::make_unique<Task>(desc));
    gradient.reads(DNNL_ARG_SRC, x.get());
    gradient.reads(DNNL_ARG_DIFF_DST, y.get());
    gradient.adds_to(DNNL_ARG_DIFF_WEIGHTS, w.get());
    if (bias) gradient.adds_to(DNNL_ARG_DIFF_BIAS, b.get());
  }

  // Elements of float32 for any of the three tasks, wherever the array begins.
  size_t scratch() const {
    size_t bytes = 0;
    for (const auto& task : tasks)
      if (task) bytes = std::max(bytes, task->scratch());
    return bytes / sizeof(float) + 16;
  }

  py::tuple implementations() const {
    py::list names;
    for (const auto& task : tasks)
      if (task) names.append(task->operation.implementation());
    return py::tuple(names);
  }

  // Elements of float32 for weights that are kept between forward passes, wherever the array begins; 0: none need be.
  size_t kept() const {
    const size_t bytes = tasks[FORWARD]->kept(1);
    return bytes ? Keeper::size(bytes / sizeof(float)) : 0;
  }

  // forward: x, w, bias, y, and factor and shift if affine; data: dy, w, dx; weights: x, dy, dw, db. Arrays arrive
  // checked from engines/onednn.py. kept: see kept(); zeros at first. same: nothing that they were made of has changed.
  // Without affine, factor is multiplied into the weights that are kept.
  void run(int task, const py::array& a, const py::array& b, const py::object& c, const py::object& d,
           const py::array& scratch, const py::object& factor, const py::object& shift, const py::object& kept,
           const py::object& term, bool same) const {
    float *const pa = pointer(a), *const pb = pointer(b), *const pc = pointer(c), *const pd = pointer(d);
    float *const pt = pointer(term), *const ps = pointer(shift), *const lent = pointer(kept);
    float *const pf = affine ? pointer(factor) : pt, *const each = affine ? nullptr : pointer(factor);
    char* const room = reinterpret_cast<char*>(boundary(pointer(scratch)));
    const int64_t values = b.size();
    py::gil_scoped_release without_gil;
    const WithThreads with(threads);
    float* weights = pb;
    if (lent) {
      const auto make = [&](float* to) {
        std::vector<float> product(each ? values : 0);
        for (int64_t i = 0; i < int64_t(product.size()); ++i) product[i] = pb[i] * each[i / (values / outputs)];
        tasks[FORWARD]->keep(1, each ? product.data() : pb, to, room);
      };
      weights = keeper.weights(lent, pb, values, each, outputs, same, make);
    }
    const int ready = lent ? 1 : -1;
    if (task == FORWARD && !bias)
      tasks[task]->run({pa, weights, pd, pf, ps, pt}, room, ready);
    else
      tasks[task]->run({pa, weights, pc, pd, pf, ps, pt}, room, ready);
  }

 private:
  static float* pointer(const py::handle& array) {
    return array.is_none() ? nullptr
                           : static_cast<float*>(const_cast<void*>(py::reinterpret_borrow<py::array>(array).data()));
  }

  const Keeper keeper;
  const int threads;
  const bool bias, affine;
  int64_t outputs;
  std::unique_ptr<Task> tasks[TASKS];
};

// The block of channels that oneDNN chooses by itself on this processor: 8, 16, or 1 where it is none of these.
int preferred_block() {
  const Layout any = image(1, 64, {8, 8}, 0), filters = layout({64, 64, 3, 3}, dnnl_format_tag_any);
  const Axes one{1, 1}, none{0, 0};
  dnnl_primitive_desc_t desc;
  check(library().dnnl_convolution_forward_primitive_desc_create(
            &desc, library().engine, dnnl_forward_training, dnnl_convolution_direct, any.get(), filters.get(), nullptr,
            any.get(), one.data(), none.data(), one.data(), one.data(), attributes().get()),
        "dnnl_convolution_forward_primitive_desc_create");
  const Operation chosen(desc);
  for (int block : {16, 8})
    if (library().dnnl_memory_desc_equal(chosen.argument(DNNL_ARG_DST), image(1, 64, {8, 8}, block).get()))
      return block;
  return 1;
}

}  // namespace
}  // namespace onednn

void define_onednn(py::module_& m) {
  m.def("onednn_load", &onednn::load, py::arg("path"), "Opens oneDNN's library, once.");
  onednn::define_gemm(m);
  m.def("onednn_block", &onednn::preferred_block, "The channels that oneDNN likes to have side by side.");
  py::class_<onednn::Convolution>(m, "OnednnConvolution", "One convolution, for a number of threads; no checks.")
      .def(py::init<const py::array_t<int64_t, py::array::c_style>&, int, int, bool, int, bool, int, int, bool, bool>(),
           py::arg("numbers"), py::arg("x_block"), py::arg("y_block"), py::arg("bias"), py::arg("threads"),
           py::arg("affine"), py::arg("relu"), py::arg("adds"), py::arg("turned"), py::arg("second"))
      .def_property_readonly("scratch", &onednn::Convolution::scratch)
      .def_property_readonly("implementations", &onednn::Convolution::implementations)
      .def_property_readonly("kept", &onednn::Convolution::kept)
      .def("run", &onednn::Convolution::run, py::arg("task"), py::arg("a"), py::arg("b"), py::arg("c"), py::arg("d"),
           py::arg("scratch"), py::arg("factor") = py::none(), py::arg("shift") = py::none(),
           py::arg("kept") = py::none(), py::arg("term") = py::none(), py::arg("same") = false);
}
