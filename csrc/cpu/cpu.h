// For the hand-tuned CPU versions of kernels: whole ranges, with the threads and the memory order in their own hands.
//
// A version has the kernel's name and arguments, but takes the count first instead of an index, and is registered by
// CPU_KERNEL after it is defined. The file is named after the kernel's header: cpu/update.cpp speeds up
// kernels/update.h.
//
//   namespace {
//   template <class T>
//   void relu_forward(index_t count, const T* x, T* y, T slope) { ... }
//   }  // namespace
//   CPU_KERNEL(relu_forward)
//
// Threads start only in parallel(); loops worth cloning (CLONES) are functions of their own that it calls.
#pragma once
#define LAYERFORGE_WIDE_INDEX
#include <omp.h>

#include "portable.h"
#include "registry.h"

template <auto kernel>
struct Whole;

template <class... A, void (*kernel)(index_t, A...)>
struct Whole<kernel> {
  template <size_t... n>
  static void unpack(int64_t count, const Value* values, std::index_sequence<n...>) {
    kernel(count, Argument<A>::from(values[n])...);
  }
  static void run(int64_t count, const Value* values) { unpack(count, values, std::index_sequence_for<A...>()); }
  static std::vector<Kind> kinds() { return {Argument<A>::kind()...}; }
};

struct Tuned {
  std::string file, name;
  WholeFunction run[TYPES];
  std::vector<Kind> kinds[TYPES];
  Tuned(const char* file, const char* name, WholeFunction single, std::vector<Kind> single_kinds, WholeFunction twice,
        std::vector<Kind> double_kinds);
};

#define CPU_KERNEL(name)                                                                             \
  static Tuned tuned_##name(__FILE__, #name, Whole<&name<float>>::run, Whole<&name<float>>::kinds(), \
                            Whole<&name<double>>::run, Whole<&name<double>>::kinds());

// The same for a kernel that is no template.
#define CPU_KERNEL_WITHOUT_TYPE(name) \
  static Tuned tuned_##name(__FILE__, #name, Whole<&name>::run, Whole<&name>::kinds(), nullptr, {});

// body(begin, end, share) for even shares of 0 ... count - 1, one for each thread. Shares are contiguous, and the same
// for the same count and number of threads, even if the system grants fewer. Fewer shares when there is less to do,
// each of at least `least`: a thread that sleeps takes 10 microseconds to wake. Inside a parallel region, only one.
template <class Body>
void parallel(int64_t count, const Body& body, int64_t least = 1) {
  const int64_t all = omp_in_parallel() ? 1 : std::min<int64_t>(threads(), count / least);
  if (all <= 1) {
    if (count > 0) body(int64_t(0), count, 0);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(int(all))
  for (int64_t share = 0; share < all; ++share) body(count * share / all, count * (share + 1) / all, int(share));
}
