// y = x W^T + bias for a W of which few entries are stored.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/core/error.h"

namespace espalier::kernels {

/// The entries of W [rows, columns] that are not zero, by column blocks: block b holds columns [b * width, (b + 1) *
/// width) of all rows, row after row, columns ascending. A block's slice of the activations stays in L1 while all rows
/// pass.
template <class T>
struct SparseMatrix {
  Index rows = 0, columns = 0;
  Index width = 1;  ///< columns of a block, at most 65536
  Index blocks = 0;
  std::vector<std::uint32_t>
      begin;  ///< [blocks * rows + 1]: row r of block b is [begin[b * rows + r], begin[b * rows + r + 1])
  std::vector<std::uint16_t> column;  ///< [live], counted from the block's first
  std::vector<T> value;               ///< [live]

  Index live() const noexcept { return static_cast<Index>(value.size()); }
  Index bytes() const noexcept {
    return static_cast<Index>(begin.size() * sizeof(std::uint32_t) + column.size() * sizeof(std::uint16_t) +
                              value.size() * sizeof(T));
  }
};

/// The entries of a row-major W [rows, columns] that are not zero (NaN counts as not zero).
/// Errors: ConfigError beyond 2^32 - 1 of them.
template <class T>
SparseMatrix<T> to_sparse(const T* w, Index rows, Index columns);
/// Writes all rows * columns values, zeros where nothing is stored.
template <class T>
void to_dense(const SparseMatrix<T>& w, T* dense);

/// y = x W^T + bias. x [batch, columns], y [batch, rows], both dense row-major; bias [rows] or null. A row of y has the
/// same bits in any batch of two or more, and at any thread count. Cost: 2 * live * batch operations, and for batches
/// two transposes.
template <class T>
void sparse_linear(const SparseMatrix<T>& w, const T* x, Index batch, const T* bias, T* y);

}  // namespace espalier::kernels
