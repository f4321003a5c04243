// Images and sequences in another size: each axis is resized by a small table of places and shares.
#pragma once

#include <span>

#include "espalier/core/tensor.h"

namespace espalier {

enum class Interpolation { nearest, linear };

/// How one axis of a given length becomes another.
struct Resize {
  Interpolation mode;
  Index from, to;
  /// So many inputs are as far as so many outputs. Two numbers, for their quotient is rounded: place 11 of 22 made of
  /// 30 is input 15, but 11 (30 / 22) is less.
  double inputs, outputs;
  bool align_corners;

  /// y[i] = (1 - share) x[low] + share x[low + 1]; x[low] alone if share is 0, as it is at the last input.
  struct Place {
    Index low;
    double share;
  };
  Place place(Index i) const noexcept;
};

/// x with the last axes resized: axes[k] is how axis rank - axes.size() + k is.
Tensor resize(const Tensor& x, std::span<const Resize> axes);
/// The adjoint.
Tensor resize_adjoint(const Tensor& g, std::span<const Resize> axes);

}  // namespace espalier
