#include "espalier/prune/pruner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/nn/activation.h"
#include "espalier/nn/linear.h"
#include "espalier/nn/loss.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/sgd.h"
#include "espalier/prune/compact.h"

namespace espalier::prune {
namespace {

class Mlp final : public nn::Module {
 public:
  explicit Mlp(Rng& rng, Index hidden = 16, DType type = DType::f32)
      : in(rng, 8, hidden, {.dtype = type}), out(rng, hidden, 3, {.dtype = type}) {}
  Variable operator()(const Variable& x) const { return out(relu(in(x))); }
  void members(nn::Visitor& v) override { v("in", in)("out", out); }
  nn::Linear in, out;
};

Index pruned_of(const Parameter& p) { return p.size() - live_weights(*p.ref()); }

void expect_invariant(const ParameterList& parameters) {
  for (const NamedParameter& named : parameters) {
    const ParameterState& p = *named.parameter;
    if (!p.mask().defined()) continue;
    const std::vector<double> w = p.value().to(DType::f64).to_vector<double>();
    for (Index i = 0; i < p.mask().size(); ++i) {
      ASSERT_TRUE(p.mask()[i] || w[static_cast<std::size_t>(i)] == 0) << named.name << " " << i;
    }
  }
}

struct Batch {
  Tensor x, y;
};
Batch batch(Rng& rng, DType type = DType::f32) {
  Tensor labels = Tensor::empty({32}, DType::i64);
  for (Index i = 0; i < 32; ++i) labels.write<std::int64_t>("test")[i] = rng.below(3);
  return {rng.normal({32, 8}, 0, 1, type), labels};
}

void train(const Mlp& model, optim::Optimizer& optimizer, Rng& rng, int steps, bool check = true) {
  for (int step = 0; step < steps; ++step) {
    const Batch b = batch(rng, model.in.weight.dtype());
    Tape tape;
    tape.backward(nn::cross_entropy(model(b.x), b.y));
    optimizer.step();
    if (check) expect_invariant(model.parameters());
  }
}

TEST(Pruner, TheProgramOfTheArchitecture) {
  using optim::adam;
  using optim::chain;
  using optim::clip_by_global_norm;
  Rng rng(42);
  Mlp model(rng);
  auto opt = optim::Optimizer(model.parameters(), chain(clip_by_global_norm(1.0), adam({.lr = 1e-3})));
  auto pruner = prune::Pruner(model.parameters(),
                              {.score = prune::magnitude(),
                               .scope = prune::Scope::global,
                               .schedule = prune::cubic({.final_sparsity = 0.9, .begin = 5, .end = 50, .every = 10})});
  opt.attach(pruner);
  double last = 0;
  for (int step = 0; step < 60; ++step) {
    const Batch b = batch(rng);
    Tape tape;
    Variable loss = nn::cross_entropy(model(b.x), b.y);
    tape.backward(loss);
    optim::StepReport report = opt.step();
    EXPECT_FALSE(report.skipped);
    EXPECT_GE(pruner.sparsity(), last);
    last = pruner.sparsity();
    expect_invariant(model.parameters());
  }
  EXPECT_EQ(pruned_of(model.in.weight) + pruned_of(model.out.weight), 158);  // 0.9 * (128 + 48) = 158.4
  const Tensor sample = batch(rng).x;
  auto deployed = prune::compact(model, sample);
  EXPECT_TRUE(allclose(deployed(sample).value(), model(sample).value(), 1e-5, 1e-6));
}

TEST(Pruner, ExactCountsForEverySparsityAndScope) {
  for (Scope scope : {Scope::tensor, Scope::group, Scope::global}) {
    for (int percentage = 0; percentage <= 100; ++percentage) {
      Rng rng(1);
      Mlp model(rng);
      std::vector<optim::Select> groups;
      if (scope == Scope::group) groups = {"in.*", "*"};
      Pruner pruner(model.parameters(), {.scope = scope, .groups = groups});
      const double s = percentage / 100.0;
      pruner.to_sparsity(s);
      const Index in = std::min<Index>(127, static_cast<Index>(std::nearbyint(s * 128)));
      const Index out = std::min<Index>(47, static_cast<Index>(std::nearbyint(s * 48)));
      const Index both = std::min<Index>(174, static_cast<Index>(std::nearbyint(s * 176)));
      EXPECT_EQ(pruned_of(model.in.weight) + pruned_of(model.out.weight), scope == Scope::global ? both : in + out);
      EXPECT_TRUE(scope == Scope::global || pruned_of(model.in.weight) == in);
      EXPECT_FALSE(model.in.bias.mask().defined());
      expect_invariant(model.parameters());
    }
  }
}

TEST(Pruner, OneGroupIsGlobalAndAGroupEachIsTensor) {
  auto masks = [](Scope scope, std::vector<optim::Select> groups) {
    Rng rng(3);
    Mlp model(rng);
    Pruner(model.parameters(), {.scope = scope, .groups = groups}).to_sparsity(0.6);
    return std::pair(model.in.weight.mask(), model.out.weight.mask());
  };
  EXPECT_EQ(masks(Scope::global, {}), masks(Scope::group, {"*"}));
  EXPECT_EQ(masks(Scope::tensor, {}), masks(Scope::group, {"in.*", "out.*"}));
  EXPECT_NE(masks(Scope::tensor, {}), masks(Scope::global, {}));
}

TEST(Pruner, FractionsAreOfTheLive) {
  Rng rng(1);
  nn::Linear layer(rng, 10, 10);
  Pruner pruner(layer.parameters());
  std::vector<Index> live;
  for (int i = 0; i < 3; ++i) {
    pruner.prune_fraction(0.2);
    live.push_back(live_weights(*layer.weight.ref()));
  }
  EXPECT_EQ(live, (std::vector<Index>{80, 64, 51}));  // 64 - round(12.8)
  pruner.prune_count(11);
  EXPECT_EQ(live_weights(*layer.weight.ref()), 40);
  pruner.prune_count(1000);
  EXPECT_EQ(live_weights(*layer.weight.ref()), 1);
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.99);
  EXPECT_THROW(pruner.prune_fraction(1.5), ConfigError);
  EXPECT_THROW(pruner.prune_count(-1), ConfigError);
}

TEST(Pruner, HardSparsityNeverFallsAndMasksAreNested) {
  Rng rng(9);
  Mlp model(rng);
  Pruner pruner(model.parameters());
  Mask before = Mask(128);
  for (double s : {0.3, 0.1, 0.5, 0.5, 0.2, 0.95}) {
    const double was = pruner.sparsity();
    pruner.to_sparsity(s);
    EXPECT_GE(pruner.sparsity(), was);
    const Mask& now = model.in.weight.mask();
    for (Index i = 0; i < 128; ++i) EXPECT_LE(now[i], before[i]);
    before = now;
  }
}

TEST(Pruner, UnchangedMasksAreNotWritten) {
  Rng rng(9);
  Mlp model(rng);
  Pruner pruner(model.parameters());
  pruner.to_sparsity(0);
  EXPECT_EQ(model.in.weight.ref()->mask_version(), 0u);
  pruner.to_sparsity(0.5);
  const auto version = model.in.weight.ref()->mask_version();
  pruner.to_sparsity(0.5);
  EXPECT_EQ(model.in.weight.ref()->mask_version(), version);
}

TEST(Pruner, TinyShapes) {
  Parameter scalar(Tensor::scalar(3), "s"), one(Tensor::ones({1, 1}), "one"), empty(Tensor::zeros({0, 4}), "empty");
  Pruner pruner(list_of(scalar, one, empty), {.select = optim::Select()});
  pruner.to_sparsity(1);
  EXPECT_EQ(pruner.sparsity(), 0);  // min_keep holds both
  Pruner last(list_of(scalar, one, empty), {.select = optim::Select(), .min_keep = 0});
  last.to_sparsity(1);
  EXPECT_EQ(last.sparsity(), 1);
  EXPECT_EQ(scalar.value().item(), 0);
}

TEST(Pruner, NanWeightIsNamedAndNothingIsPruned) {
  Rng rng(1);
  Mlp model(rng);
  Tensor w = model.out.weight.value().clone();
  w.write<float>("test")[7] = std::numeric_limits<float>::quiet_NaN();
  model.out.weight.set_value(w);
  Pruner pruner(model.parameters(), {.scope = Scope::tensor});
  try {
    pruner.to_sparsity(0.5);
    FAIL();
  } catch (const NonFiniteError& e) {
    EXPECT_NE(std::string(e.what()).find("out.weight"), std::string::npos);
  }
  EXPECT_FALSE(model.in.weight.mask().defined());  // in came first, and was not touched
}

TEST(Pruner, BadSetUpsAreErrors) {
  Rng rng(1);
  Mlp model(rng);
  const ParameterList p = model.parameters();
  EXPECT_THROW(Pruner(ParameterList{}), ConfigError);
  EXPECT_THROW(Pruner(list_of(model.in.bias)), ConfigError);
  EXPECT_THROW(Pruner(p, {.select = "nothing"}), ConfigError);
  EXPECT_THROW(Pruner(p, {.min_keep = -1}), ConfigError);
  EXPECT_THROW(Pruner(p, {.scope = Scope::group}), ConfigError);
  EXPECT_THROW(Pruner(p, {.groups = {"*"}}), ConfigError);
  EXPECT_THROW(Pruner(p, {.scope = Scope::group, .groups = {"in.*"}}), ConfigError);
  EXPECT_THROW(Pruner(p).to_sparsity(1.01), ConfigError);
  EXPECT_THROW(Pruner(p).to_sparsity(std::nan("")), ConfigError);
}

TEST(Pruner, AParameterListedTwiceCountsOnce) {
  Rng rng(1);
  nn::Linear layer(rng, 4, 5);
  ParameterList twice = layer.parameters();
  for (const NamedParameter& p : layer.parameters()) twice.push_back(p);
  EXPECT_EQ(Pruner(twice).parameters().size(), 1u);
}

TEST(Pruner, SoftWeightsComeBack) {
  Rng rng(1);
  nn::Linear layer(rng, 6, 6);
  const std::vector<float> original = layer.weight.value().to_vector<float>();
  Pruner pruner(layer.parameters(), {.mode = MaskMode::soft});
  pruner.to_sparsity(0.75);
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.75);
  EXPECT_EQ(layer.weight.ref()->dense().to_vector<float>(), original);
  pruner.to_sparsity(0.25);  // the choice is made anew, from the dense values
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.25);
  pruner.undo();
  EXPECT_EQ(layer.weight.value().to_vector<float>(), original);
  pruner.to_sparsity(0.5);
  pruner.freeze();
  EXPECT_FALSE(layer.weight.ref()->dense().defined());
  pruner.to_sparsity(0.25);
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.5);  // hard from now on
  EXPECT_THROW(pruner.undo(), ConfigError);
}

