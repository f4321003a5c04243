// The only file that includes OpenBLAS.
#include "espalier/core/kernels/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <limits>

#include "espalier/core/kernels/own_gemm.h"
#include "espalier/core/parallel.h"

namespace espalier::kernels {

namespace {

constexpr Index most_blas = std::numeric_limits<std::int32_t>::max();  // BLAS counts in 32 bits
constexpr Index piece_blas = Index{1} << 30;

void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, float alpha, const float* a, Index lda,
          const float* b, Index ldb, float beta, float* c, Index ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, a,
              static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}
void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, double alpha, const double* a, Index lda,
          const double* b, Index ldb, double beta, double* c, Index ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, a,
              static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

/// OpenBLAS's own threads would change bits with their number, and fight ours for the processors.
void keep_blas_single_threaded() {
  static const bool done = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  static_cast<void>(done);
}

/// Rows and columns of one tile. Cutting costs packing (about 2 % with 2 tiles, 5 % with 4, 8 % with 8, if the longer
/// side of the tiles is cut), so the number of tiles grows slowly with the work.
struct Tiling {
  Tiling(Index m, Index n, Index k) : rows(m), columns(n) {
    const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    for (double limit = 2e6; flops >= limit && std::max(rows, columns) >= 2 * shortest; limit *= limit < 3e7 ? 16 : 4) {
      Index& longer = rows > columns ? rows : columns;
      longer = ((longer + 1) / 2 + 7) / 8 * 8;
    }
    rows = std::min(rows, piece_blas);
    columns = std::min(columns, piece_blas);
  }
  static constexpr Index shortest = 48;
  Index rows, columns;
};

template <class T>
void tile(Index m, Index n, Index k, T alpha, const Operand<T>& a, const Operand<T>& b, T beta, T* c, Index c_stride,
          const Epilogue<T>& epilogue) {
  if (epilogue.bias) {  // BLAS adds to it: cheaper than a pass over the product
    for (Index i = 0; i < m; ++i) {
      T* row = c + i * c_stride;
      if (beta == T(0)) {
        std::copy_n(epilogue.bias, n, row);
      } else {
        for (Index j = 0; j < n; ++j) row[j] = beta * row[j] + epilogue.bias[j];
      }
    }
    beta = T(1);
  }
  for (Index p = 0; p < k; p += piece_blas) {
    blas(a.transposed ? CblasTrans : CblasNoTrans, b.transposed ? CblasTrans : CblasNoTrans, m, n,
         std::min(piece_blas, k - p), alpha, a.data + (a.transposed ? p * a.stride : p), a.stride,
         b.data + (b.transposed ? p : p * b.stride), b.stride, p == 0 ? beta : T(1), c, c_stride);
  }
  if (!epilogue.relu) return;
  for (Index i = 0; i < m; ++i) {
    T* row = c + i * c_stride;
    for (Index j = 0; j < n; ++j) row[j] = row[j] < T(0) ? T(0) : row[j];
  }
}

constexpr Index narrow = 16;    // up to here panels beat a row of dot products
constexpr Index few = 16;       // rows
constexpr Index long_row = 64;  // elements that make the reduction at a dot product's end small

}  // namespace

template <class T>
void gemm(Index m, Index n, Index k, T alpha, const Operand<T>& a, const Operand<T>& b, T beta, T* c, Index c_stride,
          const Epilogue<T>& epilogue) {
  if (m <= 0 || n <= 0) return;
  const Product<T> product{.m = m,
                           .n = n,
                           .k = std::max<Index>(k, 0),
                           .alpha = alpha,
                           .a = a.data,
                           .a_row = a.transposed ? 1 : a.stride,
                           .a_column = a.transposed ? a.stride : 1,
                           .b = b.data,
                           .b_row = b.transposed ? 1 : b.stride,
                           .b_column = b.transposed ? b.stride : 1,
                           .beta = beta,
                           .c = c,
                           .c_row = c_stride,
                           .c_column = 1,
                           .bias = epilogue.bias,
                           .bias_step = 1,
                           .relu = epilogue.relu};
  if (m == 1 && n > narrow && product.a_column == 1) return gemv(product);
  if (n == 1 && m > narrow && product.b_row == 1) {  // C^T = op(B)^T op(A)^T is one row
    return gemv(Product<T>{.m = 1,
                           .n = m,
                           .k = product.k,
                           .alpha = alpha,
                           .a = b.data,
                           .a_row = product.b_column,
                           .a_column = product.b_row,
                           .b = a.data,
                           .b_row = product.a_column,
                           .b_column = product.a_row,
                           .beta = beta,
                           .c = c,
                           .c_row = 1,
                           .c_column = c_stride,
                           .bias = epilogue.bias,
                           .bias_step = 0,
                           .relu = epilogue.relu});
  }
  if (m <= few && n > narrow && k >= long_row && product.a_column == 1 && product.b_row == 1) return few_rows(product);
  if (prefers_panels(product) || std::max({a.stride, b.stride, c_stride}) > most_blas) return panel_gemm(product);
  keep_blas_single_threaded();
  const Tiling tiling(m, n, k);
  const Index across = detail::chunk_count(n, tiling.columns);
  const Index down = detail::chunk_count(m, tiling.rows);
  parallel_for(down * across, 1, [&](Index q, Index) {
    const Index i = q / across * tiling.rows;
    const Index j = q % across * tiling.columns;
    const Operand<T> left{a.data + (a.transposed ? i : i * a.stride), a.stride, a.transposed};
    const Operand<T> right{b.data + (b.transposed ? j * b.stride : j), b.stride, b.transposed};
    const Epilogue<T> rest{epilogue.bias ? epilogue.bias + j : nullptr, epilogue.relu};
    tile(std::min(tiling.rows, m - i), std::min(tiling.columns, n - j), k, alpha, left, right, beta,
         c + i * c_stride + j, c_stride, rest);
  });
}

template void gemm(Index, Index, Index, float, const Operand<float>&, const Operand<float>&, float, float*, Index,
                   const Epilogue<float>&);
template void gemm(Index, Index, Index, double, const Operand<double>&, const Operand<double>&, double, double*, Index,
                   const Epilogue<double>&);

}  // namespace espalier::kernels
