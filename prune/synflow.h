// SynFlow: which weights the paths from inputs to outputs run through. No data, no loss; before training.
//
//   prune::prune_by_synflow(model, {1, 784}, {.sparsity = 0.99});
#pragma once

#include <functional>
#include <limits>

#include "espalier/prune/compact.h"
#include "espalier/prune/pruner.h"

namespace espalier::prune {

/// |w| dR/d|w| with R the sum of the outputs for an input of ones, all weights replaced by their absolute values: the sum
/// of all paths through w. Within a layer of a network without biases the scores add up to R, so no layer starves.
/// Needs gather_flow(). Tanaka, Kunin, Yamins and Ganguli 2020, eq. 1.
Score synflow();

namespace detail {
Gathered flow(const ParameterList& originals, const ParameterList& copies, const Run& run, const Shape& input);
}  // namespace detail

/// One pass over a copy of the model in f64, in eval(), whose input is of this shape, the batch among it; the model itself
/// is left alone. Biases are part of the paths, buffers stay as they are. Errors: NonFiniteError if R is infinite or NaN;
/// what the model throws.
template <Compactable Model>
Gathered gather_flow(const Model& model, const Shape& input) {
  Model copy = model;
  if constexpr (requires { copy.eval(); }) copy.eval();
  if constexpr (requires { copy.to(DType::f64); }) copy.to(DType::f64);
  return detail::flow(model.parameters(), copy.parameters(), detail::runner(copy), input);
}

/// Prunes in `rounds` rounds, gathering anew before each: after round t the share (1 - sparsity)^(t / rounds) of all
/// weights is left. Errors: ConfigError for a sparsity outside [0, 1] or rounds < 1; what gather and to_sparsity throw.
///
///   prune_in_rounds(pruner, 0.9, 5, [&](Index) { return gather(list, loss, 1, snip().needs()); });    // iterative SNIP
void prune_in_rounds(Pruner& pruner, double sparsity, Index rounds, const std::function<Gathered(Index round)>& gather);

struct SynflowOptions {
  double sparsity = std::numeric_limits<double>::quiet_NaN();  ///< must be given
  Index rounds = 100;
  optim::Select select = optim::select_rank(2);
  Index min_keep = 1;
};
/// The whole method: 100 rounds, all weights competing. Tanaka et al. 2020, algorithm 1. Cost: a forward and a backward
/// pass over one input a round.
template <Compactable Model>
void prune_by_synflow(const Model& model, const Shape& input, SynflowOptions options) {
  Pruner pruner(model.parameters(), {.score = synflow(), .select = options.select, .min_keep = options.min_keep});
  prune_in_rounds(pruner, options.sparsity, options.rounds, [&](Index) { return gather_flow(model, input); });
}

}  // namespace espalier::prune
