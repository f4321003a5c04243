#include "espalier/autograd/ops/reduce.h"

#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/core/reduce.h"

namespace espalier {

Variable sum(const Variable& x, const Dims& axes, bool keepdim) {
  Tensor y = sum(x.value(), axes, keepdim);
  if (!recording(x)) return y;
  const Shape kept = reduced_shape(x.shape(), reduced_axes("sum", axes, x.rank()), true);
  return record("sum", std::move(y), {&x},
                [shape = x.shape(), kept](const Variable& g, Wants) { return broadcast_to(reshape(g, kept), shape); });
}

Variable mean(const Variable& x, const Dims& axes, bool keepdim) {
  Index n = 1;
  for (Index axis : reduced_axes("mean", axes, x.rank())) n *= x.shape()[static_cast<int>(axis)];
  const double share = n > 0 ? 1 / static_cast<double>(n) : std::numeric_limits<double>::quiet_NaN();
  return affine(sum(x, axes, keepdim), share, 0);
}

Variable sum_to(const Variable& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Tensor y = sum_to(x.value(), shape);
  if (!recording(x)) return y;
  return record("sum_to", std::move(y), {&x},
                [shape = x.shape()](const Variable& g, Wants) { return broadcast_to(g, shape); });
}

Variable broadcast_to(const Variable& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  Tensor y = x.value().broadcast_to(shape);
  if (!recording(x)) return y;
  return record("broadcast_to", std::move(y), {&x},
                [shape = x.shape()](const Variable& g, Wants) { return sum_to(g, shape); });
}

Variable softmax(const Variable& x, int axis) {
  Tensor y = softmax(x.value(), axis);
  if (!recording(x)) return y;
  return record("softmax", y, {&x}, [y = Saved::output(y), axis](const Variable& g, Wants) -> Variable {
    const Variable& v = y.get();
    if (!recording(g, v)) return softmax_backward(g.value(), v.value(), axis);
    const Variable gy = mul(g, v);
    return sub(gy, mul(v, sum(gy, {axis}, true)));
  });
}

Variable log_softmax(const Variable& x, int axis) {
  Tensor y = log_softmax(x.value(), axis);
  if (!recording(x)) return y;
  return record("log_softmax", y, {&x}, [y = Saved::output(y), axis](const Variable& g, Wants) -> Variable {
    const Variable& v = y.get();
    if (!recording(g, v)) return log_softmax_backward(g.value(), v.value(), axis);
    return sub(g, mul(exp(v), sum(g, {axis}, true)));
  });
}

}  // namespace espalier
