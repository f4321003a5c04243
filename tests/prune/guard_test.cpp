#include "espalier/prune/guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/prune/report.h"
#include "tests/support.h"

namespace espalier::prune {
namespace {

using espalier::testing::same_bytes, espalier::testing::throws;

/// Two weights of unlike size and type and a bias, which the pruner leaves alone. The metric: 1 - sparsity of the
/// weights, so that bounds are met at sparsities known beforehand.
struct Net {
  explicit Net(std::uint64_t seed = 1)
      : a(Rng(seed).normal({10, 10}), "a"), b(Rng(seed + 1).normal({20, 5}, 0, 1, DType::f64), "b") {}
  Net& operator=(const Net& other) = default;
  Net(const Net&) = default;
  ParameterList parameters() const { return list_of(a, b, bias); }
  double accuracy() const { return 1 - sparsity(parameters()); }
  void backward(Rng& data) const {
    const Tensor x = data.normal({10, 10}), y = data.normal({20, 5}, 0, 1, DType::f64), z = data.normal({7});
    {
      Tape tape;
      tape.backward(sum(square(a - x)) + sum(square(bias - z)));
    }
    Tape tape;
    tape.backward(sum(square(b - y)));
  }
  Parameter a, b, bias{Tensor::ones({7}), "bias"};
};

struct Training {
  Training(const GuardOptions& options, const Schedule& schedule, std::uint64_t seed = 1)
      : net(seed),
        opt(net.parameters(), optim::adam({.lr = 0.01})),
        pruner(net.parameters(), {.schedule = schedule}),
        guard(
            pruner, [this] { return ++asked, net.accuracy(); }, options) {
    opt.attach(guard);
  }
  void steps(int n, Rng& data) {
    for (int k = 0; k < n; ++k) {
      net.backward(data);
      opt.step();
    }
  }
  int asked = 0;
  Net net;
  optim::Optimizer opt;
  Pruner pruner;
  Guard guard;
};

Schedule tenths() { return linear({.final_sparsity = 0.9, .end = 90, .every = 10}); }  // 0, 0.1, ... at 0, 10, ...

TEST(Guard, StopsAndLeavesTheMasks) {
  Training t({.max_drop = 0.35}, tenths());
  Rng data(1);
  t.steps(100, data);
  EXPECT_TRUE(t.guard.stopped());
  EXPECT_DOUBLE_EQ(t.pruner.sparsity(), 0.4);  // the first beyond 0.35
  EXPECT_EQ(t.guard.baseline(), 1);
  EXPECT_NEAR(t.guard.metric(), 0.6, 1e-12);
  EXPECT_EQ(t.asked, 1 + 4);  // once dense; at step 0 nothing was pruned
}

TEST(Guard, RollsBackToTheBytes) {
  Training t({.max_drop = 0.35, .action = GuardAction::roll_back}, tenths());
  Rng data(1);
  t.steps(100, data);
  EXPECT_TRUE(t.guard.stopped());
  EXPECT_DOUBLE_EQ(t.pruner.sparsity(), 0.3);

  // As if the schedule had ended with 0.3: the step of the roll-back is a step without any pruning.
  Training same({.max_drop = 10}, linear({.final_sparsity = 0.3, .end = 30, .every = 10}));
  Rng again(1);
  same.steps(100, again);
  EXPECT_TRUE(same_bytes(t.net.a.value(), same.net.a.value()));
  EXPECT_TRUE(same_bytes(t.net.b.value(), same.net.b.value()));
  EXPECT_TRUE(same_bytes(t.opt.state("adam", "m", 0), same.opt.state("adam", "m", 0)));
  EXPECT_EQ(t.net.b.mask(), same.net.b.mask());
}

TEST(Guard, NothingHappensWhileTheMetricBearsIt) {
  Training t({.max_drop = 0.9, .action = GuardAction::roll_back}, tenths());
  Rng data(1);
  t.steps(100, data);
  EXPECT_FALSE(t.guard.stopped());
  EXPECT_DOUBLE_EQ(t.pruner.sparsity(), 0.9);  // a drop of exactly 0.9 is within
}

TEST(Guard, RecoversBeforeItIsJudged) {
  Net net;
  optim::Optimizer opt(net.parameters(), optim::adam({.lr = 0.01}));
  const Pruner pruner(net.parameters(), {.schedule = one_shot({.sparsity = 0.5, .at = 2})});
  double accuracy = 1;
  std::vector<std::int64_t> asked;
  Guard guard(pruner, [&] { return asked.push_back(opt.steps()), accuracy; },
              {.max_drop = 0.1, .action = GuardAction::roll_back, .recover = 5, .parameters = net.parameters()});
  opt.attach(guard);
  Rng data(1);
  Tensor weights, bias;
  for (int k = 0; k < 12; ++k) {
    if (k == 2) weights = net.a.value().clone(), bias = net.bias.value().clone();
    if (k == 3) accuracy = 0.2;
    net.backward(data);
    if (k == 7) {
      EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.5);
      const auto hook = guard.hook();
      EXPECT_TRUE(hook->due(7));
      EXPECT_FALSE(guard.check());  // by hand, to see the bytes before the update of this step
      EXPECT_TRUE(same_bytes(net.a.value(), weights));
      EXPECT_TRUE(same_bytes(net.bias.value(), bias));  // it was trained meanwhile, and goes back, too
      EXPECT_FALSE(hook->due(7));
    }
    opt.step();
  }
  EXPECT_EQ(asked, (std::vector<std::int64_t>{2, 7}));
  EXPECT_FALSE(net.a.mask().defined());
  EXPECT_TRUE(guard.stopped());
}

TEST(Guard, MomentsOfWeightsThatComeBackAreZero) {
  Net net;
  optim::Optimizer opt(net.parameters(), optim::adam({.lr = 0.01}));
  Pruner pruner(net.parameters(), {.schedule = one_shot({.sparsity = 0.5, .at = 2})});
  Guard guard(pruner, [&] { return net.accuracy(); },
              {.max_drop = 0.1, .action = GuardAction::roll_back, .recover = 3});
  opt.attach(guard);
  Rng data(1);
  Mask pruned;
  for (int k = 0; k < 5; ++k) {
    net.backward(data);
    opt.step();
    pruned = net.a.mask();
  }
  ASSERT_TRUE(pruned.defined());
  EXPECT_FALSE(guard.check());
  const Tensor m = opt.state("adam", "m", 0).flatten();
  for (Index i = 0; i < 100; ++i) EXPECT_EQ(m.at({i}) == 0, !pruned[i]) << i;
}

TEST(Guard, JudgesBeforeTheNextPruningAtTheLatest) {
  Training t({.max_drop = 0.25, .action = GuardAction::roll_back, .recover = 1000}, tenths());
  Rng data(1);
  t.steps(100, data);
  EXPECT_TRUE(t.guard.stopped());
  EXPECT_DOUBLE_EQ(t.pruner.sparsity(), 0.2);
  EXPECT_EQ(t.asked, 1 + 3);
}

TEST(Guard, PatienceLetsBadOnesPassAndGoesBackBeforeTheFirst) {
  double accuracy = 1;
  Net net;
  Pruner pruner(net.parameters());
  Guard guard(pruner, [&] { return accuracy; }, {.max_drop = 0.1, .action = GuardAction::roll_back, .patience = 2});
  EXPECT_TRUE(guard.to_sparsity(0.1));
  accuracy = 0.5;
  EXPECT_FALSE(guard.to_sparsity(0.2));
  EXPECT_FALSE(guard.stopped());
  accuracy = 0.95;
  EXPECT_TRUE(guard.to_sparsity(0.3));  // recovered: counts from the beginning
  const Tensor before = net.a.value().clone();
  accuracy = 0.5;
  EXPECT_FALSE(guard.to_sparsity(0.4));
  EXPECT_FALSE(guard.to_sparsity(0.5));
  EXPECT_FALSE(guard.stopped());
  EXPECT_FALSE(guard.to_sparsity(0.6));
  EXPECT_TRUE(guard.stopped());
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.3);
  EXPECT_TRUE(same_bytes(net.a.value(), before));
  EXPECT_FALSE(guard.to_sparsity(0.9));
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.3);
}

