// Memory for arrays: aligned for vectors, on huge pages when large, touched before it is used.
//
// A fresh page costs a fault of about 2.6 us per 4 KiB, more than anything done with it. So every array is written
// once, by all threads, when it is made; a training loop then runs without faults. Where pages are huge ones that is a
// sixth of the time, so arrays that are smaller than one lie together on some.
#include "memory.h"

#include <pybind11/numpy.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "cpu/cpu.h"

namespace py = pybind11;

constexpr size_t kLine = 64, kPage = 4096, kHuge = size_t(2) << 20;
// Arrays from so many bytes on, and below kHuge, lie in chunks of so many, of which a few may have room left: so little
// is lost at their ends. AddressSanitizer sees what is written beyond an array only where that has memory of its own.
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kSmall = kHuge;
#else
constexpr size_t kSmall = size_t(16) << 10;
#endif
constexpr size_t kChunk = size_t(16) << 20, kOpen = 4;

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

// Huge pages that arrays lie on one behind the other. They are the system's again when the last of the arrays is gone.
class Chunk {
 public:
  // nullptr without memory
  static std::shared_ptr<Chunk> make() {
    void* const memory = allocate(kChunk);
    return memory ? std::shared_ptr<Chunk>(new Chunk(memory)) : nullptr;
  }
  ~Chunk() { std::free(memory); }

  // nullptr where there is no room
  void* take(size_t bytes) {
    const size_t end = used + round_up(bytes, kLine);
    if (end > kChunk) return nullptr;
    void* const piece = memory + used;
    used = end;
    return piece;
  }
  void clear() { used = 0; }

 private:
  explicit Chunk(void* memory) : memory(static_cast<char*>(memory)) {}

  char* const memory;
  size_t used = 0;
};

// An array's memory, and the chunk in which it lies, if it lies in one.
struct Piece {
  void* memory;
  std::shared_ptr<Chunk> chunk;
};

// Those that may have room. Like all of this, for whoever holds Python's lock. Never destroyed: arrays may outlive it.
static std::vector<std::shared_ptr<Chunk>>& open_chunks() {
  static auto& chunks = *new std::vector<std::shared_ptr<Chunk>>;
  return chunks;
}

static bool is_empty(const std::shared_ptr<Chunk>& chunk) { return chunk.use_count() == 1; }

static Piece allocate_small(size_t bytes) {
  auto& chunks = open_chunks();
  for (auto& chunk : chunks) {
    if (is_empty(chunk)) chunk->clear();
    if (void* const memory = chunk->take(bytes)) return {memory, chunk};
  }
  const std::shared_ptr<Chunk> fresh = Chunk::make();
  if (!fresh) return {nullptr, nullptr};
  if (chunks.size() == kOpen) chunks.erase(chunks.begin());  // its arrays keep it
  chunks.push_back(fresh);
  return {fresh->take(bytes), fresh};
}

// Of empty chunks one is kept, for the next.
static void let_go(Piece* piece) {
  delete piece;
  auto& chunks = open_chunks();
  if (chunks.size() > 1) chunks.erase(std::remove_if(chunks.begin() + 1, chunks.end(), is_empty), chunks.end());
}

// A flat array of bytes set to 0. None when there is not enough memory: the caller knows what it was for.
static py::object zeros(size_t bytes) {
  const bool small = kSmall <= bytes && bytes < kHuge;
  const Piece piece = small ? allocate_small(bytes) : Piece{allocate(bytes), nullptr};
  void* const memory = piece.memory;
  if (!memory) return py::none();
  py::capsule owner = small ? py::capsule(new Piece(piece), [](void* pointer) { let_go(static_cast<Piece*>(pointer)); })
                            : py::capsule(memory, [](void* pointer) { std::free(pointer); });
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
