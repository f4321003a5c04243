// What users of other pruners complain about when they prune before, after, or between training, one test each.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/nn/sequential.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/average.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/budget.h"
#include "espalier/prune/guard.h"
#include "espalier/prune/scores_activation.h"
#include "espalier/prune/sensitivity.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using espalier::testing::same_bytes;

nn::Sequential network(std::uint64_t seed) {
  Rng rng(seed);
  return nn::Sequential(nn::Linear(rng, 12, 31), nn::Relu(), nn::Linear(rng, 31, 4));
}
Tensor inputs(std::uint64_t seed) { return Rng(seed).normal({16, 12}); }

// A bare model, no optimizer, no loop: every way to prune is a call.
TEST(Complaints, PostTrainingPruningWithoutATrainingLoop) {
  const nn::Sequential trained = network(1);
  const Tensor x = inputs(2), y = trained(x).value();
  const auto error = [&](const nn::Sequential& m) { return sum(square(Variable(m(x).value()) - y)).item(); };

  nn::Sequential one = trained;
  Pruner(one.parameters()).to_sparsity(0.5);
  EXPECT_NEAR(sparsity(one.parameters()), 0.5, 0.002);
  EXPECT_TRUE(allclose(compact(one, x)(x).value(), one(x).value(), 1e-5, 1e-6));

  nn::Sequential informed = trained;  // by the inputs it sees, without gradients
  Pruner(informed.parameters(), {.score = wanda(), .loss = [&](Index) { return sum(informed(x)); }}).to_sparsity(0.5);
  EXPECT_NEAR(sparsity(informed.parameters()), 0.5, 0.002);

  nn::Sequential guarded = trained;  // as far as an error bears it
  Guard guard(Pruner(guarded.parameters()), [&] { return error(guarded); },
              {.max_drop = 0.5 * error(one), .better = Better::lower, .action = GuardAction::roll_back});
  while (guard.prune_fraction(0.1)) {
  }
  EXPECT_LE(error(guarded), 0.5 * error(one));
  EXPECT_GT(sparsity(guarded.parameters()), 0.1);

  nn::Sequential small = trained;  // down to a size
  Pruner pruner(small.parameters());
  EXPECT_LE(prune_to_budget(pruner, small, x, {.parameters = 200}).cost, 200);

  const Sensitivity scan = sensitivity(trained.parameters(), [&] { return error(trained); }, {.better = Better::lower});
  EXPECT_EQ(scan.rows.size(), 2u);
  EXPECT_EQ(sparsity(trained.parameters()), 0);
}

// Zeros stay zeros in any training that follows: no pruner, no hook, no callback, nothing that a user may forget.
TEST(Complaints, FreezeZerosDuringRetraining) {
  using optim::chain;
  const optim::Chain chains[] = {chain(optim::sgd({.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1})),
                                 chain(optim::adam({.lr = 0.05, .weight_decay = 0.1}), optim::ema({.decay = 0.9})),
                                 chain(optim::adamw({.lr = 0.05, .weight_decay = 0.1}))};
  for (const optim::Chain& c : chains) {
    const nn::Sequential model = network(3);
    optim::Optimizer opt(model.parameters(), c);
    const auto train = [&](int steps) {
      for (int k = 0; k < steps; ++k) {
        Tape tape;
        tape.backward(mean(square(model(inputs(static_cast<std::uint64_t>(k))) - 1.0)));
        opt.step();
      }
    };
    train(5);  // moments are warm when the weights go
    Pruner(model.parameters()).to_sparsity(0.8);
    const ParameterState& w = *model.parameters()[0].parameter;
    const Mask mask = w.mask();
    const Tensor before = w.value().clone();
    train(25);
    EXPECT_EQ(w.mask(), mask);
    EXPECT_FALSE(same_bytes(w.value(), before));
    for (Index i = 0; i < mask.size(); ++i) {
      const float value = w.value().data<float>()[i];
      EXPECT_TRUE(mask[i] || (value == 0 && !std::signbit(value))) << i;
    }
  }
}

}  // namespace
}  // namespace espalier::prune
