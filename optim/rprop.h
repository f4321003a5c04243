// Resilient backpropagation.
#pragma once

#include <array>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct RpropOptions {
  Scalar lr = 1e-2;                               ///< the first step size of every weight
  std::array<Scalar, 2> etas = {0.5, 1.2};        ///< factors of the step size where g has turned, and where it has not
  std::array<Scalar, 2> step_sizes = {1e-6, 50};  ///< its least and its largest
  bool maximize = false;
};

/// s <- s etas[1] where g has the sign it had before, s etas[0] where it has the other one, within step_sizes;
/// w <- w - s sign(g), but 0 where g has turned, and then g counts as 0 in the next step. For full batches: the size of
/// g is not looked at. A weight that grows back begins at lr again. States: "rprop/previous/...", "rprop/step_size/...".
/// Errors: ConfigError unless 0 < etas[0] < 1 < etas[1] and 0 < step_sizes[0] <= step_sizes[1]. Cost: 7 accesses to
/// memory a weight. Riedmiller and Braun 1993, in the form iRprop- of Igel and Huesken 2000, as in PyTorch.
Chain rprop(RpropOptions options = {});

}  // namespace espalier::optim
