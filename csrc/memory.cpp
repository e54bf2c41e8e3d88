// Memory for arrays: aligned for vectors, on huge pages when large, touched before it is used.
//
// A fresh page costs a fault of about 2.6 us per 4 KiB, more than anything done with it. So every array is written
// once, by all threads, when it is made; a training loop then runs without faults.
#include "memory.h"

#include <pybind11/numpy.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/cpu.h"

namespace py = pybind11;

constexpr size_t kLine = 64, kPage = 4096, kHuge = size_t(2) << 20;

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// 64-byte aligned; from 2 MiB on, 2 MiB aligned and on huge pages where the system has them. What is left over at the
// end lies on small pages, unless that would save next to nothing: a net has hundreds of arrays, and half a huge page
// for each of them would be the tenth part of its memory. Null without memory.
static void* allocate(size_t bytes) {
  const bool large = bytes >= kHuge;
  const size_t whole = round_up(bytes, kHuge);
  const size_t huge = whole - bytes <= bytes / 32 ? whole : whole - kHuge;
  const size_t rounded = large ? std::max(huge, round_up(bytes, kPage)) : round_up(std::max<size_t>(bytes, 1), kLine);
  void* memory = nullptr;
  if (posix_memalign(&memory, large ? kHuge : kLine, rounded) != 0) return nullptr;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (large) madvise(memory, huge, MADV_HUGEPAGE);
#endif
  return memory;
}

// A flat array of bytes set to 0. None when there is not enough memory: the caller knows what it was for.
static py::object zeros(size_t bytes) {
  void* memory = allocate(bytes);
  if (!memory) return py::none();
  py::capsule owner(memory, [](void* pointer) { std::free(pointer); });
  {
    py::gil_scoped_release without_gil;
    const int64_t pages = round_up(bytes, kPage) / kPage;
    auto clear = [&](int64_t begin, int64_t end, int) {
      const size_t first = size_t(begin) * kPage, last = std::min(bytes, size_t(end) * kPage);
      if (first < last) std::memset(static_cast<char*>(memory) + first, 0, last - first);
    };
    if (bytes < kHuge)
      clear(0, pages, 0);
    else
      parallel(pages, clear);
  }
  return py::array(py::dtype::of<uint8_t>(), {py::ssize_t(bytes)}, {py::ssize_t(1)}, memory, owner);
}

void define_memory(py::module_& m) {
  m.def("zeros", &zeros, py::arg("bytes"), "A flat uint8 array set to 0, or None when there is not enough memory.");
}
