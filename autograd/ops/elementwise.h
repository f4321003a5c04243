// Differentiable functions, element by element. Binary ones broadcast (NumPy's rule). f32, f64; both operands of one
// type. Errors of all: ShapeError, DTypeError.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

// --- two operands ---------------------------------------------------------------------------------------------------
Variable add(const Variable& a, const Variable& b);  ///< a + b
Variable sub(const Variable& a, const Variable& b);  ///< a - b
Variable mul(const Variable& a, const Variable& b);  ///< a b
Variable div(const Variable& a, const Variable& b);  ///< a / b
Variable maximum(const Variable& a,
                 const Variable& b);  ///< NaN if either is; equal values share the gradient in halves
Variable minimum(const Variable& a, const Variable& b);  ///< as maximum

// --- one operand ----------------------------------------------------------------------------------------------------
Variable affine(const Variable& x, double factor, double shift);  ///< factor x + shift
Variable neg(const Variable& x);                                  ///< -x
Variable abs(const Variable& x);                                  ///< |x|; slope 0 at 0
Variable square(const Variable& x);                               ///< x^2
Variable sqrt(const Variable& x);
Variable reciprocal(const Variable& x);            ///< 1 / x
Variable pow(const Variable& x, double exponent);  ///< x^exponent
Variable exp(const Variable& x);
Variable log(const Variable& x);
Variable tanh(const Variable& x);
Variable sigmoid(const Variable& x);  ///< 1 / (1 + exp(-x))
Variable relu(const Variable& x);     ///< max(x, 0); slope 0 at 0; NaN stays
Variable leaky_relu(const Variable& x, double negative_slope = 0.01);
/// log(1 + exp(beta x)) / beta, and x where beta x > threshold.
Variable softplus(const Variable& x, double beta = 1, double threshold = 20);
Variable clamp(const Variable& x, double low, double high);  ///< gradient passes at the bounds; NaN stays

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
inline Variable operator/(const Variable& x, double c) { return affine(x, 1 / c, 0); }
inline Variable operator/(double c, const Variable& x) { return affine(reciprocal(x), c, 0); }

}  // namespace espalier
