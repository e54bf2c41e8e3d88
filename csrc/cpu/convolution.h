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

// Of all threads' partial weight gradients together.
constexpr int64_t kPartial = int64_t(1) << 25;

// Elements in whole cache lines; a / b, rounded up.
inline int64_t align(int64_t elements) { return (elements + 63) / 64 * 64; }
inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What one tap reads: for every output row the input row's offset in the plane, or -1; and along the last axis the
// outputs [low, high) that lie inside, the first of which reads input position `start`.
struct Reads {
  std::vector<int64_t> row;
  int64_t first = 0, last = 0;  // the rows [first, last) are inside; others between them may be outside
  int64_t low = 0, high = 0, start = 0, stride = 1;
  bool together = false;  // all rows in [first, last) are inside and follow one another as the outputs do

  // For a tap and the output rows [begin, end).
  void look_up(const Geometry& g, int64_t tap, int64_t begin, int64_t end);
};

// The columns of some channels of one image, for its output rows begin ... end - 1:
// columns[(c * taps + tap) * stride + (row - begin) * width + o] = x[c, input position], 0 where there is none.
template <class T>
void gather_columns(const Geometry& g, const T* x, int64_t channels, int64_t begin, int64_t end, T* columns,
                    int64_t stride);

// The adjoint: adds every column entry to the x it was read from. Entries that were read from nowhere may be set to 0.
template <class T>
void scatter_columns(const Geometry& g, T* columns, int64_t channels, int64_t begin, int64_t end, T* x, int64_t stride);

// Convolutions in which every output sees one channel, and few outputs the same one: too little work for a product of
// matrices, so each tap is one pass over the rows of a plane. Arguments as in convolution.cpp.
inline bool is_depthwise(const Geometry& g) { return g.group_channels == 1 && g.group_outputs <= 4; }
template <class T>
void depthwise_forward(const Geometry& g, const T* x, const T* w, const T* bias, T* y);
template <class T>
void depthwise_data(const Geometry& g, const T* dy, const T* w, T* dx);
template <class T>
void depthwise_weights(const Geometry& g, const T* x, const T* dy, T* dw, T* db);
