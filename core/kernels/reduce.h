// Reductions of contiguous rows, sums over rows, and the row kernels of the softmax family.
//
// Sums are of lanes of T within blocks of 1,024 elements, and of the blocks' sums in f64, pairwise: the error grows
// with the logarithm of n, and bits depend on the values, n and the SIMD target alone. Pointers need no alignment; n
// may be 0.
#pragma once

#include <cstdint>

#include "espalier/core/error.h"

namespace espalier::kernels {

constexpr Index column_strip = 64;  // columns that the softmax family takes at a time, at most

template <class T>
struct ReduceKernels {
  double (*sum)(const T* x, Index n);
  double (*sum_squares)(const T* x, Index n);  ///< neither overflows nor vanishes in f32; f64 from 1e-154 to 1e154
  double (*abs_sum)(const T* x, Index n);
  double (*dot)(const T* a, const T* b, Index n);
  double (*prod)(const T* x, Index n);   ///< in f64
  T (*max)(const T* x, Index n);         ///< NaN if one is NaN; -infinity of nothing
  T (*min)(const T* x, Index n);         ///< NaN if one is NaN; +infinity of nothing
  T (*abs_max)(const T* x, Index n);     ///< NaN if one is NaN; 0 of nothing
  Index (*argmax)(const T* x, Index n);  ///< the first largest, the first NaN if there is one; -1 of nothing
  Index (*argmin)(const T* x, Index n);
  Index (*count_nonfinite)(const T* x, Index n);

  /// out[c] = sum over r of x[r * row_stride + c], for c < cols. The bits of a column do not depend on its neighbours,
  /// so callers may split the columns anywhere.
  void (*add_rows)(const T* x, Index rows, Index cols, Index row_stride, T* out);

  /// log(sum exp(x)); -infinity if all are.
  double (*logsumexp_row)(const T* x, Index n);
  /// y = exp(x) / sum exp(x); NaN if all are -infinity. In place if y is x. So are the others below.
  void (*softmax_row)(const T* x, T* y, Index n);
  /// y = x - log(sum exp(x)).
  void (*log_softmax_row)(const T* x, T* y, Index n);
  /// dx = y (g - sum g y), y the softmax.
  void (*softmax_backward_row)(const T* g, const T* y, T* dx, Index n);
  /// dx = g - exp(y) sum g, y the log-softmax.
  void (*log_softmax_backward_row)(const T* g, const T* y, T* dx, Index n);
  /// The same down columns: element r of column c is [r * stride + c]. The bits of a column do not depend on its
  /// neighbours. Not in place; the second operand of the forward ones is not looked at.
  using Columns = void (*)(const T* first, const T* second, T* y, Index rows, Index cols, Index stride);
  Columns softmax_columns, log_softmax_columns, softmax_backward_columns, log_softmax_backward_columns;
  /// log(sum exp(x)) - x[label], 0 <= label < n; with a grad, also grad = scale (softmax(x) - onehot(label)).
  double (*cross_entropy_row)(const T* x, Index n, Index label, T* grad, T scale);
};

/// The table of the SIMD target in use, for float or double. Cost: about two nanoseconds.
template <class T>
const ReduceKernels<T>& reduce() noexcept;

/// Sum of numbers that come one after the other, by the same tree as if they were added pairwise.
class PairwiseSum final {
 public:
  void add(double x) noexcept {
    int level = 0;
    for (std::uint64_t full = count_++; full & 1; full >>= 1) x = partial_[level++] + x;
    partial_[level] = x;
  }
  double total() const noexcept {
    double sum = 0;
    for (int level = 0; level < 64; ++level)
      if (count_ >> level & 1) sum = partial_[level] + sum;
    return sum;
  }

 private:
  std::uint64_t count_ = 0;
  double partial_[64];  // partial_[k]: the sum of 2^k numbers, where bit k of the count is set
};

}  // namespace espalier::kernels