TEST(Guard, ByHandAsFarAsItGoes) {
  Net net;
  Pruner pruner(net.parameters());
  Guard guard(pruner, [&] { return net.accuracy(); }, {.max_drop = 0.5, .action = GuardAction::roll_back});
  int rounds = 0;
  while (guard.prune_fraction(0.2)) ++rounds;
  EXPECT_EQ(rounds, 3);                         // 0.2, 0.36, 0.488
  EXPECT_NEAR(pruner.sparsity(), 0.488, 0.01);  // of 200 weights
  EXPECT_TRUE(guard.stopped());
}

TEST(Guard, LowerMayBeBetterAndTheBaselineGiven) {
  Net net;
  Pruner pruner(net.parameters());
  Guard guard(pruner, [&] { return -net.accuracy(); }, {.max_drop = 0.1, .better = Better::lower, .baseline = -0.8});
  EXPECT_TRUE(guard.to_sparsity(0.3));
  EXPECT_FALSE(guard.to_sparsity(0.31));
}

TEST(Guard, NanIsTooBad) {
  Net net;
  Pruner pruner(net.parameters());
  Guard guard(pruner, [&] { return net.a.mask().defined() ? std::nan("") : 1.0; },
              {.max_drop = 100, .action = GuardAction::roll_back});
  EXPECT_FALSE(guard.to_sparsity(0.5));
  EXPECT_FALSE(net.a.mask().defined());
  Guard other(pruner, [] { return std::nan(""); }, {.max_drop = 1});
  EXPECT_THROW(other.to_sparsity(0.5), NonFiniteError);
  EXPECT_FALSE(net.a.mask().defined());
}

