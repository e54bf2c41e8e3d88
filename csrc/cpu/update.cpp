// Update rules by blocks: the multipliers are the same for 64 elements, so a block is a loop of plain vectors and the
// sweep runs at the speed of memory.
#include "cpu.h"

namespace portable {
#include "kernels/update.h"
}  // namespace portable

namespace {

// step(w, g, h, r) for the elements begin ... end - 1, g being the regularised gradient; begin starts a block.
template <class T, class Step>
CLONES void blocks(int64_t begin, int64_t end, T* __restrict__ w, const T* __restrict__ g, T* __restrict__ h,
                   const T* rates, const T* decays, T rate, T scale, bool l1, Step step) {
  if (portable::held(scale)) return;
  for (int64_t block = begin / portable::kBlock; begin < end; begin += portable::kBlock, ++block) {
    const T r = rate * rates[block], decay = decays[block];
    const int64_t stop = std::min<int64_t>(end, begin + portable::kBlock);
    for (int64_t i = begin; i < stop; ++i) step(w[i], portable::regularised(g[i], w[i], scale, decay, l1), h[i], r);
  }
}

// The same for rules with two histories.
template <class T, class Step>
CLONES void blocks(int64_t begin, int64_t end, T* __restrict__ w, const T* __restrict__ g, T* __restrict__ h,
                   T* __restrict__ k, const T* rates, const T* decays, T rate, T scale, bool l1, Step step) {
  if (portable::held(scale)) return;
  for (int64_t block = begin / portable::kBlock; begin < end; begin += portable::kBlock, ++block) {
    const T r = rate * rates[block], decay = decays[block];
    const int64_t stop = std::min<int64_t>(end, begin + portable::kBlock);
    for (int64_t i = begin; i < stop; ++i)
      step(w[i], portable::regularised(g[i], w[i], scale, decay, l1), h[i], k[i], r);
  }
}

// Shares whole blocks out to the threads.
template <class... A>
void sweep(index_t count, const A&... arguments) {
  const int64_t size = portable::kBlock;
  parallel((count + size - 1) / size, [&](int64_t begin, int64_t end, int) {
    blocks(begin * size, std::min<int64_t>(count, end * size), arguments...);
  });
}

template <class T>
void sgd(index_t count, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T momentum, T scale, bool l1) {
  sweep(count, w, g, h, rates, decays, rate, scale, l1,
        [=](T& w, T g, T& h, T r) { portable::sgd_step(w, g, h, r, momentum); });
}

template <class T>
void nesterov(index_t count, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T momentum, T scale,
              bool l1) {
  sweep(count, w, g, h, rates, decays, rate, scale, l1,
        [=](T& w, T g, T& h, T r) { portable::nesterov_step(w, g, h, r, momentum); });
}

template <class T>
void adagrad(index_t count, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T delta, T scale,
             bool l1) {
  sweep(count, w, g, h, rates, decays, rate, scale, l1,
        [=](T& w, T g, T& h, T r) { portable::adagrad_step(w, g, h, r, delta); });
}

template <class T>
void rmsprop(index_t count, T* w, const T* g, T* h, const T* rates, const T* decays, T rate, T mean_decay, T delta,
             T scale, bool l1) {
  sweep(count, w, g, h, rates, decays, rate, scale, l1,
        [=](T& w, T g, T& h, T r) { portable::rmsprop_step(w, g, h, r, mean_decay, delta); });
}

template <class T>
void adadelta(index_t count, T* w, const T* g, T* h, T* d, const T* rates, const T* decays, T rate, T momentum, T delta,
              T scale, bool l1) {
  sweep(count, w, g, h, d, rates, decays, rate, scale, l1,
        [=](T& w, T g, T& h, T& d, T r) { portable::adadelta_step(w, g, h, d, r, momentum, delta); });
}

template <class T>
void adam(index_t count, T* w, const T* g, T* m, T* v, const T* rates, const T* decays, T rate, T beta1, T beta2,
          T correction, T delta, T scale, bool l1) {
  sweep(count, w, g, m, v, rates, decays, rate, scale, l1,
        [=](T& w, T g, T& m, T& v, T r) { portable::adam_step(w, g, m, v, r, beta1, beta2, correction, delta); });
}

}  // namespace

CPU_KERNEL(sgd)
CPU_KERNEL(nesterov)
CPU_KERNEL(adagrad)
CPU_KERNEL(rmsprop)
CPU_KERNEL(adadelta)
CPU_KERNEL(adam)
