// y = x W^T + bias for a W of which few entries are stored.
//
// One layout serves all patterns. The columns are cut in blocks whose slice of the activations stays in a cache, the
// rows in windows, one chunk of work each. In a window and block, eight rows make a slice and run together: step q of a
// slice holds one entry (or a run of them) of each of its rows. Rows of like length share a slice, so little is
// filled up.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "espalier/core/error.h"

namespace espalier::kernels {

/// The pattern that a layout relies on: single entries, blocks of height x 1 (height 4 or 8) or 1 x breadth (breadth 4
/// or 8) at multiples of their size, or at most `keep` of each `of` (4, 8 or 16) consecutive entries of a row.
struct SparsePattern {
  Index height = 1, breadth = 1;
  Index keep = 0, of = 0;

  bool blocked() const noexcept { return height > 1 || breadth > 1; }
  bool grouped() const noexcept { return of > 0; }
  bool single() const noexcept { return !blocked() && !grouped(); }
  /// "entries", "8x1 blocks", "2:4".
  std::string describe() const;
  friend bool operator==(const SparsePattern&, const SparsePattern&) = default;
};

/// The best pattern whose stored entries are at most 1.15 times those that are not zero: blocks, the larger first, then
/// the N:M of the lowest share; else single entries. Depends on the values alone.
template <class T>
SparsePattern find_pattern(const T* w, Index rows, Index columns);

inline constexpr Index slice_rows = 8;
/// Zeros behind a block of activations, for what is filled up and for runs that reach over the last column.
inline constexpr Index panel_padding = 16;

template <class T>
struct SparseMatrix {
  Index rows = 0, columns = 0;
  SparsePattern pattern;
  Index live = 0;                     ///< entries that are not 0
  Index width = 1;                    ///< columns of a block
  Index blocks = 0;                   ///< of columns
  Index window = 8;                   ///< rows that are sorted among themselves, a multiple of 8, at most 256
  std::vector<std::uint32_t> begin;   ///< [blocks * slices + 1], in steps
  std::vector<std::uint16_t> order;   ///< [blocks * slices][8]: which row of its window a lane is
  std::vector<std::uint16_t> column;  ///< [steps][8 / height]: counted from the block's first; `width`: filled up
  std::vector<std::uint8_t> place;    ///< N:M instead: [steps][8], in the group
  std::vector<T> value;               ///< [steps][8][breadth]

  Index slices() const noexcept { return (rows + slice_rows - 1) / slice_rows; }
  Index windows() const noexcept { return (rows + window - 1) / window; }
  /// Rows of a panel of activations: each block's, and zeros.
  Index panel_rows() const noexcept { return blocks * (width + panel_padding); }
  Index bytes() const noexcept {
    return static_cast<Index>(begin.size() * 4 + place.size() + order.size() * 2 + column.size() * 2 +
                              value.size() * sizeof(T));
  }
};

/// The entries of a row-major W [rows, columns] that are not zero (NaN counts as not zero), laid out by `pattern`, which
/// W must follow. Errors: ConfigError if it does not, or beyond 2^32 - 1 steps.
template <class T>
SparseMatrix<T> to_sparse(const T* w, Index rows, Index columns, const SparsePattern& pattern = {});
/// Writes all rows * columns values, zeros where nothing is stored.
template <class T>
void to_dense(const SparseMatrix<T>& w, T* dense);

/// y = x W^T + bias. x [batch, columns], y [batch, rows], both dense row-major; bias [rows] or null. A row of y has the
/// same bits in any batch of two or more, and at any thread count; single entries also at batch 1, and are no product
/// at all where they are pruned. Cost: 2 * live * batch operations, and for batches two transposes.
template <class T>
void sparse_linear(const SparseMatrix<T>& w, const T* x, Index batch, const T* bias, T* y);

/// Samples of a panel that is to hold `left` more of them: 1, 2 or 4 vectors.
template <class T>
Index panel_length(Index left);
/// Row c of the matrix in a panel: behind the zeros of the blocks before it.
template <class T>
Index panel_row(const SparseMatrix<T>& w, Index c) {
  return c + c / w.width * panel_padding;
}
/// Zeros the rows of a panel [panel_rows, length] that stand for no column.
template <class T>
void clear_padding(const SparseMatrix<T>& w, T* panel, Index length);
/// Window `window` of W times a panel: y [rows of the window, a multiple of 8][length], bias added. Single-threaded.
template <class T>
void sparse_panel(const SparseMatrix<T>& w, Index window, const T* panel, Index length, const T* bias, T* y);

/// Dot products of chosen rows: to[k] += sum over n < length of a[n] x[column[k] * length + n] for k < count. Lengths are
/// those of panels. The sums run by lanes, then over the lanes.
template <class T>
void add_dots(const T* a, const T* x, const std::uint32_t* column, Index count, Index length, T* to);
/// The transpose of a matrix [rows, columns] whose rows lie from_stride apart, by SIMD.
template <class T>
void to_panel(const T* from, Index from_stride, Index rows, Index columns, T* to, Index to_stride);

}  // namespace espalier::kernels
