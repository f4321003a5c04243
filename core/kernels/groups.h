// Kernels over groups of elements: a group is a contiguous row, or one column of a tile of rows.
//
// Column kernels go along the rows of a tile and fold all its columns at once; the bits of a column do not depend on its
// neighbours. Sums are of T over 64 rows at a time, then in f64. Pointers need no alignment.
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// Number of elements, their mean, and the sum of squared deviations from it.
struct Moments {
  double count = 0, mean = 0, squares = 0;
};
/// Of both together. Chan, Golub and LeVeque 1983, eq. 2.1.
inline Moments join(const Moments& a, const Moments& b) {
  const double count = a.count + b.count, apart = b.mean - a.mean;
  return {count, a.mean + apart * (b.count / count),
          a.squares + b.squares + apart * apart * (a.count * b.count / count)};
}

template <class T>
struct GroupKernels {
  /// In two passes, corrected for the rounding of the mean; n >= 1.
  Moments (*moments)(const T* x, Index n);
  /// y[i] = (x[i] - shift) scale. In place if y is x; so are the others below.
  void (*deviations)(const T* x, T shift, T scale, T* y, Index n);
  /// y[i] = exp(x[i] - shift) scale, x <= shift.
  void (*exponentials)(const T* x, T shift, T scale, T* y, Index n);
  /// The same with a shift and a scale for each element.
  void (*deviations_each)(const T* x, const T* shift, const T* scale, T* y, Index n);
  void (*exponentials_each)(const T* x, const T* shift, const T* scale, T* y, Index n);

  /// out[c] = sum over r of f(x[r * stride + c], shift[c]), c < cols.
  using Columns = void (*)(const T* x, const T* shift, Index rows, Index cols, Index stride, T* out);
  Columns add;             ///< f = x; shift is not looked at where the formula does not name it, but must be readable
  Columns add_abs;         ///< f = |x|
  Columns add_squares;     ///< f = x^2
  Columns add_deviations;  ///< f = x - shift
  Columns add_square_deviations;  ///< f = (x - shift)^2
  Columns add_exponentials;       ///< f = exp(x - shift), x <= shift
  /// out[c] = largest, least, largest |x|; NaN if one is NaN; the shift as above.
  Columns max, min, abs_max;
  /// The first largest (or least, with `least`) of each column, its row in indices; the first NaN if there is one.
  void (*argmax)(const T* x, Index rows, Index cols, Index stride, bool least, T* values, Index* indices);
  /// out[c] = product over r of x[r * stride + c], in f64 and in order.
  void (*multiply)(const T* x, Index rows, Index cols, Index stride, double* out);
  /// state[i] += x[i]; y[i] = state[i].
  using Running = void (*)(const T* x, double* state, T* y, Index n);
  Running running_sum_each;
  /// state[i] *= x[i]; y[i] = state[i]. The second: y[i] as the state was before.
  Running running_product_each[2];
};

/// The table of the SIMD target in use, for float or double. Cost: about two nanoseconds.
template <class T>
const GroupKernels<T>& groups() noexcept;

}  // namespace espalier::kernels
