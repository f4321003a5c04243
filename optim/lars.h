// Layer-wise rates: LARS and LAMB.
#pragma once

#include <array>
#include <limits>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct LarsOptions {
  Scalar lr = 1.0;
  Scalar momentum = 0.9;
  Scalar weight_decay = 0.0;  ///< coupled: g <- g + weight_decay w
  Scalar trust = 1e-3;        ///< share of a weight's norm that one step may change at lr 1
  bool nesterov = false;
};

/// g <- trust ||w|| / (||g|| + weight_decay ||w||) (g + weight_decay w), for each tensor, then SGD with momentum; the
/// factor is 1 where either norm is 0. Biases and gains are usually left out: chain(on(select_rank(2), lars()),
/// on(select_rank(0, 1), sgd(...))). Stages "lars_rate" and "lars"; state "lars/momentum/...". Errors: ConfigError for
/// negative settings. Cost: two sweeps. You, Gitman and Ginsburg 2017, algorithm 1.
Chain lars(LarsOptions options = {});

struct LambOptions {
  Scalar lr = 1e-3;
  std::array<Scalar, 2> betas = {0.9, 0.999};
  Scalar eps = 1e-6;
  Scalar weight_decay = 0.01;
  /// The weight's norm counts as at most so much (the authors' code: 10).
  Scalar max_weight_norm = std::numeric_limits<double>::infinity();
};

/// r = m' / (sqrt(v') + eps) as in Adam;  u = r + weight_decay w;  w <- w - lr min(||w||, max_weight_norm) / ||u|| u, for
/// each tensor; the quotient is 1 where either norm is 0. Stages "lamb" (states m, v), "lamb_decay", "lamb_rate". Errors:
/// ConfigError for negative settings. Cost: three sweeps. You et al. 2020, algorithm 2.
Chain lamb(LambOptions options = {});

}  // namespace espalier::optim
