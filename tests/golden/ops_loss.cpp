#include "espalier/nn/loss.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

nn::LossOptions loss_options(const Args& args) {
  const std::string reduction = args.text("reduction");
  if (reduction == "mean") return {.reduction = nn::Reduction::mean};
  if (reduction == "sum") return {.reduction = nn::Reduction::sum};
  if (reduction == "none") return {.reduction = nn::Reduction::none};
  throw Unsupported{"reduction " + reduction};
}

/// f(input, target, options)
Run loss(Variable (*f)(const Variable&, const Variable&, nn::LossOptions)) {
  return of_call([f](const Call& call) {
    call.at_most(2);
    return f(call[0], call[1], loss_options(call.args));
  });
}

Variable cross_entropy(const Call& call) {
  call.at_most(2);
  call.args.expect("label_smoothing", 0);
  const Tensor& labels = call[1].value();
  if (labels.dtype() != DType::i64) throw Unsupported{"class probabilities as targets"};
  if (call[0].rank() != 2) throw Unsupported{"logits with more axes than [N, C]"};
  const Index ignored = call.args.integer("ignore_index");
  for (Index label : labels.to_vector<std::int64_t>())
    if (label == ignored) throw Unsupported{"ignored labels"};
  return nn::cross_entropy(call[0], labels, loss_options(call.args));
}

}  // namespace

std::vector<Row> loss_rows() {
  return {
      {"mse_loss", loss(nn::mse_loss)},
      {"binary_cross_entropy", loss(nn::binary_cross_entropy)},
      {"bce_with_logits", loss(nn::binary_cross_entropy_with_logits)},
      {"cross_entropy", of_call(cross_entropy)},
  };
}

}  // namespace espalier::golden
