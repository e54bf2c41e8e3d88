// Who computes which panel, and where. The inner loops are in panels_simd.h.
//
// An image, or some of its rows, is copied into a buffer with its padding around it, and with the columns of each phase
// of the stride side by side. There, what tap t of channel c reads for output position (row, o) lies at
//
//     offset(c, t) + row * step + o
//
// so that any geometry is runs of positions at an offset, and nothing needs to be checked. Without padding and stride
// the image is its own buffer. The three products then go panel by panel:
//
//     forward      y (M, P)  = W (M, K) @ columns (K, P)         columns packed, 128 deep, W in blocks of 4 to 6 rows
//     data         columns (K, P) = W^T (K, M) @ dy (M, P)       added to the buffer by their runs
//     weights      dW^T (K, M) += columns (K, P) @ dy^T (P, M)   columns read where they lie, one float at a time
#include "panels.h"

#include <algorithm>
#include <vector>

#include "avx512.h"
#include "cpu.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include "transpose_avx512.h"

#define UNROLL _Pragma("GCC unroll 16")
#define TARGET_512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma")))
#define TARGET_256 __attribute__((target("avx2,fma")))

namespace {

namespace avx512 {

#define TARGET TARGET_512
typedef __m512 V;
TARGET inline __mmask16 first(int n) { return __mmask16((1u << n) - 1); }
TARGET inline V load(const float* p) { return _mm512_loadu_ps(p); }
TARGET inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
TARGET inline V load_some(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
TARGET inline void store_some(float* p, V v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
TARGET inline V broadcast(float f) { return _mm512_set1_ps(f); }
TARGET inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
TARGET inline V add(V a, V b) { return _mm512_add_ps(a, b); }
TARGET inline V zero() { return _mm512_setzero_ps(); }
#define HALF 8
TARGET inline __m256 load_half(const float* p) { return _mm256_loadu_ps(p); }
TARGET inline void store_half(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
TARGET inline __m256 add_half(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
TARGET inline void transpose_block(V* r) { transpose_square(r); }
#define LANES 16
#define PANEL 4
#include "panels_simd.h"
#undef LANES
#undef PANEL
#undef HALF
#undef TARGET

}  // namespace avx512

namespace avx2 {

#define TARGET TARGET_256
typedef __m256 V;
TARGET inline __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TARGET inline V load(const float* p) { return _mm256_loadu_ps(p); }
TARGET inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
TARGET inline V load_some(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
TARGET inline void store_some(float* p, V v, int n) { _mm256_maskstore_ps(p, first(n), v); }
TARGET inline V broadcast(float f) { return _mm256_set1_ps(f); }
TARGET inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
TARGET inline V add(V a, V b) { return _mm256_add_ps(a, b); }
TARGET inline V zero() { return _mm256_setzero_ps(); }
#define HALF 4
TARGET inline __m128 load_half(const float* p) { return _mm_loadu_ps(p); }
TARGET inline void store_half(float* p, __m128 v) { _mm_storeu_ps(p, v); }
TARGET inline __m128 add_half(__m128 a, __m128 b) { return _mm_add_ps(a, b); }
TARGET inline void transpose_block(V* r) {
  V t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; ++i) r[i] = t[i];
}
#define LANES 8
#define PANEL 2
#include "panels_simd.h"
#undef LANES
#undef PANEL
#undef HALF
#undef TARGET

}  // namespace avx2

}  // namespace

static std::vector<PanelKernels> all_kernels() {
  std::vector<PanelKernels> all;
  if (processor_has_avx512()) all.push_back(avx512::make());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(avx2::make());
  return all;
}

#else

static std::vector<PanelKernels> all_kernels() { return {}; }

#endif

static int most_lanes = 1 << 30;

void limit_panels(int lanes) { most_lanes = lanes; }

const PanelKernels* panel_kernels() {
  static const std::vector<PanelKernels> all = all_kernels();
  for (const PanelKernels& kernels : all)
    if (kernels.lanes <= most_lanes) return &kernels;
  return nullptr;
}

namespace {

constexpr int64_t kPanelElements = 8192;  // of a packed panel: stays in the first cache
constexpr int64_t kDeepest = 256;         // channels x taps of one
constexpr int64_t kBuffer = 3 << 15;      // elements of a tile's padded rows, as far as one row allows
constexpr int64_t kOutputs = 1 << 17;     // of a tile
constexpr int64_t kChunk = 176;           // positions of a transposed piece of dy
constexpr int kMostRuns = 64;             // of a panel
constexpr int64_t kFewestPositions = 9;   // of an image: fewer fill no vectors, images side by side do

// The number in [least, most] that wastes the fewest of `count` rows in whole blocks; the largest of those.
int best_rows(int64_t count, int least, int most) {
  int best = most;
  for (int rows = most; rows >= least; --rows)
    if (divide_up(count, rows) * rows < divide_up(count, best) * best) best = rows;
  return best;
}

class Panels {
 public:
  Panels(const Geometry& g, int64_t threads) : g(g), kernels(*panel_kernels()) {
    const size_t last = g.spatial.size() - 1;
    const bool flat = last == 0;
    const auto vertical = [&](const std::vector<int64_t>& list, int64_t otherwise) {
      return flat ? otherwise : list[0];
    };
    height = vertical(g.spatial, 1), width = g.spatial[last];
    kernel_h = vertical(g.kernel, 1), kernel_w = g.kernel[last];
    stride_h = vertical(g.stride, 1), stride_w = g.stride[last];
    pad_h = vertical(g.pad, 0), pad_w = g.pad[last];
    dilation_h = vertical(g.dilation, 1), dilation_w = g.dilation[last];

    panel = int64_t(kernels.lanes) * kernels.vectors;
    depth = std::min(kDeepest, kPanelElements / panel);
    straight = pad_h == 0 && pad_w == 0 && stride_w == 1;
    phase = divide_up((g.width - 1) * stride_w + (kernel_w - 1) * dilation_w + 1, stride_w);
    row_pitch = straight ? width : phase * stride_w;
    tile_rows = g.rows;
    const auto too_large = [&](int64_t rows) {
      return (!straight && g.group_channels * buffer_rows(rows) * row_pitch > kBuffer) ||
             g.group_outputs * rows * g.width > kOutputs;
    };
    while (tile_rows > 1 && too_large(tile_rows) && (tile_rows - 1) * g.width >= panel) --tile_rows;
    tiles = divide_up(g.rows, tile_rows);
    tile_rows = divide_up(g.rows, tiles);
    channel_pitch = straight ? g.plane : buffer_rows(tile_rows) * row_pitch;

    output_rows = best_rows(g.group_outputs, 4, 6);
    output_blocks = divide_up(g.group_outputs, output_rows);
    const int64_t units = g.batch * g.group * tiles;
    output_splits = split(units, threads, output_blocks);

    channel_splits = split(g.batch * g.group, threads, g.group_channels);
    split_channels = divide_up(g.group_channels, channel_splits);
    column_rows = best_rows(split_channels * g.taps, 4, 6);
    column_blocks = divide_up(split_channels * g.taps, column_rows);

    padded_outputs = divide_up(g.group_outputs, kernels.lanes) * kernels.lanes;
    partial = align(g.group * g.K * padded_outputs) + align(g.group * padded_outputs);
    shares = std::max<int64_t>(1, std::min({threads, g.batch, kPartial / partial}));
    gradient_splits = std::min(divide_up(threads, shares), g.group_channels);

    const int64_t buffer = straight ? 0 : align(g.group_channels * channel_pitch);
    const int64_t forward = buffer + align(panel * depth + kernels.lanes);
    const int64_t data = buffer + align(g.group_outputs * panel + kernels.lanes) + align(column_rows * panel);
    const int64_t weights = buffer + std::max(align(kChunk * padded_outputs), align(g.group_outputs * kernels.lanes));
    each = std::max({forward, data, weights});
    packed = std::max(align(g.group * output_blocks * output_rows * g.K),
                      align(g.group * channel_splits * column_blocks * column_rows * g.group_outputs));
    workers = std::max(threads, shares * gradient_splits);
    scratch = each * workers + std::max(packed, partial * shares);
  }

  // With the offsets, which the passes need.
  Panels& ready() {
    offsets.reserve(g.K);
    for (int64_t c = 0; c < g.group_channels; ++c)
      for (int64_t row = 0; row < kernel_h; ++row)
        for (int64_t i = 0, column = 0; i < kernel_w; ++i, column += dilation_w) {
          const int64_t along = straight ? column : column % stride_w * phase + column / stride_w;
          offsets.push_back(c * channel_pitch + row * dilation_h * row_pitch + along);
        }
    return *this;
  }

  int64_t scratch;

  void forward(const float* x, const float* w, const float* bias, float* y, float* memory) const {
    float* const blocks = memory + each * workers;
    const int64_t rows = output_rows;
    parallel(g.group * output_blocks, [&](int64_t first, int64_t last, int) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t group = block / output_blocks, output = block % output_blocks * rows;
        const int64_t live = std::min(rows, g.group_outputs - output);
        const float* from = w + (group * g.group_outputs + output) * g.K;
        float* to = blocks + block * rows * g.K;
        for (int64_t k = 0; k < g.K; ++k)
          for (int64_t i = 0; i < rows; ++i) *to++ = i < live ? from[i * g.K + k] : 0;
      }
    });
    parallel(g.batch * g.group * tiles * output_splits, [&](int64_t first, int64_t last, int thread) {
      float* const columns = memory + each * thread;
      float* const buffer = columns + align(panel * depth + kernels.lanes);
      for (int64_t unit = first; unit < last; ++unit) {
        const int64_t part = unit % output_splits, tile = unit / output_splits % tiles;
        const int64_t image = unit / output_splits / tiles / g.group, group = unit / output_splits / tiles % g.group;
        const int64_t begin = tile * tile_rows, end = std::min(g.rows, begin + tile_rows);
        const float* const source = padded(x, image, group * g.group_channels, g.group_channels, begin, end, buffer);
        const int64_t from = output_blocks * part / output_splits, to = output_blocks * (part + 1) / output_splits;
        float* const target = y + (image * g.num_output + group * g.group_outputs) * g.positions + begin * g.width;
        tile_forward(source, (end - begin) * g.width, blocks + group * output_blocks * rows * g.K, from, to,
                     bias ? bias + group * g.group_outputs : nullptr, target, columns);
      }
    });
  }

  void data(const float* dy, const float* w, float* dx, float* memory) const {
    float* const blocks = memory + each * workers;
    const int64_t rows = column_rows, M = g.group_outputs;
    parallel(g.group * channel_splits * column_blocks, [&](int64_t first, int64_t last, int) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t group = block / column_blocks / channel_splits, part = block / column_blocks % channel_splits;
        const int64_t k = part * split_channels * g.taps + block % column_blocks * rows;
        const int64_t live = std::max<int64_t>(0, std::min(rows, std::min(g.K, end_of(part) * g.taps) - k));
        const float* from = w + group * M * g.K + k;
        float* to = blocks + block * rows * M;
        for (int64_t m = 0; m < M; ++m)
          for (int64_t i = 0; i < rows; ++i) *to++ = i < live ? from[m * g.K + i] : 0;
      }
    });
    std::vector<int64_t> outputs(M);
    for (int64_t m = 0; m < M; ++m) outputs[m] = m * g.positions;
    parallel(g.batch * g.group * channel_splits, [&](int64_t first, int64_t last, int thread) {
      float* const packed_dy = memory + each * thread;
      float* const columns = packed_dy + align(M * panel + kernels.lanes);
      float* const buffer = columns + align(rows * panel);
      for (int64_t unit = first; unit < last; ++unit) {
        const int64_t part = unit % channel_splits, group = unit / channel_splits % g.group;
        const int64_t image = unit / channel_splits / g.group;
        const int64_t from = part * split_channels, channels = end_of(part) - from;
        if (channels <= 0) continue;
        const int64_t channel = group * g.group_channels + from;
        float* const input = dx + (image * g.channels + channel) * g.plane;
        std::fill(input, input + channels * g.plane, 0.0f);
        for (int64_t begin = 0; begin < g.rows; begin += tile_rows) {
          const int64_t end = std::min(g.rows, begin + tile_rows);
          float* const target = straight ? input + begin * stride_h * row_pitch : buffer;
          if (!straight) std::fill(buffer, buffer + channels * channel_pitch, 0.0f);
          tile_data(dy + (image * g.num_output + group * M) * g.positions + begin * g.width, (end - begin) * g.width,
                    outputs.data(), blocks + (group * channel_splits + part) * column_blocks * rows * M,
                    channels * g.taps, target, packed_dy, columns);
          if (!straight) unpad(buffer, channels, begin, end, input);
        }
      }
    });
  }

