// Differentiable arithmetic, element by element. Binary functions broadcast (NumPy's rule). f32, f64; all operands of
// one type. Errors of all: ShapeError, DTypeError. The other elementwise families come along with this header.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

// --- several operands -------------------------------------------------------------------------------------------------
Variable add(const Variable& a, const Variable& b);                ///< a + b
Variable add(const Variable& a, const Variable& b, double alpha);  ///< a + alpha b, in one loop
Variable sub(const Variable& a, const Variable& b);                ///< a - b
Variable sub(const Variable& a, const Variable& b, double alpha);  ///< a - alpha b, in one loop
Variable mul(const Variable& a, const Variable& b);                ///< a b
Variable div(const Variable& a, const Variable& b);                ///< a / b
/// NaN if either is. Equal values share the gradient in halves; where one is NaN, both get all of it, as in PyTorch.
Variable maximum(const Variable& a, const Variable& b);
Variable minimum(const Variable& a, const Variable& b);  ///< as maximum
/// x + value a b, in one loop.
Variable addcmul(const Variable& x, const Variable& a, const Variable& b, double value = 1);
/// x + value a / b, in one loop.
Variable addcdiv(const Variable& x, const Variable& a, const Variable& b, double value = 1);
/// a + weight (b - a): from a at weight 0 to exactly b at weight 1.
Variable lerp(const Variable& a, const Variable& b, const Variable& weight);
Variable lerp(const Variable& a, const Variable& b, double weight);

// --- one operand ------------------------------------------------------------------------------------------------------
Variable affine(const Variable& x, double factor, double shift);  ///< factor x + shift
Variable div(const Variable& x, double c);                        ///< x / c, rounded once, as its gradient g / c is
Variable neg(const Variable& x);                                  ///< -x
Variable abs(const Variable& x);                                  ///< |x|; slope 0 at 0
Variable sign(const Variable& x);                                 ///< -1, 0 or 1; 0 of NaN; gradient 0

inline Variable operator+(const Variable& a, const Variable& b) { return add(a, b); }
inline Variable operator-(const Variable& a, const Variable& b) { return sub(a, b); }
inline Variable operator*(const Variable& a, const Variable& b) { return mul(a, b); }
inline Variable operator/(const Variable& a, const Variable& b) { return div(a, b); }
inline Variable operator-(const Variable& x) { return neg(x); }
inline Variable operator+(const Variable& x, double c) { return affine(x, 1, c); }
inline Variable operator+(double c, const Variable& x) { return affine(x, 1, c); }
inline Variable operator-(const Variable& x, double c) { return affine(x, 1, -c); }
inline Variable operator-(double c, const Variable& x) { return affine(x, -1, c); }
inline Variable operator*(const Variable& x, double c) { return affine(x, c, 0); }
inline Variable operator*(double c, const Variable& x) { return affine(x, c, 0); }
inline Variable operator/(const Variable& x, double c) { return div(x, c); }
inline Variable operator/(double c, const Variable& x) { return div(Tensor::scalar(c, x.dtype()), x); }

}  // namespace espalier

#include "espalier/autograd/ops/activation.h"
#include "espalier/autograd/ops/compare.h"
#include "espalier/autograd/ops/math.h"
