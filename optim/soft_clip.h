// Clipping without a kink: what comes out depends smoothly on what comes in, so it may stand inside an update that is
// itself differentiated, and no two gradients end up alike. Other conventions are those of clip.h.
#pragma once

#include "espalier/optim/chain.h"
#include "espalier/optim/scalar.h"

namespace espalier::optim {

struct ClipSmoothNormOptions {
  Scalar tau;               ///< the norm that is approached, never reached
  bool per_tensor = false;  ///< each parameter on its own; else the norm is that of all gradients together
  bool measure_only = false;
};

/// g <- g tau / sqrt(tau^2 + ||g||^2). Small gradients hardly change, large ones get norms just below tau; every gradient
/// but 0 is shortened a little, so the report always says clipped. Cost: as clip_by_global_norm.
/// The pseudo-Huber counterpart of norm clipping (Charbonnier, Blanc-Feraud, Aubert and Barlaud 1994, of a norm).
Chain clip_smooth_norm(Scalar tau);
Chain clip_smooth_norm(ClipSmoothNormOptions options);

struct ClipTanhOptions {
  Scalar bound;
  bool measure_only = false;  ///< only counts; never writes
};

/// g <- bound tanh(g / bound), entry by entry: +-bound for infinities, g where it is far below the bound, 0 for bound 0;
/// NaN stays. ClipRecord::entries counts those that lay beyond the bound; `clipped` says that there are some.
/// Cost: within the sweep.
Chain clip_tanh(Scalar bound);
Chain clip_tanh(ClipTanhOptions options);

}  // namespace espalier::optim
