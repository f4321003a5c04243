// Elements picked by place along an axis: what max_along, sort, topk and the like are made of.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier::detail {

/// A node named `op` whose value is `values`, which are x's at `indices` along `axis` (both kept, of one rank).
/// Gradient: g added at the indices.
Variable picked(const char* op, const Variable& x, Tensor values, const Tensor& indices, int axis);
/// `so_far` (zeros of `shape`, if undefined) with g added at the indices: the gradient of a gather.
Variable scattered(const Variable& g, const Shape& shape, int axis, const Tensor& index, Tensor so_far);

}  // namespace espalier::detail
