// Matrix products that BLAS is bad at: few columns, one row, or little work. Part of gemm.h, not to be called directly.
#pragma once

#include "espalier/core/kernels/gemm.h"

namespace espalier::kernels {

/// A product with any strides: element (i, p) of op(A) is a[i * a_row + p * a_column], the same for op(B); bias element
/// j is bias[j * bias_step], or there is none.
template <class T>
struct Product {
  Index m, n, k;
  T alpha;
  const T* a;
  Index a_row, a_column;
  const T* b;
  Index b_row, b_column;
  T beta;
  T* c;
  Index c_row, c_column;
  const T* bias;
  Index bias_step;
  bool relu;
};

/// Widest op(B) for which thin_gemm needs a single pass over A.
inline constexpr Index thin_columns = 16;

/// Any product; meant for few columns or little work. Needs c_column = 1.
template <class T>
void thin_gemm(const Product<T>& product);
/// One row: m = 1. Needs a_column = 1, and b_row = 1 or b_column = 1.
template <class T>
void gemv(const Product<T>& product);

}  // namespace espalier::kernels
