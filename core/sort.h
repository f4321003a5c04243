// Orders along one axis. NaN counts as largest, zeros of either sign as equal; equal elements stay in their order.
#pragma once

#include "espalier/core/reduce.h"

namespace espalier {

/// The elements in ascending (descending) order along `axis`, and the place each came from (i64). Any element type.
/// Errors: IndexError. Cost: four (f64: eight) passes of a radix sort, O(n log n) for short rows; parallel over rows.
MaxResult sort(const Tensor& x, int axis = -1, bool descending = false);
/// The places alone.
inline Tensor argsort(const Tensor& x, int axis = -1, bool descending = false) {
  return sort(x, axis, descending).indices;
}
/// The k largest (smallest), best first, and their places; the first among equals. Errors: IndexError for a k or an axis
/// that does not exist. Cost: O(n + k log k) a row.
MaxResult topk(const Tensor& x, Index k, int axis = -1, bool largest = true);
/// The k-th smallest, k from 1 on, and its place. Drops the axis unless `keepdim`. Errors: as topk.
MaxResult kthvalue(const Tensor& x, Index k, int axis = -1, bool keepdim = false);
/// The lower of the two middle elements, NaN if there is one. Errors: ShapeError if the axis is empty.
MaxResult median(const Tensor& x, int axis = -1, bool keepdim = false);

}  // namespace espalier
