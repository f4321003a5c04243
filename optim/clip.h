// Clipping of gradients to a bound that is given. All are transforms: chain(clip_by_global_norm(1.0), adam({.lr = 1e-3})).
// adaptive_clip.h finds the bound by itself, soft_clip.h clips without a kink, backward_clip.h within the backward pass.
//
// Norms run over live coordinates and are exact for all finite entries, however large or small. A gradient that need
// not be clipped is left alone bit for bit. Bounds may be schedules. Errors of all: ConfigError for a bound that is
// negative or NaN, when it is given or, for a schedule, in step() before anything is written. A norm that is NaN
// (nonfinite = propagate) makes every entry NaN. With measure_only a clip reports what it would have done, and writes
// nothing.
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
  bool scale_by_density =
      false;  ///< max_norm (live / all)^(1/p), of the weights that are measured: sqrt(density) for p 2
};

/// g <- c g with c = max_norm / ||g||_p if ||g||_p > max_norm, else 1; the norm is that of all gradients together.
/// Cost: one pass to measure; the factor rides along with the next read. Pascanu, Mikolov and Bengio 2013, algorithm 1.
Chain clip_by_global_norm(Scalar max_norm);
Chain clip_by_global_norm(ClipNormOptions options);

/// The same for each parameter on its own (Keras' clipnorm). Cost: as clip_by_global_norm.
Chain clip_per_tensor_norm(Scalar max_norm);
Chain clip_per_tensor_norm(ClipNormOptions options);

/// The same for the weights of each output unit: of each index of the first axis; vectors and scalars are one unit.
/// Cost: within the sweep, two reads of a block in the L1 cache; one more pass for units of more than 4,096 weights.
Chain clip_per_unit_norm(Scalar max_norm);
Chain clip_per_unit_norm(ClipNormOptions options);

struct ClipRmsOptions {
  Scalar threshold = 1;
  bool measure_only = false;
};
/// u <- u / max(1, rms(u) / threshold), each parameter on its own; rms = sqrt(mean u^2) over live coordinates. Behind an
/// optimizer it bounds the update, whatever its learning rate: on what Adafactor divides by rms it stands before the
/// rate. Cost: as clip_by_global_norm. Shazeer and Stern 2018, algorithm 4.
Chain clip_by_rms(Scalar threshold);
Chain clip_by_rms(ClipRmsOptions options = {});

struct ClipValueOptions {
  Scalar min = -std::numeric_limits<double>::infinity();
  Scalar max = std::numeric_limits<double>::infinity();
  bool measure_only = false;  ///< only counts; never writes
};

/// g <- min(max(g, -bound), bound), entry by entry; NaN stays. Cost: within the sweep. Mikolov 2012, section 3.2.2.
Chain clip_by_value(Scalar bound);
/// The same to [min, max]; one of them may be left out. Errors: ConfigError also for min > max.
Chain clip_by_value(ClipValueOptions options);

}  // namespace espalier::optim
