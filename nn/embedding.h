// Embedding: a table of learned vectors, looked up by index.
#pragma once

#include "espalier/autograd/ops/embedding.h"
#include "espalier/core/rng.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

struct EmbeddingLayerOptions {
  std::optional<Index> padding_idx = {};  ///< this row starts at 0 and is not learned; negative: from the end
  bool sparse = false;                    ///< gradients store only the rows that a step has read
  DType dtype = DType::f32;
};

/// y[...] = weight[index[...]]. index i64 of any shape -> [..., dim]. weight [rows, dim] ~ N(0, 1). Errors: ConfigError
/// for sizes below 0; IndexError, which names index and place. Bengio, Ducharme, Vincent, Jauvin 2003.
class Embedding final : public Module {
 public:
  Embedding(Rng& rng, Index rows, Index dim, EmbeddingLayerOptions options = {})
      : padding_idx_(options.padding_idx), sparse_(options.sparse) {
    if (rows < 0 || dim < 0) fail<ConfigError>("[embedding] a table of ", rows, " rows of ", dim, " numbers cannot be");
    Tensor table = rng.normal({rows, dim}, 0, 1, options.dtype);
    if (padding_idx_) {
      if (*padding_idx_ < -rows || *padding_idx_ >= rows)
        fail<IndexError>("[embedding] padding_idx ", *padding_idx_, " is outside [-", rows, ", ", rows, ")");
      if (*padding_idx_ < 0) *padding_idx_ += rows;
      table.select(0, *padding_idx_).fill(0, "embedding");
    }
    weight = Parameter(std::move(table));
  }

  Variable operator()(const Tensor& index) const {
    return forward([&] { return embedding(index, weight, {.padding_idx = padding_idx_, .sparse = sparse_}); });
  }
  void members(Visitor& v) override { v("weight", weight); }

  Parameter weight;

 private:
  std::optional<Index> padding_idx_;
  bool sparse_;
};

}  // namespace espalier::nn
