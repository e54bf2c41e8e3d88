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

// A header that defines LAYERFORGE_READS_AHEAD before it includes portable.h says: no kernel here reads what another
// index writes, nor its own element after writing it. Then a thread reads for several indices before it writes for the
// first, which is what it takes to keep a GPU's memory busy; an input may still be an output. The same holds for the
// rows of a REDUCTION.
#if defined(LAYERFORGE_READS_AHEAD) && defined(__CUDACC__)
template <class T>
struct Handed<const T*> {
  typedef const T* __restrict__ type;
};
#endif

template <class A>
KERNEL A given(A argument) {
  return argument;
}
template <class T>
KERNEL T given(Number<T> number) {
  return number.at ? *number.at : number.value;
}

#ifdef LAYERFORGE_TEAM  // a block has blockDim.z teams of threads, for blockDim.x indices each
template <auto kernel, class... A>
KERNEL void share_of_grid(index_t count, A... arguments) {
  const index_t side = index_t(blockDim.x), teams = index_t(blockDim.z), stride = index_t(gridDim.x) * teams * side;
  index_t i = (index_t(blockIdx.x) * teams + index_t(threadIdx.z)) * side + index_t(threadIdx.x);
  for (; i < count; i += stride) kernel(i, arguments...);
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
