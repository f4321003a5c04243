// Kernels of the normalisation layers: moments, and the fused loops of the forward and backward passes.
//
// Sums are of lanes of T within blocks of at most 1,024 elements, of deviations from a mean that is known by then, and
// in f64 from block to block: nothing is lost where the mean is far larger than the spread. Bits depend on the values,
// the counts and the SIMD target alone. Pointers need no alignment; counts may be 0.
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// Of `count` numbers: their mean, and the sum of squared deviations from it.
struct Moments {
  double count = 0, mean = 0, squares = 0;
  double variance() const noexcept { return squares / count; }
};
/// Of the union. Chan, Golub and LeVeque 1983, eq. 2.1.
inline Moments merge(const Moments& a, const Moments& b) noexcept {
  if (a.count == 0 || b.count == 0) return a.count == 0 ? b : a;
  const double count = a.count + b.count, distance = b.mean - a.mean;
  return {count, a.mean + distance * (b.count / count),
          a.squares + b.squares + distance * distance * (a.count * (b.count / count))};
}

/// `count` runs of `length` neighbouring elements, `stride` from start to start.
struct Runs {
  Index count, stride, length;
};

/// y = (x - shift) factor + offset, and then max(y, 0) if `relu`.
template <class T>
struct ScaleShift {
  T shift, factor, offset;
  bool relu;
};

/// sum g and sum g (x - shift), where relu let g pass.
struct PassedSums {
  double g = 0, gx = 0;
};
/// dx = of_g g + of_x (x - shift) + rest
template <class T>
struct GradientTerms {
  T of_g, of_x, rest;
};

/// Some neighbouring columns of a matrix: `rows` of `count` elements, `stride` from row to row.
struct Columns {
  Index rows, stride, count;
  static constexpr Index most = 64;  ///< that a kernel takes at a time
};
/// What a ScaleShift says, of each column.
template <class T>
struct ColumnMaps {
  T shift[Columns::most] = {}, factor[Columns::most] = {}, offset[Columns::most] = {};
  bool relu = false;
};
template <class T>
struct ColumnTerms {
  T of_g[Columns::most] = {}, of_x[Columns::most] = {}, rest[Columns::most] = {};
};

/// Mean and 1 / sqrt(variance + eps) of a row.
struct RowStatistics {
  double mean, rstd;
};

template <class T>
struct NormKernels {
  Moments (*moments)(const T* x, Runs runs);
  void (*scale_shift)(const T* x, T* y, Runs runs, ScaleShift<T> map);
  PassedSums (*gradient_sums)(const T* g, const T* x, Runs runs, ScaleShift<T> map);
  /// g as above.
  void (*gradient)(const T* g, const T* x, T* dx, Runs runs, ScaleShift<T> map, GradientTerms<T> terms);

  /// The same four of each column: vectors lie along the columns, sums run down at most 128 rows in T.
  void (*column_moments)(const T* x, Columns columns, Moments* found);
  void (*column_scale_shift)(const T* x, T* y, Columns columns, const ColumnMaps<T>& maps);
  void (*column_gradient_sums)(const T* g, const T* x, Columns columns, const ColumnMaps<T>& maps, PassedSums* sums);
  void (*column_gradient)(const T* g, const T* x, T* dx, Columns columns, const ColumnMaps<T>& maps,
                          const ColumnTerms<T>& terms);

  /// y = (x - mean) rstd weight + bias, row by row; null weight: 1, null bias: 0. Unless `centered`, the mean is taken
  /// for 0.
  void (*rows)(const T* x, const T* weight, const T* bias, T* y, Index rows, Index n, double eps, bool centered,
               RowStatistics* statistics);
  /// dx of the rows (null: not wanted); += sum g xhat into dweight, += sum g into dbias (null: not wanted).
  void (*rows_backward)(const T* g, const T* x, const T* weight, const RowStatistics* statistics, Index rows, Index n,
                        bool centered, T* dx, T* dweight, T* dbias);
};

/// The table of the SIMD target in use, for float or double.
template <class T>
const NormKernels<T>& norm() noexcept;

}  // namespace espalier::kernels
