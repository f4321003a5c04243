// What a PackedLinear holds. Private to packed_linear.cpp and packed_conv.cpp.
#pragma once

#include <variant>

#include "espalier/core/kernels/sparse.h"
#include "espalier/core/packed_linear.h"

namespace espalier {

/// A layout in one of the computing types, or nothing.
using AnySparse = std::variant<std::monostate, kernels::SparseMatrix<float>, kernels::SparseMatrix<double>>;

struct PackedLinear::Form {
  AnySparse single, structured;
  Tensor dense;  // undefined if no class needs it

  template <class T>
  const kernels::SparseMatrix<T>& as(KernelChoice choice) const {
    return std::get<kernels::SparseMatrix<T>>(choice == KernelChoice::sparse ? single : structured);
  }
  template <class T>
  const kernels::SparseMatrix<T>& any() const {
    const auto* first = std::get_if<kernels::SparseMatrix<T>>(&single);
    return first ? *first : std::get<kernels::SparseMatrix<T>>(structured);
  }
};

namespace detail {
/// y = W * x for images, W [out, channels * kernel] in the layout. Shapes are checked, tensors contiguous, y.size() > 0,
/// groups 1. Bias may be null.
template <class T>
void sparse_conv2d(const kernels::SparseMatrix<T>& w, const T* x, const T* bias, const ConvGeometry& geometry,
                   bool relu, T* y);
/// [out, in] of a weight.
inline Index rows_of(const Shape& shape) { return shape[0]; }
inline Index columns_of(const Shape& shape) {
  Index columns = 1;
  for (int axis = 1; axis < shape.rank(); ++axis) columns *= shape[axis];
  return columns;
}
}  // namespace detail

}  // namespace espalier
