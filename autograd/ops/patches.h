// Differentiable patches of images: every window as a column, and the adjoint. f32, f64.
// Settings: kernel, stride, padding, dilation; of each the vertical and the horizontal number.
#pragma once

#include "espalier/autograd/tape.h"
#include "espalier/core/pair.h"

namespace espalier {

struct PatchOptions {
  IndexPair stride = 1;
  IndexPair padding = 0;  ///< zeros
  IndexPair dilation = 1;
};

/// Windows of x [N, C, H, W] as columns: [N, C kh kw, L], L windows in row-major order. Without N, without.
/// Errors: ShapeError, ConfigError. Gradient: fold.
Variable unfold(const Variable& x, IndexPair kernel_size, const PatchOptions& options = {});
/// The adjoint: columns [N, C kh kw, L] added up in images [N, C, H, W] of `output_size`; where windows overlap values
/// are summed. Errors: ShapeError, ConfigError. Gradient: unfold.
Variable fold(const Variable& columns, IndexPair output_size, IndexPair kernel_size, const PatchOptions& options = {});

}  // namespace espalier
