// Differentiable matrix products.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// a b over the last two axes, [..., m, k] x [..., k, n] -> [..., m, n]; leading axes broadcast; a vector is a row on
/// the left and a column on the right. Gradient: da = g b^T, db = a^T g. Errors: ShapeError, DTypeError.
Variable matmul(const Variable& a, const Variable& b);
/// A batch of products, [n, i, k] x [n, k, j] -> [n, i, j], without broadcasting. Errors: ShapeError, DTypeError.
Variable bmm(const Variable& a, const Variable& b);
/// beta x + alpha a b for matrices a and b; x broadcasts to the product. With beta = 0, x is not looked at.
/// Errors: ShapeError, DTypeError.
Variable addmm(const Variable& x, const Variable& a, const Variable& b, double beta = 1, double alpha = 1);
/// y[i][j] = a[i] b[j] of two vectors. Errors: ShapeError, DTypeError.
Variable outer(const Variable& a, const Variable& b);
/// Sum of a[i] b[i] of two vectors: a scalar. Errors: ShapeError, DTypeError.
Variable dot(const Variable& a, const Variable& b);

/// What linear() does to its output in the same call: linear(x, w, b, Activation::relu). The function, and its slope
/// from the output (relu, tanh, sigmoid) or from what was put in.
class Activation final {
 public:
  static const Activation none, relu, tanh, sigmoid;
  static const Activation gelu;  ///< x Phi(x), Phi the normal distribution
  static const Activation silu;  ///< x sigmoid(x)

  struct Rule;
  explicit constexpr Activation(const Rule* rule) noexcept : rule_(rule) {}
  const Rule* rule() const noexcept { return rule_; }

 private:
  const Rule* rule_;
};

/// y = activation(x W^T + bias). x [..., in], weight [out, in], bias [out] or undefined -> y [..., out].
/// Gradient, with h = g activation': dx = h W, dW = h^T x, dbias = sum of h over all axes but the last. relu costs
/// nothing forward (it is done as the product is stored), the others one pass. A packed weight runs its sparse kernel
/// and has no gradient. Errors: ShapeError, DTypeError.
/// Settings: 1 relu, 2 tanh, 3 sigmoid, 4 gelu, 5 silu; none without an activation.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {},
                Activation activation = Activation::none);

}  // namespace espalier
