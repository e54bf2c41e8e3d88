// Compiles kernels as a GPU's compiler does, and plays its blocks: 256 threads that are threads, warps that exchange
// values, barriers. Prints what test_grid.py compares. Slow, but it is the code of csrc/portable.h that otherwise only
// a GPU runs: reductions by teams, divisions.
#include <math.h>

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

using std::max;
using std::min;

constexpr unsigned kThreads = 256, kLanes = 32;
struct Dim {
  unsigned x, y, z;
};
static Dim gridDim, blockDim;
static thread_local Dim blockIdx, threadIdx;
static thread_local unsigned number;  // of the thread in its block

static std::barrier<> block(kThreads);
static std::vector<std::unique_ptr<std::barrier<>>> warps;
static double exchanged[kThreads];

template <class T>
T from_lane(T value, unsigned lane) {
  const unsigned warp = number / kLanes;
  exchanged[number] = double(value);
  warps[warp]->arrive_and_wait();
  const T found = lane < kLanes ? T(exchanged[warp * kLanes + lane]) : value;
  warps[warp]->arrive_and_wait();
  return found;
}
template <class T>
T __shfl_sync(unsigned, T value, unsigned lane) {
  return from_lane(value, lane);
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned by) {
  return from_lane(value, number % kLanes + by);
}
static void __syncthreads() { block.arrive_and_wait(); }
static inline float __fdividef(float x, float y) { return x / y; }

#define __CUDACC__
#define __device__ static
#define __global__ static
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define LAYERFORGE_GRID
#define LAYERFORGE_TEAM
#include "grid.h"
#include "kernels/batch_norm.h"
#include "kernels/broadcast.h"
#include "kernels/softmax.h"

// Runs `body` in so many blocks, in teams of so many threads.
template <class Body>
void launch(unsigned blocks, unsigned team, Body body) {
  gridDim = Dim{blocks, 1, 1};
  blockDim = Dim{team, kThreads / team, 1};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t)
    threads.emplace_back([=] {
      number = t;
      threadIdx = Dim{t % team, t / team, 0};
      for (unsigned b = 0; b < blocks; ++b) {
        blockIdx = Dim{b, 0, 0};
        body();
        block.arrive_and_wait();
      }
    });
  for (auto& thread : threads) thread.join();
}

static void print(const char* name, unsigned team, int terms, const std::vector<float>& values) {
  printf("%s %u %d", name, team, terms);
  for (float value : values) printf(" %.9g", value);
  printf("\n");
}

int main() {
  for (unsigned warp = 0; warp < kThreads / kLanes; ++warp)
    warps.push_back(std::make_unique<std::barrier<>>(std::ptrdiff_t(kLanes)));

  const int rows = 21, channels = 7;
  for (int terms : {33, 49, 256, 1025})
    for (unsigned team : {32u, 256u}) {
      std::vector<float> x(rows * terms), dy(x.size()), mean(channels, 0.125f), scale(channels, 1.5f);
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = float((i * 37) % 101) / 64 - 0.75f;
        dy[i] = float((i * 53) % 89) / 64 - 0.5f;
      }
      std::vector<float> a(rows), b(rows);
      const Number<float> slope{0.25f, nullptr}, one{1, nullptr};
      launch(2, team, [&] {
        over_grid<lane_moments<float>, const float*, float*, float*, index_t, index_t, index_t, index_t, index_t>(
            rows, x.data(), a.data(), b.data(), channels, terms, 1, 0, channels);
      });
      print("mean", team, terms, a);
      print("square", team, terms, b);
      launch(2, team, [&] {
        over_grid<lane_products<float>, const float*, const float*, const float*, const float*, const float*,
                  const float*, float*, float*, float, index_t, index_t, index_t, index_t, index_t>(
            rows, x.data(), mean.data(), scale.data(), nullptr, nullptr, dy.data(), a.data(), b.data(), slope, channels,
            terms, 1, 0, channels);
      });
      print("sum", team, terms, a);
      print("dot", team, terms, b);
      launch(1, team, [&] {
        over_grid<softmax_statistics<float>, const float*, float*, float*, index_t, index_t>(rows, x.data(), a.data(),
                                                                                             b.data(), terms, 1);
      });
      print("largest", team, terms, a);
      print("exponentials", team, terms, b);
      launch(3, team, [&] {
        over_grid<sum_columns<float>, const float*, float*, index_t, index_t, bool>(rows, x.data(), a.data(), terms,
                                                                                    rows, false);
      });
      print("columns", team, terms, a);
    }

  int wrong = 0;
  const int32_t edges[] = {1, 2, 3, 7, 49, 3136, 65535, 65536, 1 << 30, INT32_MAX};
  const auto check = [&](int32_t i, int32_t by) {
    const Divided found = divided(i, by);
    wrong += found.quotient != i / by || found.rest != i % by;
  };
  for (int32_t by : edges)
    for (int32_t around : edges)
      for (int64_t i = int64_t(around) - 3; i <= int64_t(around) + 3; ++i)
        if (i >= 0 && i <= INT32_MAX) check(int32_t(i), by);
  uint64_t state = 1;
  for (int n = 0; n < 1000000; ++n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const int32_t i = int32_t(state >> 33), by = int32_t(state % (n % 2 ? 0x7FFFFFFF : 5000)) + 1;
    check(i, by);
    check(i / by * by, by);
    check(int32_t(min(int64_t(i / by) * by + by - 1, int64_t(INT32_MAX))), by);
  }
  printf("wrong %d\n", wrong);
}
