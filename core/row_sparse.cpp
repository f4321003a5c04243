#include "espalier/core/row_sparse.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "espalier/core/elementwise.h"
#include "espalier/core/index.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/matmul.h"
#include "espalier/core/parallel.h"

namespace espalier {
namespace {

Shape values_shape(const Shape& whole, Index rows) {
  Shape shape = whole;
  shape[0] = rows;
  return shape;
}

Index row_length(const Shape& shape) {
  Index n = 1;
  for (int axis = 1; axis < shape.rank(); ++axis) n *= shape[axis];
  return n;
}

Tensor held(const Shape& shape, Tensor rows, Tensor values) {
  const DType type = values.dtype();
  return Tensor::packed(shape, type, std::make_unique<RowSparse>(shape, std::move(rows), std::move(values)));
}

/// Row k of the result is the sum of source rows order[start[k]] ... order[start[k + 1] - 1], from the left.
Tensor sum_segments(const Tensor& source, const std::vector<Index>& order, const std::vector<Index>& start,
                    const Shape& shape) {
  Tensor result = Tensor::empty(shape, source.dtype());
  const Index n = row_length(shape);
  dispatch_floating("row_sparse", source.dtype(), [&]<class T>() {
    const T* from = source.data<T>();
    T* to = result.write<T>("row_sparse");
    const auto add = kernels::binary().add.get<T>().vv;
    parallel_for(shape[0], std::max<Index>(1, (Index{1} << 14) / std::max<Index>(1, n)), [&](Index begin, Index end) {
      for (Index k = begin; k < end; ++k) {
        const auto first = static_cast<std::size_t>(start[static_cast<std::size_t>(k)]);
        const auto last = static_cast<std::size_t>(start[static_cast<std::size_t>(k) + 1]);
        T* row = to + k * n;
        std::fill_n(row, n, T(0));  // sums begin at 0, as in a dense gradient: -0 becomes 0
        for (std::size_t j = first; j < last; ++j) add(row, from + order[j] * n, row, n, T(0), T(0));
      }
    });
  });
  return result;
}

}  // namespace

Tensor row_sparse_sum(const Shape& shape, const Tensor& index, const Tensor& values, Index skip) {
  if (shape.rank() < 1 || index.rank() != 1 || !(values.shape() == values_shape(shape, index.size())))
    fail<ShapeError>("[row_sparse] rows ", index.shape(), " and values ", values.shape(), " for a tensor of shape ",
                     shape);
  check_indices("row_sparse", index, shape[0], join("among the rows of ", shape));
  const Tensor places = index.contiguous(), dense = values.contiguous();
  const std::int64_t* at = places.data<std::int64_t>();
  std::vector<Index> order;
  order.reserve(static_cast<std::size_t>(index.size()));
  for (Index k = 0; k < index.size(); ++k)
    if (at[k] != skip) order.push_back(k);
  std::sort(order.begin(), order.end(), [at](Index a, Index b) { return at[a] != at[b] ? at[a] < at[b] : a < b; });
  std::vector<Index> rows, start;
  for (std::size_t k = 0; k < order.size(); ++k) {
    if (!rows.empty() && rows.back() == at[order[k]]) continue;
    rows.push_back(at[order[k]]);
    start.push_back(static_cast<Index>(k));
  }
  start.push_back(static_cast<Index>(order.size()));
  const auto count = static_cast<Index>(rows.size());
  return held(shape, Tensor::from(rows, {count}), sum_segments(dense, order, start, values_shape(shape, count)));
}

const RowSparse* row_sparse(const Tensor& t) noexcept { return dynamic_cast<const RowSparse*>(t.packed()); }

Tensor with_values(const RowSparse& t, Tensor values) {
  if (!(values.shape() == t.values().shape()) || values.dtype() != t.values().dtype())
    fail<ShapeError>("[row_sparse] values ", values.shape(), " for rows with ", t.values().shape());
  return held(t.shape(), t.rows(), std::move(values));
}

Tensor add_row_sparse(Tensor a, Tensor b) {
  check_same_dtype("add", a, b);
  if (!(a.shape() == b.shape())) fail<ShapeError>("[add] shapes differ: ", a.shape(), " and ", b.shape());
  const RowSparse *left = row_sparse(a), *right = row_sparse(b);
  if (!left || !right) {
    Tensor sum = left ? std::move(b) : std::move(a);
    if (!sum.sole_owner() || !sum.is_contiguous()) sum = sum.clone();
    if (left)
      left->add_to(sum);
    else if (right)
      right->add_to(sum);
    else
      add_in_place(sum, b);
    return sum;
  }
  // The rows of both, one behind the other: row k of a comes before the same row of b.
  auto joined = [](const Tensor& first, const Tensor& second, const Shape& shape) {
    Tensor both = Tensor::empty(shape, first.dtype());
    both.narrow(0, 0, first.shape()[0]).copy_from(first);
    both.narrow(0, first.shape()[0], second.shape()[0]).copy_from(second);
    return both;
  };
  const Index n = left->rows().size() + right->rows().size();
  return row_sparse_sum(a.shape(), joined(left->rows(), right->rows(), {n}),
                        joined(left->values(), right->values(), values_shape(a.shape(), n)));
}

void RowSparse::add_to(Tensor& into) const { index_add_in_place(into, 0, rows_, values_); }

Tensor RowSparse::densify() const {
  Tensor dense = Tensor::zeros(shape_, values_.dtype());
  add_to(dense);
  return dense;
}

Tensor RowSparse::linear(const Tensor& x, const Tensor* bias) const { return espalier::linear(x, densify(), bias); }

std::string RowSparse::describe() const { return join("rows ", rows_.size(), " of ", shape_[0]); }

}  // namespace espalier
