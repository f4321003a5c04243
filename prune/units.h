// Removing whole units of a hidden layer.
#pragma once

#include <vector>

#include "espalier/autograd/parameter.h"

namespace espalier::prune {

/// Masks the n least important units between two fully connected weights: row u of weight [units, in], entry u of bias
/// (if there is one) and column u of next [out, units]. Such a unit is never read, whatever its activation makes of 0,
/// and compact() cuts it out. Importance of unit u = sum over i of |weight[u, i]| (Li et al. 2017); units that are dead
/// already go first, then ties by index. Returns the units, in ascending order.
/// Errors: ShapeError if the three do not fit together; ConfigError unless 0 <= n <= units; NonFiniteError for a NaN.
std::vector<Index> mask_units(Parameter& weight, Parameter& bias, Parameter& next, Index n);

}  // namespace espalier::prune
