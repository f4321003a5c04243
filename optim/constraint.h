// Constraints: transforms of the values, after the update. They stand behind the optimizer in the chain.
#pragma once

#include <utility>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

/// w <- w within [lo, hi]; NaN stays, pruned weights stay 0. Either bound may be infinite or a schedule.
/// Errors: ConfigError for lo > hi or NaN. Cost: within the last sweep. Arjovsky, Chintala and Bottou 2017,
/// algorithm 1.
Chain clamp_parameters(Scalar lo, Scalar hi);

struct MaxNormOptions {
  Scalar max_norm;
  /// Above 0: every unit is multiplied by min(norm, max_norm) / (norm + eps), as Keras does with 1e-7, also within the
  /// bound.
  double eps = 0;
};
/// The weights of each output unit (all axes but the first; a vector is one unit) are multiplied by max_norm / norm where
/// their 2-norm lies above max_norm, else they keep their bits. NaN stays, pruned weights stay 0.
/// Errors: ConfigError for a bound or an eps that is negative or NaN. Cost: one sweep more, to measure.
/// Srebro and Shraibman 2005; Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, section 5.1.
Chain max_norm(MaxNormOptions options);
inline Chain max_norm(Scalar bound) { return max_norm(MaxNormOptions{.max_norm = std::move(bound)}); }

}  // namespace espalier::optim
