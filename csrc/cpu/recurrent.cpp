// Steps of recurrent layers in vectors: along the hidden units of one sequence, whose gates lie side by side.
#include "cpu.h"
#include "vector_math.h"

namespace portable {
#include "kernels/recurrent.h"
}  // namespace portable

namespace {

KERNEL float squash(float x) { return vector_tanh(x); }
KERNEL double squash(double x) { return tanh(x); }
KERNEL float logistic(float x) { return 1 / (1 + vector_exp(-x)); }
KERNEL double logistic(double x) { return portable::logistic(x); }

// One step of one sequence: `hidden` elements, and four parts of as many.
template <class T>
struct Step {
  CLONES static void forward(int64_t hidden, const T* x, T cont, const T* c_before, T* gates, T* c, T* h) {
    INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) {
      const T in = logistic(x[j]), keep = cont == 0 ? T(0) : cont * logistic(x[j + hidden]);
      const T out = logistic(x[j + 2 * hidden]), g = squash(x[j + 3 * hidden]);
      gates[j] = in;
      gates[j + hidden] = keep;
      gates[j + 2 * hidden] = out;
      gates[j + 3 * hidden] = g;
      const T cell = (cont == 0 ? T(0) : keep * c_before[j]) + in * g;
      c[j] = cell;
      h[j] = out * squash(cell);
    }
  }

  CLONES static void backward(int64_t hidden, const T* gates, T cont, const T* c_before, const T* c, const T* dy,
                              const T* dh, const T* dc, T* dx, T* dc_before) {
    INDEPENDENT
    for (int64_t j = 0; j < hidden; ++j) {
      const T in = gates[j], keep = gates[j + hidden], out = gates[j + 2 * hidden], g = gates[j + 3 * hidden];
      const T before = cont == 0 ? T(0) : c_before[j], squashed = squash(c[j]);
      const T d = (dy ? dy[j] : T(0)) + (dh ? dh[j] : T(0));
      const T cell = (dc ? dc[j] : T(0)) + d * out * (1 - squashed * squashed);
      dx[j] = cell * g * in * (1 - in);
      dx[j + hidden] = cell * before * keep * (1 - keep);
      dx[j + 2 * hidden] = d * squashed * out * (1 - out);
      dx[j + 3 * hidden] = cell * in * (1 - g * g);
      dc_before[j] = cell * keep;
    }
  }
};

// body(sequence) for each of count / hidden sequences; shares of them that are worth a thread.
template <class Body>
void on_sequences(int64_t count, int64_t hidden, const Body& body) {
  if (count == 0) return;
  const int64_t run = std::max<int64_t>(1, 2048 / hidden), sequences = count / hidden;
  parallel((sequences + run - 1) / run, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin * run; n < std::min(sequences, end * run); ++n) body(n);
  });
}

template <class T>
void lstm_forward(index_t count, const T* x, const T* cont, const T* c_before, T* gates, T* c, T* h, index_t hidden) {
  on_sequences(count, hidden, [=](int64_t n) {
    const int64_t at = n * hidden;
    Step<T>::forward(hidden, x + 4 * at, cont[n], c_before + at, gates + 4 * at, c + at, h + at);
  });
}

template <class T>
void lstm_backward(index_t count, const T* gates, const T* cont, const T* c_before, const T* c, const T* dy,
                   const T* dh, const T* dc, T* dx, T* dc_before, index_t hidden) {
  on_sequences(count, hidden, [=](int64_t n) {
    const int64_t at = n * hidden;
    Step<T>::backward(hidden, gates + 4 * at, cont[n], c_before + at, c + at, dy ? dy + at : dy, dh ? dh + at : dh,
                      dc ? dc + at : dc, dx + 4 * at, dc_before + at);
  });
}

}  // namespace

CPU_KERNEL(lstm_forward)
CPU_KERNEL(lstm_backward)
