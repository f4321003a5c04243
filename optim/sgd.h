// Stochastic gradient descent.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct SgdOptions {
  Scalar lr = 1e-3;
  Scalar momentum = 0.0;
  Scalar dampening = 0.0;
  Scalar weight_decay = 0.0;  ///< coupled: g <- g + weight_decay w
  bool nesterov = false;
  bool maximize = false;  ///< climb instead of descend
};

/// m <- momentum m + (1 - dampening) g (m = g at a parameter's first update); d = m, or g + momentum m with nesterov;
/// w <- w - lr d. State: m, "sgd/momentum/...", unless momentum is 0.
/// Errors: ConfigError for negative settings, or nesterov without momentum or with dampening.
/// Cost: with momentum 5 accesses to memory a weight, without 3. Polyak 1964; Sutskever et al. 2013, section 2.
Chain sgd(SgdOptions options = {});

}  // namespace espalier::optim
