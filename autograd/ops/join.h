// Differentiable joining and taking apart of tensors. Settings of all: the axis.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "espalier/autograd/tape.h"

namespace espalier {

/// The pieces one behind the other along `axis`; those of shape [0] are left out. Gradient: slices of g, without a copy.
/// Errors: ShapeError, which names the first that does not fit; DTypeError, IndexError.
Variable cat(std::span<const Variable> pieces, int axis = 0);
inline Variable cat(std::initializer_list<Variable> pieces, int axis = 0) {
  return cat(std::span<const Variable>(pieces.begin(), pieces.size()), axis);
}
/// The pieces, of one shape, along a new axis before `axis`. Gradient, errors: as cat.
Variable stack(std::span<const Variable> pieces, int axis = 0);
inline Variable stack(std::initializer_list<Variable> pieces, int axis = 0) {
  return stack(std::span<const Variable>(pieces.begin(), pieces.size()), axis);
}

// The functions below give views and record one node with all of them as outputs: whatever of them is used, the gradient
// of x is put together once.

/// Pieces of `size` along `axis`, the last one possibly shorter. Errors: ConfigError unless size > 0, IndexError.
std::vector<Variable> split(const Variable& x, Index size, int axis = 0);
/// Pieces of these sizes. Errors: ShapeError unless they add up to the axis' length.
std::vector<Variable> split(const Variable& x, std::span<const Index> sizes, int axis = 0);
/// At most `chunks` pieces of equal size, the last one possibly shorter: of 5 in 4 chunks, 2 + 2 + 1. An empty axis gives
/// that many empty ones. Errors: ConfigError unless chunks > 0, IndexError.
std::vector<Variable> chunk(const Variable& x, Index chunks, int axis = 0);
/// x[0], x[1], ... along `axis`, which is dropped. Errors: IndexError.
std::vector<Variable> unbind(const Variable& x, int axis = 0);

}  // namespace espalier
