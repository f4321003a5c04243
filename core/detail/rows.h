// Plain row loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "espalier/core/error.h"

namespace espalier::rows {

template <class T>
T sum(const T* x, Index n) {
  double total = 0;
  for (Index i = 0; i < n; ++i) total += static_cast<double>(x[i]);
  return static_cast<T>(total);
}
template <class T>
void add_rows(const T* x, Index rows, Index columns, Index stride, T* out) {
  std::fill_n(out, columns, T(0));
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) out[c] += x[r * stride + c];
}
template <class T>
Index argmax(const T* x, Index n) {
  Index best = 0;
  for (Index i = 1; i < n && !std::isnan(x[best]); ++i)
    if (x[i] > x[best] || std::isnan(x[i])) best = i;
  return best;
}
template <class T>
T shift_of(const T* x, Index n) {
  const T top = x[argmax(x, n)];
  return std::isinf(top) && top < 0 ? T(0) : top;
}
template <class T>
T log_sum_exp(const T* x, Index n) {
  const T top = shift_of(x, n);
  if (std::isinf(top)) return top;
  T total = 0;
  for (Index i = 0; i < n; ++i) total += std::exp(x[i] - top);
  return top + std::log(total);
}
template <class T>
void softmax(const T* x, T* y, Index n) {
  const T top = x[argmax(x, n)];
  T total = 0;
  for (Index i = 0; i < n; ++i) total += y[i] = std::exp(x[i] - top);
  for (Index i = 0; i < n; ++i) y[i] /= total;
}
template <class T>
void log_softmax(const T* x, T* y, Index n) {
  const T top = x[argmax(x, n)];
  T total = 0;
  for (Index i = 0; i < n; ++i) total += std::exp(x[i] - top);
  const T log_total = std::log(total);
  for (Index i = 0; i < n; ++i) y[i] = x[i] - top - log_total;
}
template <class T>
void softmax_backward(const T* g, const T* y, T* dx, Index n) {
  T dot = 0;
  for (Index i = 0; i < n; ++i) dot += g[i] * y[i];
  for (Index i = 0; i < n; ++i) dx[i] = y[i] * (g[i] - dot);
}
template <class T>
void log_softmax_backward(const T* g, const T* y, T* dx, Index n) {
  const T total = sum(g, n);
  for (Index i = 0; i < n; ++i) dx[i] = g[i] - std::exp(y[i]) * total;
}
template <class T>
T cross_entropy(const T* x, Index n, Index label) {
  return log_sum_exp(x, n) - x[label];
}
template <class T>
void cross_entropy_gradient(const T* x, Index n, Index label, T g, T* dx) {
  softmax(x, dx, n);
  for (Index i = 0; i < n; ++i) dx[i] *= g;
  dx[label] -= g;
}

}  // namespace espalier::rows
