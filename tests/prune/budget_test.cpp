#include "espalier/prune/budget.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/conv.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/sequential.h"
#include "espalier/nn/summary.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using espalier::testing::same_bytes, espalier::testing::throws;

nn::Sequential mlp(std::uint64_t seed) {
  Rng rng(seed);
  return nn::Sequential(nn::Linear(rng, 20, 33), nn::Relu(), nn::Linear(rng, 33, 7));
}
const Tensor sample = Rng(9).normal({4, 20});
constexpr double all = 20 * 33 + 33 + 33 * 7 + 7;

/// Values, masks and gradients.
std::vector<Tensor> bytes(const nn::Sequential& model) {
  std::vector<Tensor> tensors;
  for (const NamedParameter& named : model.parameters()) {
    const ParameterState& p = *named.parameter;
    tensors.push_back(p.value().clone());
    tensors.push_back(p.has_grad() ? p.grad().clone() : Tensor());
    tensors.push_back(p.mask().defined() ? p.mask().to_tensor(p.value().shape()) : Tensor());
  }
  return tensors;
}
void expect_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bytes(a[i], b[i])) << i;
}

TEST(Budget, OfParameters) {
  const nn::Sequential model = mlp(1);
  Pruner pruner(model.parameters());
  const BudgetReport report = prune_to_budget(pruner, model, sample, {.parameters = 300});
  EXPECT_EQ(report.what, "parameters");
  EXPECT_EQ(report.dense, all);
  EXPECT_EQ(report.limit, 300);
  EXPECT_LE(report.cost, 300);
  EXPECT_GT(report.cost, 280);  // cutting dead units comes on top of the weights pruned
  EXPECT_EQ(report.sparsity, pruner.sparsity());
  // What is reported is what compact() gives.
  const nn::Sequential small = compact(model, sample, {.pack = false});
  double live = 0;
  for (const NamedParameter& named : small.parameters()) live += static_cast<double>(live_weights(*named.parameter));
  EXPECT_EQ(live, report.cost);
  // A little less sparsity would be beyond.
  const BudgetTry* closest = nullptr;
  for (const BudgetTry& each : report.tries)
    if (!each.met && (!closest || each.reached > closest->reached)) closest = &each;
  ASSERT_NE(closest, nullptr);
  EXPECT_LE(report.sparsity - closest->reached, 0.004);  // the precision, and rounding to whole weights
  EXPECT_LT(report.tries.size(), 14u);
}

TEST(Budget, OfFlopsAsTheSummaryCountsThem) {
  const nn::Sequential model = mlp(2);
  Pruner pruner(model.parameters());
  const BudgetReport report = prune_to_budget(pruner, model, sample, {.flops = share_of_dense(0.25)});
  EXPECT_EQ(report.dense, 2 * 4 * (20 * 33 + 33 * 7.0));
  EXPECT_EQ(report.limit, report.dense / 4);
  EXPECT_LE(report.cost, report.limit);
  EXPECT_GT(report.cost, 0.9 * report.limit);
  const nn::Sequential small = compact(model, sample, {.pack = false});
  EXPECT_NEAR(2 * nn::summary(small, sample).total.live_macs, report.cost, 1e-9 * report.cost);
}

TEST(Budget, OfFlopsOfConvolutions) {
  Rng rng(3);
  const nn::Sequential model(nn::Conv2d(rng, 3, 8, 3), nn::Relu(), nn::Conv2d(rng, 8, 5, 3));
  const Tensor images = rng.normal({2, 3, 9, 7});
  Pruner pruner(model.parameters());
  const BudgetReport report = prune_to_budget(pruner, model, images, {.flops = share_of_dense(0.5)});
  EXPECT_EQ(report.dense, 2.0 * 2 * (7 * 5 * 8 * 27 + 5 * 3 * 5 * 72));
  EXPECT_LE(report.cost, report.limit);
  EXPECT_GT(report.sparsity, 0.3);
}

TEST(Budget, OfBytes) {
  const nn::Sequential model = mlp(4);
  Pruner pruner(model.parameters());
  const BudgetReport report =
      prune_to_budget(pruner, model, sample, {.bytes = share_of_dense(0.3), .compact = {.kernels = Kernels::fixed}});
  EXPECT_EQ(report.dense, 4 * all);
  EXPECT_LE(report.cost, 0.3 * 4 * all);
  CompactReport compacted;
  const nn::Sequential small = compact(model, sample, {.kernels = Kernels::fixed}, &compacted);
  double total = 0;
  for (const CompactLayer& layer : compacted.layers) total += static_cast<double>(layer.bytes_after);
  for (const NamedParameter& named : small.parameters())
    if (named.parameter->value().rank() < 2) total += 4.0 * static_cast<double>(named.parameter->value().size());
  EXPECT_EQ(total, report.cost);
}

