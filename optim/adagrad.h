// Adagrad, RMSprop and Adadelta: gradients over the root of their squares, summed or averaged.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct AdagradOptions {
  Scalar lr = 1e-2;
  Scalar lr_decay = 0.0;
  Scalar weight_decay = 0.0;               ///< coupled: g <- g + weight_decay w
  Scalar initial_accumulator_value = 0.0;  ///< where s begins; a weight that grows back begins there again
  Scalar eps = 1e-10;
  bool maximize = false;  ///< climb instead of descend
};

/// s <- s + g^2;  w <- w - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps), where t counts the updates of this
/// parameter. State: "adagrad/sum/...". Errors: ConfigError for negative settings.
/// Cost: 5 accesses to memory a weight. Duchi, Hazan and Singer 2011, figure 1.
Chain adagrad(AdagradOptions options = {});

struct RmspropOptions {
  Scalar lr = 1e-2;
  Scalar alpha = 0.99;
  Scalar eps = 1e-8;
  Scalar weight_decay = 0.0;
  Scalar momentum = 0.0;
  bool centered = false;  ///< divide by the standard deviation: v - a^2 in place of v
  bool maximize = false;
};

/// v <- alpha v + (1 - alpha) g^2;  r = g / (sqrt(v) + eps);  w <- w - lr r, with momentum b <- momentum b + r and
/// w <- w - lr b. Centered: a <- alpha a + (1 - alpha) g, and v - a^2 (at least 0, where rounding makes it less) takes
/// the place of v in r. States: "rmsprop/v/..."; centered "rmsprop/mean/..."; "rmsprop/momentum/..." unless
/// momentum is 0. Errors: ConfigError for negative settings or an alpha outside [0, 1).
/// Cost: 5 accesses to memory a weight, and 2 for each further state. Tieleman and Hinton 2012, lecture 6.5; centered:
/// Graves 2013, equations 38-45.
Chain rmsprop(RmspropOptions options = {});

struct AdadeltaOptions {
  Scalar lr = 1.0;
  Scalar rho = 0.9;
  Scalar eps = 1e-6;
  Scalar weight_decay = 0.0;
  bool maximize = false;
};

/// v <- rho v + (1 - rho) g^2;  x = sqrt(a + eps) / sqrt(v + eps) g;  a <- rho a + (1 - rho) x^2;  w <- w - lr x.
/// States: "adadelta/v/...", "adadelta/a/...". Errors: ConfigError for negative settings or a rho outside [0, 1).
/// Cost: 7 accesses to memory a weight. Zeiler 2012, algorithm 1.
Chain adadelta(AdadeltaOptions options = {});

}  // namespace espalier::optim
