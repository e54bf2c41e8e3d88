// The Python module layerforge._csrc: one entry that launches any kernel, memory, threads.
#define PY_SSIZE_T_CLEAN
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstring>

#include "blas.h"
#include "cpu/cpu.h"
#include "memory.h"
#include "registry.h"

namespace py = pybind11;

void define_checksum(py::module_& m);     // checksum.cpp
void define_convolution(py::module_& m);  // cpu/convolution.cpp
void define_depthwise(py::module_& m);    // cpu/depthwise_blocks.cpp
void define_products(py::module_& m);     // cpu/products.cpp
void define_records(py::module_& m);      // records.cpp
void define_winograd(py::module_& m);     // cpu/winograd.cpp
#ifdef LAYERFORGE_ONEDNN
void define_onednn(py::module_& m);  // cpu/onednn_convolution.cpp
#endif

// ------------------------------------------------------------------------------------------------------------ kernels

std::map<std::string, std::map<std::string, Kernel>>& kernels() {
  static std::map<std::string, std::map<std::string, Kernel>> all;
  return all;
}

static std::vector<Tuned*>& waiting() {
  static std::vector<Tuned*> all;
  return all;
}

Tuned::Tuned(const char* file, const char* name, WholeFunction single, std::vector<Kind> single_kinds,
             WholeFunction twice, std::vector<Kind> double_kinds)
    : file(file), name(name), run{single, twice}, kinds{std::move(single_kinds), std::move(double_kinds)} {
  waiting().push_back(this);
}

// Gives every hand-tuned version to its kernel. A version without a kernel, or with other arguments, is a mistake of
// the build, and importing the module says so.
static void adopt_tuned() {
  for (Tuned* tuned : waiting()) {
    std::string family = tuned->file;
    family = family.substr(family.find_last_of('/') + 1);
    family = family.substr(0, family.find('.'));
    auto& all = kernels()[family];
    auto found = all.find(tuned->name);
    if (found == all.end())
      throw std::runtime_error("CPU_KERNEL(" + tuned->name + ") in cpu/" + family + ".cpp: kernels/" + family +
                               ".h has no such kernel");
    Kernel& kernel = found->second;
    for (int type : {FLOAT, DOUBLE}) {
      if (!kernel.typed && type == DOUBLE) continue;
      if (tuned->kinds[type] != kernel.variant[type][WIDE].kinds)
        throw std::runtime_error("CPU_KERNEL(" + tuned->name + ") in cpu/" + family +
                                 ".cpp: its arguments differ from those in kernels/" + family + ".h");
      kernel.tuned[type] = tuned->run[type];
    }
  }
  waiting().clear();
}

static int thread_count = 1;

int threads() { return thread_count; }

static py::object error_class(const char* name) { return py::module_::import("layerforge.errors").attr(name); }

[[noreturn]] static void fail(const Kernel& kernel, const std::string& message) {
  py::set_error(error_class("KernelError"),
                ("kernel " + kernel.name + " (" + kernel.family + ".h): " + message).c_str());
  throw py::error_already_set();
}

[[noreturn]] static void fail(const Kernel& kernel, size_t argument, const std::string& expected,
                              const std::string& received) {
  fail(kernel, "argument " + kernel.arguments[argument] + ": expected " + expected + ", received " + received);
}

static std::string type_name(char letter) {
  switch (letter) {
    case 'f':
      return "float32";
    case 'd':
      return "float64";
    case 'i':
      return "int32";
    case 'q':
      return "int64";
    case 'B':
      return "uint8";
    case 'I':
      return "uint32";
    case 'Q':
      return "uint64";
    default:
      return "bool";
  }
}

// The letter of an array's elements, '\0' for types that no kernel takes.
static char letter_of(const py::array& array) {
  const py::dtype dtype = array.dtype();
  if (dtype.byteorder() == '>') return '\0';
  switch (dtype.kind()) {
    case 'f':
      return dtype.itemsize() == 4 ? 'f' : dtype.itemsize() == 8 ? 'd' : '\0';
    case 'i':
      return dtype.itemsize() == 4 ? 'i' : dtype.itemsize() == 8 ? 'q' : '\0';
    case 'u':
      return dtype.itemsize() == 1 ? 'B' : dtype.itemsize() == 4 ? 'I' : dtype.itemsize() == 8 ? 'Q' : '\0';
    case 'b':
      return '?';
    default:
      return '\0';
  }
}

