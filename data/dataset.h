// Dataset: inputs and targets, row by row.
#pragma once

#include <span>

#include "espalier/core/rng.h"
#include "espalier/core/tensor.h"

namespace espalier::data {

/// Row i of x [N, ...] belongs to row i of y [N, ...]. y may be undefined: inputs without targets.
struct Dataset {
  Tensor x;
  Tensor y;

  /// Number of rows. Errors: ShapeError if x and y do not agree on it, or x has no rows to count.
  Index size() const;
  /// Copies of these rows, in this order, repeats allowed. Errors: IndexError outside [0, size).
  Dataset rows(std::span<const Index> indices) const;
};

/// Which part of a published set is meant.
enum class Split { train, test };

struct TrainTest {
  Dataset train;
  Dataset test;
};

/// The rows with index % every == at are the test rows. Errors: ConfigError unless 0 <= at < every.
TrainTest split_every(const Dataset& dataset, Index every, Index at);
/// round(test_share * size) rows, drawn without replacement, are the test rows; both parts keep the set's order.
/// Errors: ConfigError unless 0 <= test_share <= 1.
TrainTest split_at_random(const Dataset& dataset, double test_share, Rng rng);

/// Copies of the rows of t [N, ...], in this order. Errors: ShapeError for a scalar, IndexError.
Tensor gather_rows(const Tensor& t, std::span<const Index> indices);

}  // namespace espalier::data
