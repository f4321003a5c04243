// Differentiable functions of mathematics, element by element. f32, f64. Where a function has no value it gives NaN, as
// the std:: functions do. Errors of all: DTypeError.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

// --- powers -----------------------------------------------------------------------------------------------------------
Variable square(const Variable& x);  ///< x^2
Variable sqrt(const Variable& x);
Variable rsqrt(const Variable& x);       ///< 1 / sqrt(x)
Variable reciprocal(const Variable& x);  ///< 1 / x
Variable pow(const Variable& x, double exponent);
/// x^exponent with broadcasting; the gradients are 0 where x = 0 and the power is constant there, and that by x where
/// the exponent is 0. Errors: ShapeError.
Variable pow(const Variable& x, const Variable& exponent);

// --- exponentials and logarithms --------------------------------------------------------------------------------------
Variable exp(const Variable& x);
Variable expm1(const Variable& x);  ///< exp(x) - 1, without cancellation
Variable log(const Variable& x);
Variable log1p(const Variable& x);  ///< log(1 + x), exact near 0
Variable log2(const Variable& x);
Variable log10(const Variable& x);
/// x log(y) with broadcasting, and 0 where x is 0, unless y is NaN. Gradient: log(y) (0 where x is 0 and y <= 0), and
/// x / y. Errors: ShapeError.
Variable xlogy(const Variable& x, const Variable& y);
Variable erf(const Variable& x);   ///< 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x
Variable erfc(const Variable& x);  ///< 1 - erf(x), without cancellation

// --- circular and hyperbolic ------------------------------------------------------------------------------------------
Variable sin(const Variable& x);
Variable cos(const Variable& x);
Variable tan(const Variable& x);
Variable asin(const Variable& x);
Variable acos(const Variable& x);
Variable atan(const Variable& x);
/// The angle of the point (x, y), in [-pi, pi], with broadcasting. Errors: ShapeError.
Variable atan2(const Variable& y, const Variable& x);
Variable sinh(const Variable& x);
Variable cosh(const Variable& x);
Variable asinh(const Variable& x);
Variable acosh(const Variable& x);
Variable atanh(const Variable& x);

// --- steps: gradient 0 ------------------------------------------------------------------------------------------------
Variable floor(const Variable& x);
Variable ceil(const Variable& x);
Variable round(const Variable& x);  ///< halves to even
Variable trunc(const Variable& x);  ///< toward 0

}  // namespace espalier