// Arrays that lie elsewhere than in the host's memory: their types, and the Python functions that launch a kernel on
// them and that describe them. See layerforge/launch.py.
struct Elsewhere {
  PyObject *types = nullptr, *launch = nullptr, *describe = nullptr;
  bool has(PyObject* object) const {
    return types && PyDict_GetItem(types, reinterpret_cast<PyObject*>(Py_TYPE(object))) != nullptr;
  }
};
static Elsewhere elsewhere;

static void set_elsewhere(py::dict types, py::object launch, py::object describe) {
  elsewhere = {types.release().ptr(), launch.release().ptr(), describe.release().ptr()};
}

static std::string describe(PyObject* object) {
  if (object == Py_None) return "None";
  if (elsewhere.has(object)) return py::str(py::handle(elsewhere.describe)(py::handle(object)));
  if (py::isinstance<py::array>(object)) {
    const auto array = py::reinterpret_borrow<py::array>(object);
    std::string text = py::str(array.dtype());
    text += array.flags() & py::array::c_style ? " array of shape " : " array, not C-contiguous, of shape ";
    return text + std::string(py::str(array.attr("shape")));
  }
  const std::string name = Py_TYPE(object)->tp_name;
  return name + " " + std::string(py::repr(py::handle(object)));
}

static std::string expected_array(const Kind& kind, bool any_float) {
  const std::string type = any_float ? "float32 or float64" : type_name(kind.type);
  return std::string(kind.constant ? "a " : "a writable ") + "C-contiguous " + type + " array";
}

// A call in the making: what Python handed over, and what the kernel will get.
struct Call {
  const Kernel& kernel;
  PyObject* const* objects;
  static constexpr size_t most = 48;
  Value values[most];
  Type type = FLOAT;
  Width width = NARROW;
  int64_t count = -1;   // elements of the first array that is written
  int64_t largest = 0;  // elements of the largest array
  int64_t integers[most];

  Call(const Kernel& kernel, PyObject* const* objects) : kernel(kernel), objects(objects) {}

  const Kind& kind(size_t n) const { return kernel.variant[type][NARROW].kinds[n]; }
  bool of_type_t(size_t n) const {
    return kernel.typed && kernel.variant[FLOAT][NARROW].kinds[n].type != kernel.variant[DOUBLE][NARROW].kinds[n].type;
  }

  // Whether the first array is none of the host's: the kernel then runs where it lies.
  bool lies_elsewhere() const {
    for (size_t n = 0; elsewhere.types && n < kernel.arguments.size(); ++n)
      if (kernel.variant[FLOAT][NARROW].kinds[n].pointer && objects[n] != Py_None) return elsewhere.has(objects[n]);
    return false;
  }

  // T is the type of the first array argument declared with it.
  void choose_type() {
    if (!kernel.typed) return;
    for (size_t n = 0; n < kernel.arguments.size(); ++n) {
      if (!kind(n).pointer || !of_type_t(n) || objects[n] == Py_None) continue;
      const bool is_array = py::isinstance<py::array>(objects[n]);
      const char letter = is_array ? letter_of(py::reinterpret_borrow<py::array>(objects[n])) : '\0';
      if (letter != 'f' && letter != 'd') fail(kernel, n, expected_array(kind(n), true), describe(objects[n]));
      type = letter == 'd' ? DOUBLE : FLOAT;
      return;
    }
  }

  void take_array(size_t n) {
    const Kind& k = kind(n);
    if (objects[n] == Py_None) {
      values[n].pointer = nullptr;
      return;
    }
    if (!py::isinstance<py::array>(objects[n])) fail(kernel, n, expected_array(k, false), describe(objects[n]));
    const auto array = py::reinterpret_borrow<py::array>(objects[n]);
    if (letter_of(array) != k.type || !(array.flags() & py::array::c_style))
      fail(kernel, n, expected_array(k, false), describe(objects[n]));
    if (!k.constant && !array.writeable())
      fail(kernel, n, expected_array(k, false), "a read-only " + describe(objects[n]));
    values[n].pointer = const_cast<void*>(array.data());
    const int64_t size = array.size();
    largest = std::max(largest, size);
    if (!k.constant && count < 0) count = size;
  }

