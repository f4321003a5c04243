// Rows of images made from other rows: weighted sums of whole rows, and of places within a row.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "espalier/core/error.h"

namespace espalier::kernels {

/// The sums that make a row of `n` values from another: y[j] = the sum over t of weight x[place]. Laid out for vectors
/// of `lanes` outputs: [vector][tap], places as a common base and offsets, [vector][tap][lane]. A weight of 0 is no tap:
/// what lies there does not count, be it NaN.
template <class T>
struct RowSums {
  using Offset = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  Index n = 0, inputs = 0, taps = 0;
  bool copies = false;  ///< one tap each, of weight 1
  bool near =
      false;  ///< offsets are below `lanes`, and base + lanes does not reach behind the inputs if they fill a vector
  std::vector<Index> base;
  std::vector<Offset> offset;
  std::vector<T> weight;
};

template <class T>
struct ResizeKernels {
  Index lanes;
  /// y[k] = the sum over r < count of weights[r] x[rows[r] n + k].
  void (*sum_of_rows)(const T* x, const Index* rows, const T* weights, Index count, Index n, T* y);
  void (*row_sums)(const T* x, const RowSums<T>& sums, T* y);
};

/// The table of the SIMD target in use.
template <class T>
const ResizeKernels<T>& resize() noexcept;

}  // namespace espalier::kernels
