// The texts of errors of compact(), shrink() and groups of units, word by word.
#include <limits>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/autograd/ops/shape.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/reshape.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/groups.h"
#include "espalier/prune/shrink.h"
#include "tests/messages/message.h"

namespace espalier {
namespace {

using testing::Message;

/// Knows its width.
class HardWired final : public nn::Module {
 public:
  explicit HardWired(Rng& rng) : first(rng, 5, 4), second(rng, 4, 3) {}
  Variable operator()(const Variable& x) const { return second(reshape(relu(first(x)), {x.dim(0), 4})); }
  void members(nn::Visitor& v) override { v("first", first)("second", second); }
  nn::Linear first, second;
};

void mask_row(Parameter& weight, Index row) {
  Mask mask(weight.size());
  for (Index c = 0; c < weight.shape()[1]; ++c) mask.set(row * weight.shape()[1] + c, false);
  weight.set_mask(mask);
}

TEST(Messages, OfShrinking) {
  Rng rng(1);
  HardWired wired(rng);
  mask_row(wired.first.weight, 1);
  nn::Sequential net(nn::Linear(rng, 5, 4), relu, nn::Linear(rng, 4, 3));
  const Tensor x = rng.normal({2, 5});
  const nn::Sequential packed = [&] {
    Rng own(3);
    nn::Sequential large(nn::Linear(own, 300, 200), relu, nn::Linear(own, 200, 10));
    auto& w = large.get<nn::Linear>(0).weight;
    Mask mask(w.size());
    for (Index i = 0; i < mask.size(); ++i) mask.set(i, i % 60 == 0);
    w.set_mask(mask);
    return prune::compact(large, own.normal({2, 300}), {.kernels = prune::Kernels::fixed});
  }();
  optim::Optimizer optimizer(net.parameters(), chain(optim::sgd({.lr = 0.1})));
  const std::vector<optim::ParameterCut> too_few{{net.get<nn::Linear>(0).weight.ref(), {std::vector<Index>{0}}}};
  const prune::UnitGroup group = prune::unit_groups(net, x).at(0);
  const Message all[] = {
      {"no sample", [&] { prune::shrink(net, Tensor()); },
       "[shrink] the sample is empty. Hint: one batch as the model takes it"},
      {"a tolerance below 0", [&] { prune::shrink(net, x, {.tolerance = -1}); },
       "[shrink] the tolerance must not be negative, got -1"},
      {"an odd number to round to", [&] { prune::shrink(net, x, {.round_to = -4}); },
       "[shrink] round_to must not be negative, got -4. Hint: 0, 8, 16 or round_measured"},
      {"of compact", [&] { prune::compact(net, x, {.round_to = -4}); },
       "[compact] round_to must not be negative, got -4. Hint: 0, 8, 16 or round_measured"},
      {"a packed model",
       [&] {
         nn::Sequential copy = packed;
         prune::shrink(copy, Tensor::zeros({2, 300}));
       },
       "[shrink] '0.weight' is packed. Hint: shrink the model that compact() was given"},
      {"a size written down", [&] { prune::shrink(wired, x); },
       "[shrink] the network does not run after its dead units were cut: [reshape] [2, 3] has 6 elements, [2, 4] would "
       "have 8. Hint: forward code must read sizes off its values (x.dim(-1), or -1 in a reshape), not know them; a "
       "model that cannot be shrunk trains on under its masks"},
      {"axes that are not there", [&] { optimizer.prepare_cut(too_few); },
       "[cut] '0.weight' has the shape [4, 5], and what stays is of 1 axes"},
      {"more lists than axes",
       [&] {
         optim::taken(Tensor::zeros({2}), {std::nullopt, std::nullopt});
       },
       "[cut] 2 lists of what stays for a tensor of shape [2]"},
      {"too many units", [&] { prune::mask_units(group, 5); },
       "[mask_units] cannot mask 5 of the 4 units of '0.weight'"},
      {"a NaN",
       [&] {
         Tensor nan = Tensor::full({3, 4}, std::numeric_limits<double>::quiet_NaN());
         net.get<nn::Linear>(2).weight.set_value(nan);
         prune::mask_units(group, 1);
       },
       "[mask_units] the weights of unit 0 of '0.weight' hold a NaN"},
  };
  testing::expect_texts(all);
}

}  // namespace
}  // namespace espalier
