// Losses: compositions of the fused ops in autograd/ops/loss.h with a reduction.
#pragma once

#include "espalier/autograd/ops/loss.h"
#include "espalier/autograd/tape.h"

namespace espalier::nn {

/// What becomes of the losses of single elements or samples.
enum class Reduction : std::uint8_t { mean, sum, none };
Variable reduce(const Variable& losses, Reduction reduction);

struct LossOptions {
  Reduction reduction = Reduction::mean;
};

/// -log softmax(logits)[label], a sample a row. logits [N, C], labels i64 [N]. Errors: ShapeError, DTypeError,
/// IndexError.
Variable cross_entropy(const Variable& logits, const Tensor& labels, LossOptions options = {});
/// (x - target)^2. Errors: ShapeError unless the shapes are the same, DTypeError.
Variable mse_loss(const Variable& x, const Variable& target, LossOptions options = {});
/// -(t log p + (1 - t) log(1 - p)) for probabilities p, the logarithms held above -100. Errors: ShapeError, DTypeError.
Variable binary_cross_entropy(const Variable& p, const Variable& target, LossOptions options = {});
/// The same of p = sigmoid(x), in one stable step. Errors: ShapeError, DTypeError.
Variable binary_cross_entropy_with_logits(const Variable& x, const Variable& target, LossOptions options = {});

}  // namespace espalier::nn
