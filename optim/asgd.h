// Averaged stochastic gradient descent.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct AsgdOptions {
  Scalar lr = 1e-2;
  Scalar lambd = 1e-4;        ///< decay, w <- (1 - lambd eta) w, and how fast eta falls
  Scalar alpha = 0.75;        ///< the power with which it falls
  Scalar t0 = 1e6;            ///< updates of a parameter before the averaging begins
  Scalar weight_decay = 0.0;  ///< coupled: g <- g + weight_decay w
  bool maximize = false;      ///< climb instead of descend
};

/// eta = lr / (1 + lambd lr (t - 1))^alpha;  w <- (1 - lambd eta) w - eta g;  a <- a + mu (w - a) with
/// mu = 1 / max(1, t - 1 - t0), where t counts the updates of this parameter: w is the iterate, a the average, which is
/// w itself until t0. State: "asgd/ax/...", the average, of the values as this update makes them: transforms and
/// constraints behind it do not show in it. A weight that grows back is averaged from its 0 on.
/// Errors: ConfigError for negative settings. Cost: 5 accesses to memory a weight.
/// Polyak and Juditsky 1992, equation 7; rates: Bottou 2012, section 5.
Chain asgd(AsgdOptions options = {});

}  // namespace espalier::optim