TEST(Pruner, UndoGoesBackToTheSnapshot) {
  Rng rng(1);
  Mlp model(rng);
  Pruner pruner(model.parameters());
  pruner.to_sparsity(0.2);
  const std::vector<float> weights = model.in.weight.value().to_vector<float>();
  const Mask mask = model.in.weight.mask();
  EXPECT_THROW(pruner.undo(), ConfigError);
  pruner.snapshot();
  pruner.to_sparsity(0.8);
  EXPECT_NE(model.in.weight.mask(), mask);
  pruner.undo();
  EXPECT_EQ(model.in.weight.mask(), mask);
  EXPECT_EQ(model.in.weight.value().to_vector<float>(), weights);
  expect_invariant(model.parameters());
}

TEST(Pruner, ScoresByTheGradientNeedOne) {
  Rng rng(1);
  Mlp model(rng);
  const Score taylor(
      "taylor", [](const ParameterState& p, const Statistics& s) { return abs(mul(p.value(), s.gradient)).value(); },
      {.gradient = true});
  Pruner pruner(model.parameters(), {.score = taylor});
  EXPECT_THROW(pruner.to_sparsity(0.5), ConfigError);
  const Batch b = batch(rng);
  Tape tape;
  tape.backward(nn::cross_entropy(model(b.x), b.y));
  pruner.to_sparsity(0.5);
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.5);
}

