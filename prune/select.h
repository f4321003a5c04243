// Selection: given scores, which weights go. Exact counts, a total order, one pass over memory or little more.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "espalier/autograd/mask.h"
#include "espalier/core/tensor.h"

namespace espalier::prune {

/// s n, rounded half to even (as PyTorch rounds). Errors: ConfigError unless 0 <= s <= 1; the text names `op`.
Index count_of(const char* op, double fraction, Index n);

/// The weights of one tensor, or its pieces, which compete with those of the other candidates.
struct Candidate {
  std::string name;                  ///< for error texts
  Tensor scores;                     ///< f32 or f64, contiguous; higher means keep
  Mask pruned = Mask();              ///< if defined: what it prunes already ranks below everything and stays pruned
  std::string place = "flat index";  ///< what a score belongs to, for error texts
  Index live() const noexcept { return pruned.defined() ? pruned.live() : scores.size(); }
};

/// Masks that prune `prune` weights of all candidates together, those already pruned included: the lowest in the order
/// (already pruned, score, place of the candidate, flat index). In each candidate `min_keep` weights stay live (all
/// live ones, if it has fewer), for which others go; so `prune` is met exactly unless min_keep or the already pruned
/// forbid it. The mask of a candidate with nothing to prune is undefined. Errors: NonFiniteError for a NaN score,
/// naming candidate and index; ConfigError for a negative count. Cost: O(n), about two passes over the scores; the same
/// masks at any thread count.
std::vector<Mask> prune_lowest(std::span<const Candidate> candidates, Index prune, Index min_keep = 0);

}  // namespace espalier::prune
