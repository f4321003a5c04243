// The texts of errors in what prunes by a metric or a budget.
#include "espalier/prune/guard.h"

#include "espalier/nn/linear.h"
#include "espalier/prune/budget.h"
#include "espalier/prune/sensitivity.h"
#include "tests/messages/message.h"

namespace espalier::prune {
namespace {

using espalier::testing::expect_texts;
using espalier::testing::Message;

const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
const Metric one = [] { return 1.0; };

TEST(Messages, OfGuards) {
  const Parameter w(Tensor::ones({2, 3}), "fc.weight");
  const Pruner pruner(list_of(w));
  const auto make = [=](GuardOptions o) { return [=] { Guard(pruner, one, o); }; };
  const auto load = [=](PrunerState state) { return [=] { Guard(pruner, one, {.max_drop = 1}).load_state(state); }; };
  const Message all[] = {
      {"no metric", [=] { Guard(pruner, {}, {.max_drop = 1}); }, "[guard] there is no metric"},
      {"no bound", make({}), "[guard] max_drop must be at least 0, got nan. Hint: it must be given"},
      {"a bound below 0", make({.max_drop = -1}), "[guard] max_drop must be at least 0, got -1"},
      {"judged before", make({.max_drop = 1, .recover = -1}), "[guard] recover must not be negative, got -1"},
      {"no patience", make({.max_drop = 1, .patience = -1}), "[guard] patience must not be negative, got -1"},
      {"a metric of NaN",
       [=] {
         Guard guard(pruner, [] { return nan; }, {.max_drop = 1});
         guard.to_sparsity(0.5);
       },
       "[guard] the metric before the first pruning is NaN"},
      {"a state of nothing", load({}), "[guard] 'baseline' is missing in the saved state"},
  };
  expect_texts(all);
}

TEST(Messages, OfSensitivity) {
  const Parameter w(Tensor::ones({2, 3}), "fc.weight");
  const ParameterList list = list_of(w);
  const Message all[] = {
      {"no metric", [=] { sensitivity(list, {}); }, "[sensitivity] there is no metric"},
      {"no sparsities", [=] { sensitivity(list, one, {.sparsities = {}}); },
       "[sensitivity] there must be at least one sparsity"},
      {"a sparsity of 2",
       [=] {
         sensitivity(list, one, {.sparsities = {0.5, 2}});
       },
       "[sensitivity] a sparsity must be in [0, 1], got 2"},
      {"nothing to scan", [=] { sensitivity(list, one, {.select = "x"}); },
       "[sensitivity] none of 1 parameters is selected. Hint: the default takes those of rank 2 and more; "
       ".select = optim::Select() takes all"},
      {"a metric of NaN", [=] { sensitivity(list, [] { return nan; }); },
       "[sensitivity] the metric of the model as it is is NaN"},
  };
  expect_texts(all);
}

TEST(Messages, OfBudgets) {
  using Options = BudgetOptions<nn::Linear>;
  const auto prune = [](Options o) {
    return [=] {
      Rng rng(1);
      const nn::Linear model(rng, 4, 5);
      Pruner pruner(model.parameters());
      prune_to_budget(pruner, model, Tensor::ones({2, 4}), o);
    };
  };
  const auto cost = [](const nn::Linear&) { return 1.0; };
  const Message all[] = {
      {"no limit", prune({}), "[prune_to_budget] there is no limit. Hint: {.flops = 1e6}"},
      {"two limits", prune({.parameters = 5, .bytes = 7}),
       "[prune_to_budget] there is a limit of parameters and one of bytes. Hint: one at a time; the second may start "
       "where the first has ended"},
      {"an infinite limit", prune({.flops = infinity}),
       "[prune_to_budget] the limit of flops must be at least 0 and finite, got inf"},
      {"a negative share", prune({.flops = share_of_dense(-0.5)}),
       "[prune_to_budget] the limit of flops must be at least 0 and finite, got -0.5"},
      {"a limit of no cost", prune({.cost_limit = 5}), "[prune_to_budget] cost and cost_limit need each other"},
      {"a cost without a limit", prune({.flops = 5, .cost = cost}),
       "[prune_to_budget] cost and cost_limit need each other"},
      {"no precision", prune({.flops = 5, .precision = 0}),
       "[prune_to_budget] precision must be above 0 and at most 1, got 0"},
      {"less than there can be", prune({.parameters = 5}),
       "[prune_to_budget] the budget of 5 parameters cannot be met: with all that the pruner may prune gone (95.0 %) "
       "it "
       "is 6, and 25 dense. Hint: select more parameters, or a smaller min_keep"},
  };
  expect_texts(all);
}

}  // namespace
}  // namespace espalier::prune