TEST(Budget, OfACostOfOnesOwn) {
  const nn::Sequential model = mlp(5);
  Pruner pruner(model.parameters(), {.scope = Scope::tensor});
  int calls = 0;
  const BudgetReport report = prune_to_budget(pruner, model, sample,
                                              {.cost_limit = share_of_dense(0.5),
                                               .cost =
                                                   [&](const nn::Sequential& m) {
                                                     ++calls;
                                                     return 10 * (1 - sparsity(m.parameters()));
                                                   },
                                               .precision = 0.01,
                                               .compact = {.cut = false, .pack = false}});
  EXPECT_EQ(report.dense, 10);
  EXPECT_NEAR(report.sparsity, 0.5, 0.012);
  EXPECT_GE(report.sparsity, 0.5);
  EXPECT_EQ(calls, 1 + 2 + 7);  // dense; as it is and all; 2^-7 < 0.01
}

TEST(Budget, OfMillisecondsSaysWhatItMeasured) {
  const nn::Sequential model = mlp(6);
  Pruner pruner(model.parameters());
  const BudgetReport report =  // a bound that is met at once, whatever the machine
      prune_to_budget(pruner, model, sample, {.milliseconds = 1e6, .compact = {.kernels = Kernels::fixed}});
  EXPECT_GT(report.dense, 0);
  EXPECT_GT(report.cost, 0);
  EXPECT_EQ(report.tries.size(), 1u);
  EXPECT_EQ(pruner.sparsity(), 0);
}

TEST(Budget, OfMillisecondsPrunesUntilTheyAreReached) {
  Rng rng(16);
  const nn::Sequential model(nn::Linear(rng, 512, 512), nn::Relu(), nn::Linear(rng, 512, 512));
  Pruner pruner(model.parameters());
  const Tensor x = rng.normal({64, 512});
  // A tenth of the time is far from that of no weights and from that of all: no noise decides whether it can be met.
  const BudgetReport report =
      prune_to_budget(pruner, model, x, {.milliseconds = share_of_dense(0.1), .precision = 0.1});
  EXPECT_EQ(report.what, "milliseconds");
  EXPECT_EQ(report.limit, 0.1 * report.dense);
  EXPECT_LE(report.cost, report.limit);
  EXPECT_GT(report.sparsity, 0);
  EXPECT_EQ(report.sparsity, pruner.sparsity());
  EXPECT_GT(report.tries.size(), 2u);  // as it is, all, and what lies between
}

TEST(Budget, WhatCannotBeMetChangesNothing) {
  const nn::Sequential model = mlp(7);
  {
    Tape tape;
    tape.backward(sum(square(model(sample))));
  }
  Pruner pruner(model.parameters());
  pruner.to_sparsity(0.3);
  pruner.snapshot();
  const std::vector<Tensor> before = bytes(model);
  EXPECT_TRUE(throws<ConfigError>([&] { prune_to_budget(pruner, model, sample, {.parameters = 2}); },
                                  "[prune_to_budget] the budget of 2 parameters cannot be met", "Hint"));
  expect_same(bytes(model), before);

  int calls = 0;
  EXPECT_THROW(prune_to_budget(pruner, model, sample,
                               {.cost_limit = 1,
                                .cost = [&](const nn::Sequential&) -> double {
                                  if (++calls == 5) throw std::runtime_error("cost");
                                  return calls == 3 ? 0 : 2;
                                }}),
               std::runtime_error);
  EXPECT_EQ(calls, 5);
  expect_same(bytes(model), before);
  pruner.to_sparsity(0.9);
  pruner.undo();  // the snapshot is the user's, and is still there
  expect_same({bytes(model)[0], bytes(model)[2]}, {before[0], before[2]});
}

TEST(Budget, WhatIsMetAlreadyIsLeftAlone) {
  const nn::Sequential model = mlp(8);
  Pruner pruner(model.parameters());
  pruner.to_sparsity(0.5);
  const std::vector<Tensor> before = bytes(model);
  const BudgetReport report = prune_to_budget(pruner, model, sample, {.parameters = share_of_dense(0.9)});
  EXPECT_EQ(report.tries.size(), 1u);
  EXPECT_EQ(report.dense, all);  // as if it had no masks
  EXPECT_EQ(report.limit, 0.9 * all);
  expect_same(bytes(model), before);
}

TEST(Budget, GoesOnFromWhatIsPrunedInSoftModeToo) {
  for (MaskMode mode : {MaskMode::hard, MaskMode::soft}) {
    const nn::Sequential model = mlp(9);
    Pruner pruner(model.parameters(), {.mode = mode});
    pruner.to_sparsity(0.4);
    const Mask before = model.parameters()[0].parameter->mask();
    const BudgetReport report = prune_to_budget(pruner, model, sample, {.parameters = 200});
    EXPECT_LE(report.cost, 200);
    EXPECT_EQ(model.parameters()[0].parameter->mask_mode(), mode);
    for (Index i = 0; i < before.size(); ++i) EXPECT_LE(model.parameters()[0].parameter->mask()[i], before[i]);
    for (const BudgetTry& each : report.tries) EXPECT_GE(each.reached, 0.39);
  }
}

TEST(Budget, PrintsItsTries) {
  const nn::Sequential model = mlp(10);
  Pruner pruner(model.parameters());
  const std::string table = prune_to_budget(pruner, model, sample, {.parameters = 500}).table();
  for (const char* part : {"parameters", "beyond", "within", "limit", "500", "reached"})
    EXPECT_NE(table.find(part), std::string::npos) << part << " in\n" << table;
}

}  // namespace
}  // namespace espalier::prune
