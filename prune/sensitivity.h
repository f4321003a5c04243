// Sensitivity: what pruning one layer alone costs, layer by layer.
//
//   const auto scan = prune::sensitivity(model.parameters(), [&] { return accuracy(model, validation); });
//   std::cout << scan.table();
//   for (const auto& [name, sparsity] : scan.suggest(0.01)) ...     // what each bears without losing more than 0.01
#pragma once

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "espalier/prune/metric.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {

struct SensitivityOptions {
  std::vector<double> sparsities = {0.25, 0.5, 0.75, 0.9, 0.95, 0.99};
  Better better = Better::higher;
  Score score = magnitude();
  optim::Select select = optim::select_rank(2);
  /// Everything else about pruning one layer: granularity, loss and batches for the score. Its score, scope, selection,
  /// mode and schedule are not looked at.
  PrunerOptions pruner = {};
};

/// One layer at one sparsity.
struct SensitivityPoint {
  double asked = 0, reached = 0;  ///< sparsity; more was pruned already, or min_keep held some
  double metric = 0;
  double drop = 0;  ///< by how much the metric is worse than without this pruning; NaN if it is NaN
};
struct SensitivityRow {
  std::string name;
  Shape shape;
  std::vector<SensitivityPoint> points;  ///< in the order of the sparsities asked for
};

struct Sensitivity {
  double metric = 0;  ///< of the model as it is
  Better better = Better::higher;
  std::vector<SensitivityRow> rows;

  /// For each layer its name and the largest sparsity asked for whose drop is at most max_drop; 0 if there is none.
  std::vector<std::pair<std::string, double>> suggest(double max_drop) const;
  /// A line for each layer, a column for each sparsity, with the metric there.
  std::string table() const;
};

/// Prunes each selected parameter alone to each of the sparsities, asks the metric, and puts everything back: afterwards,
/// and whatever the score or the metric throws, values, masks and gradients are the same bytes as before. A parameter
/// listed twice, as a tied one, is scanned once. What is pruned already counts first, but under a soft mask the choice is
/// made anew. Han, Pool, Tran and Dally 2015, figure 6.
/// Errors: ConfigError if nothing is selected, no metric or no sparsity is given, or one is outside [0, 1];
/// NonFiniteError if the metric of the model as it is is NaN; what score and metric throw.
/// Cost: parameters * sparsities calls of the metric.
Sensitivity sensitivity(const ParameterList& parameters, const Metric& metric, SensitivityOptions options = {});

}  // namespace espalier::prune
