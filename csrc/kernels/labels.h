// Scores (outer, channels, inner) held against one label for each of the outer * inner rows: losses and accuracies.
//
// A row's value is kNothing where the row does not count (its label is the one to ignore), and NaN where its label is
// no class. Values are averaged in two steps, by shares of the rows and then over the shares, always in the same order.
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

constexpr float kNothing = -3e38f;

template <class T>
KERNEL bool counts(T value) {
  return !(value <= T(kNothing));
}

// NaN; there is no name for it that every compiler knows.
template <class T>
KERNEL T not_a_number(T any) {
  const T zero = any - any;
  return zero / zero;
}

// Where the scores of row i begin.
KERNEL index_t scores_of(index_t i, index_t channels, index_t inner) {
  return i / inner * channels * inner + i % inner;
}

// -log of the softmax probability of the label's class, at most `most`, of a row of scores with that maximum and sum of
// exp(x - maximum).
template <class T>
KERNEL T softmax_loss(const T* row, T label, T maximum, T sum, index_t channels, index_t inner, bool ignores,
                      int32_t ignored, T most) {
  if (is_ignored(label, ignores, ignored)) return T(kNothing);
  const index_t wanted = class_of(label, channels);
  if (wanted < 0) return not_a_number(label);
  const T loss = (maximum - row[wanted * inner]) + log(sum);
  return loss > most ? most : loss;
}

