// Transposition of a matrix, by blocks that stay in the cache.
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// y[c * y_stride + r] = x[r * x_stride + c] for r < rows, c < cols; strides in elements, at least cols and rows.
/// x and y do not overlap. Cost: about one pass over memory; tiles of 8 x 8 (f32) or 4 x 4 (f64) in registers.
void transpose(const float* x, Index rows, Index cols, Index x_stride, float* y, Index y_stride) noexcept;
void transpose(const double* x, Index rows, Index cols, Index x_stride, double* y, Index y_stride) noexcept;

}  // namespace espalier::kernels
