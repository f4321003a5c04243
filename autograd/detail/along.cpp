#include "espalier/autograd/detail/along.h"

#include "espalier/autograd/ops/index.h"

namespace espalier::detail {

Variable picked(const char* op, const Variable& x, Tensor values, const Tensor& indices, int axis) {
  if (!recording(x)) return values;
  if (x.rank() == 0) return record(op, std::move(values), {&x}, [](const Variable& g, Wants) { return g; });
  return record(op, std::move(values), {&x},
                [axis, indices = Saved(indices), shape = x.shape()](const Variable& g, Wants, Tensor so_far) {
                  return scattered(g, shape, axis, indices.value(), std::move(so_far));
                });
}

Variable scattered(const Variable& g, const Shape& shape, int axis, const Tensor& index, Tensor so_far) {
  if (!so_far.defined()) {
    so_far = Tensor::zeros(shape, g.dtype());
    if (recording(g)) return scatter_add(so_far, axis, index, g);
  }
  scatter_add_in_place(so_far, axis, index, g.value());
  return so_far;
}

}  // namespace espalier::detail
