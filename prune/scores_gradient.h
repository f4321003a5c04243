// Scores from gradients of the loss. g is the mean gradient of the gathered batches, or where nothing was gathered the
// raw gradient of the last backward.
#pragma once

#include "espalier/prune/score.h"

namespace espalier::prune {

struct TaylorOptions {
  double p = 1;  ///< 2: what Molchanov et al. 2019 sum over a unit
};
/// |w g|^p: how much the loss changes, to first order, when w goes. Molchanov, Tyree, Karras, Aila and Kautz 2017.
/// Errors: ConfigError unless p > 0.
Score taylor(TaylorOptions options = {});

/// Mean over batches of (sum over the unit of w dL/dw)^2, a score for each output unit. Molchanov, Mallya, Tyree, Frosio
/// and Kautz 2019, eq. 9.
Score taylor_units();

/// Mean over batches of |mean over the unit's outputs h of h dL/dh|, h behind the activation; a score for each output
/// unit. Molchanov et al. 2017, eq. 8.
Score taylor_activation();

/// w^2 / 2 mean over batches of (dL/dw)^2: the empirical Fisher information in place of the Hessian. With batches of one
/// example it is the mean over examples. Theis, Korshunova, Tejani and Huszar 2018, eq. 7.
Score fisher();

/// |w g| / sum of |w g| over all parameters gathered: connection sensitivity, from one batch before training. Gather the
/// parameters that will be pruned, all of them and no others, after an initialisation that keeps variances. Lee,
/// Ajanthan and Torr 2019, eq. 5.
Score snip();

}  // namespace espalier::prune
