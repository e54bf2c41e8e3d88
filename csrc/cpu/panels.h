// Convolution by panels: the columns of an image (im2col) are written straight into the panels that a matrix product
// reads, a few dozen positions side by side, and are gone from the cache before anybody misses them. float32, one or
// two spatial axes, on processors with AVX-512 or with AVX2 and FMA.
//
// K. Goto, R. van de Geijn: Anatomy of high-performance matrix multiplication, 2008, for the panels; A. Anderson,
// D. Gregg: Low-memory GEMM-based convolution algorithms, 2017, for leaving the columns out.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "convolution.h"

// Positions at ... at + length - 1 of a panel, which follow one another in the image.
struct Run {
  int64_t from;
  int32_t at, length;
};

// Offsets into an image, what a tap of a channel reads for the first position; see panels_simd.h.
struct PanelKernels {
  static constexpr int kRows = 16, kVectors = 5;
  int lanes, vectors;  // floats of a vector, vectors of a panel
  void (*pack)(const float* x, const int64_t* offsets, int64_t count, const Run* runs, int number, float* panel);
  void (*scatter)(const float* panel, const int64_t* offsets, int64_t count, const Run* runs, int number, float* x);
  void (*product[kRows][kVectors])(int64_t depth, const float* a, const float* b, float* c, int64_t stride,
                                   const float* start, bool adds, int live, int last);
  void (*contract[kVectors][kRows])(const float* const* x, const Run* runs, int number, const float* y, int64_t width,
                                    float* c, int64_t stride, bool adds, int live);
  int least[kVectors], most[kVectors];  // rows of contract
  void (*transpose)(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to, int64_t width);
  void (*sum_rows)(const float* y, int64_t rows, int64_t width, float* sums);
  void (*copy)(const float* from, int64_t count, float* to);
  void (*add)(const float* from, int64_t count, float* to);
};

// Those of this processor; nullptr where there are none.
const PanelKernels* panel_kernels();

// For tests: none with more floats in a vector than that.
void limit_panels(int lanes);

bool has_panels(const Geometry& g);
int64_t panel_scratch(const Geometry& g, int64_t threads);
void panel_forward(const Geometry& g, const float* x, const float* w, const float* bias, float* y, float* scratch);
void panel_data(const Geometry& g, const float* dy, const float* w, float* dx, float* scratch);
void panel_weights(const Geometry& g, const float* x, const float* dy, float* dw, float* db, float* scratch);