// The invariant through whole steps: nothing that an optimizer remembers may revive a weight.
TEST(Pruner, MasksHoldUnderEveryOptimizerWithAndWithoutThePruner) {
  using optim::chain;
  const optim::Chain chains[] = {
      chain(optim::sgd({.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01})),
      chain(optim::clip_by_global_norm(0.5), optim::sgd({.lr = 0.1, .momentum = 0.9, .nesterov = true})),
      chain(optim::adam({.lr = 0.01, .weight_decay = 0.1})),
      chain(optim::clip_by_value(0.01), optim::adamw({.lr = 0.01, .weight_decay = 0.1, .amsgrad = true}))};
  for (DType type : {DType::f32, DType::f64}) {
    for (const optim::Chain& c : chains) {
      Rng rng(5);
      Mlp model(rng, 16, type);
      optim::Optimizer optimizer(model.parameters(), c);
      std::optional<Pruner> pruner(
          Pruner(model.parameters(), {.schedule = cubic({.final_sparsity = 0.8, .begin = 3, .end = 20, .every = 4})}));
      optimizer.attach(*pruner);
      pruner.reset();  // the optimizer keeps what it needs
      train(model, optimizer, rng, 25);
      EXPECT_NEAR(sparsity(model.parameters()), 0.8, 0.5 / 176);
      const Mask mask = model.in.weight.mask();

      optim::Optimizer bare(model.parameters(), c);  // fine-tuning without any pruner
      train(model, bare, rng, 10);
      EXPECT_EQ(model.in.weight.mask(), mask);
    }
  }
}

