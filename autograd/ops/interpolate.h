// Differentiable resizing of images [N, C, H, W] and sequences [N, C, L]. f32, f64.
// Settings: none.
#pragma once

#include "espalier/autograd/tape.h"
#include "espalier/core/interpolate.h"

namespace espalier {

struct InterpolateOptions {
  bool align_corners = false;  ///< linear: the outermost pixels keep their places; else their outer edges do
};

/// Resizes the axes behind the first two to `size`. nearest: y[i] = x[floor(i H / H')]. linear (bilinear for images):
/// the two neighbours of (i + 1/2) H / H' - 1/2, or of i (H - 1) / (H' - 1) with align_corners, by their distances.
/// Gradient: each value of g to where it was read. Errors: ShapeError, ConfigError.
Variable interpolate(const Variable& x, const Dims& size, Interpolation mode = Interpolation::nearest,
                     const InterpolateOptions& options = {});
/// The same, `scale` times as long (rounded down); linear places go by the scale, not by the rounded size.
Variable interpolate_by(const Variable& x, double scale, Interpolation mode = Interpolation::nearest,
                        const InterpolateOptions& options = {});

}  // namespace espalier
