// Dropout and its kin: parts of x are left out at random, the others scaled so that the mean stays. The randomness is an
// argument; the same rng gives the same parts at any number of threads. What is left out is 0, whatever it was.
#pragma once

#include "espalier/autograd/tape.h"
#include "espalier/core/rng.h"

namespace espalier {

// Errors of all: ConfigError for p outside [0, 1], DTypeError. p = 0 returns x and draws nothing. Kept for the gradient
// is one bit an element, sample or channel. f32, f64.

/// y[i] = x[i] / (1 - p), or 0 with probability p. Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014.
Variable dropout(const Variable& x, double p, Rng& rng);
/// The same for whole channels: x [N, C, ...]. Tompson et al. 2015. Errors: also ShapeError below two axes.
Variable channel_dropout(const Variable& x, double p, Rng& rng);
/// The same for whole samples, x [N, ...]: stochastic depth, for the branch of a residual block. Huang et al. 2016.
/// Errors: also ShapeError for a scalar.
Variable drop_path(const Variable& x, double p, Rng& rng);

}  // namespace espalier
