// Rows at a time, and first of all apart: bytes of one channel, side by side, become numbers in wide strips.
// One thread: the loader's threads call this, each with an image of its own.
#include <algorithm>
#include <cstring>
#include <vector>

#include "avx512.h"
#include "cpu.h"

namespace {

// A row of interleaved channels, one behind the other: (width, channels) -> (channels, width).
// The indices are 64 bits wide because the build has -fwrapv: compilers do not vectorise 3 * w where w may wrap.
CLONES void take_apart(const uint8_t* __restrict row, uint8_t* __restrict apart, index_t width, index_t channels) {
  for (index_t c = 0; c < channels; ++c)
    for (index_t w = 0; w < width; ++w) apart[c * width + w] = row[w * channels + c];
}

// Three at once, each with a name of its own: the form that compilers turn into shuffles of whole registers.
CLONES void take_three_apart(const uint8_t* __restrict row, uint8_t* __restrict first, uint8_t* __restrict second,
                             uint8_t* __restrict third, index_t width) {
  for (index_t w = 0; w < width; ++w) {
    first[w] = row[3 * w];
    second[w] = row[3 * w + 1];
    third[w] = row[3 * w + 2];
  }
}

CLONES void reverse_bytes(const uint8_t* __restrict x, uint8_t* __restrict y, index_t width) {
  for (index_t w = 0; w < width; ++w) y[w] = x[width - 1 - w];
}

#if defined(LAYERFORGE_AVX512)
#include "transform_avx512.h"
#endif

template <class T>
struct Row {
  CLONES static void convert(const uint8_t* __restrict bytes, T* __restrict y, index_t width,
                             const T* __restrict mean_row, T mean, T scale) {
    if (mean_row)
      for (index_t w = 0; w < width; ++w) y[w] = (T(bytes[w]) - mean_row[w]) * scale;
    else
      for (index_t w = 0; w < width; ++w) y[w] = (T(bytes[w]) - mean) * scale;
  }
  CLONES static void reverse(const T* __restrict x, T* __restrict y, index_t width) {
    for (index_t w = 0; w < width; ++w) y[w] = x[width - 1 - w];
  }
};

}  // namespace

template <class T>
void transform_image(index_t, const uint8_t* image, T* y, const T* mean_image, const T* mean_values, T scale,
                     int channels, int height, int width, int image_height, int image_width, int top, int left,
                     bool interleaved, bool mirror) {
  const bool split = interleaved && channels > 1;
#if defined(LAYERFORGE_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    const bool large = size_t(channels) * height * width * sizeof(T) >= wide::kLeast;
    if (split && large && !mean_image && has_avx512()) {
      const index_t first = top * index_t(image_width) + left;
      return wide::transform(image, y, mean_values, scale, channels, height, width, image_width, first, mirror);
    }
  }
#endif
  std::vector<uint8_t> apart(split ? size_t(channels) * width : 0);
  std::vector<T> forwards(mirror ? width : 0);
  for (index_t h = 0; h < height; ++h) {
    const index_t pixel = (top + h) * image_width + left;
    if (split && channels == 3)
      take_three_apart(image + pixel * 3, apart.data(), apart.data() + width, apart.data() + 2 * width, width);
    else if (split)
      take_apart(image + pixel * channels, apart.data(), width, channels);
    for (index_t c = 0; c < channels; ++c) {
      const index_t planar = c * image_height * image_width + pixel;
      T* out = y + (c * height + h) * width;
      Row<T>::convert(split ? apart.data() + c * width : image + planar, mirror ? forwards.data() : out, width,
                      mean_image ? mean_image + planar : nullptr, mean_values ? mean_values[c] : T(0), scale);
      if (mirror) Row<T>::reverse(forwards.data(), out, width);
    }
  }
}
CPU_KERNEL(transform_image)
