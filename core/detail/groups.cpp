#include "espalier/core/detail/groups.h"

namespace espalier::detail {

Groups gather_groups(const Tensor& x, const Dims& axes) {
  const Shape& shape = x.shape();
  Index outer = 1, reduced = 1, inner = 1;
  bool neighbours = true;
  unsigned named = 0;
  for (Index axis : axes) named |= 1u << axis;
  // Axes of length 1 are neither here nor there.
  int state = 0;  // before, within, behind the reduced ones
  for (int axis = 0; axis < x.rank(); ++axis) {
    const bool is_reduced = named >> axis & 1;
    if (is_reduced) reduced *= shape[axis];
    if (shape[axis] == 1) continue;
    if (is_reduced) {
      neighbours = neighbours && state < 2;
      state = 1;
    } else {
      state = state == 1 ? 2 : state;
      (state == 0 ? outer : inner) *= shape[axis];
    }
  }
  if (neighbours) return {x.contiguous(), outer, reduced, inner, {}};
  Dims order;
  for (int axis = 0; axis < x.rank(); ++axis)
    if (!(named >> axis & 1)) order.push_back(axis);
  for (Index axis : axes) order.push_back(axis);
  return {x.permute(order).contiguous(), outer * inner, reduced, 1, order};
}

Groups foldable_groups(const Tensor& x, const Dims& axes) {
  const Shape& shape = x.shape();
  unsigned named = 0;
  for (Index axis : axes) named |= 1u << axis;
  int front = 0, back = x.rank();
  Index repeats = 1, outer = 1, n = 1;
  while (front < back && named >> front & 1) repeats *= shape[front++];
  while (back > front && named >> (back - 1) & 1) n *= shape[--back];
  bool between = x.is_contiguous() && repeats > 1 && n > short_row;
  for (int axis = front; axis < back; ++axis) {
    between = between && !(named >> axis & 1);
    outer *= shape[axis];
  }
  if (!between || outer == 1) return gather_groups(x, axes);
  return {x, outer, n, 1, {}, repeats};
}

Groups groups_along(const Tensor& x, int axis) {
  Index outer = 1, inner = 1;
  for (int a = 0; a < x.rank(); ++a)
    if (a != axis) (a < axis ? outer : inner) *= x.shape()[a];
  return {x.contiguous(), outer, x.rank() == 0 ? 1 : x.shape()[axis], inner, {}};
}

Tensor scatter_groups(const Groups& g, const Tensor& y) {
  if (g.order.rank() == 0) return y;
  Dims back = g.order;
  for (int axis = 0; axis < g.order.rank(); ++axis) back[static_cast<int>(g.order[axis])] = axis;
  return y.permute(back).contiguous();
}

}  // namespace espalier::detail
