// Constraints: transforms of the values, after the update. They stand behind the optimizer in the chain.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

/// w <- w within [lo, hi]; NaN stays, pruned weights stay 0. Either bound may be infinite or a schedule.
/// Errors: ConfigError for lo > hi or NaN. Cost: within the last sweep. Arjovsky, Chintala and Bottou 2017,
/// algorithm 1.
Chain clamp_parameters(Scalar lo, Scalar hi);

}  // namespace espalier::optim
