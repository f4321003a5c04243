// Differentiable choices between values. f32, f64. Conditions are constants: bool tensors, as core/compare.h makes them.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// a where the condition holds, else b; all three broadcast. The gradient flows to what was chosen, and is exactly 0
/// elsewhere, whatever NaN or infinity stands there. Errors: ShapeError; DTypeError unless the condition is bool.
Variable where(const Tensor& condition, const Variable& a, const Variable& b);
/// value where the mask, a bool tensor that broadcasts with x, holds, else x. Errors: ShapeError, DTypeError.
Variable masked_fill(const Variable& x, const Tensor& mask, double value);
/// x within [low, high], and high everywhere if low > high. The gradient passes at the bounds; NaN stays.
/// Errors: ConfigError if a bound is NaN.
Variable clamp(const Variable& x, double low, double high);
/// The same with bounds that broadcast with x; an undefined one is no bound. The gradient flows to x or to the bound that
/// took its place. Errors: ShapeError, DTypeError; ConfigError if both bounds are undefined.
Variable clamp(const Variable& x, const Variable& low, const Variable& high);

}  // namespace espalier
