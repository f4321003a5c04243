// RowSparse: a tensor [rows, ...] of which only some rows are stored, the others being 0. The gradient of an embedding
// is one: a step that reads 64 of 100,000 rows stores 64.
#pragma once

#include "espalier/core/packed.h"
#include "espalier/core/tensor.h"

namespace espalier {

/// Immutable, like every packed representation, and held by a Tensor. The order of sums depends on the data alone, so
/// results are the same bytes at any thread count, and the same as those of index_add into zeros.
class RowSparse final : public Packed {
 public:
  /// `rows` i64 [n], ascending, each once; `values` [n, ...] of the shape's other axes. See row_sparse_sum for others.
  RowSparse(const Shape& shape, Tensor rows, Tensor values)
      : shape_(shape), rows_(std::move(rows)), values_(std::move(values)) {}

  const Shape& shape() const noexcept { return shape_; }
  const Tensor& rows() const noexcept { return rows_; }      ///< i64 [n], ascending, each once
  const Tensor& values() const noexcept { return values_; }  ///< [n, ...]
  /// into[rows[k]] += values[k].
  void add_to(Tensor& into) const;

  std::string kernel(Index) const override { return "rows"; }
  Tensor linear(const Tensor& x, const Tensor* bias) const override;
  Tensor densify() const override;
  Index live() const override { return values_.size(); }
  std::string describe() const override;

 private:
  Shape shape_;
  Tensor rows_, values_;
};

/// Row index[k] += values[k], in the order of the list, but for those with index[k] = skip (-1: none). index i64 [n] in
/// [0, shape[0]), values [n, ...] of the shape's other axes. Errors: ShapeError, DTypeError, IndexError. Cost: a sort of
/// n numbers and one pass over the values.
Tensor row_sparse_sum(const Shape& shape, const Tensor& index, const Tensor& values, Index skip = -1);
/// What `t` holds; null if it is not row-sparse.
const RowSparse* row_sparse(const Tensor& t) noexcept;
/// The same rows with other values, of the same shape and type.
Tensor with_values(const RowSparse& t, Tensor values);
/// a + b, of one shape and type, of which either may be row-sparse; row-sparse only if both are. Writes into a dense one
/// that nobody else holds.
Tensor add_row_sparse(Tensor a, Tensor b);

}  // namespace espalier
