// From a record's bytes to a net's input: crop, mirror, subtract the mean, scale.
#pragma once
#include "portable.h"

// Element i of y (C, H, W) = (crop of the image - mean) * scale, mirrored left to right or not.
//
// The image (image_height, image_width) has its channels interleaved, as decoders write them, or as planes, as a Datum
// holds them. The crop's first pixel is (top, left). The mean is that of the pixel, mean_image (C, image_height,
// image_width), or else that of the channel, mean_values (C), or else 0; the other pointers are null.
template <class T>
KERNEL T transformed(index_t i, const uint8_t* image, const T* mean_image, const T* mean_values, T scale, int channels,
                     int height, int width, int image_height, int image_width, int top, int left, bool interleaved,
                     bool mirror) {
  const index_t w = i % width, h = i / width % height, c = i / width / height;
  const index_t pixel = (top + h) * index_t(image_width) + left + (mirror ? width - 1 - w : w);
  const index_t planar = c * image_height * index_t(image_width) + pixel;
  const T mean = mean_image ? mean_image[planar] : mean_values ? mean_values[c] : T(0);
  return (T(image[interleaved ? pixel * channels + c : planar]) - mean) * scale;
}

template <class T>
KERNEL void transform_image(index_t i, const uint8_t* image, T* y, const T* mean_image, const T* mean_values, T scale,
                            int channels, int height, int width, int image_height, int image_width, int top, int left,
                            bool interleaved, bool mirror) {
  y[i] = transformed(i, image, mean_image, mean_values, scale, channels, height, width, image_height, image_width, top,
                     left, interleaved, mirror);
}

// The same for a batch of images, y (N, C, H, W). Each has `capacity` bytes and six numbers: image_height, image_width,
// top, left, whether it is interleaved, and mirrored. i counts the elements of y. Computed in float whatever y is, as
// the host does.
template <class T>
KERNEL void transform_batch(index_t i, const uint8_t* images, const int32_t* windows, T* y, const float* mean_image,
                            const float* mean_values, float scale, int channels, int height, int width,
                            index_t capacity) {
  const index_t size = index_t(channels) * height * width, n = i / size;
  const int32_t* window = windows + 6 * n;
  y[i] = T(transformed(i % size, images + n * capacity, mean_image, mean_values, scale, channels, height, width,
                       window[0], window[1], window[2], window[3], window[4] != 0, window[5] != 0));
}

// Those six numbers of the images first, first + 1, ..., which are of one size: windows (N, 6). The crop lies anywhere,
// or in the middle, and every second image is mirrored by chance, if at all.
KERNEL void choose_windows(index_t i, int32_t* windows, int image_height, int image_width, int height, int width,
                           bool interleaved, bool random_crop, bool mirror, uint64_t seed, uint32_t stream,
                           uint64_t first) {
  const int room_y = image_height - height, room_x = image_width - width;
  const Words chance = philox(seed, stream, first + i, 0);
  int32_t* const window = windows + 6 * i;
  window[0] = image_height;
  window[1] = image_width;
  window[2] = random_crop ? int32_t(uint64_t(chance.word[0]) * uint32_t(room_y + 1) >> 32) : room_y / 2;
  window[3] = random_crop ? int32_t(uint64_t(chance.word[1]) * uint32_t(room_x + 1) >> 32) : room_x / 2;
  window[4] = interleaved;
  window[5] = mirror && chance.word[2] >> 31;
}
