// Scores (outer, channels, inner) held against one label for each of the outer * inner rows: losses and accuracies.
//
// A row's value is -1 where the row does not count (its label is the one to ignore), and NaN where its label is no
// class. Values are averaged in two steps, by shares of the rows and then over the shares, always in the same order.
#pragma once
#include "portable.h"

// The class that a label names; fractions are cut off, as Caffe does. -1 for a label that is no class, NaN among them.
template <class T>
KERNEL index_t class_of(T label, index_t channels) {
  return label > T(-1) && label < T(channels) ? index_t(label) : index_t(-1);
}

template <class T>
KERNEL bool is_ignored(T label, bool ignores, int32_t ignored) {
  return ignores && trunc(label) == T(ignored);
}

// NaN; there is no name for it that every compiler knows.
template <class T>
KERNEL T not_a_number(T any) {
  const T zero = any - any;
  return zero / zero;
}

// Row i: value = -log of the softmax probability of the label's class, at most `most`.
// maximum and sum are those of softmax_statistics.
template <class T>
KERNEL void softmax_loss_rows(index_t i, const T* x, const T* label, const T* maximum, const T* sum, T* value,
                              index_t channels, index_t inner, bool ignores, int32_t ignored, T most) {
  const index_t wanted = class_of(label[i], channels);
  if (is_ignored(label[i], ignores, ignored)) {
    value[i] = T(-1);
  } else if (wanted < 0) {
    value[i] = not_a_number(label[i]);
  } else {
    const T loss = (maximum[i] - x[(i / inner * channels + wanted) * inner + i % inner]) + log(sum[i]);
    value[i] = loss > most ? most : loss;
  }
}

// dx = (softmax(x) - [this channel is the label's]) * dloss / divisor, 0 in rows that do not count.
// add: on top of what dx holds.
template <class T>
KERNEL void softmax_loss_backward(index_t i, const T* x, const T* label, const T* maximum, const T* sum, const T* dloss,
                                  const T* divisor, T* dx, index_t channels, index_t inner, bool ignores,
                                  int32_t ignored, bool add) {
  const index_t row = i / (channels * inner) * inner + i % inner, channel = i / inner % channels;
  T d = 0;
  if (!is_ignored(label[row], ignores, ignored)) {
    const T probability = exp(x[i] - maximum[row]) / sum[row];
    d = (probability - T(channel == class_of(label[row], channels))) * (dloss[0] / divisor[0]);
  }
  dx[i] = add ? dx[i] + d : d;
}

// Row i: value = 1 if fewer than top_k other channels reach the score of the label's class, else 0. A tie, and a NaN,
// counts against the label.
template <class T>
KERNEL void accuracy_rows(index_t i, const T* x, const T* label, T* value, index_t channels, index_t inner,
                          int32_t top_k, bool ignores, int32_t ignored) {
  const index_t wanted = class_of(label[i], channels);
  if (is_ignored(label[i], ignores, ignored)) {
    value[i] = T(-1);
  } else if (wanted < 0) {
    value[i] = not_a_number(label[i]);
  } else {
    const T* row = x + i / inner * channels * inner + i % inner;
    const T score = row[wanted * inner];
    int32_t better = -1;  // the label's own channel is among those counted
    for (index_t c = 0; c < channels; ++c) better += !(row[c * inner] < score);
    value[i] = T(better < top_k);
  }
}

// Class i: accuracy = mean value of the rows with that label, 0 if there are none.
template <class T>
KERNEL void accuracy_of_class(index_t i, const T* value, const T* label, T* accuracy, index_t rows, index_t channels) {
  T right = 0, all = 0;
  for (index_t r = 0; r < rows; ++r) {
    const bool mine = class_of(label[r], channels) == i && !(value[r] < 0);
    right += mine ? value[r] : T(0);
    all += T(mine);
  }
  accuracy[i] = all > 0 ? right / all : T(0);
}

// Share i of the rows: the sum of the values that count, and how many do.
template <class T>
KERNEL void share_of_rows(index_t i, const T* value, T* sum, T* counted, index_t rows, index_t shares) {
  const index_t begin = index_t(int64_t(rows) * i / shares), end = index_t(int64_t(rows) * (i + 1) / shares);
  double total = 0;
  index_t n = 0;
  for (index_t r = begin; r < end; ++r) {
    const bool counts = !(value[r] < 0);
    total += counts ? double(value[r]) : 0.0;
    n += counts;
  }
  sum[i] = T(total);
  counted[i] = T(n);
}

// mean = the sum of all shares over max(1, divisor); the divisor is `fixed`, or where that is negative, the number of
// rows that count.
template <class T>
KERNEL void mean_of_rows(index_t i, const T* sum, const T* counted, T* mean, T* divisor, index_t shares, T fixed) {
  double total = 0, n = 0;
  for (index_t s = 0; s < shares; ++s) {
    total += double(sum[s]);
    n += double(counted[s]);
  }
  if (!(fixed < 0)) n = double(fixed);
  n = n > 1 ? n : 1;
  mean[i] = T(total / n);
  divisor[i] = T(n);
}
