// Units of a network with all that belongs to each: what is pruned, and cut, together.
//
//   for (const prune::UnitGroup& group : prune::unit_groups(model, sample))   // "conv1.weight", "lstm.weight_ih_l0", ...
//     prune::mask_units(group, group.size() / 2);
//   prune::shrink(model, sample, optimizer);                                  // training goes on, half as wide
#pragma once

#include <string>
#include <vector>

#include "espalier/prune/compact.h"

namespace espalier::prune {

/// Index `index` of an axis of a parameter: a row, a column, an entry of a bias.
struct UnitPart {
  ParameterRef parameter;
  int axis;
  Index index;
};

/// Units that take each other's place: the channels of a layer, the units of a recurrent layer, heads. Of each its parts
/// in all parameters: rows, biases, gains and shifts, columns of all that read it, in all layers that share it.
struct UnitGroup {
  std::string name;  ///< of the weight whose rows they are
  std::vector<std::vector<UnitPart>> units;
  Index size() const { return static_cast<Index>(units.size()); }
};

namespace detail {
std::vector<UnitGroup> unit_groups(const Subject& copy, const ParameterList& parameters, const Tensor& sample);
}  // namespace detail

/// All groups of units that may be cut, in the order of computation; see prune/detail/units.h for what may not. Read off
/// one pass over the sample; the model is left alone. Errors: what the model throws.
template <Compactable Model>
std::vector<UnitGroup> unit_groups(const Model& model, const Tensor& sample) {
  const Model copy = detail::copy_for_sample(model);
  return detail::unit_groups(detail::subject_of(copy), model.parameters(), sample);
}

/// Of each unit the mean over its parts of the sum of |w| of a part. Li et al. 2017, over a whole dependency group as
/// Fang et al. 2023.
std::vector<double> importance(const UnitGroup& group);

/// Masks the n least important units in all their parts, in the mode that each mask has. Units that are dead already go
/// first, then ties by index. Returns the units, in ascending order. Errors: ConfigError unless 0 <= n <= units;
/// NonFiniteError for a NaN; then no mask was changed.
std::vector<Index> mask_units(const UnitGroup& group, Index n);

}  // namespace espalier::prune
