// Differentiable sums, means and their adjoint, the broadcast. f32, f64.
//
// Settings: the axes reduced; before them, for var and std, `unbiased` (0, 1), for norm p (see number_of). softmax,
// log_softmax: the axis.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// Sum over `axes` (all if none are named). An empty sum is 0. Errors: IndexError.
Variable sum(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// Mean over `axes` (all if none are named). An empty mean is NaN. Errors: IndexError.
Variable mean(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// Product over `axes` (all if none are named). An empty product is 1. Gradient: right with zeros too. Errors: IndexError.
Variable prod(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// Variance over `axes` (all if none are named): sum (x - mean)^2 / (n - 1), or / n unless `unbiased`. Sound for means far
/// larger than the spread; NaN where there are too few elements. Gradient: 2 g (x - mean) / (n - 1). Errors: IndexError.
Variable var(const Variable& x, const Dims& axes = {}, bool unbiased = true, bool keepdim = false);
/// Its square root, PyTorch's `std` (which is a namespace here). Gradient: 0 where it is 0.
Variable stddev(const Variable& x, const Dims& axes = {}, bool unbiased = true, bool keepdim = false);
/// Largest and smallest element over `axes` (all if none are named); NaN if one is NaN. Gradient: equal elements share it
/// evenly. Errors: IndexError; ShapeError if there are none to choose from.
Variable amax(const Variable& x, const Dims& axes = {}, bool keepdim = false);
Variable amin(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// Of all elements: amax(x), amin(x).
Variable max(const Variable& x);
Variable min(const Variable& x);
/// Elements, and their places (i64) along the axis that was searched.
struct IndexedResult {
  Variable values;
  Tensor indices;
};
/// Largest and smallest element along one axis, which is dropped unless `keepdim`; the first among equals, which gets the
/// gradient. Errors: IndexError; ShapeError if the axis is empty.
IndexedResult max_along(const Variable& x, int axis, bool keepdim = false);
IndexedResult min_along(const Variable& x, int axis, bool keepdim = false);
/// log(sum(exp(x))) over `axes` (all if none are named), stable for any finite x. Gradient: g exp(x - y).
Variable logsumexp(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// (sum |x|^p)^(1/p) over `axes` (all if none are named); p = infinity, -infinity: the largest, smallest |x|; 0: how many
/// are not 0. Gradient: 0 where the norm is 0. Errors: IndexError; ConfigError for other negative p.
Variable norm(const Variable& x, double p = 2, const Dims& axes = {}, bool keepdim = false);
/// x / max(norm(x, p, axis), eps).
Variable normalize(const Variable& x, double p = 2, int axis = 1, double eps = 1e-12);
/// torch.renorm: x[..., j, ...] along `axis` times max_norm / (n + 1e-7) where its norm n, over the other axes, is above
/// max_norm; else unchanged. Rows of a table that are too long: renorm(table, 2, 0, 1). Gradient: through the norm, too.
/// Errors: IndexError; ConfigError unless p > 0 and max_norm >= 0.
Variable renorm(const Variable& x, double p, int axis, double max_norm);
/// sum(a b) / (max(|a|, eps) max(|b|, eps)) along `axis`; a and b broadcast. Errors: ShapeError, DTypeError.
Variable cosine_similarity(const Variable& a, const Variable& b, int axis = 1, double eps = 1e-8);

/// Sums x down to a shape that broadcasts to x's. Errors: ShapeError.
Variable sum_to(const Variable& x, const Shape& shape);
/// Repeats axes of length 1, and leading ones, without a copy. Errors: ShapeError.
Variable broadcast_to(const Variable& x, const Shape& shape);
/// exp(x) / sum(exp(x)) along `axis`.
Variable softmax(const Variable& x, int axis);
/// log(softmax(x)) along `axis`, stable for any finite x.
Variable log_softmax(const Variable& x, int axis);

}  // namespace espalier
