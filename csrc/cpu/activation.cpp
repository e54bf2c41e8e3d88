// Sigmoid and tanh in vectors.
#include "cpu.h"
#include "vector_math.h"

namespace portable {
#include "kernels/activation.h"
}  // namespace portable

namespace {

CLONES void sigmoids(int64_t begin, int64_t end, const float* x, float* y) {
  INDEPENDENT
  for (int64_t i = begin; i < end; ++i) y[i] = 1 / (1 + vector_exp(-x[i]));
}

CLONES void tanhs(int64_t begin, int64_t end, const float* x, float* y) {
  INDEPENDENT
  for (int64_t i = begin; i < end; ++i) y[i] = vector_tanh(x[i]);
}

void sigmoids(int64_t begin, int64_t end, const double* x, double* y) {
  for (int64_t i = begin; i < end; ++i) portable::sigmoid_forward(i, x, y);
}

void tanhs(int64_t begin, int64_t end, const double* x, double* y) {
  for (int64_t i = begin; i < end; ++i) portable::tanh_forward(i, x, y);
}

// Shares out runs of elements that are worth a thread.
template <class Body>
void on_elements(index_t count, const Body& body) {
  const int64_t run = 2048;
  parallel((count + run - 1) / run,
           [&](int64_t begin, int64_t end, int) { body(begin * run, std::min<int64_t>(count, end * run)); });
}

template <class T>
void sigmoid_forward(index_t count, const T* x, T* y) {
  on_elements(count, [=](int64_t begin, int64_t end) { sigmoids(begin, end, x, y); });
}

template <class T>
void tanh_forward(index_t count, const T* x, T* y) {
  on_elements(count, [=](int64_t begin, int64_t end) { tanhs(begin, end, x, y); });
}

}  // namespace

CPU_KERNEL(sigmoid_forward)
CPU_KERNEL(tanh_forward)