// Row i: value = its softmax_loss; maximum and sum are those of softmax_statistics.
template <class T>
REDUCTION ACROSS(inner) void softmax_loss_rows(index_t i, const T* x, const T* label, T* maximum, T* sum, T* value,
                                               index_t channels, index_t inner, bool ignores, int32_t ignored, T most) {
  const T* row = x + scores_of(i, channels, inner);
  const T largest = largest_of<T>(channels, [&](index_t c) { return row[c * inner]; });
  const T total = sum_in_order<T>(channels, [&](index_t c) { return exp(row[c * inner] - largest); });
  if (!leads()) return;
  maximum[i] = largest;
  sum[i] = total;
  value[i] = softmax_loss(row, label[i], largest, total, channels, inner, ignores, ignored, most);
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

// Row i: value = the sum over channels of max(0, 1 -+ x)^norm: 1 - x in the label's channel, 1 + x in the others.
template <class T>
REDUCTION void hinge_loss_rows(index_t i, const T* x, const T* label, T* value, index_t channels, int32_t norm) {
  const index_t wanted = class_of(label[i], channels);
  x += i * channels;
  const T sum = sum_of<T>(channels, [&](index_t c) {
    const T room = c == wanted ? 1 - x[c] : 1 + x[c], margin = room <= 0 ? T(0) : room;
    return norm == 2 ? margin * margin : margin;
  });
  if (leads()) value[i] = wanted < 0 ? not_a_number(label[i]) : sum;
}

// dx = +- dloss / divisor * norm * margin^(norm - 1) where the margin is above 0: - in the label's channel.
template <class T>
KERNEL void hinge_loss_backward(index_t i, const T* x, const T* label, const T* dloss, const T* divisor, T* dx,
                                index_t channels, int32_t norm) {
  const T sign = class_of(label[i / channels], channels) == i % channels ? T(-1) : T(1);
  const T room = 1 + sign * x[i], slope = norm == 2 ? 2 * room : T(1);
  dx[i] = room <= 0 ? T(0) : sign * slope * (dloss[0] / divisor[0]);
}

// Row i: value = -log p of the label's channel, where p counts as no less than `least`.
template <class T>
KERNEL void log_loss_rows(index_t i, const T* p, const T* label, T* value, index_t channels, T least) {
  const index_t wanted = class_of(label[i], channels);
  if (wanted < 0) {
    value[i] = not_a_number(label[i]);
  } else {
    const T own = p[i * channels + wanted];
    value[i] = -log(own < least ? least : own);
  }
}

// dp = -dloss / divisor / max(p, least) in the label's channel, 0 in the others
template <class T>
KERNEL void log_loss_backward(index_t i, const T* p, const T* label, const T* dloss, const T* divisor, T* dp,
                              index_t channels, T least) {
  const bool own = class_of(label[i / channels], channels) == i % channels;
  dp[i] = own ? -(dloss[0] / divisor[0]) / (p[i] < least ? least : p[i]) : T(0);
}

// Row i: value = -sum over channels c of h(label, c) * log softmax(x)_c, where no logarithm counts as less than
// `least`. maximum and sum are those of softmax_statistics; h is (channels, channels).
template <class T>
REDUCTION void infogain_loss_rows(index_t i, const T* x, const T* label, const T* h, const T* maximum, const T* sum,
                                  T* value, index_t channels, index_t inner, bool ignores, int32_t ignored, T least) {
  const index_t wanted = class_of(label[i], channels);
  T loss = not_a_number(label[i]);
  if (is_ignored(label[i], ignores, ignored)) {
    loss = T(kNothing);
  } else if (wanted >= 0) {
    x += i / inner * channels * inner + i % inner;
    h += wanted * channels;
    const T scale = log(sum[i]);
    loss = -sum_of<T>(channels, [&](index_t c) {
      const T logarithm = (x[c * inner] - maximum[i]) - scale;
      return h[c] * (logarithm < least ? least : logarithm);
    });
  }
  if (leads()) value[i] = loss;
}

// dx = (softmax(x) * total(label) - h(label, channel)) * dloss / divisor, 0 in rows that do not count; total holds the
// sums of the rows of h. add: on top of what dx holds.
template <class T>
KERNEL void infogain_loss_backward(index_t i, const T* x, const T* label, const T* h, const T* total, const T* maximum,
                                   const T* sum, const T* dloss, const T* divisor, T* dx, index_t channels,
                                   index_t inner, bool ignores, int32_t ignored, bool add) {
  const index_t row = i / (channels * inner) * inner + i % inner, channel = i / inner % channels;
  const index_t wanted = class_of(label[row], channels);
  T d = 0;
  if (!is_ignored(label[row], ignores, ignored) && wanted >= 0) {
    const T probability = exp(x[i] - maximum[row]) / sum[row];
    d = (probability * total[wanted] - h[wanted * channels + channel]) * (dloss[0] / divisor[0]);
  }
  dx[i] = add ? dx[i] + d : d;
}

// Element i: value = -t log s - (1 - t) log(1 - s), where s = 1 / (1 + exp(-x)); nothing overflows.
template <class T>
KERNEL void cross_entropy_values(index_t i, const T* x, const T* target, T* value, bool ignores, int32_t ignored) {
  const T loss = (x[i] > 0 ? x[i] : T(0)) - x[i] * target[i] + log1p(exp(-fabs(x[i])));
  value[i] = is_ignored(target[i], ignores, ignored) ? T(kNothing) : loss;
}

// dx = (s - t) * dloss / divisor, 0 where the target is the one to ignore
template <class T>
KERNEL void cross_entropy_backward(index_t i, const T* x, const T* target, const T* dloss, const T* divisor, T* dx,
                                   bool ignores, int32_t ignored) {
  const T s = T(0.5) * tanh(T(0.5) * x[i]) + T(0.5);
  dx[i] = is_ignored(target[i], ignores, ignored) ? T(0) : (s - target[i]) * (dloss[0] / divisor[0]);
}

// Row i: value = 1 if fewer than top_k other channels reach the score of the label's class, else 0. A tie, and a NaN,
// counts against the label.
template <class T>
REDUCTION void accuracy_rows(index_t i, const T* x, const T* label, T* value, index_t channels, index_t inner,
                             int32_t top_k, bool ignores, int32_t ignored) {
  const index_t wanted = class_of(label[i], channels);
  T right = not_a_number(label[i]);
  if (is_ignored(label[i], ignores, ignored)) {
    right = T(kNothing);
  } else if (wanted >= 0) {
    const T* row = x + i / inner * channels * inner + i % inner;
    const T score = row[wanted * inner];
    // The label's own channel is among those counted.
    const int32_t reach =
        sum_in_order<int32_t>(channels, [&](index_t c) { return int32_t(!(row[c * inner] < score)); });
    right = T(reach - 1 < top_k);
  }
  if (leads()) value[i] = right;
}

// Class i: accuracy = mean value of the rows with that label, 0 if there are none.
template <class T>
REDUCTION void accuracy_of_class(index_t i, const T* value, const T* label, T* accuracy, index_t rows,
                                 index_t channels) {
  const auto mine = [&](index_t r) { return class_of(label[r], channels) == i && counts(value[r]); };
  const T right = sum_in_order<T>(rows, [&](index_t r) { return mine(r) ? value[r] : T(0); });
  const T all = sum_in_order<T>(rows, [&](index_t r) { return T(mine(r)); });
  if (leads()) accuracy[i] = all > 0 ? right / all : T(0);
}

// Share i of the rows: the sum of the values that count, and how many do.
template <class T>
REDUCTION void share_of_rows(index_t i, const T* value, T* sum, T* counted, index_t rows, index_t shares) {
  const index_t begin = index_t(int64_t(rows) * i / shares), end = index_t(int64_t(rows) * (i + 1) / shares);
  value += begin;
  const double total =
      sum_in_order<double>(end - begin, [&](index_t r) { return counts(value[r]) ? double(value[r]) : 0.0; });
  const index_t n = sum_in_order<index_t>(end - begin, [&](index_t r) { return index_t(counts(value[r])); });
  if (!leads()) return;
  sum[i] = T(total);
  counted[i] = T(n);
}

// mean = total / divisor; the divisor is `fixed`, or where that is negative, the number of rows that counted, and never
// less than 1. told, which may be null, is the mean in double precision.
template <class T>
KERNEL void tell_mean(index_t i, double total, double counted, T* mean, T* divisor, double* told, T fixed) {
  double n = fixed < 0 ? counted : double(fixed);
  n = n > 1 ? n : 1;
  if (!leads()) return;
  mean[i] = T(total / n);
  divisor[i] = T(n);
  if (told) told[i] = double(T(total / n));
}

// Both steps at once, where each share would be a row.
template <class T>
REDUCTION void mean_of_few_rows(index_t i, const T* value, T* mean, T* divisor, double* told, index_t rows, T fixed) {
  const double total = sum_in_order<double>(rows, [&](index_t r) { return counts(value[r]) ? double(value[r]) : 0.0; });
  const index_t counted = sum_in_order<index_t>(rows, [&](index_t r) { return index_t(counts(value[r])); });
  tell_mean(i, total, double(counted), mean, divisor, told, fixed);
}

// The mean from all shares.
template <class T>
REDUCTION void mean_of_rows(index_t i, const T* sum, const T* counted, T* mean, T* divisor, double* told,
                            index_t shares, T fixed) {
  const double total = sum_in_order<double>(shares, [&](index_t s) { return double(sum[s]); });
  const double n = sum_in_order<double>(shares, [&](index_t s) { return double(counted[s]); });
  tell_mean(i, total, n, mean, divisor, told, fixed);
}

// softmax_loss_rows and the mean of what they give at once, for few rows of few scores: each is the work of one thread.
template <class T>
REDUCTION void softmax_loss_of_few(index_t i, const T* x, const T* label, T* maximum, T* sum, T* value, T* mean,
                                   T* divisor, double* told, index_t rows, index_t channels, index_t inner,
                                   bool ignores, int32_t ignored, T most, T fixed) {
  const double total = sum_in_order<double>(rows, [&](index_t r) {
    const T* row = x + scores_of(r, channels, inner);
    T largest = row[0], all = 0;
    for (index_t c = 1; c < channels; ++c) largest = row[c * inner] > largest ? row[c * inner] : largest;
    for (index_t c = 0; c < channels; ++c) all += exp(row[c * inner] - largest);
    maximum[r] = largest;
    sum[r] = all;
    value[r] = softmax_loss(row, label[r], largest, all, channels, inner, ignores, ignored, most);
    return counts(value[r]) ? double(value[r]) : 0.0;
  });
  const index_t counted = sum_in_order<index_t>(rows, [&](index_t r) { return index_t(counts(value[r])); });
  tell_mean(i, total, double(counted), mean, divisor, told, fixed);
}
