// Matrices turned round: plain order made of blocks of channels, and blocks of plain order.
#pragma once
#define LAYERFORGE_READS_AHEAD
#include "portable.h"

// Each matrix (rows, columns) of x, turned, is one (columns, rows) of y.
template <class T>
KERNEL void turn(index_t i, const T* x, T* y, index_t rows, index_t columns) {
  const Divided line = divided(i, rows), matrix = divided(line.quotient, columns);
  y[i] = x[(matrix.quotient * rows + line.rest) * columns + matrix.rest];
}
