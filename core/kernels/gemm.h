// Dense matrix product on raw row-major pointers.
//
// Large products are cut in tiles whose bounds depend on the shape alone, and each tile is one single-threaded BLAS
// call; the others (vectors, few rows or columns, up to some 60 MFLOP) run on kernels of our own. So the bits of the
// result depend on the shape, the strides and the SIMD target, never on the number of threads.
#pragma once

#include "espalier/core/error.h"

namespace espalier::kernels {

/// A matrix as it lies in memory: row r begins at data + r * stride, stride >= columns. What takes part in a product
/// is this matrix, or its transpose.
template <class T>
struct Operand {
  const T* data;
  Index stride;
  bool transposed = false;
};

/// What happens to an element of the product before it is stored: + bias[column], then relu. Null bias: none.
template <class T>
struct Epilogue {
  const T* bias = nullptr;
  bool relu = false;
};

/// C = relu(alpha * op(A) op(B) + beta * C + bias). op(A) [m, k], op(B) [k, n], C [m, n] with rows c_stride apart.
/// With beta = 0, C is not read; with k = 0 the product is 0; NaN and Inf pass through products, sums and relu.
/// C must not overlap A, B or the bias. T is float or double. Cost: 2 m n k operations.
template <class T>
void gemm(Index m, Index n, Index k, T alpha, const Operand<T>& a, const Operand<T>& b, T beta, T* c, Index c_stride,
          const Epilogue<T>& epilogue = {});

}  // namespace espalier::kernels
