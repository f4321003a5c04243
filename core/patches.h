// Patches of images: every window as a column, and the adjoint.
#pragma once

#include "espalier/core/pair.h"
#include "espalier/core/tensor.h"

namespace espalier {

/// Pairs are vertical, horizontal.
struct PatchGeometry {
  using Pair = std::array<Index, 2>;
  Index images, channels;
  Pair size, kernel, result;  ///< result: windows down and across
  Pair stride, dilation, before;

  Index rows() const noexcept { return channels * kernel[0] * kernel[1]; }  ///< of one image's columns
  Index windows() const noexcept { return result[0] * result[1]; }
};

/// columns[n, (c, a, b), (i, j)] = x[n, c, i s + a d - p, j s + b d - p], 0 outside.
Tensor unfold(const Tensor& x, const Shape& columns_shape, const PatchGeometry& geometry);
/// x[n, c, u, v] = the sum of all columns that unfold would have taken from there.
Tensor fold(const Tensor& columns, const Shape& x_shape, const PatchGeometry& geometry);

}  // namespace espalier
