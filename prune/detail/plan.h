// What can be cut out of a network without changing its outputs: units that are constant, and units that nobody reads.
//
// A *space* is a set of units: the rows of one linear layer, carried along by elementwise functions and by reshapes
// that keep the last axis, and read as columns by other linear layers. Any other reader pins it: then all of its units
// stay. A Plan says which rows and columns of which parameter stay and what is added to which bias; who applies it
// decides what else is sliced with it.
#pragma once

#include <vector>

#include "espalier/prune/detail/trace.h"

namespace espalier::prune::detail {

/// Rows (first axis) and columns (second axis) that stay.
struct Slice {
  ParameterRef parameter;
  std::vector<Index> rows, columns;  ///< columns: empty and unused for a vector
};
/// What constants of cut units add to a bias, before it is sliced.
struct Fold {
  ParameterRef bias;
  std::vector<double> addend;
};
struct Plan {
  std::vector<Slice> slices;
  std::vector<Fold> folds;
  Index cut_constant = 0, cut_unread = 0;  ///< units
  /// For each node of the graph: units of its output's last axis that stay, in order; empty: all of them.
  std::vector<std::vector<Index>> kept;
};

/// Weights that are 0 count as absent. Values must be dense. Cost: O(weights).
Plan plan_cuts(const Graph& graph);

/// Folds, then slices values and masks. The graph's tensors are left as they were.
void apply(const Plan& plan);

}  // namespace espalier::prune::detail
