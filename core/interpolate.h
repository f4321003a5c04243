// Images and sequences in another size: each axis is resized by a small table of places and shares.
#pragma once

#include "espalier/core/tensor.h"

namespace espalier {

enum class Interpolation { nearest, linear };

/// How one axis of a given length becomes another.
struct Resize {
  Interpolation mode;
  Index from, to;
  /// Distance of neighbouring outputs, in inputs.
  double step;
  bool align_corners;

  /// y[i] = (1 - share) x[low] + share x[high].
  struct Place {
    Index low, high;
    double share;
  };
  Place place(Index i) const noexcept;
};

/// x resized along `axis`.
Tensor resize(const Tensor& x, int axis, const Resize& resize);
/// The adjoint.
Tensor resize_adjoint(const Tensor& g, int axis, const Resize& resize);

}  // namespace espalier
