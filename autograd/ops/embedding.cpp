#include "espalier/autograd/ops/embedding.h"

#include "espalier/autograd/ops/index.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/index.h"
#include "espalier/core/row_sparse.h"

namespace espalier {
namespace {

/// The sum of g's rows over the places of each index; row `padding` stays 0.
Variable embedding_gradient(const Variable& g, const Tensor& index, const Shape& table, Index padding) {
  const Tensor rows = g.value().reshape({index.size(), table[1]});
  Tensor y = Tensor::zeros(table, g.dtype());
  index_add_in_place(y, 0, index.reshape({index.size()}), rows);
  if (padding >= 0) y.select(0, padding).fill(0, "embedding");
  if (!recording(g)) return y;
  return record("embedding_backward", std::move(y), {&g}, [index = Saved(index), padding](const Variable& gg, Wants) {
    const Variable table_gradient =
        padding < 0 ? gg : index_fill(gg, 0, Tensor::full({1}, static_cast<double>(padding), DType::i64), 0);
    return embedding(index.value(), table_gradient);
  });
}

}  // namespace

Variable embedding(const Tensor& index, const Variable& weight, EmbeddingOptions options) {
  if (weight.rank() != 2)
    fail<ShapeError>("[embedding] the weight must be [rows, n], got ", weight.shape(), " for index ", index.shape());
  const Index rows = weight.shape()[0], n = weight.shape()[1];
  Index padding = options.padding_idx.value_or(-1);
  if (options.padding_idx) {
    if (padding < -rows || padding >= rows)
      fail<IndexError>("[embedding] padding_idx ", padding, " is outside [-", rows, ", ", rows, ") of the weight ",
                       weight.shape());
    if (padding < 0) padding += rows;
  }
  check_indices("embedding", index, rows, join("among the rows of the weight ", weight.shape()));
  Shape shape = index.shape();
  shape.push_back(n);
  const Tensor list = index.reshape({index.size()});
  Tensor y = index_select(weight.value().densify(), 0, list).reshape(shape);
  if (!recording(weight)) return y;
  Tape& tape = *Tape::recording();
  const bool sparse = options.sparse && tape.parameter_of(tape.slot_of(weight)) != nullptr;
  const Variable places = index;
  return record(
      "embedding", std::move(y), {&weight, &places},
      [index = Saved(index), table = weight.shape(), padding, sparse](const Variable& g, Wants) -> Variable {
        const Index count = index.value().size();
        if (!sparse || Tape::recording()) return embedding_gradient(g, index.value(), table, padding);
        return row_sparse_sum(table, index.value().reshape({count}), g.value().reshape({count, table[1]}), padding);
      },
      settings(padding));
}

}  // namespace espalier
