// What can be cut out of a network without changing its outputs: units that are constant, and units that nobody reads.
// A Plan says what stays of which parameter and buffer and what is added to which bias; who applies it decides what else
// is cut with it.
#pragma once

#include <string>
#include <vector>

#include "espalier/optim/reshape.h"
#include "espalier/prune/detail/units.h"

namespace espalier::prune::detail {

/// A parameter, or a buffer.
struct Leaf {
  ParameterRef parameter;
  const Buffer* buffer = nullptr;
  const Tensor& value() const { return parameter ? parameter->value() : buffer->value(); }
};
struct Slice {
  Leaf leaf;
  optim::KeptAxes kept;
};
/// What constants of cut units add, before the cut.
struct Fold {
  Leaf leaf;
  Index begin;
  std::vector<double> addend;
};
/// Units that are dead but stay.
struct Stay {
  ParameterRef parameter;  ///< one that they have a part of; may be null
  Index units = 0;
  std::string why;
};
struct Plan {
  std::vector<Slice> slices;
  std::vector<Fold> folds;
  std::vector<Stay> stays;
  Index cut_constant = 0, cut_unread = 0, rounded = 0;  ///< units; rounded: dead ones that fill up round numbers
  /// For each node of the graph: what stays of its first output.
  std::vector<optim::KeptAxes> kept;
};

/// Of so many units that must stay, of a layer with so many: how many do. See CompactOptions::round_to.
using Rounding = std::function<Index(const Graph& graph, const Graph::Node& layer, Index stay, Index all)>;

/// Weights that are 0 count as absent. Values must be dense. Cost: O(weights + units of all values).
Plan plan_cuts(const Graph& graph, Trust trust, const Rounding& rounding);

/// Folds, then cuts values, masks and buffers. The graph's tensors are left as they were.
void apply(const Plan& plan);

}  // namespace espalier::prune::detail
