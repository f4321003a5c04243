// What a pruner has done.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier::prune {

/// One thing done to the masks, or the same several times in a row.
struct PruneEvent {
  std::int64_t step;  ///< of the optimizer, the last time; -1: outside of a step
  std::string what;   ///< "cubic 0.5", "to_sparsity 0.5", "prune_count 10", "undo", "freeze", "thaw", "strip"
  Index before;       ///< weights that were pruned before it, the first time
  Index after;        ///< and afterwards, the last time
  Index times = 1;
  friend bool operator==(const PruneEvent&, const PruneEvent&) = default;
};

using PruneHistory = std::vector<PruneEvent>;

namespace detail {
/// Appends, or adds to the last if it is the same thing again.
void add(PruneHistory& history, PruneEvent event);
/// As bytes, for checkpoints.
Tensor to_tensor(const PruneHistory& history);
/// Errors: ConfigError.
PruneHistory history_from(const Tensor& bytes);
}  // namespace detail

}  // namespace espalier::prune
