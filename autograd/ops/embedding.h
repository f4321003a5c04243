// Embedding: rows of a table looked up by index, with a dense or a row-sparse gradient.
#pragma once

#include <optional>

#include "espalier/autograd/tape.h"

namespace espalier {

struct EmbeddingOptions {
  /// This row gets no gradient (a token that only fills up sequences). A negative one counts from the end.
  std::optional<Index> padding_idx = {};
  /// The gradient of a Parameter stores only the rows that were read: see ParameterState::row_gradient().
  bool sparse = false;
};

/// y[...] = weight[index[...]]: index i64 of any shape, weight [rows, n] -> [..., n].
/// Gradient: row r of dweight is the sum of g over all places with index r, added in their order, so that dense and
/// row-sparse gradients are the same bytes. It is dense where the weight is no Parameter, and under create_graph.
/// Errors: ShapeError, DTypeError, IndexError. Cost: dense, one pass over the table; row-sparse, the rows read.
/// Recorded with the inputs weight, index. Settings: padding_idx counted from the start, -1: none.
Variable embedding(const Tensor& index, const Variable& weight, EmbeddingOptions options = {});

}  // namespace espalier
