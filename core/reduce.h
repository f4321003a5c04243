// Reductions of tensors along axes. Sums follow a fixed tree: the same bytes at any thread count, with an error that
// grows with the logarithm of the length.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

/// The axes a reduction runs over, each in [0, rank), sorted; all of them if `axes` is empty.
/// Of a scalar there are none, which 0 and -1 name too. Errors: IndexError for one that does not exist or is named
/// twice; the text names `op`.
Dims reduced_axes(const char* op, const Dims& axes, int rank);
/// The shape left over: `axes` (as reduced_axes gives them) dropped, or kept with length 1.
Shape reduced_shape(const Shape& shape, const Dims& axes, bool keepdim);

/// Sum over `axes` (all if none are named). f32, f64. An empty sum is 0.
Tensor sum(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
/// Sums x down to a shape that broadcasts to x's: the adjoint of broadcast_to. Errors: ShapeError.
Tensor sum_to(const Tensor& x, const Shape& shape);
/// Product over `axes`, in f64. An empty product is 1.
Tensor prod(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
/// Largest and smallest element over `axes`; NaN if one is NaN. Errors: ShapeError if there are none to choose from.
Tensor amax(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
Tensor amin(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
/// log(sum(exp(x))) over `axes`, shifted so that nothing overflows; -infinity of nothing.
Tensor logsumexp(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
/// (sum |x|^p)^(1/p) over `axes`; p = infinity: the largest |x|; -infinity: the smallest; 0: how many are not 0.
/// For p = 2 squares neither overflow nor vanish in f32. Errors: ConfigError for other negative p.
Tensor norm(const Tensor& x, double p = 2, const Dims& axes = {}, bool keepdim = false);
/// Mean and variance over `axes`; the sum of squared deviations is divided by n - 1 if `unbiased`, else by n. Sound for
/// means far larger than the spread. Of nothing both are NaN. Chan, Golub and LeVeque 1983.
struct MeanVar {
  Tensor mean, var;
};
MeanVar mean_var(const Tensor& x, const Dims& axes = {}, bool unbiased = true, bool keepdim = false);
/// The same with the root of the variance, taken in f64: within the range of f32 where the variance is not.
struct MeanStd {
  Tensor mean, deviation;
};
MeanStd mean_std(const Tensor& x, const Dims& axes = {}, bool unbiased = true, bool keepdim = false);

/// Largest element along one axis, and its place (i64), the first among equals; NaN counts as largest. Drops the axis,
/// unless `keepdim`. Errors: ShapeError if the axis is empty.
struct MaxResult {
  Tensor values, indices;
};
MaxResult max_along(const Tensor& x, int axis, bool keepdim = false);
/// The smallest; NaN counts as smallest.
MaxResult min_along(const Tensor& x, int axis, bool keepdim = false);
/// Places of the largest and the smallest elements along an axis; see max_along.
inline Tensor argmax(const Tensor& x, int axis, bool keepdim = false) { return max_along(x, axis, keepdim).indices; }
inline Tensor argmin(const Tensor& x, int axis, bool keepdim = false) { return min_along(x, axis, keepdim).indices; }
/// Their places among all elements in row-major order.
inline Tensor argmax(const Tensor& x) { return max_along(x.reshape({-1}), 0).indices; }
inline Tensor argmin(const Tensor& x) { return min_along(x.reshape({-1}), 0).indices; }

/// (x - shift) scale and exp(x - shift) scale, x <= shift, with one shift and one scale for each group that `axes` would
/// reduce to one number: the gradients of var and logsumexp.
Tensor scaled_deviations(const Tensor& x, const Dims& axes, const Tensor& shift, const Tensor& scale);
Tensor scaled_exponentials(const Tensor& x, const Dims& axes, const Tensor& shift, const Tensor& scale);

/// exp(x) / sum(exp(x)) along an axis, shifted by the largest element so that nothing overflows.
Tensor softmax(const Tensor& x, int axis);
/// log(softmax(x)), without forming the softmax.
Tensor log_softmax(const Tensor& x, int axis);
/// dx of softmax from g = d loss / d y and y: y (g - sum(g y)).
Tensor softmax_backward(const Tensor& g, const Tensor& y, int axis);
/// dx of log_softmax from g and y: g - exp(y) sum(g).
Tensor log_softmax_backward(const Tensor& g, const Tensor& y, int axis);

}  // namespace espalier
