// The weights of one part of a unit.
#pragma once

#include "espalier/prune/groups.h"

namespace espalier::prune::detail {

/// f(flat index) for each weight of a part.
template <class F>
void for_each_weight(const UnitPart& part, F f) {
  const Shape& shape = part.parameter->value().shape();
  Index inner = 1;
  for (int axis = part.axis + 1; axis < shape.rank(); ++axis) inner *= shape[axis];
  const Index length = shape[part.axis];
  for (Index begin = part.index * inner; begin < count(shape); begin += length * inner)
    for (Index i = begin; i < begin + inner; ++i) f(i);
}

}  // namespace espalier::prune::detail
