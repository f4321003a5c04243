// Fused losses: value and gradient in one stable pass. nn/loss.h adds reductions and options.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// y[r] = -log softmax(logits[r])[labels[r]]. logits [N, C], labels i64 [N] in [0, C) -> y [N].
/// Gradient: softmax(logits) - onehot(labels), row r weighted by g[r]. Errors: ShapeError, DTypeError; IndexError,
/// which names row and label.
Variable softmax_cross_entropy(const Variable& logits, const Tensor& labels);

/// y = max(x, 0) - x t + log(1 + exp(-|x|)): binary cross-entropy of sigmoid(x) against t, stable for any finite x.
/// x and t of one shape. Gradient: dx = g (sigmoid(x) - t), dt = -g x. Errors: ShapeError, DTypeError.
Variable sigmoid_cross_entropy(const Variable& x, const Variable& target);

/// y = -(t log p + (1 - t) log(1 - p)), each logarithm at least -100, so that p = 0 and p = 1 stay finite.
/// Gradient: dp = g (p - t) / max(p (1 - p), 1e-12), dt = g (log(1 - p) - log p). Errors: ShapeError, DTypeError.
Variable probability_cross_entropy(const Variable& p, const Variable& target);

}  // namespace espalier
