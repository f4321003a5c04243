#include "espalier/nn/loss.h"

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"

namespace espalier::nn {

Variable reduce(const Variable& losses, Reduction reduction) {
  if (reduction == Reduction::none) return losses;
  return reduction == Reduction::sum ? sum(losses) : mean(losses);
}

Variable cross_entropy(const Variable& logits, const Tensor& labels, LossOptions options) {
  return reduce(softmax_cross_entropy(logits, labels), options.reduction);
}

Variable mse_loss(const Variable& x, const Variable& target, LossOptions options) {
  if (!(x.shape() == target.shape()))  // broadcasting here is nearly always a mistake: [N] against [N, 1]
    fail<ShapeError>("[mse_loss] shapes differ: x ", x.shape(), ", target ", target.shape(), ". Hint: reshape() one");
  return reduce(square(sub(x, target)), options.reduction);
}

Variable binary_cross_entropy(const Variable& p, const Variable& target, LossOptions options) {
  return reduce(probability_cross_entropy(p, target), options.reduction);
}

Variable binary_cross_entropy_with_logits(const Variable& x, const Variable& target, LossOptions options) {
  return reduce(sigmoid_cross_entropy(x, target), options.reduction);
}

}  // namespace espalier::nn
