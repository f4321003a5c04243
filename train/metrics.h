// Metrics: what examples and reports measure.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "espalier/core/percentile.h"
#include "espalier/core/tensor.h"

namespace espalier::train {

/// Share of rows whose largest logit is at the label. logits [N, C], labels i64 [N]. NaN if N is 0.
/// Errors: ShapeError, DTypeError.
double accuracy(const Tensor& logits, const Tensor& labels);

/// Median time of a call of each function, in microseconds, from `rounds` rounds that run them in turn, so that a slow
/// moment of the machine hits all alike. A call that is short is repeated until a round lasts `min_round_us`.
std::vector<double> median_latencies(std::span<const std::function<void()>> calls, int rounds = 15,
                                     double min_round_us = 500);

}  // namespace espalier::train
