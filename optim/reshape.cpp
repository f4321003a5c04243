#include "espalier/optim/reshape.h"

#include "espalier/core/rearrange.h"

namespace espalier::optim {

Tensor taken(const Tensor& t, const KeptAxes& kept) {
  if (static_cast<int>(kept.size()) > t.rank())
    fail<ShapeError>("[cut] ", kept.size(), " lists of what stays for a tensor of shape ", t.shape());
  Tensor left = t;
  for (std::size_t axis = 0; axis < kept.size(); ++axis)
    if (kept[axis]) left = take_axis(left, *kept[axis], static_cast<int>(axis));
  return left.contiguous();
}

Mask taken(const Mask& mask, const Shape& shape, const KeptAxes& kept) {
  if (!mask.defined()) return {};
  const Tensor left = taken(mask.to_tensor(shape), kept);
  if (left.size() == 0) return {};
  Mask result(left);
  return result.live() == result.size() ? Mask() : result;
}

KeptAxes composed(const KeptAxes& first, const KeptAxes& second) {
  KeptAxes both = first.size() >= second.size() ? first : second;
  for (std::size_t axis = 0; axis < first.size() && axis < second.size(); ++axis) {
    if (!first[axis] || !second[axis]) {
      both[axis] = first[axis] ? first[axis] : second[axis];
      continue;
    }
    both[axis].emplace();
    for (Index i : *second[axis]) both[axis]->push_back((*first[axis])[static_cast<std::size_t>(i)]);
  }
  return both;
}

}  // namespace espalier::optim
