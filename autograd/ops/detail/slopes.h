// Slopes of activations in differentiable ops, for backward passes that are recorded themselves.
#pragma once

#include <numbers>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/math.h"
#include "espalier/core/elementwise.h"

namespace espalier::detail {

// --- of the output y = f(x) -------------------------------------------------------------------------------------------

/// 1 where y > 0, or NaN, else 0.
inline Variable relu_slope(const Variable& y) {
  return map_with("relu", y.value(), [](auto v) { return static_cast<decltype(v)>(v <= 0 ? 0 : 1); });
}
inline Variable tanh_slope(const Variable& y) { return affine(square(y), -1, 1); }     ///< 1 - y^2
inline Variable sigmoid_slope(const Variable& y) { return mul(y, affine(y, -1, 1)); }  ///< y (1 - y)

// --- of the input -----------------------------------------------------------------------------------------------------

/// Phi(x) + x phi(x), of the normal distribution and its density.
inline Variable gelu_slope(const Variable& x) {
  const Variable distribution = affine(erfc(affine(x, -std::numbers::sqrt2 / 2, 0)), 0.5, 0);
  const double height = std::numbers::inv_sqrtpi * std::numbers::sqrt2 / 2;
  return add(distribution, mul(x, affine(exp(affine(square(x), -0.5, 0)), height, 0)));
}
/// s (1 + x (1 - s)), s = sigmoid(x).
inline Variable silu_slope(const Variable& x) {
  const Variable s = sigmoid(x);
  return mul(s, affine(mul(x, affine(s, -1, 1)), 1, 1));
}

}  // namespace espalier::detail
