// Comparisons and logic, element by element, and choosing by a condition: functions without a gradient of their own.
// Two operands broadcast (NumPy's rule). Results hold bool. Errors of all: ShapeError, DTypeError.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

// --- comparisons: any element type, the same for both. NaN differs from everything, itself too -------------------------
Tensor eq(const Tensor& a, const Tensor& b);  ///< a == b
Tensor ne(const Tensor& a, const Tensor& b);  ///< a != b
Tensor lt(const Tensor& a, const Tensor& b);  ///< a < b
Tensor le(const Tensor& a, const Tensor& b);  ///< a <= b
Tensor gt(const Tensor& a, const Tensor& b);  ///< a > b
Tensor ge(const Tensor& a, const Tensor& b);  ///< a >= b
/// The same against a number, which is converted to the type of a first.
Tensor eq(const Tensor& a, double b);
Tensor ne(const Tensor& a, double b);
Tensor lt(const Tensor& a, double b);
Tensor le(const Tensor& a, double b);
Tensor gt(const Tensor& a, double b);
Tensor ge(const Tensor& a, double b);

// --- kinds of numbers: any element type (integers are finite) -----------------------------------------------------------
Tensor isnan(const Tensor& x);
Tensor isinf(const Tensor& x);     ///< of either sign
Tensor isfinite(const Tensor& x);  ///< neither infinite nor NaN

// --- logic: any element type, what is not 0 is true (NaN too) -----------------------------------------------------------
Tensor logical_and(const Tensor& a, const Tensor& b);
Tensor logical_or(const Tensor& a, const Tensor& b);
Tensor logical_xor(const Tensor& a, const Tensor& b);
Tensor logical_not(const Tensor& x);

/// True if one element along `axes` is (along all if none are named); false of nothing. Errors: IndexError.
Tensor any(const Tensor& x, const Dims& axes = {}, bool keepdim = false);
/// True if every element along `axes` is; true of nothing. Errors: IndexError.
Tensor all(const Tensor& x, const Dims& axes = {}, bool keepdim = false);

/// a where the condition, a bool tensor, holds, else b; all three broadcast. Any element type. What is not chosen has
/// no influence, NaN included.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

}  // namespace espalier
