#include "espalier/autograd/ops/shape.h"

namespace espalier {

Variable reshape(const Variable& x, const Shape& shape) {
  Tensor y = x.value().reshape(shape);
  if (!recording(x)) return y;
  return record("reshape", std::move(y), {&x},
                [shape = x.shape()](const Variable& g, Wants) { return reshape(g, shape); });
}

Variable flatten(const Variable& x, int first_axis, int last_axis) {
  return reshape(x, x.value().flatten(first_axis, last_axis).shape());
}

Variable transpose(const Variable& x, int axis_a, int axis_b) {
  Tensor y = x.value().transpose(axis_a, axis_b);
  if (!recording(x)) return y;
  return record("transpose", std::move(y), {&x},
                [axis_a, axis_b](const Variable& g, Wants) { return transpose(g, axis_a, axis_b); });
}

Variable permute(const Variable& x, const Dims& axes) {
  Tensor y = x.value().permute(axes);
  if (!recording(x)) return y;
  Dims inverse = axes;
  for (int i = 0; i < axes.rank(); ++i) inverse[static_cast<int>(axes[i] < 0 ? axes[i] + x.rank() : axes[i])] = i;
  return record("permute", std::move(y), {&x}, [inverse](const Variable& g, Wants) { return permute(g, inverse); });
}

}  // namespace espalier
