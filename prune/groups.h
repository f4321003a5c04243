// Units of a network with all that belongs to each: what is pruned, and cut, together.
//
//   for (const prune::UnitGroup& group : prune::unit_groups(model, sample))   // "conv1.weight", "lstm.weight_ih_l0", ...
//     prune::mask_units(group, group.size() / 2);
//   prune::shrink(model, sample, optimizer);                                  // training goes on, half as wide
//
// Or, with any score, scope and schedule:
//
//   prune::Pruner(model.parameters(), {.granularity = prune::dependency_groups(model, sample)}).to_sparsity(0.5);
//
// Whole residual branches, half of those there are:
//
//   auto blocks = prune::branches(model.parameters(), {"block1.body.*", "block2.body.*"});
//   prune::Pruner(model.parameters(), {.granularity = prune::dependency_groups({blocks})}).to_sparsity(0.5);
#pragma once

#include <string>
#include <vector>

#include "espalier/prune/compact.h"
#include "espalier/prune/granularity.h"

namespace espalier::prune {

/// Index `index` of an axis of a parameter: a row, a column, an entry of a bias.
struct UnitPart {
  ParameterRef parameter;
  int axis;
  Index index;
};

/// Units that take each other's place: the channels of a layer, the units of a recurrent layer, heads. Of each its
/// parts in all parameters: rows, biases, gains and shifts, columns of all that read it, in all layers that share it.
struct UnitGroup {
  std::string name;        ///< of the weight whose rows they are
  ParameterRef parameter;  ///< that weight
  std::vector<std::vector<UnitPart>> units;
  Index size() const { return static_cast<Index>(units.size()); }
};

namespace detail {
std::vector<UnitGroup> unit_groups(const Subject& copy, const ParameterList& parameters, const Tensor& sample);
}  // namespace detail

/// All groups of units that may be cut, in the order of computation; see prune/detail/units.h for what may not. Read
/// off one pass over the sample; the model is left alone. Errors: what the model throws.
template <Compactable Model>
std::vector<UnitGroup> unit_groups(const Model& model, const Tensor& sample) {
  const Model copy = detail::copy_for_sample(model);
  return detail::unit_groups(detail::subject_of(copy), model.parameters(), sample);
}

/// Whole branches as the units that take each other's place: to each belongs all that lies in the parameters whose names
/// match its pattern. With weights, biases and gains 0, what a residual branch adds is 0, and compact() and shrink() cut
/// it down to nothing. A scalar (rank 0) stays. Errors: ConfigError for a pattern that matches no parameter, none of
/// rank 2 or more in the first, or one that another pattern has matched.
UnitGroup branches(const ParameterList& parameters, const std::vector<std::string>& patterns);

/// Pieces of a Pruner: units with all their parts, biases and gains too, in whatever parameter, selected or not. A
/// group takes part if the weight that names it is selected. The score of a unit is the mean over its parts in selected
/// parameters of the sum of the scores of a part; of a Score of units, over the parts on its axis. Where groups compete
/// with each other, each unit's score counts in relation to the mean of |score| over its group's (Fang et al. 2023).
/// Sparsity is the share of units. After a shrink() that was told of the Pruner the groups are those that are left.
/// Errors when pruning: ConfigError if no group takes part, no part of a unit can be scored, or a parameter has another
/// shape than it had.
Granularity dependency_groups(std::vector<UnitGroup> groups);
/// unit_groups() of the model, which must be the one that is pruned, not a copy.
template <Compactable Model>
Granularity dependency_groups(const Model& model, const Tensor& sample) {
  return dependency_groups(unit_groups(model, sample));
}

/// Of each unit the mean over its parts of the sum of |w| of a part. Li et al. 2017, over a whole dependency group as
/// Fang et al. 2023.
std::vector<double> importance(const UnitGroup& group);

/// Masks the n least important units in all their parts, in the mode that each mask has. Units that are dead already go
/// first, then ties by index. Returns the units, in ascending order. Errors: ConfigError unless 0 <= n <= units;
/// NonFiniteError for a NaN; then no mask was changed.
std::vector<Index> mask_units(const UnitGroup& group, Index n);

}  // namespace espalier::prune
