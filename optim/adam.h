// Adam and AdamW.
#pragma once

#include <array>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct AdamOptions {
  Scalar lr = 1e-3;
  std::array<Scalar, 2> betas = {0.9, 0.999};
  Scalar eps = 1e-8;
  Scalar weight_decay = 0.0;  ///< coupled: g <- g + weight_decay w
  bool amsgrad = false;       ///< divide by the largest v so far. Reddi, Kale and Kumar 2018, algorithm 2
  bool maximize = false;      ///< climb instead of descend
};

/// m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - lr m' / (sqrt(v') + eps), where m' = m / (1 - b1^t),
/// v' = v / (1 - b2^t) and t counts the updates of this parameter. States: "adam/m/...", "adam/v/..." (and
/// "adam/vmax/..."). Errors: ConfigError for negative settings or betas outside [0, 1). Cost: 7 accesses to memory a
/// weight, with amsgrad 9. Kingma and Ba 2015, algorithm 1.
Chain adam(AdamOptions options = {});

struct AdamWOptions {
  Scalar lr = 1e-3;
  std::array<Scalar, 2> betas = {0.9, 0.999};
  Scalar eps = 1e-8;
  Scalar weight_decay = 0.01;  ///< decoupled: w <- (1 - lr weight_decay) w, outside of the moments
  bool amsgrad = false;
  bool maximize = false;
};

/// The same with decoupled decay; its name in chain and state is "adamw". Loshchilov and Hutter 2019, algorithm 2.
Chain adamw(AdamWOptions options = {});

}  // namespace espalier::optim
