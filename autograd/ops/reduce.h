// Differentiable sums, means and their adjoint, the broadcast. f32, f64.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// Sum over `axes` (all if none are named). An empty sum is 0. Errors: IndexError.
Variable sum(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// Mean over `axes` (all if none are named). An empty mean is NaN. Errors: IndexError.
Variable mean(const Variable& x, const Dims& axes = {}, bool keepdim = false);
/// Sums x down to a shape that broadcasts to x's. Errors: ShapeError.
Variable sum_to(const Variable& x, const Shape& shape);
/// Repeats axes of length 1, and leading ones, without a copy. Errors: ShapeError.
Variable broadcast_to(const Variable& x, const Shape& shape);
/// exp(x) / sum(exp(x)) along `axis`.
Variable softmax(const Variable& x, int axis);
/// log(softmax(x)) along `axis`, stable for any finite x.
Variable log_softmax(const Variable& x, int axis);

}  // namespace espalier
