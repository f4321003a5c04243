#include "espalier/nn/loss.h"
#include "tests/golden/ops.h"
#include "tests/golden/rows.h"

namespace espalier::golden {
namespace {

nn::Reduction reduction(const Call& call) {
  const std::string name = call.args.text("reduction");
  if (name == "mean") return nn::Reduction::mean;
  if (name == "sum") return nn::Reduction::sum;
  if (name == "none") return nn::Reduction::none;
  if (name == "batchmean") return nn::Reduction::batch_mean;
  throw Unsupported{"reduction " + name};
}

double number(const Call& call, const char* name) { return call.args.number(name); }
Tensor weight(const Call& call) { return call.named("weight").value(); }

/// f(input, target, options)
Run loss(Variable (*f)(const Variable&, const Variable&, nn::LossOptions)) {
  return of_call([f](const Call& c) { return f(c[0], c[1], {.reduction = reduction(c)}); });
}

}  // namespace

std::vector<Row> loss_rows() {
  using namespace nn;
  using C = const Call&;
  return {
      {"l1_loss", loss(l1_loss)},
      {"mse_loss", loss(mse_loss)},
      {"huber_loss",
       of_call([](C c) { return huber_loss(c[0], c[1], {.delta = number(c, "delta"), .reduction = reduction(c)}); })},
      {"smooth_l1_loss",
       of_call([](C c) { return smooth_l1_loss(c[0], c[1], {.beta = number(c, "beta"), .reduction = reduction(c)}); })},
      {"binary_cross_entropy",
       of_call([](C c) { return binary_cross_entropy(c[0], c[1], {.weight = weight(c), .reduction = reduction(c)}); })},
      {"bce_with_logits", of_call([](C c) {
         return binary_cross_entropy_with_logits(
             c[0], c[1], {.weight = weight(c), .pos_weight = c.named("pos_weight").value(), .reduction = reduction(c)});
       })},
      {"cross_entropy", of_call([](C c) {
         return cross_entropy(c[0], c[1],
                              {.weight = weight(c),
                               .ignore_index = c.args.integer("ignore_index"),
                               .reduction = reduction(c),
                               .label_smoothing = number(c, "label_smoothing")});
       })},
      {"nll_loss", of_call([](C c) {
         return nll_loss(
             c[0], c[1].value(),
             {.weight = weight(c), .ignore_index = c.args.integer("ignore_index"), .reduction = reduction(c)});
       })},
      {"kl_div", of_call([](C c) {
         return kl_div(c[0], c[1], {.log_target = c.args.flag("log_target"), .reduction = reduction(c)});
       })},
      {"poisson_nll_loss", of_call([](C c) {
         return poisson_nll_loss(c[0], c[1],
                                 {.log_input = c.args.flag("log_input"),
                                  .full = c.args.flag("full"),
                                  .eps = number(c, "eps"),
                                  .reduction = reduction(c)});
       })},
      {"gaussian_nll_loss", of_call([](C c) {
         return gaussian_nll_loss(c[0], c[1], c[2],
                                  {.full = c.args.flag("full"), .eps = number(c, "eps"), .reduction = reduction(c)});
       })},
      {"hinge_embedding_loss", of_call([](C c) {
         return hinge_embedding_loss(c[0], c[1], {.margin = number(c, "margin"), .reduction = reduction(c)});
       })},
      {"margin_ranking_loss", of_call([](C c) {
         return margin_ranking_loss(c[0], c[1], c[2], {.margin = number(c, "margin"), .reduction = reduction(c)});
       })},
      {"triplet_margin_loss", of_call([](C c) {
         return triplet_margin_loss(
             c[0], c[1], c[2],
             {.margin = number(c, "margin"), .p = number(c, "p"), .eps = number(c, "eps"), .reduction = reduction(c)});
       })},
  };
}

}  // namespace espalier::golden
