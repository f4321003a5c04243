// Reductions of tensors along axes. Sums follow a fixed tree: the same bytes at any thread count, with an error that
// grows with the logarithm of the length.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

/// The axes a reduction runs over, each in [0, rank), sorted; all of them if `axes` is empty.
/// Errors: IndexError for one that does not exist or is named twice; the text names `op`.
Dims reduced_axes(const char* op, const Dims& axes, int rank);
/// The shape left over: `axes` (as reduced_axes gives them) dropped, or kept with length 1.
Shape reduced_shape(const Shape& shape, const Dims& axes, bool keepdim);

/// Sum over `axes` (all if none are named). f32, f64. An empty sum is 0.
Tensor sum(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
/// Sums x down to a shape that broadcasts to x's: the adjoint of broadcast_to. Errors: ShapeError.
Tensor sum_to(const Tensor& x, const Shape& shape);
/// Largest element along one axis, and its place (i64), the first among equals; NaN counts as largest. Drops the axis.
/// Errors: ShapeError if the axis is empty.
struct MaxResult {
  Tensor values, indices;
};
MaxResult max_along(const Tensor& x, int axis);
/// Places of the largest elements along an axis; see max_along.
inline Tensor argmax(const Tensor& x, int axis) { return max_along(x, axis).indices; }

/// exp(x) / sum(exp(x)) along an axis, shifted by the largest element so that nothing overflows.
Tensor softmax(const Tensor& x, int axis);
/// log(softmax(x)), without forming the softmax.
Tensor log_softmax(const Tensor& x, int axis);
/// dx of softmax from g = d loss / d y and y: y (g - sum(g y)).
Tensor softmax_backward(const Tensor& g, const Tensor& y, int axis);
/// dx of log_softmax from g and y: g - exp(y) sum(g).
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int axis);

}  // namespace espalier
