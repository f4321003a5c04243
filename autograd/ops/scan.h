// Differentiable running sums, products and extremes along one axis. Settings: the axis; of cumsum and linear_scan also
// whether it runs in reverse (0, 1).
#pragma once

#include "espalier/autograd/ops/reduce.h"

namespace espalier {

/// y[t] = x[0] + ... + x[t]. Gradient: the same from the other end. Errors: IndexError.
Variable cumsum(const Variable& x, int axis);
/// y[t] = x[0] ... x[t]. Gradient: right with zeros too, and where products leave the range on the way. Recorded itself
/// (create_graph), it may be NaN behind a zero that products overflow behind. Errors: IndexError.
Variable cumprod(const Variable& x, int axis);
/// Largest and smallest of x[0] ... x[t], and its place, the last among equals, which gets the gradient. From the first
/// NaN on all are NaN. Errors: IndexError.
IndexedResult cummax(const Variable& x, int axis);
IndexedResult cummin(const Variable& x, int axis);
/// The linear recurrence y[t] = a[t] y[t-1] + b[t], y[-1] = 0, along `axis`; with `reverse` from the other end. a and b of
/// one shape. Gradient: a linear scan again, db[t] = a[t+1] db[t+1] + g[t], da[t] = db[t] y[t-1]: differentiable any
/// number of times, and one pass over memory where a loop of ops needs several a step. Errors: ShapeError, IndexError.
Variable linear_scan(const Variable& a, const Variable& b, int axis, bool reverse = false);

}  // namespace espalier
