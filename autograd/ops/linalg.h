// Differentiable matrix products.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// a b over the last two axes, [..., m, k] x [..., k, n] -> [..., m, n]; leading axes broadcast; a vector is a row on
/// the left and a column on the right. Gradient: da = g b^T, db = a^T g. Errors: ShapeError, DTypeError.
Variable matmul(const Variable& a, const Variable& b);

/// y = x W^T + bias. x [..., in], weight [out, in], bias [out] or undefined -> y [..., out].
/// Gradient: dx = g W, dW = g^T x, dbias = sum of g over all axes but the last. A packed weight runs its sparse kernel
/// and has no gradient. Errors: ShapeError, DTypeError.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {});

}  // namespace espalier
