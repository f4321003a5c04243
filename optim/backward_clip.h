// Clipping within the backward pass: dL/dv on its way through a value v, before it reaches what v was computed from. In
// a recurrence that keeps dL/dh_t bounded at every step of time, where a clip of parameter gradients sees only their sum.
//
//   for (const Variable& x : inputs) {
//     h = tanh(linear(x, wx) + linear(h, wh));
//     optim::clip_backward_norm(h, 1.0, {.per_row = true});            // each sequence of the batch on its own
//   }
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier::optim {

struct BackwardClipOptions {
  double p = 2;          ///< any p > 0; infinity: the largest absolute value
  bool per_row = false;  ///< the norm of each index of the first axis, of each example, in place of all of dL/dv
};

/// From now on, where dL/dv flows through v: g <- g max_norm / ||g||_p if ||g||_p > max_norm. A norm of NaN makes all it
/// covers NaN. Under create_graph it is recorded, and its derivative is that of the formula; at 0 it is the identity.
/// Without a tape, or if v is a constant, nothing happens and the handle is empty; else Hook::remove() ends it.
/// Errors: ConfigError for a max_norm that is negative or NaN, or p that is not positive. Cost: two passes over g.
/// Mikolov 2012, section 3.2.2, and Graves 2013, section 2.1, clip at this place.
Hook clip_backward_norm(const Variable& v, double max_norm, BackwardClipOptions options = {});

/// The same with g <- g within [-bound, bound], entry by entry; NaN stays. Its derivative is 0 for entries beyond the
/// bound. Cost: one pass over g.
Hook clip_backward_value(const Variable& v, double bound);

}  // namespace espalier::optim
