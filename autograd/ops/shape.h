// Differentiable views and their adjoints. Most share storage with x; see the Tensor functions of the same names.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// Same elements in row-major order in another shape; one length may be -1. Errors: ShapeError.
Variable reshape(const Variable& x, const Shape& shape);
/// One axis in place of `first_axis` ... `last_axis`. Errors: IndexError.
Variable flatten(const Variable& x, int first_axis = 0, int last_axis = -1);
/// Swaps two axes. Errors: IndexError.
Variable transpose(const Variable& x, int axis_a, int axis_b);
/// Reorders the axes. Errors: ShapeError, IndexError.
Variable permute(const Variable& x, const Dims& axes);

}  // namespace espalier
