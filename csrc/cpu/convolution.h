// The shape of a convolution with any number of spatial axes, and its columns (im2col).
//
// x is (batch, channels, spatial...), y is (batch, num_output, output...), the weights are
// (num_output, channels / group, kernel...). Output position o of an axis reads input positions
// o * stride - pad + tap * dilation, where they exist.
//
// The spatial axes are seen as rows: a row is a run of `width` positions along the last axis, and there are `rows` of
// them in an image. All loops over positions are loops over rows.
#pragma once
#include <cstdint>
#include <vector>

struct Geometry {
  int64_t batch, channels, num_output, group;
  std::vector<int64_t> spatial, kernel, stride, pad, dilation, output;  // one entry for each axis; at least one

  int64_t plane;           // input positions of a channel
  int64_t taps;            // weights of a channel
  int64_t rows, width;     // output rows of an image, output positions of a row
  int64_t positions;       // rows * width
  int64_t group_channels;  // channels that one output sees
  int64_t group_outputs;
  int64_t K;    // group_channels * taps: the length of a column
  bool direct;  // 1x1, stride 1, no padding: the columns are the image itself

  // numbers: batch, channels, num_output, group, axes, then spatial, kernel, stride, pad, dilation, output
  explicit Geometry(const int64_t* numbers);
};

// The columns of some channels of one image, for its output rows begin ... end - 1:
// columns[(c * taps + tap) * stride + (row - begin) * width + o] = x[c, input position], 0 where there is none.
template <class T>
void gather_columns(const Geometry& g, const T* x, int64_t channels, int64_t begin, int64_t end, T* columns,
                    int64_t stride);

// The adjoint: adds every column entry to the x it was read from. Entries that were read from nowhere may be set to 0.
template <class T>
void scatter_columns(const Geometry& g, T* columns, int64_t channels, int64_t begin, int64_t end, T* x, int64_t stride);
