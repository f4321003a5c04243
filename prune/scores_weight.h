// Scores from the weights alone: no data, no gradient.
#pragma once

#include "espalier/prune/score.h"

namespace espalier::prune {

/// |w| / std(w), the standard deviation of the live weights of the tensor (by n - 1). With prune_below(q) it keeps
/// |w| >= q std, the rule of Han, Pool, Tran and Dally 2015 (section 3). Where all live weights are equal their score is
/// infinite.
Score deviations();

/// w_u^2 / sum of w_v^2 over all v of the tensor with |w_v| >= |w_u|: what removing u costs of what would be left. Under
/// global scope it finds layers' sparsities by itself. Lee, Park, Mo, Ahn and Shin 2021, eq. 4. Cost: a sort.
Score lamp();

struct LnStructuredOptions {
  double p = 2;       ///< infinity: the largest |w|
  int axis = 0;       ///< whose indices are the units: 0 the outputs of a layer, 1 its inputs
  bool mean = false;  ///< divided by the mean over the tensor's units, so that layers of unlike size compare
};
/// (sum over the unit of |w|^p)^(1/p), a score for each unit. Li, Kadav, Durdanovic, Samet and Graf 2017 (p = 1).
/// Errors: ConfigError unless p > 0.
Score ln_structured(LnStructuredOptions options = {});

/// |gamma| of the normalisation behind a layer, a score for each unit of the layer. Means something where training drew
/// gammas towards 0: add lambda sum(abs(gamma)) to the loss. Needs Needs::norm, from one pass forward; gamma itself is read when asked. Liu, Li,
/// Shen, Huang, Yan and Zhang 2017 (network slimming).
Score norm_scale();

/// Sum over j of ||F_i - F_j||_2, F_i the weights of unit i: units near the geometric median of all go first, for the
/// others can stand in for them. He, Liu, Wang, Hu and Yang 2019, eq. 7. Cost: units^2 columns.
Score fpgm();

}  // namespace espalier::prune
