// The snippets of docs/schedules.md, run.
#include <gtest/gtest.h>

#include <cstdio>

#include "espalier/autograd/sparse_training.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/budget.h"
#include "espalier/prune/dynamic.h"
#include "espalier/prune/guard.h"
#include "espalier/prune/sensitivity.h"
#include "espalier/prune/splice.h"
#include "tests/support/snippets.h"

namespace espalier {
namespace {

class SchedulesPage : public ::testing::Test {
 protected:
  double loss() const { return nn::mse_loss(model(sample), target).item(); }
  void train() {
    Tape tape;
    tape.backward(nn::mse_loss(model(sample), target));
    opt.step();
  }
  Rng rng{1};
  nn::Sequential model{nn::Linear(rng, 8, 32), nn::Relu(), nn::Linear(rng, 32, 3)};
  Tensor sample = rng.normal({16, 8}), target = rng.normal({16, 3});
  optim::Optimizer opt{model.parameters(), optim::sgd({.lr = 0.05, .momentum = 0.9})};
};

TEST_F(SchedulesPage, SparseAllTheWay) {
  const double before = loss();
  auto rigl = prune::rigl(model.parameters(), {.sparsity = 0.8, .every = 10, .steps = 100});
  opt.attach(rigl);
  const auto now = [&] { return rigl.wants_dense_gradient(opt.steps()); };
  const SparseTraining sparse(model.parameters(), {.batch = 16, .dense_gradient = now});
  for (int step = 0; step < 100; ++step) train();
  EXPECT_LT(loss(), before);
  EXPECT_GT(rigl.exchanged(), 0);
  EXPECT_NEAR(rigl.sparsity(), 0.8, 0.01);
}

TEST_F(SchedulesPage, NotForGood) {
  auto splice = prune::splice(model.parameters(), {.sparsity = 0.8, .end = 50});
  opt.attach(splice);
  for (int step = 0; step < 60; ++step) train();
  splice.freeze();  // from here on hard
  EXPECT_NEAR(splice.sparsity(), 0.8, 0.1);
}

TEST_F(SchedulesPage, AsMuchAsItBears) {
  for (int step = 0; step < 60; ++step) train();
  const double before = loss();
  const prune::Metric metric = [&] { return -loss(); };
  const prune::Sensitivity scan = prune::sensitivity(model.parameters(), metric);
  for (const auto& [name, sparsity] : scan.suggest(0.1)) std::printf("%s bears %g\n", name.c_str(), sparsity);

  prune::Guard guard(prune::Pruner(model.parameters()), metric,
                     {.max_drop = 0.1, .action = prune::GuardAction::roll_back});
  while (guard.prune_fraction(0.1)) std::printf("%s\n", guard.describe().c_str());
  EXPECT_LE(loss(), before + 0.1 + 1e-9);
  EXPECT_GT(prune::sparsity(model.parameters()), 0);
}

TEST_F(SchedulesPage, DownToABudget) {
  prune::Pruner pruner(model.parameters());
  const prune::BudgetReport report =
      prune::prune_to_budget(pruner, model, sample, {.flops = prune::share_of_dense(0.25)});
  std::printf("%s", report.table().c_str());
  const nn::Sequential deployed = prune::compact(model, sample);
  EXPECT_LE(report.cost, 0.25 * report.dense);
}

TEST_F(SchedulesPage, ItsSnippetsAreThese) {
  EXPECT_EQ(testing::snippets_that_stand_in("tests/docs/schedules_test.cpp", "docs/schedules.md"), 4);
}

}  // namespace
}  // namespace espalier
