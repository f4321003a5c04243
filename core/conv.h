// Two-dimensional convolution of tensors, and its two gradients. One-dimensional ones are images of height 1.
//
// No matrix of patches is made: see core/kernels/conv.h. Work is shared out by images, or by channels where images are
// few; bits depend on shapes and the SIMD target alone.
// Errors of all: ShapeError where a tensor does not fit the geometry, DTypeError.
#pragma once

#include <array>

#include "espalier/core/tensor.h"

namespace espalier {

/// The sizes of one convolution. Pairs are vertical, horizontal.
struct ConvGeometry {
  using Pair = std::array<Index, 2>;
  Index batch, groups;
  Index in, out;  ///< channels; both multiples of groups
  Pair size;      ///< of the input's images
  Pair kernel;
  Pair result;  ///< of the output's images
  Pair stride, dilation;
  Pair before;  ///< zeros above and to the left; what is needed below and to the right follows from `result`

  Shape x_shape() const { return {batch, in, size[0], size[1]}; }
  Shape y_shape() const { return {batch, out, result[0], result[1]}; }
  /// Rows and columns, the first zeros included, that the kernel passes over.
  Pair reach() const {
    Pair reach;
    for (std::size_t a = 0; a < 2; ++a) reach[a] = (result[a] - 1) * stride[a] + (kernel[a] - 1) * dilation[a] + 1;
    return reach;
  }
  Shape weight_shape() const { return {out, groups > 0 ? in / groups : 0, kernel[0], kernel[1]}; }
};

/// y[n, o, i, j] = bias[o] + sum over c, a, b of weight[o, c, a, b] x[n, c', i s + a d - p, j s + b d - p], then relu
/// if wanted; what lies outside of x is 0. c' counts within the group of o. f32, f64. `bias` [out] or null.
/// Cost: 2 y.size() (in / groups) kernel operations, near the processor's peak from 4 channels and rows of a vector on.
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor* bias, const ConvGeometry& geometry,
              bool relu = false);
/// The adjoint in x: what conv2d's gradient g = d loss / d y makes of x; the transposed convolution of g.
/// `bias` [in] or null is added.
Tensor conv2d_data(const Tensor& g, const Tensor& weight, const Tensor* bias, const ConvGeometry& geometry);
/// The gradient of the weight: sum over images and pixels of g[n, o, i, j] x[n, c', i s + a d - p, j s + b d - p].
/// Images are summed in groups whose number depends on the shape alone, the groups pairwise.
Tensor conv2d_weight(const Tensor& x, const Tensor& g, const ConvGeometry& geometry);

}  // namespace espalier