  void weights(const float* x, const float* dy, float* dw, float* db, float* memory) const {
    float* const partials = memory + each * workers;
    const int64_t sums = align(g.group * g.K * padded_outputs);
    parallel(shares * gradient_splits, [&](int64_t first, int64_t last, int) {
      for (int64_t unit = first; unit < last; ++unit) {
        const int64_t share = unit / gradient_splits, part = unit % gradient_splits;
        float* const own = partials + share * partial;
        float* const sum = db && part == 0 ? own + sums : nullptr;
        if (sum) std::fill(sum, sum + g.group * padded_outputs, 0.0f);
        const int64_t from = g.group_channels * part / gradient_splits;
        const int64_t to = g.group_channels * (part + 1) / gradient_splits;
        bool fresh = true;
        for (int64_t image = g.batch * share / shares; image < g.batch * (share + 1) / shares; ++image) {
          image_weights(x, dy, image, from, to, own, sum, fresh, memory + each * unit);
          fresh = false;
        }
      }
    });
    const int64_t lanes = kernels.lanes, strips = divide_up(g.K, lanes);
    parallel(g.group * strips, [&](int64_t first, int64_t last, int thread) {
      float* const turned = memory + each * thread;
      for (int64_t strip = first; strip < last; ++strip) {
        const int64_t group = strip / strips, k = strip % strips * lanes, rows = std::min(lanes, g.K - k);
        float* const from = partials + (group * g.K + k) * padded_outputs;
        for (int64_t share = 1; share < shares; ++share)
          kernels.add(from + share * partial, rows * padded_outputs, from);
        kernels.transpose(from, padded_outputs, rows, g.group_outputs, turned, lanes);
        for (int64_t m = 0; m < g.group_outputs; ++m)
          kernels.add(turned + m * lanes, rows, dw + (group * g.group_outputs + m) * g.K + k);
      }
    });
    for (int64_t share = 0; db && share < shares; ++share)
      for (int64_t group = 0; group < g.group; ++group)
        kernels.add(partials + share * partial + sums + group * padded_outputs, g.group_outputs,
                    db + group * g.group_outputs);
  }

