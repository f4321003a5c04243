// Differentiable reading and writing by lists of positions; see the Tensor functions of the same names in core/index.h.
// index is i64 and has no gradient. Settings of all but masked_select: the axis. Errors of all: ShapeError, DTypeError;
// IndexError, which names value and place.
#pragma once

#include "espalier/autograd/tape.h"
#include "espalier/core/index.h"

namespace espalier {

/// y[i][j] = x[i][index[i][j]] for axis 1. Gradient: scatter_add of g into zeros.
Variable gather(const Variable& x, int axis, const Tensor& index);
/// x with y[i][index[i][j]] = src[i][j]. Gradient: dx = g, 0 where it was overwritten; dsrc = gather of g, 0 where a
/// later element took the place.
Variable scatter(const Variable& x, int axis, const Tensor& index, const Variable& src);
/// x with y[i][index[i][j]] += src[i][j]. Gradient: dx = g, dsrc = gather of g.
Variable scatter_add(const Variable& x, int axis, const Tensor& index, const Variable& src);
/// The slices of x along an axis named by a list. Gradient: index_add of g into zeros.
Variable index_select(const Variable& x, int axis, const Tensor& index);
/// x with slice index[j] += alpha * slice j of source. Gradient: dx = g, dsource = alpha * index_select of g.
Variable index_add(const Variable& x, int axis, const Tensor& index, const Variable& source, double alpha = 1);
/// x with the slices named by a list set to `value`. Gradient: g, 0 in those.
Variable index_fill(const Variable& x, int axis, const Tensor& index, double value);
/// The elements of x where mask is true, both broadcast, in row-major order: [n]. Gradient: g put back, 0 elsewhere.
Variable masked_select(const Variable& x, const Tensor& mask);

}  // namespace espalier
