// Adamax, NAdam and RAdam: Adam with another norm, with Nesterov's momentum, with a rectified start.
#pragma once

#include <array>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct AdamaxOptions {
  Scalar lr = 2e-3;
  std::array<Scalar, 2> betas = {0.9, 0.999};
  Scalar eps = 1e-8;
  Scalar weight_decay = 0.0;  ///< coupled: g <- g + weight_decay w
  bool maximize = false;      ///< climb instead of descend
};

/// m <- b1 m + (1 - b1) g;  u <- max(b2 u, |g| + eps);  w <- w - lr / (1 - b1^t) m / u, where t counts the updates of
/// this parameter. States: "adamax/m/...", "adamax/u/...". Errors: ConfigError for negative settings or betas outside
/// [0, 1). Cost: 7 accesses to memory a weight. Kingma and Ba 2015, algorithm 2; eps where PyTorch has it.
Chain adamax(AdamaxOptions options = {});

struct NadamOptions {
  Scalar lr = 2e-3;
  std::array<Scalar, 2> betas = {0.9, 0.999};
  Scalar eps = 1e-8;
  Scalar weight_decay = 0.0;
  Scalar momentum_decay = 4e-3;         ///< psi: how fast mu goes from b1 / 2 to b1
  bool decoupled_weight_decay = false;  ///< w <- (1 - lr weight_decay) w instead of g <- g + weight_decay w
  bool maximize = false;
};

/// m and v as Adam's;  mu_t = b1 (1 - 0.96^(t psi) / 2);  P_t = mu_1 ... mu_t;
/// w <- w - lr ((1 - mu_t) / (1 - P_t) g + mu_{t+1} / (1 - P_t mu_t mu_{t+1}) m) / (sqrt(v / (1 - b2^t)) + eps).
/// States: "nadam/m/...", "nadam/v/..."; the product is computed from t and the betas of the day. Errors and cost: as
/// adamax. Dozat 2016, algorithm 2, with momenta by Sutskever et al. 2013, as in PyTorch 1.13, whose second correction
/// holds mu_t once more than the paper's 1 - P_{t+1}: bolder in the first ten updates, then the same.
Chain nadam(NadamOptions options = {});

struct RadamOptions {
  Scalar lr = 1e-3;
  std::array<Scalar, 2> betas = {0.9, 0.999};
  Scalar eps = 1e-8;
  Scalar weight_decay = 0.0;
  bool decoupled_weight_decay = false;
  bool maximize = false;
};

/// m and v as Adam's, m' = m / (1 - b1^t);  rho = rho_inf - 2 t b2^t / (1 - b2^t), rho_inf = 2 / (1 - b2) - 1;
/// while rho <= 5: w <- w - lr m';  then w <- w - lr r m' sqrt(1 - b2^t) / (sqrt(v) + eps) with
/// r^2 = (rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho): as if the learning rate warmed up.
/// States: "radam/m/...", "radam/v/...". Errors and cost: as adamax. Liu et al. 2020, algorithm 2; eps where PyTorch
/// has it.
Chain radam(RadamOptions options = {});

}  // namespace espalier::optim
