// Lion, found by symbolic search.
#pragma once

#include <array>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct LionOptions {
  Scalar lr = 1e-4;
  std::array<Scalar, 2> betas = {0.9, 0.99};
  Scalar weight_decay = 0.0;
  bool decoupled_weight_decay = true;  ///< w <- (1 - lr weight_decay) w instead of g <- g + weight_decay w
  bool maximize = false;               ///< climb instead of descend
};

/// w <- w - lr sign(b1 m + (1 - b1) g), sign(0) = 0;  m <- b2 m + (1 - b2) g. State: "lion/m/...". A learning rate 3 to
/// 10 times smaller than AdamW's, and a decay as much larger, is where to begin. Errors: ConfigError for negative
/// settings or betas outside [0, 1). Cost: 5 accesses to memory a weight. Chen et al. 2023, algorithm 2.
Chain lion(LionOptions options = {});

}  // namespace espalier::optim
