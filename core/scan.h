// Running sums, products and extremes along one axis, each in f64, rounded once an element. The same bytes at any thread
// count.
#pragma once

#include "espalier/core/reduce.h"

namespace espalier {

/// y[t] = x[0] + ... + x[t] along `axis`; with `reverse`, x[t] + ... + x[n-1]. f32, f64. Errors: IndexError.
Tensor cumsum(const Tensor& x, int axis, bool reverse = false);
/// y[t] = x[0] ... x[t], or with `reverse` x[t] ... x[n-1]; `exclusive` leaves x[t] itself out.
Tensor cumprod(const Tensor& x, int axis, bool reverse = false, bool exclusive = false);
/// Largest and smallest of x[0] ... x[t], and its place, the last among equals. From the first NaN on all are NaN.
MaxResult cummax(const Tensor& x, int axis);
MaxResult cummin(const Tensor& x, int axis);
/// y[t] = a[t] y[t-1] + b[t], y[-1] = 0; with `reverse`, y[t] = a[t] y[t+1] + b[t]. a and b of one shape.
/// Errors: ShapeError, DTypeError, IndexError.
Tensor linear_scan(const Tensor& a, const Tensor& b, int axis, bool reverse = false);

}  // namespace espalier
