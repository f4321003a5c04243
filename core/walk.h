// Walking strided tensors row by row: the innermost axis is left to a kernel, the outer ones are counted here.
#pragma once

#include <array>
#include <cstddef>

#include "espalier/core/dims.h"

namespace espalier {

/// The loop over N operands of one shape. Neighbouring axes that are contiguous to each other in every operand are
/// merged, so that a dense tensor of any rank is a single row.
template <std::size_t N>
class RowWalk {
 public:
  RowWalk(const Shape& shape, const std::array<const Dims*, N>& strides) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] == 1) continue;
      bool merges = rank_ > 0;
      for (std::size_t k = 0; k < N && merges; ++k)
        merges = strides_[k][rank_ - 1] == (*strides[k])[axis] * shape[axis];
      if (merges) {
        shape_[rank_ - 1] *= shape[axis];
        for (std::size_t k = 0; k < N; ++k) strides_[k][rank_ - 1] = (*strides[k])[axis];
      } else {
        shape_[rank_] = shape[axis];
        for (std::size_t k = 0; k < N; ++k) strides_[k][rank_] = (*strides[k])[axis];
        ++rank_;
      }
    }
    if (rank_ == 0) {
      shape_[0] = count(shape);  // 1, or 0 if an axis is empty
      for (std::size_t k = 0; k < N; ++k) strides_[k][0] = 1;
      rank_ = 1;
    }
    for (int axis = 0; axis + 1 < rank_; ++axis) rows_ *= shape_[axis];
    if (row_length() == 0) rows_ = 0;
  }

  Index rows() const noexcept { return rows_; }
  Index row_length() const noexcept { return shape_[rank_ - 1]; }
  /// Distance between neighbours of a row, in elements.
  Index inner_stride(std::size_t operand) const noexcept { return strides_[operand][rank_ - 1]; }

  /// Calls row(offsets) for rows [begin, end), with each operand's offset in elements.
  template <class Row>
  void run(Index begin, Index end, Row row) const {
    if (begin >= end) return;  // an outer axis may be empty, and nothing is to be divided by its length
    std::array<Index, Dims::max_rank> at{};
    std::array<Index, N> offset{};
    Index rest = begin;
    for (int axis = rank_ - 1; axis-- > 0;) {
      at[static_cast<std::size_t>(axis)] = rest % shape_[axis];
      rest /= shape_[axis];
      for (std::size_t k = 0; k < N; ++k) offset[k] += at[static_cast<std::size_t>(axis)] * strides_[k][axis];
    }
    for (Index r = begin; r < end; ++r) {
      row(offset);
      for (int axis = rank_ - 1; axis-- > 0;) {
        Index& position = at[static_cast<std::size_t>(axis)];
        for (std::size_t k = 0; k < N; ++k) offset[k] += strides_[k][axis];
        if (++position < shape_[axis]) break;
        for (std::size_t k = 0; k < N; ++k) offset[k] -= strides_[k][axis] * shape_[axis];
        position = 0;
      }
    }
  }

 private:
  int rank_ = 0;
  Index rows_ = 1;
  Index shape_[Dims::max_rank] = {};
  Index strides_[N][Dims::max_rank] = {};
};

}  // namespace espalier
