// Matrix products where BLAS is not the best: few rows or columns, little or middling work. Part of gemm.h, not to be
// called directly.
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

/// Any product with c_column = 1, by panels of op(B) of two vectors' width; packs what would be slow to walk.
template <class T>
void panel_gemm(const Product<T>& product);
/// True where panel_gemm is faster than tiles of BLAS: few columns, little or middling work.
template <class T>
bool prefers_panels(const Product<T>& product);
/// One row: m = 1. Needs a_column = 1, and b_row = 1 or b_column = 1.
template <class T>
void gemv(const Product<T>& product);
/// Few rows times a transposed B, which is read once and never packed. Needs a_column = 1, b_row = 1, c_column = 1.
template <class T>
void few_rows(const Product<T>& product);

}  // namespace espalier::kernels
