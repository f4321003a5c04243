// Pooling over windows of images: largest values and means, with their adjoints. Sequences are images of height 1.
#pragma once

#include "espalier/core/pair.h"
#include "espalier/core/tensor.h"

namespace espalier {

/// Windows over images; pairs are vertical, horizontal.
struct PoolGeometry {
  using Pair = std::array<Index, 2>;
  Index planes;  ///< images times channels
  Pair size, result;
  Pair kernel;  ///< of an adaptive pool: the longest window
  Pair stride, dilation, before;
  bool adaptive;              ///< window i is [i size / result, (i + 1) size / result), rounded outwards
  bool count_padding = true;  ///< means: zeros around the image count
  double divisor = 0;         ///< means: 0 is the number of elements

  /// What window i of an axis sees of the image: begin, begin + dilation ... below end; and its length for a mean.
  struct Window {
    Index begin, end, length;
  };
  Window window(std::size_t axis, Index i) const noexcept;
  /// Where it begins, padding included.
  Index begin(std::size_t axis, Index i) const noexcept;
};

/// Largest value of each window, and which it was: its place in the window, padding included, in row-major order (u8
/// where it fits, else i32). The first of equals; a NaN is larger than all. x and y have `planes` images in row-major
/// order.
struct MaxPool {
  Tensor values, places;
};
MaxPool max_pool(const Tensor& x, const Shape& y_shape, const PoolGeometry& geometry);
/// The same values picked by their places: y = x[place].
Tensor max_pool_pick(const Tensor& x, const Tensor& places, const PoolGeometry& geometry);
/// The adjoint: each value of g is added where it came from; 0 elsewhere.
Tensor max_pool_spread(const Tensor& g, const Tensor& places, const Shape& x_shape, const PoolGeometry& geometry);
/// Places as positions in the image, y W + x; i64.
Tensor max_pool_indices(const Tensor& places, const PoolGeometry& geometry);

/// Mean of each window.
Tensor avg_pool(const Tensor& x, const Shape& y_shape, const PoolGeometry& geometry);
/// The adjoint: each value of g, divided, is added to all elements of its window.
Tensor avg_pool_spread(const Tensor& g, const Shape& x_shape, const PoolGeometry& geometry);

}  // namespace espalier
