// Selection without a Pruner: by a threshold, and within the rows of a matrix.
#pragma once

#include "espalier/optim/select.h"
#include "espalier/prune/score.h"
#include "espalier/prune/select.h"

namespace espalier::prune {

/// Live where the score is at least `threshold`, and where it was live before; undefined if that is everywhere. Of the
/// others the highest stay until `min_keep` are live. Errors: NonFiniteError for a NaN score, naming candidate and
/// index; ConfigError if the threshold is NaN.
Mask keep_at_least(const Candidate& candidate, double threshold, Index min_keep = 0);

/// Prunes the same number in each row (index of the first axis): the round(sparsity n) lowest of its n weights, halves to
/// even, those pruned before among them. Errors: NonFiniteError; ConfigError for a sparsity outside [0, 1].
Mask lowest_of_rows(const Candidate& candidate, double sparsity);

struct SelectionOptions {
  optim::Select select = optim::select_rank(2);  ///< weights of layers, no biases or gains
  MaskMode mode = MaskMode::hard;
  Index min_keep = 1;  ///< live weights that prune_below() leaves in every tensor
};
/// Sets the masks of keep_at_least for each of the parameters, scored with what was gathered; a parameter without
/// gathered gradient gives its own. In hard mode what is pruned stays so, in soft mode the choice is made anew.
/// All masks are made before the first is set. Errors: as keep_at_least and Score; ConfigError for a score of units.
///
///   prune_below(model.parameters(), deviations(), 1.0);                 // Han et al. 2015: keep |w| >= std(layer)
///   prune_below(layers, movement.score(), 0.0, {}, {.mode = MaskMode::soft});  // soft movement
void prune_below(const ParameterList& parameters, const Score& score, double threshold, const Gathered& gathered = {},
                 SelectionOptions options = {});
/// The same with lowest_of_rows.
///
///   prune_rows(layers, wanda(), 0.5, gather(layers, loss, batches, wanda().needs()));
void prune_rows(const ParameterList& parameters, const Score& score, double sparsity, const Gathered& gathered = {},
                SelectionOptions options = {});

}  // namespace espalier::prune