TEST(Pruner, SoftMasksTrainTheDenseWeights) {
  Rng rng(5);
  Mlp model(rng);
  optim::Optimizer optimizer(model.parameters(), optim::sgd({.lr = 0.1, .momentum = 0.9}));
  Pruner pruner(model.parameters(), {.schedule = constant({.sparsity = 0.5, .every = 1}), .mode = MaskMode::soft});
  optimizer.attach(pruner);
  train(model, optimizer, rng, 1);
  const Tensor dense = model.in.weight.ref()->dense().clone();
  const Mask first = model.in.weight.mask();
  train(model, optimizer, rng, 30);
  EXPECT_FALSE(equal(model.in.weight.ref()->dense(), dense));
  EXPECT_NE(model.in.weight.mask(), first);
  EXPECT_DOUBLE_EQ(pruner.sparsity(), 0.5);
}

TEST(Pruner, ResumesToTheSameBytes) {
  const optim::Chain c = optim::chain(optim::clip_by_global_norm(1.0), optim::adam({.lr = 0.01}));
  const PrunerOptions options{.scope = Scope::tensor,
                              .schedule = cubic({.final_sparsity = 0.9, .begin = 2, .end = 30, .every = 3})};
  Rng rng(5), data(6);
  Mlp model(rng);
  optim::Optimizer optimizer(model.parameters(), c);
  Pruner pruner(model.parameters(), options);
  optimizer.attach(pruner);
  pruner.snapshot();
  train(model, optimizer, data, 12);

  Mlp other(rng);
  other = model;
  optim::Optimizer second(other.parameters(), c);
  Pruner again(other.parameters(), options);
  second.attach(again);
  second.load_state(optimizer.state());
  again.load_state(pruner.state());
  Rng data2 = data;
  train(model, optimizer, data, 30);
  train(other, second, data2, 30);
  EXPECT_TRUE(equal(model.in.weight.value(), other.in.weight.value()));
  EXPECT_EQ(model.out.weight.mask(), other.out.weight.mask());
  pruner.undo();
  again.undo();
  EXPECT_TRUE(equal(model.in.weight.value(), other.in.weight.value()));
}

TEST(Pruner, ForeignStatesAreRefusedWhole) {
  Rng rng(5);
  Mlp model(rng), wide(rng, 20);
  Pruner pruner(model.parameters()), other(wide.parameters());
  other.snapshot();
  PrunerState state = pruner.state();
  state["unknown"] = Tensor::scalar(1);
  EXPECT_THROW(pruner.load_state(state), ConfigError);
  EXPECT_THROW(pruner.load_state({}), ConfigError);
  EXPECT_THROW(pruner.load_state(other.state()), ConfigError);
  state = pruner.state();
  state["mode"] = Tensor::scalar(7, DType::i64);
  EXPECT_THROW(pruner.load_state(state), ConfigError);
  EXPECT_NO_THROW(pruner.load_state(pruner.state()));
}

TEST(Pruner, APrunerOfACopyIsAnError) {
  Rng rng(5);
  Mlp model(rng);
  const Mlp copy = model;
  optim::Optimizer optimizer(model.parameters(), optim::sgd({.lr = 0.1}));
  optimizer.attach(Pruner(copy.parameters(), {.schedule = one_shot({.sparsity = 0.5})}));
  const Batch b = batch(rng);
  Tape tape;
  tape.backward(nn::cross_entropy(model(b.x), b.y));
  EXPECT_THROW(optimizer.step(), ConfigError);
}

TEST(Pruner, SaysWhatItIs) {
  Rng rng(5);
  Mlp model(rng);
  Pruner pruner(model.parameters(), {.schedule = one_shot({.sparsity = 0.5, .at = 3})});
  pruner.to_sparsity(0.5);
  const std::string text = pruner.describe();
  for (const char* part :
       {"magnitude", "global", "one shot to 0.5 at step 3", "hard", "50.0 %", "in.weight", "out.weight"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  const std::string rows = table(pruner.report());
  EXPECT_NE(rows.find("[16, 8]"), std::string::npos) << rows;
  EXPECT_NE(rows.find("total"), std::string::npos) << rows;
  EXPECT_DOUBLE_EQ(sparsity(model.parameters()), 0.5);
  EXPECT_EQ(sparsity(model.parameters(), "*.bias"), 0);
}

}  // namespace
}  // namespace espalier::prune
