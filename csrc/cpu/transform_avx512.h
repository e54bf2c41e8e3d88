// The transformation of an image of interleaved channels, past the caches: by the time that the net copies a batch, the
// loader has made others, and a line of memory that is written as a whole need not be read first. The same bits as row
// by row. Included by transform.cpp.
#pragma once

namespace wide {

constexpr index_t kRows = 8;                // taken apart together: their values go out as one run of memory
constexpr size_t kLeast = size_t(1) << 17;  // bytes of an image that goes past the caches

// y = (bytes - mean) * scale
AVX512 inline void send(const uint8_t* bytes, float* y, index_t count, float mean, float scale) {
  const __m512 means = _mm512_set1_ps(mean), scales = _mm512_set1_ps(scale);
  index_t i = 0;
  for (; i < count && reinterpret_cast<uintptr_t>(y + i) % 64; ++i) y[i] = (float(bytes[i]) - mean) * scale;
  for (; i + kLanes <= count; i += kLanes) {
    const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i));
    const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(some));
    _mm512_stream_ps(y + i, _mm512_mul_ps(_mm512_sub_ps(x, means), scales));
  }
  for (; i < count; ++i) y[i] = (float(bytes[i]) - mean) * scale;
}

inline void transform(const uint8_t* image, float* y, const float* mean_values, float scale, int channels, int height,
                      int width, index_t image_width, index_t first, bool mirror) {
  const index_t run = kRows * width;
  std::vector<uint8_t> apart(channels * run), row(channels * width);
  for (index_t begin = 0; begin < height; begin += kRows) {
    const index_t rows = std::min<index_t>(kRows, height - begin);
    for (index_t r = 0; r < rows; ++r) {
      const uint8_t* const from = image + (first + (begin + r) * image_width) * channels;
      if (channels == 3)
        take_three_apart(from, row.data(), row.data() + width, row.data() + 2 * width, width);
      else
        take_apart(from, row.data(), width, channels);
      for (index_t c = 0; c < channels; ++c) {
        uint8_t* const to = apart.data() + c * run + r * width;
        if (mirror)
          reverse_bytes(row.data() + c * width, to, width);
        else
          std::memcpy(to, row.data() + c * width, width);
      }
    }
    for (index_t c = 0; c < channels; ++c)
      send(apart.data() + c * run, y + (c * height + begin) * width, rows * width, mean_values ? mean_values[c] : 0,
           scale);
  }
  _mm_sfence();  // before anybody is told that the image is there
}

}  // namespace wide
