// Scores from what goes into a layer, and what comes out.
#pragma once

#include "espalier/prune/score.h"

namespace espalier::prune {

/// |w_ij| ||X_j||_2, X_j the j-th column of the layer's inputs. Compared within each output row: see prune_rows() in
/// threshold.h. Sun, Liu, Bair and Kolter 2023, eq. 1.
Score wanda();

struct ActivationWeightedOptions {
  bool units = false;  ///< summed over outputs (and the kernel): a score for each input unit, axis 1
};
/// |w_oi| sum over rows of |x_i|.
Score activation_weighted(ActivationWeightedOptions options = {});

/// 1 - share of outputs that are 0, a score for each output unit: APoZ, turned so that the highest stay. Hu, Peng, Tai
/// and Tang 2016, eq. 1.
Score apoz();

/// Mean output, behind the activation, a score for each output unit. Molchanov et al. 2017, section 2.2.
Score mean_activation();

}  // namespace espalier::prune
