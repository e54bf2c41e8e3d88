// Depthwise convolution, plane by plane.
#include "convolution.h"
#include "cpu.h"

namespace {

constexpr int kLanes = 16;

std::vector<Reads> look_up_all(const Geometry& g) {
  std::vector<Reads> taps(g.taps);
  for (int64_t tap = 0; tap < g.taps; ++tap) taps[tap].look_up(g, tap, 0, g.rows);
  return taps;
}

// y += w[tap] * what the tap reads of x, for all taps.
template <class T>
CLONES void apply(const Reads* taps, int64_t number, const T* w, const T* __restrict__ x, int64_t width,
                  T* __restrict__ y) {
  for (int64_t tap = 0; tap < number; ++tap) {
    const Reads& reads = taps[tap];
    const int64_t* const row = reads.row.data();
    const int64_t count = reads.high - reads.low, stride = reads.stride;
    const T weight = w[tap];
    for (int64_t r = reads.first; r < reads.last; ++r) {
      if (row[r] < 0) continue;
      const T* from = x + row[r] + reads.start;
      T* to = y + r * width + reads.low;
      if (stride == 1)
        for (int64_t i = 0; i < count; ++i) to[i] += weight * from[i];
      else if (stride == 2)
        for (int64_t i = 0; i < count; ++i) to[i] += weight * from[2 * i];
      else
        for (int64_t i = 0; i < count; ++i) to[i] += weight * from[stride * i];
    }
  }
}

// The adjoint: what each tap read of x gets w[tap] * dy.
template <class T>
CLONES void spread(const Reads* taps, int64_t number, const T* w, const T* __restrict__ dy, int64_t width,
                   T* __restrict__ dx) {
  for (int64_t tap = 0; tap < number; ++tap) {
    const Reads& reads = taps[tap];
    const int64_t* const row = reads.row.data();
    const int64_t count = reads.high - reads.low, stride = reads.stride;
    const T weight = w[tap];
    for (int64_t r = reads.first; r < reads.last; ++r) {
      if (row[r] < 0) continue;
      T* to = dx + row[r] + reads.start;
      const T* from = dy + r * width + reads.low;
      if (stride == 1)
        for (int64_t i = 0; i < count; ++i) to[i] += weight * from[i];
      else if (stride == 2)
        for (int64_t i = 0; i < count; ++i) to[2 * i] += weight * from[i];
      else
        for (int64_t i = 0; i < count; ++i) to[stride * i] += weight * from[i];
    }
  }
}

// sums[tap] += dy * what the tap reads of x, in kLanes sums each, which every instruction set can add in the same
// order.
template <class T>
CLONES void correlate(const Reads* taps, int64_t number, const T* __restrict__ x, const T* __restrict__ dy,
                      int64_t width, T* __restrict__ sums) {
  for (int64_t tap = 0; tap < number; ++tap, sums += kLanes) {
    const Reads& reads = taps[tap];
    const int64_t* const row = reads.row.data();
    const int64_t count = reads.high - reads.low, stride = reads.stride;
    T lane[kLanes];
    for (int k = 0; k < kLanes; ++k) lane[k] = sums[k];
    for (int64_t r = reads.first; r < reads.last; ++r) {
      if (row[r] < 0) continue;
      const T* from = x + row[r] + reads.start;
      const T* other = dy + r * width + reads.low;
      int64_t i = 0;
      if (stride == 1)
        for (; i + kLanes <= count; i += kLanes)
          for (int k = 0; k < kLanes; ++k) lane[k] += from[i + k] * other[i + k];
      for (int k = 0; i < count; ++i, k = (k + 1) % kLanes) lane[k] += from[i * stride] * other[i];
    }
    for (int k = 0; k < kLanes; ++k) sums[k] = lane[k];
  }
}

template <class T>
T total(T* lane) {
  for (int half = kLanes / 2; half; half /= 2)
    for (int k = 0; k < half; ++k) lane[k] += lane[k + half];
  return lane[0];
}

}  // namespace

template <class T>
void depthwise_forward(const Geometry& g, const T* x, const T* w, const T* bias, T* y) {
  const std::vector<Reads> taps = look_up_all(g);
  parallel(g.batch * g.num_output, [&](int64_t begin, int64_t end, int) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t output = plane % g.num_output;
      T* const to = y + plane * g.positions;
      std::fill(to, to + g.positions, bias ? bias[output] : T(0));
      apply(taps.data(), g.taps, w + output * g.taps, x + plane / g.group_outputs * g.plane, g.width, to);
    }
  });
}

template <class T>
void depthwise_data(const Geometry& g, const T* dy, const T* w, T* dx) {
  const std::vector<Reads> taps = look_up_all(g);
  parallel(g.batch * g.channels, [&](int64_t begin, int64_t end, int) {
    std::fill(dx + begin * g.plane, dx + end * g.plane, T(0));
    for (int64_t plane = begin; plane < end; ++plane)
      for (int64_t n = 0; n < g.group_outputs; ++n) {
        const int64_t output = plane * g.group_outputs + n;
        spread(taps.data(), g.taps, w + output % g.num_output * g.taps, dy + output * g.positions, g.width,
               dx + plane * g.plane);
      }
  });
}

template <class T>
void depthwise_weights(const Geometry& g, const T* x, const T* dy, T* dw, T* db) {
  const std::vector<Reads> taps = look_up_all(g);
  parallel(g.num_output, [&](int64_t begin, int64_t end, int) {
    std::vector<T> sums(g.taps * kLanes);
    for (int64_t output = begin; output < end; ++output) {
      std::fill(sums.begin(), sums.end(), T(0));
      T bias[kLanes] = {};
      for (int64_t n = 0; n < g.batch; ++n) {
        const T* gradient = dy + (n * g.num_output + output) * g.positions;
        correlate(taps.data(), g.taps, x + (n * g.channels + output / g.group_outputs) * g.plane, gradient, g.width,
                  sums.data());
        for (int64_t i = 0; db && i < g.positions; ++i) bias[i % kLanes] += gradient[i];
      }
      for (int64_t tap = 0; tap < g.taps; ++tap) dw[output * g.taps + tap] += total(&sums[tap * kLanes]);
      if (db) db[output] += total(bias);
    }
  });
}

template void depthwise_forward(const Geometry&, const float*, const float*, const float*, float*);
template void depthwise_forward(const Geometry&, const double*, const double*, const double*, double*);
template void depthwise_data(const Geometry&, const float*, const float*, float*);
template void depthwise_data(const Geometry&, const double*, const double*, double*);
template void depthwise_weights(const Geometry&, const float*, const float*, float*, float*);
template void depthwise_weights(const Geometry&, const double*, const double*, double*, double*);
