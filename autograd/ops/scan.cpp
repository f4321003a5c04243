#include "espalier/autograd/ops/scan.h"

#include <cmath>

#include "espalier/autograd/detail/along.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/compare.h"
#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/scan.h"

namespace espalier {
namespace {

Variable running_sum(const Variable& x, int axis, bool reverse) {
  Tensor y = cumsum(x.value(), axis, reverse);
  if (!recording(x)) return y;
  return record(
      "cumsum", std::move(y), {&x}, [=](const Variable& g, Wants) { return running_sum(g, axis, !reverse); },
      settings(axis < 0 ? axis + x.rank() : axis, reverse ? 1 : 0));
}

/// y[t] = x[t-1], or x[t+1] with `reverse`; what comes in at the end is `filler`.
Variable delayed(const Variable& x, int axis, bool reverse, double filler) {
  const Index n = x.shape()[axis];
  if (n == 0) return x;
  Shape edge = x.shape();
  edge[axis] = 1;
  const Variable in(Tensor::full(edge, filler, x.dtype()));
  return reverse ? cat({narrow(x, axis, 1, n - 1), in}, axis) : cat({in, narrow(x, axis, 0, n - 1)}, axis);
}

/// How many zeros of x stand at t or before.
Tensor zeros_up_to(const Tensor& x, int axis) { return cumsum(eq(x, 0).to(DType::f64), axis); }

/// d cumprod, in f64, as products may leave the range of f32 and come back. Before the first zero of a line dx[t] =
/// (g[t] y[t] + g[t+1] y[t+1] ...) / x[t], where the terms from the zero on are 0. At it, the same with products of the
/// others, where the terms from the second zero on are 0. Behind it, 0.
Tensor cumprod_gradient_value(const Tensor& gradient, const Tensor& input, int axis) {
  const Tensor g = gradient.to(DType::f64), x = input.to(DType::f64);
  const auto sums = [&](const Tensor& y) {
    // A product that has left the range may be one that nobody asked for.
    const auto term = [](auto w, auto v) { return w == 0 && std::isinf(v) ? 0 : w * v; };
    return cumsum(zip_with("cumprod", g, y, term), axis, true);
  };
  const Tensor is_zero = eq(x, 0);
  if (any(is_zero).item() == 0)
    return zip("cumprod", kernels::binary().div, sums(cumprod(x, axis)), x).to(input.dtype());
  const Tensor zeros = zeros_up_to(x, axis), first = logical_and(is_zero, eq(zeros, 1));
  const Tensor nothing = Tensor::scalar(0, DType::f64), others = where(first, Tensor::scalar(1, DType::f64), x);
  const Tensor before = where(eq(zeros, 0), cumprod(x, axis), nothing);
  const Tensor from = where(eq(zeros, 1), cumprod(others, axis), nothing);
  const Tensor at_first = where(first, sums(from), nothing);
  return where(eq(zeros, 0), zip("cumprod", kernels::binary().div, sums(before), others), at_first).to(input.dtype());
}

/// The same in differentiable ops; `y` is cumprod(x). From the first zero on another formula, which has second
/// derivatives there: dx[t] = (product before t) (g[t] + x[t+1] (g[t+1] + x[t+2] ...)).
Variable cumprod_gradient(const Variable& g, const Variable& x, const Variable& y, int axis) {
  if (!recording(g, x, y)) return cumprod_gradient_value(g.value(), x.value(), axis);
  const Tensor unused = logical_and(eq(g.value(), 0), isinf(y.value()));
  const Tensor is_zero = eq(x.value(), 0);
  const Variable sums = running_sum(mul(g, masked_fill(y, unused, 0)), axis, true);
  if (any(is_zero).item() == 0) return div(sums, x);
  const Variable by_scan = mul(delayed(y, axis, false, 1), linear_scan(delayed(x, axis, true, 0), g, axis, true));
  return where(eq(zeros_up_to(x.value(), axis), 0), div(sums, masked_fill(x, is_zero, 1)), by_scan);
}

}  // namespace

Variable cumsum(const Variable& x, int axis) { return running_sum(x, axis, false); }

Variable cumprod(const Variable& x, int axis) {
  Tensor y = cumprod(x.value(), axis);
  if (!recording(x)) return y;
  if (x.rank() == 0) return reshape(cumprod(reshape(x, {1}), 0), {});
  const int at = checked_axis("cumprod", axis, x.rank());
  return record(
      "cumprod", y, {&x},
      [x = Saved(x), y = Saved::output(y), at](const Variable& g, Wants) {
        return cumprod_gradient(g, x.get(), y.get(), at);
      },
      settings(at));
}

IndexedResult cummax(const Variable& x, int axis) {
  MaxResult y = cummax(x.value(), axis);
  return {detail::picked("cummax", x, std::move(y.values), y.indices, axis), y.indices};
}
IndexedResult cummin(const Variable& x, int axis) {
  MaxResult y = cummin(x.value(), axis);
  return {detail::picked("cummin", x, std::move(y.values), y.indices, axis), y.indices};
}

Variable linear_scan(const Variable& a, const Variable& b, int axis, bool reverse) {
  Tensor y = linear_scan(a.value(), b.value(), axis, reverse);
  if (!recording(a, b)) return y;
  if (y.rank() == 0) return reshape(linear_scan(reshape(a, {1}), reshape(b, {1}), 0, reverse), {});
  const int at = checked_axis("linear_scan", axis, y.rank());
  return record(
      "linear_scan", y, {&a, &b},
      [a = Saved(a), y = Saved::output(y), at, reverse](const Variable& g, Wants wants) {
        const Variable db = linear_scan(delayed(a.get(), at, !reverse, 0), g, at, !reverse);
        return gradients(wants[0] ? mul(db, delayed(y.get(), at, reverse, 0)) : no_gradient(),
                         wants[1] ? db : no_gradient());
      },
      settings(at, reverse ? 1 : 0));
}

}  // namespace espalier
