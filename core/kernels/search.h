// Searching a row.
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// The first i < n with !(x[i] <= bound), so NaN is found; n if there is none. Cost: one comparison a vector.
Index first_not_below(const float* x, Index n, float bound) noexcept;
Index first_not_below(const double* x, Index n, double bound) noexcept;
/// The same with !(x[i] >= bound).
Index first_not_above(const float* x, Index n, float bound) noexcept;
Index first_not_above(const double* x, Index n, double bound) noexcept;

}  // namespace espalier::kernels
