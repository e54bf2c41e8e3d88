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

// The threads of a block that is made of teams: for neighbouring rows, and for each row.
struct Team {
  unsigned side, each;
};

// Runs `body` in so many blocks, in teams.
template <class Body>
void launch(unsigned blocks, Team team, Body body) {
  gridDim = Dim{blocks, 1, 1};
  blockDim = Dim{team.side, team.each, kThreads / team.side / team.each};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t)
    threads.emplace_back([=] {
      number = t;
      threadIdx = Dim{t % team.side, t / team.side % team.each, t / team.side / team.each};
      for (unsigned b = 0; b < blocks; ++b) {
        blockIdx = Dim{b, 0, 0};
        body();
        block.arrive_and_wait();
      }
    });
  for (auto& thread : threads) thread.join();
}

static void print(const char* name, Team team, int terms, const std::vector<float>& values) {
  printf("%s %u %u %d", name, team.side, team.each, terms);
  for (float value : values) printf(" %.9g", value);
  printf("\n");
}

int main() {
  for (unsigned warp = 0; warp < kThreads / kLanes; ++warp)
    warps.push_back(std::make_unique<std::barrier<>>(std::ptrdiff_t(kLanes)));

  for (int terms : {33, 49, 256, 1025})
    for (Team team : {Team{1, 32}, {1, 256}, {8, 4}, {8, 32}, {32, 1}, {32, 8}}) {
      // Three items of 7 channels in plain order, or two of 32 that lie side by side.
      const int items = team.side == 1 ? 3 : 2, channels = team.side == 1 ? 7 : 32, rows = items * channels;
      const int together = team.side == 1 ? 1 : channels;
      std::vector<float> x(rows * terms), dy(x.size()), dx(x.size()), mean(channels, 0.125f), scale(channels, 1.5f);
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = float((i * 37) % 101) / 64 - 0.75f;
        dy[i] = float((i * 53) % 89) / 64 - 0.5f;
      }
      std::vector<float> a(rows), b(rows);
      const Number<float> slope{0.25f, nullptr}, one{1, nullptr}, half{0.5f, nullptr};
      launch(2, team, [&] {
        over_grid<lane_moments<float>, const float*, float*, float*, index_t, index_t, index_t, index_t, index_t>(
            rows, x.data(), a.data(), b.data(), channels, terms, together, 0, channels);
      });
      print("mean", team, terms, a);
      print("square", team, terms, b);
      std::vector<float> far(x);
      for (float& value : far) value += 1000;
      launch(2, team, [&] {
        over_grid<lane_moments<float>, const float*, float*, float*, index_t, index_t, index_t, index_t, index_t>(
            rows, far.data(), a.data(), b.data(), channels, terms, together, 0, channels);
      });
      print("far_square", team, terms, b);
      launch(2, team, [&] {
        over_grid<lane_products<float>, const float*, const float*, const float*, const float*, const float*,
                  const float*, float*, float*, float, index_t, index_t, index_t, index_t, index_t>(
            rows, x.data(), mean.data(), scale.data(), nullptr, nullptr, dy.data(), a.data(), b.data(), slope, channels,
            terms, together, 0, channels);
      });
      print("sum", team, terms, a);
      print("dot", team, terms, b);
      launch(2, team, [&] {
        over_grid<batch_norm_backward<float>, const float*, const float*, const float*, const float*, const float*,
                  const float*, const float*, const float*, float*, float*, float, float, index_t, index_t, index_t,
                  index_t, index_t>(rows, x.data(), mean.data(), scale.data(), nullptr, nullptr, dy.data(), mean.data(),
                                    mean.data(), dx.data(), nullptr, slope, one, channels, terms, together, 0,
                                    channels);
      });
      for (int i = 0; i < rows; ++i) {
        a[i] = 0;
        for (int j = 0; j < terms; ++j)
          a[i] += float(j % 7) * dx[(i / together * terms + j) * together + i % together] / float(terms);
      }
      print("gradient", team, terms, a);
      launch(1, team, [&] {
        over_grid<softmax_statistics<float>, const float*, float*, float*, index_t, index_t>(rows, x.data(), a.data(),
                                                                                             b.data(), terms, together);
      });
      print("largest", team, terms, a);
      print("exponentials", team, terms, b);
      launch(3, team, [&] {
        over_grid<sum_columns<float>, const float*, float*, index_t, index_t, bool>(rows, x.data(), a.data(), terms,
                                                                                    rows, false);
      });
      print("columns", team, terms, a);
      // The moments of all terms of a column, of rows that are those of 5 elements with these means and squares.
      std::vector<float> running(rows, 1), variance(rows, 1), factor(1, 1);
      launch(2, team, [&] {
        over_grid<batch_statistics<float>, const float*, const float*, float*, float*, float*, float*, float*, index_t,
                  index_t, index_t, float, float>(rows, x.data(), dy.data(), a.data(), b.data(), running.data(),
                                                  variance.data(), factor.data(), terms, rows, 5, one, half);
      });
      print("column_means", team, terms, a);
      print("scales", team, terms, b);
      print("running", team, terms, running);
      print("variances", team, terms, variance);
      print("factor", team, terms, factor);
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
