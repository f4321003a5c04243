// Clipping of gradients. All are transforms: chain(clip_by_global_norm(1.0), adam({.lr = 1e-3})).
//
// Norms run over live coordinates and are exact for all finite entries, however large or small. A gradient that need
// not be clipped is left alone bit for bit. Bounds may be schedules. Errors of all: ConfigError for a bound that is
// negative or NaN, when it is given or, for a schedule, in step() before anything is written.
#pragma once

#include <limits>

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct ClipNormOptions {
  Scalar max_norm;
  double p = 2;               ///< any p > 0; infinity: the largest absolute value
  double eps = 0;             ///< if positive, PyTorch's rule: c = min(1, max_norm / (norm + eps)), also at the bound
  bool measure_only = false;  ///< only reports; never writes
};

/// g <- c g with c = max_norm / ||g||_p if ||g||_p > max_norm, else 1; the norm is that of all gradients together.
/// A norm that is NaN (nonfinite = propagate) makes every entry NaN.
/// Cost: one pass to measure; the factor rides along with the next read. Pascanu, Mikolov and Bengio 2013, algorithm 1.
Chain clip_by_global_norm(Scalar max_norm);
Chain clip_by_global_norm(ClipNormOptions options);

/// The same for each parameter on its own (Keras' clipnorm). Cost: as clip_by_global_norm.
Chain clip_per_tensor_norm(Scalar max_norm);
Chain clip_per_tensor_norm(ClipNormOptions options);

struct ClipValueOptions {
  Scalar min = -std::numeric_limits<double>::infinity();
  Scalar max = std::numeric_limits<double>::infinity();
};

/// g <- min(max(g, -bound), bound), entry by entry; NaN stays. Cost: within the sweep. Mikolov 2012, section 3.2.2.
Chain clip_by_value(Scalar bound);
/// The same to [min, max]; one of them may be left out. Errors: ConfigError also for min > max.
Chain clip_by_value(ClipValueOptions options);

}  // namespace espalier::optim
