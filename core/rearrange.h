// Tensors made of the elements of others: joined, padded, turned, cut to triangles. Any element type unless said
// otherwise. Cost of all: one pass over memory, in parallel.
#pragma once

#include <span>
#include <vector>

#include "espalier/core/tensor.h"

namespace espalier {

/// The pieces one behind the other along `axis`. Pieces of shape [0] are left out, whatever the others are.
/// Errors: ShapeError, DTypeError, IndexError.
Tensor concatenated(std::span<const Tensor> pieces, int axis = 0);
/// The pieces, of one shape, side by side along a new axis before `axis`. Errors: as concatenated.
Tensor stacked(std::span<const Tensor> pieces, int axis = 0);

/// y[..., j, ...] = x[..., places[j], ...] along `axis`. Errors: IndexError. Runs of places that follow each other up or
/// down are copied as one.
Tensor take_axis(const Tensor& x, std::span<const Index> places, int axis);
/// Its adjoint: zeros with `length` along `axis`, and g[..., j, ...] added at places[j]. f32, f64.
Tensor add_axis(const Tensor& g, std::span<const Index> places, Index length, int axis);

/// x with its borders moved outwards: `pads` are pairs (before, behind) from the last axis on; negative ones crop. What
/// is added holds `value`. Errors: ShapeError.
Tensor padded(const Tensor& x, std::span<const Index> pads, double value = 0);

/// x where column - row <= diagonal (lower) or >= diagonal (upper), else 0; of the last two axes. f32, f64.
Tensor tril(const Tensor& x, Index diagonal = 0);
Tensor triu(const Tensor& x, Index diagonal = 0);

/// Elements (i, i + offset) of two axes, (i - offset, i) for a negative one, along a new last axis: a view.
/// Errors: IndexError.
Tensor diagonal(const Tensor& x, Index offset = 0, int axis_a = 0, int axis_b = 1);

}  // namespace espalier