 private:
  // Into how many parts to split units of work, each of which has `most` parts, so that no thread is idle.
  static int64_t split(int64_t units, int64_t threads, int64_t most) {
    if (units == 0 || units % threads == 0 || units >= 4 * threads) return 1;
    return std::max<int64_t>(1, std::min(threads, most));
  }

  int64_t end_of(int64_t part) const { return std::min(g.group_channels, (part + 1) * split_channels); }
  int64_t buffer_rows(int64_t rows) const { return (rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1; }

  // The runs of `count` positions from `position` on, both counted in a tile. Returns how many.
  int runs_of(int64_t position, int64_t count, Run* runs) const {
    int number = 0;
    for (int64_t at = 0; at < count; ++number) {
      const int64_t row = (position + at) / g.width, o = (position + at) % g.width;
      const int64_t length = std::min(count - at, g.width - o);
      runs[number] = {row * stride_h * row_pitch + o, int32_t(at), int32_t(length)};
      at += length;
    }
    return number;
  }

  // The input rows that the output rows [begin, end) read, with their padding: in the image itself, or in `buffer`.
  const float* padded(const float* x, int64_t image, int64_t channel, int64_t channels, int64_t begin, int64_t end,
                      float* buffer) const {
    const float* const from = x + (image * g.channels + channel) * g.plane;
    if (straight) return from + begin * stride_h * row_pitch;
    const int64_t rows = buffer_rows(end - begin), first = begin * stride_h - pad_h;
    for (int64_t c = 0; c < channels; ++c) {
      float* to = buffer + c * channel_pitch;
      for (int64_t r = 0; r < rows; ++r, to += row_pitch) {
        const int64_t row = first + r;
        if (row < 0 || row >= height) {
          std::fill(to, to + row_pitch, 0.0f);
          continue;
        }
        for (int64_t q = 0; q < stride_w; ++q) {
          int64_t low, high;
          inside(q, &low, &high);
          float* const part = to + q * phase;
          const float* const line = from + c * g.plane + row * width + q - pad_w;
          std::fill(part, part + low, 0.0f);
          if (stride_w == 1)
            kernels.copy(line + low, high - low, part + low);
          else
            for (int64_t j = low; j < high; ++j) part[j] = line[j * stride_w];
          std::fill(part + high, part + phase, 0.0f);
        }
      }
    }
    return buffer;
  }

  // Adds what lies in the buffer to the input rows that it stands for.
  void unpad(const float* buffer, int64_t channels, int64_t begin, int64_t end, float* dx) const {
    const int64_t rows = buffer_rows(end - begin), first = begin * stride_h - pad_h;
    for (int64_t c = 0; c < channels; ++c) {
      const float* from = buffer + c * channel_pitch;
      for (int64_t r = 0; r < rows; ++r, from += row_pitch) {
        const int64_t row = first + r;
        if (row < 0 || row >= height) continue;
        for (int64_t q = 0; q < stride_w; ++q) {
          int64_t low, high;
          inside(q, &low, &high);
          const float* const part = from + q * phase;
          float* const line = dx + c * g.plane + row * width + q - pad_w;
          if (stride_w == 1)
            kernels.add(part + low, high - low, line + low);
          else
            for (int64_t j = low; j < high; ++j) line[j * stride_w] += part[j];
        }
      }
    }
  }

  // The columns [low, high) of phase q that are not padding.
  void inside(int64_t q, int64_t* low, int64_t* high) const {
    *low = std::min(phase, std::max<int64_t>(0, divide_up(std::max<int64_t>(0, pad_w - q), stride_w)));
    *high = std::max(*low, std::min(phase, divide_up(std::max<int64_t>(0, width + pad_w - q), stride_w)));
  }

  int vectors_of(int64_t count) const { return int(divide_up(count, kernels.lanes)); }
  int last_lanes(int64_t count) const { return int(count - (vectors_of(count) - 1) * kernels.lanes); }

  void tile_forward(const float* x, int64_t positions, const float* blocks, int64_t from, int64_t to, const float* bias,
                    float* y, float* columns) const {
    Run runs[kMostRuns];
    const int64_t rows = output_rows;
    for (int64_t k = 0; k < g.K; k += depth) {
      const int64_t deep = std::min(depth, g.K - k);
      for (int64_t p = 0; p < positions; p += panel) {
        const int64_t count = std::min(panel, positions - p);
        kernels.pack(x, offsets.data() + k, deep, runs, runs_of(p, count, runs), columns);
        const auto product = kernels.product[rows][vectors_of(count)];
        for (int64_t block = from; block < to; ++block) {
          const int64_t m = block * rows;
          product(deep, blocks + (block * g.K + k) * rows, columns, y + m * g.positions + p, g.positions,
                  bias ? bias + m : nullptr, k > 0, int(std::min(rows, g.group_outputs - m)), last_lanes(count));
        }
      }
    }
  }

  void tile_data(const float* dy, int64_t positions, const int64_t* outputs, const float* blocks, int64_t K, float* x,
                 float* packed_dy, float* columns) const {
    Run runs[kMostRuns];
    const int64_t rows = column_rows;
    for (int64_t p = 0; p < positions; p += panel) {
      const int64_t count = std::min(panel, positions - p);
      const Run all{p, 0, int32_t(count)};
      kernels.pack(dy, outputs, g.group_outputs, &all, 1, packed_dy);
      const int number = runs_of(p, count, runs);
      const auto product = kernels.product[rows][vectors_of(count)];
      for (int64_t k = 0; k < K; k += rows) {
        const int live = int(std::min(rows, K - k));
        product(g.group_outputs, blocks + k * g.group_outputs, packed_dy, columns, panel, nullptr, false, live,
                last_lanes(count));
        kernels.scatter(columns, offsets.data() + k, live, runs, number, x);
      }
    }
  }

  void image_weights(const float* x, const float* dy, int64_t image, int64_t from, int64_t to, float* own, float* sum,
                     bool fresh, float* memory) const {
    float* const turned = memory;
    float* const buffer = memory + std::max(align(kChunk * padded_outputs), align(g.group_outputs * kernels.lanes));
    for (int64_t group = 0; group < g.group; ++group) {
      const float* const output = dy + (image * g.num_output + group * g.group_outputs) * g.positions;
      bool first = fresh;
      for (int64_t begin = 0; begin < g.rows; begin += tile_rows) {
        const int64_t end = std::min(g.rows, begin + tile_rows), positions = (end - begin) * g.width;
        const float* const source = padded(x, image, group * g.group_channels + from, to - from, begin, end, buffer);
        const int64_t chunks = divide_up(positions, kChunk);
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const int64_t p = positions * chunk / chunks, count = positions * (chunk + 1) / chunks - p;
          kernels.transpose(output + begin * g.width + p, g.positions, g.group_outputs, count, turned, padded_outputs);
          if (sum) kernels.sum_rows(turned, count, padded_outputs, sum + group * padded_outputs);
          chunk_weights(source, p, count, turned, (to - from) * g.taps,
                        own + (group * g.K + from * g.taps) * padded_outputs, !first);
          first = false;
        }
      }
    }
  }

