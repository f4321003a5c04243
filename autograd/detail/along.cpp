#include "espalier/autograd/detail/along.h"

#include "espalier/autograd/ops/index.h"

namespace espalier::detail {

Variable picked(const char* op, const Variable& x, Tensor values, const Tensor& indices, int axis) {
  if (!recording(x)) return values;
  return record(op, std::move(values), {&x}, [axis, indices, shape = x.shape()](const Variable& g, Wants) {
    if (shape.rank() == 0) return g;
    return scatter_add(Variable(Tensor::zeros(shape, g.dtype())), axis, indices, g);
  });
}

}  // namespace espalier::detail
