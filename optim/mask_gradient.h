// mask_gradient: PyTorch's rule for masked weights, in soft mode.
#pragma once

#include "espalier/optim/chain.h"

namespace espalier::optim {

/// g <- mask g where the mask is soft: the gradient of w * mask with respect to w, so that pruned weights rest instead
/// of being trained on (straight-through). In hard mode the pipeline does it for every chain. Cost: none of its own.
Chain mask_gradient();

}  // namespace espalier::optim