TEST(Guard, AMetricThatThrowsIsAskedAgain) {
  Net net;
  Pruner pruner(net.parameters());
  int calls = 0;
  Guard guard(pruner,
              [&]() -> double {
                if (++calls == 2) throw std::runtime_error("no data");
                return net.accuracy();
              },
              {.max_drop = 0.1, .action = GuardAction::roll_back});
  EXPECT_THROW(guard.to_sparsity(0.5), std::runtime_error);
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.5);
  EXPECT_FALSE(guard.check());
  EXPECT_EQ(pruner.sparsity(), 0);
}

TEST(Guard, SoftMasksGoBackToo) {
  Net net;
  Pruner pruner(net.parameters(), {.mode = MaskMode::soft});
  pruner.to_sparsity(0.2);
  const Tensor dense = net.a.ref()->dense().clone(), value = net.a.value().clone();
  Guard guard(pruner, [&] { return net.accuracy(); }, {.max_drop = 0.5, .action = GuardAction::roll_back});
  EXPECT_FALSE(guard.to_sparsity(0.9));
  EXPECT_TRUE(same_bytes(net.a.ref()->dense(), dense));
  EXPECT_TRUE(same_bytes(net.a.value(), value));
  EXPECT_EQ(net.a.ref()->mask_mode(), MaskMode::soft);
}

TEST(Guard, ResumesWhileItWaitsForJudgement) {
  const GuardOptions options{.max_drop = 0.35, .action = GuardAction::roll_back, .recover = 6};
  Training run(options, tenths());
  Rng data(1);
  run.steps(43, data);  // pruned to 0.4 at step 40, to be judged at 46

  Training again(options, tenths(), 9);
  again.net = run.net;
  again.opt.load_state(run.opt.state());
  again.pruner.load_state(run.pruner.state());
  again.guard.load_state(run.guard.state());
  Rng same = data;
  run.steps(30, data);
  again.steps(30, same);
  EXPECT_TRUE(again.guard.stopped());
  EXPECT_DOUBLE_EQ(again.pruner.sparsity(), 0.3);
  EXPECT_TRUE(same_bytes(run.net.a.value(), again.net.a.value()));
  EXPECT_TRUE(same_bytes(run.net.b.value(), again.net.b.value()));
  EXPECT_EQ(again.guard.baseline(), 1);
}

TEST(Guard, ForeignStatesAreRefusedWhole) {
  Net net;
  Guard guard(Pruner(net.parameters()), [] { return 1.0; }, {.max_drop = 0.1});
  PrunerState state = guard.state();
  state["x"] = Tensor::scalar(1);
  EXPECT_THROW(guard.load_state(state), ConfigError);
  EXPECT_THROW(guard.load_state({}), ConfigError);
  state = guard.state();
  state["before/a/value"] = Tensor::ones({3});
  EXPECT_THROW(guard.load_state(state), ConfigError);
  state = guard.state();
  state["bad"] = Tensor::scalar(0, DType::f64);
  EXPECT_THROW(guard.load_state(state), ConfigError);
  EXPECT_NO_THROW(guard.load_state(guard.state()));
}

TEST(Guard, FollowsCuts) {
  const Parameter a(Tensor::from<float>({1, 2, 3, 4, 5, 6}, {3, 2}), "a");
  double accuracy = 1;
  Guard guard(Pruner(list_of(a)), [&] { return accuracy; },
              {.max_drop = 0.1, .action = GuardAction::roll_back, .patience = 1});
  EXPECT_TRUE(guard.to_sparsity(0));
  accuracy = 0;
  EXPECT_FALSE(guard.to_sparsity(0.5));  // let pass; what was before is kept
  const optim::ParameterCut cut{a.ref(), {std::vector<Index>{1, 2}, std::nullopt}};
  const optim::Commit commit = guard.prepare_cut({&cut, 1});
  a.ref()->replace(Tensor::from<float>({0, 4, 5, 6}, {2, 2}), Mask());
  commit();
  EXPECT_FALSE(guard.to_sparsity(0.75));
  EXPECT_EQ(a.value().to_vector<float>(), (std::vector<float>{3, 4, 5, 6}));
}

TEST(Guard, WeightsOfAnotherShapeDoNotGoBack) {
  Net net;
  double accuracy = 1;
  Guard guard(Pruner(net.parameters()), [&] { return accuracy; },
              {.max_drop = 0.1, .action = GuardAction::roll_back, .patience = 1});
  accuracy = 1;
  guard.to_sparsity(0.1);
  accuracy = 0;
  EXPECT_FALSE(guard.to_sparsity(0.2));
  net.b.ref()->replace(Tensor::ones({3, 5}, DType::f64), Mask());
  EXPECT_TRUE(throws<ConfigError>([&] { guard.to_sparsity(0.5); }, "[guard] 'b' was f64 of shape [20, 5]", "[3, 5]"));
}

}  // namespace
}  // namespace espalier::prune
