// Matrix products where BLAS is not the best: few rows or columns, little or middling work. Part of gemm.h, not to be
// called directly.
#pragma once

#include "espalier/core/kernels/gemm.h"
#include "espalier/core/storage.h"

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

/// op(B) [k, n], laid out once for many products with few rows each: a recurrence multiplies by its weight at every
/// step, where packing it anew would cost as much as the product.
template <class T>
class Prepacked final {
 public:
  Prepacked(const Operand<T>& b, Index k, Index n);
  /// C = A op(B) + bias, or C += A op(B) + bias. A [m, k] and C [m, n], rows `a_stride` and `c_stride` apart; C overlaps
  /// neither; bias [n] or null. The bits of a row do not depend on the other rows. Columns are shared out between
  /// threads where the work is worth it; inside a parallel_for it runs on its own thread. Meant for up to some 50 rows;
  /// more are better cut by the caller.
  void multiply(Index m, const T* a, Index a_stride, T* c, Index c_stride, bool accumulate,
                const T* bias = nullptr) const;

 private:
  Index k_, n_;
  StoragePtr panels_;
};

}  // namespace espalier::kernels
