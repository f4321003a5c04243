// What stays of parameters that are cut to fewer units, and what it makes of tensors that belong to them.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "espalier/autograd/parameter.h"

namespace espalier::optim {

/// For each axis the indices that stay, in ascending order; nothing: all of them.
using KeptAxes = std::vector<std::optional<std::vector<Index>>>;

/// A parameter and what stays of it.
struct ParameterCut {
  ParameterRef parameter;
  KeptAxes kept;
};

/// The elements that stay. Errors: ShapeError if there are more lists than axes; IndexError.
Tensor taken(const Tensor& t, const KeptAxes& kept);
/// The same of a mask of a weight of this shape; undefined if everything that stays is live.
Mask taken(const Mask& mask, const Shape& shape, const KeptAxes& kept);
/// What stays after two cuts, the second of which counts in what the first has left.
KeptAxes composed(const KeptAxes& first, const KeptAxes& second);

/// What follows when parameters are cut: an Optimizer, a Pruner, and whatever else holds tensors of their shapes. It
/// prepares everything that can fail and returns what carries it out, to be called once the parameters are cut.
using Commit = std::function<void()>;
template <class H>
concept FollowsCuts = requires(H& holder, std::span<const ParameterCut> cuts) {
  { holder.prepare_cut(cuts) } -> std::convertible_to<Commit>;
};

}  // namespace espalier::optim
