// The Python module layerforge._emulated: a GPU's launches, run thread by thread on the CPU. For tests.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <map>
#include <numeric>
#include <string>

#include "emulate.h"

namespace py = pybind11;

thread_local Dim gridDim, blockDim, blockIdx, threadIdx;

static std::map<std::string, Body>& bodies() {
  static std::map<std::string, Body> all;
  return all;
}

void add_body(const char* name, Body body) { bodies()[name] = body; }

static uintptr_t find(const std::string& name) {
  const auto found = bodies().find(name);
  return found == bodies().end() ? 0 : reinterpret_cast<uintptr_t>(found->second);
}

// All threads of all blocks, in an order that the seed decides: a kernel may not count on any.
static void launch(uintptr_t body, unsigned blocks, unsigned threads, uintptr_t arguments, uint64_t seed) {
  py::gil_scoped_release without_gil;
  gridDim = Dim{blocks, 1, 1};
  blockDim = Dim{threads, 1, 1};
  const uint64_t all = uint64_t(blocks) * threads;
  uint64_t step = all > 1 ? 1 + seed % (all - 1) : 1;
  while (std::gcd(step, all) != 1) ++step;  // coprime to `all`: the walk meets every thread once
  uint64_t at = all ? seed / 7 % all : 0;
  for (uint64_t n = 0; n < all; ++n, at = (at + step) % all) {
    blockIdx = Dim{unsigned(at / threads), 0, 0};
    threadIdx = Dim{unsigned(at % threads), 0, 0};
    reinterpret_cast<Body>(body)(reinterpret_cast<void**>(arguments));
  }
}

PYBIND11_MODULE(_emulated, m) {
  m.doc() = "A GPU's launches, run thread by thread on the CPU. Use it through layerforge.device.";
  m.def("find", &find, py::arg("name"), "The kernel \"family/name/float/narrow\" as a number; 0 if there is none.");
  m.def("launch", &launch, py::arg("body"), py::arg("blocks"), py::arg("threads"), py::arg("arguments"),
        py::arg("seed"));
}
