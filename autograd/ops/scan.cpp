#include "espalier/autograd/ops/scan.h"

#include "espalier/autograd/detail/along.h"
#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/join.h"
#include "espalier/autograd/ops/shape.h"
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

/// d cumprod: dx[t] = (product before t) (g[t] + x[t+1] (g[t+1] + x[t+2] ...)). `y` is cumprod(x).
Variable cumprod_gradient(const Variable& g, const Variable& x, const Variable& y, int axis) {
  return mul(delayed(y, axis, false, 1), linear_scan(delayed(x, axis, true, 0), g, axis, true));
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
