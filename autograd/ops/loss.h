// Fused losses: value and gradient in one stable pass. The layer above, nn/loss.h, adds reductions and options.
#pragma once

#include "espalier/autograd/tape.h"

namespace espalier {

/// y[r] = -log softmax(logits[r])[labels[r]]. logits [N, C], labels i64 [N] in [0, C) -> y [N].
/// Gradient: softmax(logits) - onehot(labels), a row weighted by g[r]. Errors: ShapeError, DTypeError; IndexError, which
/// names row and label.
Variable softmax_cross_entropy(const Variable& logits, const Tensor& labels);

/// y = max(x, 0) - x t + log(1 + exp(-|x|)): binary cross-entropy of sigmoid(x) against t, stable for any finite x.
/// Both of one shape; t is usually a constant. Gradient: dx = sigmoid(x) - t, dt = -x. Errors: ShapeError, DTypeError.
Variable sigmoid_cross_entropy(const Variable& x, const Variable& target);

}  // namespace espalier
