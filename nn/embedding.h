// Embedding: a table of learned vectors, looked up by index; EmbeddingBag: sums of such vectors.
#pragma once

#include "espalier/autograd/ops/embedding.h"
#include "espalier/core/rng.h"
#include "espalier/nn/module.h"

namespace espalier::nn {

struct EmbeddingLayerOptions {
  std::optional<Index> padding_idx = {};  ///< this row starts at 0 and is not learned; negative: from the end
  std::optional<double> max_norm = {};    ///< rows longer than this are made this long when they are read
  double norm_type = 2;                   ///< the p of that norm
  bool sparse = false;                    ///< gradients store only the rows that a step has read
  DType dtype = DType::f32;
};

namespace detail {
/// Draws weight [rows, dim] ~ N(0, 1) and counts padding_idx from the start. Errors: as Embedding.
Parameter draw_table(const char* layer, Rng& rng, Index rows, Index dim, DType type, std::optional<Index>& padding_idx);
/// embedding(), where each row that is read has been multiplied by max_norm / (n + 1e-7) before if its p-norm n is
/// above max_norm, where there is one. Errors: as embedding, before anything is written; ConfigError unless p > 0 and
/// max_norm >= 0.
Variable look_up(const Parameter& table, const Tensor& index, const EmbeddingOptions& options,
                 const std::optional<double>& max_norm, double p);
}  // namespace detail

/// y[...] = weight[index[...]]. index i64 of any shape -> [..., dim]. weight [rows, dim] ~ N(0, 1). Errors: ConfigError
/// for sizes below 0; IndexError, which names index and place. Bengio, Ducharme, Vincent, Jauvin 2003.
///
/// With max_norm a forward pass writes: too long a row of the table is scaled down where it lies, without gradient, in
/// evaluation too, as PyTorch does. So it is not for two threads at once before all rows have been read, and a tape
/// that has saved the table for another op (a tied output layer that ran first) refuses to go backward, if a row
/// changed. Masks hold. Of a packed table, which cannot be written, what is read out is scaled.
class Embedding final : public Module {
 public:
  Embedding(Rng& rng, Index rows, Index dim, EmbeddingLayerOptions options = {})
      : padding_idx_(options.padding_idx),
        max_norm_(options.max_norm),
        norm_type_(options.norm_type),
        sparse_(options.sparse) {
    weight = detail::draw_table("embedding", rng, rows, dim, options.dtype, padding_idx_);
  }

  Variable operator()(const Tensor& index) const {
    return forward([&] {
      return detail::look_up(weight, index, {.padding_idx = padding_idx_, .sparse = sparse_}, max_norm_, norm_type_);
    });
  }
  Variable operator()(const Variable& index) const { return (*this)(index.value()); }  ///< in a Sequential
  void members(Visitor& v) override { v("weight", weight); }

  Parameter weight;

 private:
  std::optional<Index> padding_idx_;
  std::optional<double> max_norm_;
  double norm_type_;
  bool sparse_;
};

enum class BagMode : std::uint8_t { sum, mean, max };

struct EmbeddingBagOptions {
  BagMode mode = BagMode::mean;
  std::optional<Index> padding_idx = {};  ///< takes no part in any bag; starts at 0, is not learned
  std::optional<double> max_norm = {};    ///< as Embedding's
  double norm_type = 2;
  bool include_last_offset = false;  ///< the last of the offsets is not a bag, but the end of the last one
  bool sparse = false;
  DType dtype = DType::f32;
};

/// y[b] = sum, mean or elementwise max of the rows of weight that bag b names; 0 for an empty bag. -> [B, dim].
/// index i64 [B, T]: B bags of T each; or [n] with offsets i64 [B], where bag b begins at index[offsets[b]] and ends
/// before index[offsets[b + 1]], the last one with the list. With mode sum, `per_sample_weights`, shaped as index,
/// multiply the rows. weight [rows, dim] ~ N(0, 1). The gradient is row-sparse if `sparse`; of equal maxima the first
/// gets it. Errors: ShapeError, DTypeError, IndexError; ConfigError for weights with another mode. Cost: the rows are
/// read out, n dim numbers.
class EmbeddingBag final : public Module {
 public:
  EmbeddingBag(Rng& rng, Index rows, Index dim, EmbeddingBagOptions options = {})
      : weight(detail::draw_table("embedding_bag", rng, rows, dim, options.dtype, options.padding_idx)),
        options_(options) {}

  Variable operator()(const Tensor& index, const Tensor& offsets = {}, const Variable& per_sample_weights = {}) const;
  Variable operator()(const Variable& index) const { return (*this)(index.value()); }  ///< in a Sequential
  void members(Visitor& v) override { v("weight", weight); }

  Parameter weight;

 private:
  EmbeddingBagOptions options_;
};

}  // namespace espalier::nn