  void chunk_weights(const float* x, int64_t position, int64_t count, const float* dy, int64_t K, float* dw,
                     bool adds) const {
    Run runs[kChunk];
    const int number = runs_of(position, count, runs);
    const int64_t all = padded_outputs / kernels.lanes, parts = divide_up(all, kernels.vectors);
    const float* from[PanelKernels::kRows];
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t v = all * part / parts, vectors = all * (part + 1) / parts - v, m = v * kernels.lanes;
      const int64_t rows = best_rows(K, kernels.least[vectors], kernels.most[vectors]);
      const auto contract = kernels.contract[vectors][rows];
      for (int64_t k = 0; k < K; k += rows) {
        const int live = int(std::min(rows, K - k));
        for (int64_t i = 0; i < rows; ++i) from[i] = x + offsets[i < live ? k + i : k];
        contract(from, runs, number, dy + m, padded_outputs, dw + k * padded_outputs + m, padded_outputs, adds, live);
      }
    }
  }

  const Geometry& g;
  const PanelKernels& kernels;
  int64_t height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t panel, depth;  // positions of a panel; channels x taps of a packed one
  bool straight;         // the image is its own buffer
  int64_t phase, row_pitch, channel_pitch;
  int64_t tile_rows, tiles;
  int64_t output_rows, output_blocks, output_splits;                   // forward
  int64_t channel_splits, split_channels, column_rows, column_blocks;  // data
  int64_t padded_outputs, partial, shares, gradient_splits;            // weights
  int64_t workers, each, packed;  // threads at most; elements of scratch for each, and for all
  std::vector<int64_t> offsets;
};

}  // namespace

bool has_panels(const Geometry& g) {
  return panel_kernels() != nullptr && g.spatial.size() <= 2 && !is_depthwise(g) && g.positions >= kFewestPositions &&
         g.batch > 0;
}

int64_t panel_scratch(const Geometry& g, int64_t threads) { return Panels(g, threads).scratch; }

void panel_forward(const Geometry& g, const float* x, const float* w, const float* bias, float* y, float* scratch) {
  Panels(g, threads()).ready().forward(x, w, bias, y, scratch);
}

void panel_data(const Geometry& g, const float* dy, const float* w, float* dx, float* scratch) {
  Panels(g, threads()).ready().data(dy, w, dx, scratch);
}

void panel_weights(const Geometry& g, const float* x, const float* dy, float* dw, float* db, float* scratch) {
  Panels(g, threads()).ready().weights(x, dy, dw, db, scratch);
}