  void take_real(size_t n) {
    const double number = PyFloat_AsDouble(objects[n]);
    if (number == -1 && PyErr_Occurred()) {
      PyErr_Clear();
      fail(kernel, n, "a number", describe(objects[n]));
    }
    if (kind(n).type == 'f')
      values[n].f = float(number);
    else
      values[n].d = number;
  }

  void take_integer(size_t n) {
    const Kind& k = kind(n);
    const py::object whole = py::reinterpret_steal<py::object>(PyNumber_Index(objects[n]));
    if (!whole) {
      PyErr_Clear();
      fail(kernel, n, "an integer", describe(objects[n]));
    }
    if (k.type == 'Q') {
      values[n].L = PyLong_AsUnsignedLongLong(whole.ptr());
    } else {
      integers[n] = PyLong_AsLongLong(whole.ptr());
    }
    bool outside = PyErr_Occurred() != nullptr;
    PyErr_Clear();
    if (!outside && k.type == 'i' && integers[n] != int32_t(integers[n])) {
      if (kernel.variant[type][WIDE].kinds[n].type == 'q')
        width = WIDE;  // an index_t
      else
        outside = true;
    }
    if (!outside && k.type == 'I') outside = integers[n] != uint32_t(integers[n]);
    if (!outside && k.type == 'B') outside = integers[n] != uint8_t(integers[n]);
    if (outside) fail(kernel, n, "an integer of type " + type_name(k.type), describe(objects[n]));
  }

  void take(size_t n) {
    const Kind& k = kind(n);
    if (k.pointer)
      take_array(n);
    else if (k.type == 'f' || k.type == 'd')
      take_real(n);
    else if (k.type == '?')
      values[n].b = PyObject_IsTrue(objects[n]) == 1;
    else
      take_integer(n);
  }

  // Integers are stored once it is known whether an index_t has 32 or 64 bits.
  void store_integers(Width form) {
    for (size_t n = 0; n < kernel.arguments.size(); ++n) {
      const Kind& k = kernel.variant[type][form].kinds[n];
      if (k.pointer) continue;
      if (k.type == 'i') values[n].i = int32_t(integers[n]);
      if (k.type == 'q') values[n].l = integers[n];
      if (k.type == 'I') values[n].I = uint32_t(integers[n]);
      if (k.type == 'B') values[n].B = uint8_t(integers[n]);
    }
  }
};

// Fewer elements than this, in every array, are not worth waking a second thread for.
constexpr int64_t kFewElements = 1 << 15;
// Shares begin at multiples of this many elements where there is enough to do, so that no cache line has two writers.
constexpr int64_t kShare = 64;

static void run_ranges(RangeFunction run, int64_t count, int64_t largest, const Value* values) {
  const int64_t all = std::max(count, largest) < kFewElements ? 1 : std::min<int64_t>(threads(), count);
  if (all <= 1 || omp_in_parallel()) {
    run(0, count, values);
    return;
  }
  const int64_t grain = count >= all * kShare * 4 ? kShare : 1, grains = (count + grain - 1) / grain;
#pragma omp parallel for schedule(static) num_threads(int(all))
  for (int64_t share = 0; share < all; ++share) {
    const int64_t begin = grains * share / all * grain;
    const int64_t end = std::min(count, grains * (share + 1) / all * grain);
    if (begin < end) run(begin, end, values);
  }
}

static std::vector<const Kernel*> handles;

