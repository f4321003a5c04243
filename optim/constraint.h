// Constraints: transforms of the values, after the update. They stand behind the optimizer in the chain.
//
//   chain(adam({.lr = 1e-3}), on("*.weight", max_norm(3.0)))
//
// All work on live weights only: pruned ones stay 0 and are no part of a norm. With a soft mask they work on the dense
// values. Numbers may be schedules. Where a norm is that of all weights of a unit, a unit that holds a NaN or an infinity
// is left as it is. Those that need sorting are in projection.h.
#pragma once

#include <utility>

#include "espalier/optim/chain.h"
#include "espalier/optim/over.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

/// w <- w within [lo, hi], the projection onto a box; NaN stays. Either bound may be infinite.
/// Errors: ConfigError for lo > hi or NaN. Cost: within the last sweep. Arjovsky, Chintala and Bottou 2017,
/// algorithm 1.
Chain clamp_parameters(Scalar lo, Scalar hi);

/// w <- max(w, 0); NaN stays. Cost: within the last sweep.
Chain non_negative();

struct MaxNormOptions {
  Scalar max_norm;
  /// Above 0: every unit is multiplied by min(norm, max_norm) / (norm + eps), as Keras does with 1e-7, also within the
  /// bound.
  double eps = 0;
  Over over = Over::unit;
};
/// The weights of each output unit are multiplied by max_norm / norm where their 2-norm lies above max_norm, else they
/// keep their bits.
/// Errors: ConfigError for a bound or an eps that is negative or NaN, or over everything. Cost: units that fit into a
/// block (4,096 weights) are measured and scaled within the last sweep; longer ones and tensors take one sweep more.
/// Srebro and Shraibman 2005; Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014, section 5.1.
Chain max_norm(MaxNormOptions options);
inline Chain max_norm(Scalar bound) { return max_norm(MaxNormOptions{.max_norm = std::move(bound)}); }

struct BallOptions {
  Scalar radius = 1.0;
  Over over = Over::tensor;
};
/// w <- w min(1, radius / ||w||_2): the nearest point of the ball. Within it, weights keep their bits.
/// Errors and cost: as max_norm.
Chain l2_ball(BallOptions options = {});

struct UnitNormOptions {
  double eps = 0;  ///< w / (||w|| + eps); Keras: 1e-7
  Over over = Over::unit;
};
/// w <- w / ||w||_2. A unit of zeros stays. Errors: ConfigError for an eps that is negative or NaN, or over everything.
/// Cost: as max_norm. The rule of Keras' UnitNorm.
Chain unit_norm(UnitNormOptions options = {});

struct MinMaxNormOptions {
  Scalar min = 0.0, max = 1.0;
  Scalar rate = 1.0;  ///< how far to go, in [0, 1]
  double eps = 0;     ///< Keras: 1e-7
  Over over = Over::unit;
};
/// w <- w (rate clamp(||w||_2, min, max) + (1 - rate) ||w||_2) / (||w||_2 + eps). Where the norm lies within [min, max]
/// and eps is 0, weights keep their bits; a unit of zeros stays.
/// Errors: ConfigError for min > max, a negative min, a rate outside [0, 1], NaN, or over everything. Cost: as max_norm.
/// The rule of Keras' MinMaxNorm.
Chain min_max_norm(MinMaxNormOptions options = {});

/// w <- sign(w) max(|w| - strength, 0): the proximal step of strength * ||w||_1, which makes exact zeros. For a penalty
/// lambda ||w||_1 with plain SGD the strength is lr * lambda. NaN stays.
/// Errors: ConfigError for a strength that is negative or NaN. Cost: within the last sweep. Parikh and Boyd 2014,
/// section 6.5.2; Beck and Teboulle 2009 (ISTA).
Chain proximal_l1(Scalar strength);

struct GroupLassoOptions {
  Scalar strength;
  Over over = Over::unit;
};
/// w_g <- w_g max(0, 1 - strength / ||w_g||_2) for each output unit g: the proximal step of strength * sum of ||w_g||,
/// which makes whole units exactly 0.
/// Errors: ConfigError for a strength that is negative or NaN, or over everything. Cost: as max_norm. Yuan and Lin 2006;
/// Parikh and Boyd 2014, section 6.5.4.
Chain group_lasso(GroupLassoOptions options);
inline Chain group_lasso(Scalar strength) { return group_lasso(GroupLassoOptions{.strength = std::move(strength)}); }

}  // namespace espalier::optim
