// What a GPU runs: a kernel on every index, shared out among the threads of a grid. NVRTC and nvcc compile this as it
// is, and emulate.h for the CPU.
#pragma once
#include "portable.h"

// A number that is handed to a kernel: its value, or where in the device's memory it stands. A captured graph repeats
// its launches with the arguments that they had; what changes from one replay to the next (a learning rate, the number
// of the pass) is read from memory.
template <class T>
struct Number {
  T value;
  const T* at;
};

// How an argument of type A is handed over.
template <class A>
struct Handed {
  typedef A type;
};
template <>
struct Handed<float> {
  typedef Number<float> type;
};
template <>
struct Handed<double> {
  typedef Number<double> type;
};
template <>
struct Handed<uint64_t> {
  typedef Number<uint64_t> type;
};

template <class A>
KERNEL A given(A argument) {
  return argument;
}
template <class T>
KERNEL T given(Number<T> number) {
  return number.at ? *number.at : number.value;
}

#ifdef LAYERFORGE_TEAM  // a block for each index
template <auto kernel, class... A>
KERNEL void share_of_grid(index_t count, A... arguments) {
  for (index_t i = index_t(blockIdx.x); i < count; i += index_t(gridDim.x)) kernel(i, arguments...);
}
#else
template <auto kernel, class... A>
KERNEL void share_of_grid(index_t count, A... arguments) {
  const index_t stride = index_t(gridDim.x) * index_t(blockDim.x);
  for (index_t i = index_t(blockIdx.x) * index_t(blockDim.x) + index_t(threadIdx.x); i < count; i += stride)
    kernel(i, arguments...);
}
#endif

// Whoever launches this sees to it that count + the number of threads is an index_t.
template <auto kernel, class... A>
__global__ void __launch_bounds__(256) over_grid(index_t count, typename Handed<A>::type... arguments) {
  share_of_grid<kernel, A...>(count, given(arguments)...);
}
