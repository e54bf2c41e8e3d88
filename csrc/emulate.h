// Runs the __global__ bodies of grid.h on the CPU, one thread of the grid after the other. Included by the registration
// sources that the build writes for layerforge._emulated.
#pragma once
#include <cstddef>
#include <utility>

#include "portable.h"

struct Dim {
  unsigned x, y, z;
};
extern thread_local Dim gridDim, blockDim, blockIdx, threadIdx;
#define __global__ static
#define __launch_bounds__(threads)
#include "grid.h"

// Runs one thread. `arguments`, as cuLaunchKernel takes them: where each of them lies, the count first.
typedef void (*Body)(void** arguments);

// Registered as "family/kernel/float or double/narrow or wide".
void add_body(const char* name, Body body);

template <auto kernel>
struct Emulated;

template <class... A, void (*kernel)(index_t, A...)>
struct Emulated<kernel> {
  template <size_t... n>
  static void unpack(void** arguments, std::index_sequence<n...>) {
    over_grid<kernel, A...>(*static_cast<index_t*>(arguments[0]),
                            *static_cast<typename Handed<A>::type*>(arguments[n + 1])...);
  }
  static void run(void** arguments) { unpack(arguments, std::index_sequence_for<A...>()); }
};