// launch(handle, *arguments, count=None): checks the arguments and runs the kernel on every element.
// The handle is four times the kernel's number, plus 1 if its hand-tuned version is not wanted, plus 2 for 64-bit
// indices even where 32 bits would do. This is the hot entry, so it is called by CPython directly; pybind11's
// dispatcher would double its cost.
static PyObject* launch(PyObject*, PyObject* const* objects, Py_ssize_t given, PyObject* names) {
  try {
    if (given < 1) throw py::type_error("launch() needs a kernel");
    const long handle = PyLong_AsLong(objects[0]);
    if (handle < 0 || size_t(handle) / 4 >= handles.size()) {
      PyErr_Clear();
      throw py::type_error("launch() needs a kernel");
    }
    const Kernel& kernel = *handles[handle / 4];
    const size_t expected = kernel.arguments.size();
    Call call(kernel, objects + 1);
    PyObject* wanted = nullptr;
    for (Py_ssize_t n = 0; names && n < PyTuple_GET_SIZE(names); ++n) {
      const std::string name = py::str(PyTuple_GET_ITEM(names, n));
      if (name != "count") fail(kernel, "unknown keyword " + name + "; only count may be given by name");
      wanted = objects[given + n];
    }
    if (size_t(given - 1) != expected) {
      std::string list;
      for (const std::string& name : kernel.arguments) list += (list.empty() ? "" : ", ") + name;
      fail(kernel,
           "expected " + std::to_string(expected) + " arguments (" + list + "), received " + std::to_string(given - 1));
    }
    if (call.lies_elsewhere()) {
      py::tuple arguments(expected);
      for (size_t n = 0; n < expected; ++n) arguments[n] = py::reinterpret_borrow<py::object>(objects[n + 1]);
      const py::object count = wanted ? py::reinterpret_borrow<py::object>(wanted) : py::object(py::none());
      return py::handle(elsewhere.launch)(handle, arguments, count).release().ptr();
    }
    call.choose_type();
    for (size_t n = 0; n < expected; ++n) call.take(n);
    if (wanted && wanted != Py_None) {
      call.count = PyLong_AsLongLong(wanted);
      if (call.count < 0) {
        PyErr_Clear();
        fail(kernel, "argument count: expected a number of elements, received " + describe(wanted));
      }
    }
    if (call.count < 0) fail(kernel, "needs count=, because it got no array to write to");

    const WholeFunction tuned = handle & 1 ? nullptr : kernel.tuned[call.type];
    if (handle & 2 || std::max(call.count, call.largest) > INT32_MAX) call.width = WIDE;
    call.store_integers(tuned ? WIDE : call.width);
    const RangeFunction run = kernel.variant[call.type][call.width].run;
    {
      py::gil_scoped_release without_gil;
      if (tuned)
        tuned(call.count, call.values);
      else
        run_ranges(run, call.count, call.largest, call.values);
    }
    Py_RETURN_NONE;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

static PyMethodDef launch_method = {
    "launch", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(launch)), METH_FASTCALL | METH_KEYWORDS,
    "launch(handle, *arguments, count=None): checks the arguments and runs the kernel on every element."};

// {family: {kernel: (handle, argument names, whether a hand-tuned version exists)}}
static py::dict number_kernels() {
  py::dict families;
  for (const auto& [family, all] : kernels()) {
    py::dict members;
    for (const auto& [name, kernel] : all) {
      if (kernel.arguments.size() > Call::most) throw std::runtime_error("kernel " + name + " has too many arguments");
      py::list arguments;
      for (const std::string& argument : kernel.arguments) arguments.append(argument);
      members[name.c_str()] = py::make_tuple(4 * handles.size(), py::tuple(arguments), kernel.tuned[FLOAT] != nullptr);
      handles.push_back(&kernel);
    }
    families[family.c_str()] = members;
  }
  return families;
}

// ------------------------------------------------------------------------------------------------------------- module

PYBIND11_MODULE(_csrc, m) {
  m.doc() =
      "LayerForge's native part: kernels, memory, matrix products. Use it through layerforge.kernels and "
      "layerforge.device.";
  adopt_tuned();
  thread_count = std::max(1, omp_get_max_threads());  // OMP_NUM_THREADS, or the cores that this process may use
  m.attr("kernels") = number_kernels();
  m.attr("launch") = py::reinterpret_steal<py::object>(PyCFunction_NewEx(&launch_method, nullptr, nullptr));
  m.def("set_elsewhere", &set_elsewhere, py::arg("types"), py::arg("launch"), py::arg("describe"));
  m.def("set_threads", [](int count) { thread_count = std::max(1, count); }, py::arg("count"));
  m.def("get_threads", &threads);
  define_memory(m);
  define_blas(m);
  define_convolution(m);
  define_depthwise(m);
  define_products(m);
  define_winograd(m);
  define_checksum(m);
  define_records(m);
#ifdef LAYERFORGE_ONEDNN
  define_onednn(m);
#endif
}
