#include "espalier/autograd/detail/along.h"

namespace espalier::detail {
namespace {

Variable put_back(const char* op, const Variable& g, const Tensor& indices, const Shape& shape, int axis) {
  Tensor y = put_along(g.value(), indices, shape, axis);
  if (!recording(g)) return y;
  return record(op, std::move(y), {&g}, [=](const Variable& gg, Wants) {
    return picked(op, gg, take_along(gg.value(), indices, axis), indices, axis);
  });
}

}  // namespace

Variable picked(const char* op, const Variable& x, Tensor values, const Tensor& indices, int axis) {
  if (!recording(x)) return values;
  return record(op, std::move(values), {&x},
                [=, shape = x.shape()](const Variable& g, Wants) { return put_back(op, g, indices, shape, axis); });
}

}  // namespace espalier::detail
