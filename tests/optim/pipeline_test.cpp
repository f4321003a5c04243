// The step as a whole: sweeps, masks, errors that change nothing, states, threads, users' own transforms.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <limits>
#include <stdexcept>
#include <utility>

#include "espalier/core/parallel.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;

/// A user's transform: g <- sign(g), slowed down by a memory of its own.
class Sign final : public TransformOf<Sign> {
 public:
  std::string name() const override { return "sign"; }
  std::vector<StateSpec> states() const override { return {{"memory"}}; }
  template <class T>
  void apply(Block<T>& b) const {
    const auto memory = b.state(0), g = b.gradient();
    for (std::size_t i = 0; i < g.size(); ++i) memory[i] = g[i] = T(0.5) * memory[i] + T((g[i] > 0) - (g[i] < 0));
  }
};
/// One that does not keep zeros.
class AddOne final : public TransformOf<AddOne> {
 public:
  std::string name() const override { return "add_one"; }
  template <class T>
  void apply(Block<T>& b) const {
    b.map([](T g) { return g + 1; });
  }
};
/// One that throws in the middle.
class Failing final : public TransformOf<Failing> {
 public:
  explicit Failing(std::int64_t at) : at_(at) {}
  std::string name() const override { return "failing"; }
  void begin(const StepContext& context) override { now_ = context.step == at_; }
  template <class T>
  void apply(Block<T>& b) const {
    if (now_ && b.begin() > 0) throw std::runtime_error("user's own");
  }

 private:
  std::int64_t at_;
  bool now_ = false;
};
/// Needs the tensor as a whole: reverses it.
class Reverse final : public TransformOf<Reverse> {
 public:
  std::string name() const override { return "reverse"; }
  Grain grain() const override { return Grain::tensor; }
  template <class T>
  void apply(Block<T>& b) const {
    const auto g = b.gradient();
    std::reverse(g.begin(), g.end());
  }
};
/// A constraint that measures: w <- w / max(1, ||w||).
class UnitBall final : public TransformOf<UnitBall> {
 public:
  std::string name() const override { return "unit_ball"; }
  bool is_constraint() const override { return true; }
  bool keeps_zeros() const override { return true; }
  Span measures() const override { return Span::everything; }
  void measured(const Measured& m, const StepContext&) override { c_ = m.total > 1 ? 1 / std::sqrt(m.total) : 1; }
  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>& b) const {
    b.multiply(c_);
  }

 private:
  Figure c_ = 1;
};

/// Each unit's gradient to norm 1 at most.
class UnitClip final : public TransformOf<UnitClip> {
 public:
  std::string name() const override { return "unit_clip"; }
  bool keeps_zeros() const override { return true; }
  Span measures() const override { return Span::unit; }
  template <class T>
  Figure measure(Block<T>& b) const {
    return b.sum_squares();
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (b.figure() > 1) b.multiply(1 / std::sqrt(b.figure()));
  }
};

/// Parameters of many sizes around the boundaries of masks, blocks and tasks.
struct Model {
  std::vector<Parameter> parameters;
  ParameterList list;
  explicit Model(DType type = DType::f32,
                 std::vector<std::size_t> sizes = {1, 63, 64, 65, 4095, 4096, 4097, 0, 150000}) {
    for (std::size_t k = 0; k < sizes.size(); ++k) {
      parameters.push_back(parameter("p" + std::to_string(k), numbers(sizes[k], static_cast<unsigned>(k + 1)), type));
      list.push_back({parameters.back().ref()->name(), parameters.back().ref()});
    }
  }
  void give_gradients(unsigned seed) {
    for (const Parameter& p : parameters) give_gradient(p, numbers(static_cast<std::size_t>(p.size()), ++seed * 31));
  }
  std::vector<std::vector<double>> values() const {
    std::vector<std::vector<double>> all;
    for (const Parameter& p : parameters) all.push_back(values_of(p));
    return all;
  }
  void prune_every_third() {
    for (const Parameter& p : parameters) {
      if (p.size() == 0) continue;
      Mask mask(p.size());
      for (Index i = 0; i < p.size(); i += 3) mask.set(i, false);
      p.ref()->set_mask(mask);
    }
  }
};

Chain everything() {
  return chain(clip_by_value(0.9), clip_by_global_norm(5.0), adamw({.lr = 0.01, .weight_decay = 0.1}),
               clip_by_global_norm(0.1), clamp_parameters(-0.95, 0.95));
}

TEST(Pipeline, UpdateClipHoldsTheUpdateToItsBound) {
  Model model(DType::f64);
  const auto before = model.values();
  Optimizer opt(model.list, chain(clip_by_global_norm(1.0), adam({.lr = 0.1}), clip_by_global_norm(0.01)));
  model.give_gradients(1);
  const StepReport report = opt.step();
  auto change = model.values();
  for (std::size_t k = 0; k < change.size(); ++k)
    for (std::size_t i = 0; i < change[k].size(); ++i) change[k][i] -= before[k][i];
  EXPECT_NEAR(norm(change), 0.01, 1e-12);
  EXPECT_NEAR(report["clip_by_global_norm"].norm_after, 1, 1e-12);
  EXPECT_NEAR(report["clip_by_global_norm.2"].norm_after, 0.01, 1e-12);
}

TEST(Pipeline, ADecayPassesByAnUpdateClip) {
  for (double bound : {1e-3, 1e9}) {
    const Parameter p = parameter("p", {2, -4}, DType::f64);
    Optimizer opt(list_of(p), chain(adamw({.lr = 0.1, .weight_decay = 0.5}), clip_by_global_norm(bound)));
    give_gradient(p, {1, 1});
    opt.step();
    const double update = std::min(0.1, bound / std::sqrt(2));
    EXPECT_NEAR(values_of(p)[0], 2 * 0.95 - update, 1e-8);
    EXPECT_NEAR(values_of(p)[1], -4 * 0.95 - update, 1e-8);
  }
}

TEST(Pipeline, DescribesItsSweeps) {
  Model model;
  EXPECT_EQ(Optimizer(model.list, chain(clip_by_global_norm(1.0), adam())).describe(),
            "sweep 1: finite check > mask > measure clip_by_global_norm\n"
            "sweep 2: mask > clip_by_global_norm(max_norm 1) > adam > apply > mask\n");
  EXPECT_EQ(
      Optimizer(model.list, everything(), {.nonfinite = Nonfinite::propagate}).describe(),
      "sweep 1: mask > clip_by_value(min -0.9, max 0.9) > measure clip_by_global_norm\n"
      "sweep 2: mask > clip_by_value(min -0.9, max 0.9) > clip_by_global_norm(max_norm 5) > adamw > measure "
      "clip_by_global_norm.2 > store\n"
      "sweep 3: mask > clip_by_global_norm.2(max_norm 0.1) > apply > clamp_parameters(min -0.95, max 0.95) > mask\n");
  EXPECT_EQ(Optimizer(model.list, sgd()).describe(), "sweep 1: finite check\nsweep 2: mask > sgd > apply > mask\n");
}

TEST(Pipeline, ReplayingIsNotSeenInTheResult) {
  // The same chain with a clip that measures but never acts has a sweep more and must give the same bytes.
  for (DType type : {DType::f32, DType::f64}) {
    Model plain(type), measured(type);
    Optimizer a(plain.list, chain(clip_by_value(0.5), sgd({.lr = 0.1, .momentum = 0.9})));
    Optimizer b(measured.list, chain(clip_by_value(0.5), clip_by_global_norm({.max_norm = 1, .measure_only = true}),
                                     sgd({.lr = 0.1, .momentum = 0.9})));
    for (unsigned k = 0; k < 3; ++k) {
      plain.give_gradients(k);
      measured.give_gradients(k);
      EXPECT_EQ(a.step()["clip_by_value"].entries, b.step()["clip_by_value"].entries);
    }
    EXPECT_EQ(plain.values(), measured.values());
  }
}

TEST(Pipeline, SameBytesAtAnyThreadCount) {
  std::vector<std::vector<std::vector<double>>> results;
  for (int threads : {1, 2, 4}) {
    const ThreadLimit limit(threads);
    set_threads(4);
    Model model;
    model.prune_every_third();
    Optimizer opt(model.list, everything());
    for (unsigned k = 0; k < 3; ++k) {
      model.give_gradients(k);
      opt.step();
    }
    results.push_back(model.values());
    for (const auto& [key, tensor] : opt.state()) results.back().push_back(values_of(tensor));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(Pipeline, ManySmallTensorsAndAGapInTheirGradients) {
  Model model(DType::f32, std::vector<std::size_t>(300, 1000));
  Optimizer opt(model.list, chain(clip_by_global_norm(1.0), sgd({.lr = 1})));
  for (unsigned k = 0; k < 3; ++k) {
    const auto before = model.values();
    model.give_gradients(k);
    for (std::size_t i = k; i < 300; i += 7) model.parameters[i].ref()->clear_grad();
    const StepReport report = opt.step();
    EXPECT_EQ(report.with_gradient + report.without_gradient, 300);
    auto change = model.values();
    for (std::size_t i = 0; i < change.size(); ++i) {
      for (std::size_t e = 0; e < change[i].size(); ++e) change[i][e] -= before[i][e];
      if (i % 7 == k) {
        EXPECT_EQ(change[i], std::vector<double>(1000, 0));
      }
    }
    EXPECT_NEAR(norm(change), 1, 1e-4);
  }
}

TEST(Pipeline, ConsumesGradientsAndAddsUpTwoBackwards) {
  const Parameter p = parameter("p", {1});
  Optimizer opt(list_of(p), sgd({.lr = 1}));
  p.ref()->accumulate(Tensor::full({1}, 0.25));
  p.ref()->accumulate(Tensor::full({1}, 0.5));
  opt.step();
  EXPECT_EQ(p.value().item(), 0.25);
  EXPECT_FALSE(p.grad().defined());
  EXPECT_THROW(opt.step(), GradError);
}

TEST(Pipeline, BothTypesInOneOptimizer) {
  const Parameter a = parameter("a", numbers(100, 1), DType::f32), b = parameter("b", numbers(5000, 2), DType::f64);
  const Parameter alone = parameter("b", numbers(5000, 2), DType::f64);
  Optimizer both(list_of(a, b), adam({.lr = 0.1})), one(list_of(alone), adam({.lr = 0.1}));
  for (unsigned k = 0; k < 3; ++k) {
    give_gradient(a, numbers(100, k));
    give_gradient(b, numbers(5000, k));
    give_gradient(alone, numbers(5000, k));
    both.step();
    one.step();
  }
  EXPECT_EQ(values_of(b), values_of(alone));
}

// --- masks ----------------------------------------------------------------------------------------------------------

TEST(PipelineMasks, PrunedWeightsAndTheirStatesStayZero) {
  const std::vector<Chain> chains = {sgd({.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true}),
                                     adam({.weight_decay = 0.1}),
                                     everything(),
                                     chain(AddOne(), adam()),
                                     chain(Sign(), sgd({.lr = 0.1})),
                                     chain(AddOne(), clip_by_global_norm(1.0), Sign(), sgd()),
                                     chain(sgd(), clamp_parameters(0.5, 2)),
                                     chain(Reverse(), adam({.weight_decay = 0.5, .amsgrad = true}))};
  for (DType type : {DType::f32, DType::f64})
    for (const Chain& c : chains) {
      Model model(type);
      Optimizer opt(model.list, c);
      for (unsigned k = 0; k < 4; ++k) {
        if (k == 2) model.prune_every_third();  // moments exist by now
        model.give_gradients(k);
        opt.step();
      }
      const OptimizerState state = opt.state();
      for (const Parameter& p : model.parameters) {
        const auto w = values_of(p);
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i) {
          if (i % 3 == 0) {
            ASSERT_EQ(std::bit_cast<std::uint64_t>(w[i]), 0u) << p.ref()->name() << " " << i;
          }
          sum += std::abs(w[i]);
        }
        if (w.size() > 1) {
          EXPECT_GT(sum, 0);
        }
        for (const auto& [key, tensor] : state) {
          if (!key.ends_with("/" + p.ref()->name())) continue;
          const auto s = values_of(tensor);
          for (std::size_t i = 0; i < s.size(); i += 3) ASSERT_EQ(s[i], 0) << key << " " << i;
        }
      }
    }
}

TEST(PipelineMasks, LiveWeightsDoWhatTheyWouldDoAlone) {
  // A masked parameter and one that holds only its live weights must move alike: norms and all.
  for (const Chain& c : {chain(clip_by_global_norm(0.5), adam({.lr = 0.1})),
                         chain(clip_per_tensor_norm(0.5), sgd({.lr = 0.1, .momentum = 0.9}))}) {
    const Parameter masked = parameter("p", numbers(200, 1), DType::f64);
    Mask mask(200);
    std::vector<std::size_t> live;
    for (Index i = 0; i < 200; ++i) i % 7 < 3 ? mask.set(i, false) : live.push_back(static_cast<std::size_t>(i));
    const auto pick = [&](const std::vector<double>& all) {
      std::vector<double> some;
      for (std::size_t i : live) some.push_back(all[i]);
      return some;
    };
    const Parameter dense = parameter("p", pick(values_of(masked)), DType::f64);
    masked.ref()->set_mask(mask);
    Optimizer a(list_of(masked), c), b(list_of(dense), c);
    for (unsigned k = 0; k < 3; ++k) {
      give_gradient(masked, numbers(200, k + 9));
      give_gradient(dense, pick(numbers(200, k + 9)));
      a.step();
      b.step();
      const auto x = pick(values_of(masked)), y = values_of(dense);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-12);
    }
  }
}

TEST(PipelineMasks, AMaskThatGoesLeavesTheMoments) {
  const Parameter p = parameter("p", {1, 1}, DType::f64);
  Optimizer opt(list_of(p), sgd({.lr = 1, .momentum = 0.5}));
  give_gradient(p, {1, 1});
  opt.step();  // m = 1, 1; w = 0, 0
  Mask mask(2);
  mask.set(0, false);
  p.ref()->set_mask(mask);
  give_gradient(p, {1, 1});
  opt.step();  // m = 0, 1.5
  EXPECT_EQ(values_of(p), (std::vector<double>{0, -1.5}));
  p.ref()->set_mask(Mask());
  give_gradient(p, {1, 1});
  opt.step();  // m = 1, 1.75
  EXPECT_EQ(values_of(p), (std::vector<double>{-1, -3.25}));
}

TEST(PipelineMasks, SoftMasksTrainTheDenseTensor) {
  const Parameter p = parameter("p", {1, 2, 3}, DType::f64);
  Mask mask(3);
  mask.set(1, false);
  p.ref()->set_mask(mask, MaskMode::soft);
  Optimizer opt(list_of(p), chain(clip_by_global_norm(100.0), sgd({.lr = 0.1, .momentum = 0.9})));
  give_gradient(p, {1, 1, 1});
  EXPECT_DOUBLE_EQ(opt.step()["clip_by_global_norm"].norm_before, std::sqrt(3));
  EXPECT_DOUBLE_EQ(values_of(p.ref()->dense())[1], 1.9);
  EXPECT_EQ(values_of(p)[1], 0);
  EXPECT_DOUBLE_EQ(values_of(p)[2], 2.9);
  EXPECT_EQ(values_of(opt.state().at("sgd/momentum/p")), (std::vector<double>{1, 1, 1}));
  p.ref()->freeze();  // hard from now on: its momentum goes
  give_gradient(p, {1, 1, 1});
  opt.step();
  EXPECT_EQ(values_of(p)[1], 0);
  EXPECT_EQ(values_of(opt.state().at("sgd/momentum/p"))[1], 0);
}

TEST(PipelineMasks, MaskGradientIsPyTorchsRuleForSoftMasks) {
  const Parameter p = parameter("p", {1, 2, 3}, DType::f64);
  Mask mask(3);
  mask.set(1, false);
  p.ref()->set_mask(mask, MaskMode::soft);
  Optimizer opt(list_of(p), chain(mask_gradient(), sgd({.lr = 0.1, .momentum = 0.9}), clamp_parameters(-5, 2.5)));
  give_gradient(p, {1, 1, 1});
  opt.step();
  EXPECT_EQ(values_of(p.ref()->dense())[1], 2);
  EXPECT_EQ(values_of(p.ref()->dense())[2], 2.5);
  EXPECT_EQ(values_of(p), (std::vector<double>{0.9, 0, 2.5}));
}

// --- errors that change nothing -------------------------------------------------------------------------------------

/// Values, gradients and optimizer state, to be compared before and after.
std::vector<std::vector<double>> snapshot(const Model& model, const Optimizer& opt) {
  auto all = model.values();
  for (const Parameter& p : model.parameters)
    all.push_back(p.grad().defined() ? values_of(p.grad()) : std::vector<double>{});
  for (const auto& [key, tensor] : opt.state()) all.push_back(values_of(tensor));
  return all;
}

TEST(PipelineErrors, AFailedStepChangesNothing) {
  bool bad = false;
  const auto lr = [&](std::int64_t) { return bad ? -1.0 : 0.1; };
  for (const Chain& c : {chain(clip_by_global_norm(1.0), adam({.lr = lr})), Chain(sgd({.lr = lr, .momentum = 0.9})),
                         chain(adam({.lr = lr}), clip_by_global_norm(1.0)),
                         chain(clip_by_value(1.0), clip_per_tensor_norm(1.0), adam({.lr = lr}))}) {
    Model model;
    Optimizer opt(model.list, c);
    model.give_gradients(1);
    opt.step();
    model.give_gradients(2);
    auto before = snapshot(model, opt);
    bad = true;
    EXPECT_THROW(opt.step(), ConfigError);
    bad = false;
    EXPECT_EQ(snapshot(model, opt), before);

    const Parameter& last = model.parameters.back();
    for (double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      auto g = values_of(last.grad());
      const double good = std::exchange(g[140000], value);
      give_gradient(last, g);
      model.parameters[3].ref()->set_mask(Mask(65));  // a mask that moved must not lead to writes, either
      EXPECT_THROW(opt.step(), NonFiniteError);
      g[140000] = good;
      give_gradient(last, g);
      EXPECT_EQ(snapshot(model, opt), before);
    }
    EXPECT_NO_THROW(opt.step());
    EXPECT_EQ(opt.steps(), 2);
  }
}

TEST(PipelineErrors, SkipStepDropsTheGradientsOnly) {
  Model model;
  Optimizer opt(model.list, chain(clip_by_global_norm(1.0), adam()), {.nonfinite = Nonfinite::skip_step});
  model.give_gradients(1);
  opt.step();
  const auto before = model.values();
  model.give_gradients(2);
  give_gradient(model.parameters[0], {NAN});
  const StepReport report = opt.step();
  EXPECT_TRUE(report.skipped);
  EXPECT_EQ(report.nonfinite, 1);
  EXPECT_EQ(report.step, 1);
  EXPECT_EQ(model.values(), before);
  EXPECT_FALSE(model.parameters[1].grad().defined());
  model.give_gradients(3);
  EXPECT_FALSE(opt.step().skipped);
}

TEST(PipelineErrors, ZeroTakesThemAsZero) {
  for (const Chain& c : {chain(clip_by_value(0.5), clip_by_global_norm(1.0), sgd({.lr = 1})), Chain(sgd({.lr = 1})),
                         chain(adam(), clip_by_global_norm(1.0))}) {
    const Parameter bad = parameter("p", {1, 1}), good = parameter("p", {1, 1});
    Optimizer a(list_of(bad), c, {.nonfinite = Nonfinite::zero}), b(list_of(good), c);
    give_gradient(bad, {NAN, 2});
    give_gradient(good, {0, 2});
    EXPECT_EQ(a.step().nonfinite, 1);
    b.step();
    EXPECT_EQ(values_of(bad), values_of(good));
  }
}

TEST(PipelineErrors, ATransformThatThrowsInTheMiddleBreaksTheOptimizer) {
  Model model;
  Optimizer opt(model.list, chain(sgd({.lr = 0.1, .momentum = 0.9}), Failing(1)));
  model.give_gradients(1);
  opt.step();
  const OptimizerState state = opt.state();
  model.give_gradients(2);
  EXPECT_THROW(opt.step(), std::runtime_error);
  model.give_gradients(2);
  EXPECT_THROW(opt.step(), ConfigError);
  EXPECT_EQ(opt.steps(), 1);
  opt.load_state(state);
  EXPECT_THROW(opt.step(), std::runtime_error);  // still step 1
}

TEST(PipelineErrors, ATransformThatThrowsWhileMeasuringDoesNot) {
  Model model;
  Optimizer opt(model.list, chain(Failing(0), clip_by_global_norm(1.0), sgd()));
  model.give_gradients(1);
  const auto before = snapshot(model, opt);
  EXPECT_THROW(opt.step(), std::runtime_error);
  EXPECT_EQ(snapshot(model, opt), before);
  EXPECT_THROW(opt.step(), std::runtime_error);  // not "unusable"
}

TEST(PipelineErrors, OfConstruction) {
  const Parameter p = parameter("theta", {1}), q = parameter("phi", {1});
  EXPECT_THROW(Optimizer({}, sgd()), ConfigError);
  EXPECT_THROW(Optimizer(list_of(p), clip_by_global_norm(1.0)), ConfigError);  // would climb
  EXPECT_THROW(Optimizer(list_of(p), Chain()), ConfigError);
  EXPECT_THROW(Optimizer(list_of(p), chain(sgd(), adam())), ConfigError);
  EXPECT_THROW(Optimizer(list_of(p, q), on("theta", sgd())), ConfigError);
  EXPECT_THROW(Optimizer(list_of(p), chain(clamp_parameters(-1, 1), sgd())), ConfigError);
  EXPECT_THROW(Optimizer(list_of(p), chain(sgd(), clamp_parameters(1, -1))), ConfigError);
  EXPECT_NO_THROW(Optimizer(list_of(p, q), chain(on("theta", sgd()), on(!named("theta"), adam()))));
  EXPECT_THROW(apply_to_gradients(list_of(p), sgd()), ConfigError);
  EXPECT_THROW(apply_to_gradients(list_of(p), Sign()), ConfigError);
  EXPECT_THROW(apply_to_gradients(list_of(p), clamp_parameters(-1, 1)), ConfigError);
  try {
    Optimizer(list_of(p, q), on("theta", sgd()));
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("'phi'"), std::string::npos) << e.what();
  }
}

TEST(PipelineErrors, AParameterThatIsGoneOrChanged) {
  auto p = std::make_unique<Parameter>(parameter("theta", {1, 2}));
  Optimizer opt(list_of(*p), sgd());
  give_gradient(*p, {1, 1});
  const ParameterRef ref = p->ref();
  ref->replace(tensor({1}, DType::f32), Mask());
  EXPECT_THROW(opt.step(), ConfigError);
  ref->replace(tensor({1, 2}, DType::f64), Mask());
  EXPECT_THROW(opt.step(), ConfigError);
  ref->replace(tensor({1, 2}, DType::f32), Mask());
  give_gradient(*p, {1, 1});
  EXPECT_NO_THROW(opt.step());
  p.reset();
  try {
    opt.step();
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("'theta'"), std::string::npos) << e.what();
  }
}

// --- state ----------------------------------------------------------------------------------------------------------

TEST(PipelineState, ResumingInTheMiddleGivesTheSameBytes) {
  for (DType type : {DType::f32, DType::f64}) {
    const Chain c = chain(clip_by_global_norm(2.0), Sign(), adamw({.lr = 0.01, .amsgrad = true}), Sign());
    Model unbroken(type);
    Optimizer opt(unbroken.list, c);
    Model resumed(type);
    auto first = std::make_unique<Optimizer>(resumed.list, c);
    for (unsigned k = 0; k < 6; ++k) {
      unbroken.give_gradients(k);
      resumed.give_gradients(k);
      if (k % 2 == 1)  // a parameter that gets a gradient only now and then
        for (const Model* m : {&unbroken, &resumed}) m->parameters[2].ref()->clear_grad();
      opt.step();
      first->step();
      if (k != 2) continue;
      const OptimizerState saved = first->state();
      first = std::make_unique<Optimizer>(resumed.list, c);
      first->load_state(saved);
    }
    EXPECT_EQ(unbroken.values(), resumed.values());
  }
}

TEST(PipelineState, HasOneKeyForEachStateNumberedWhereNamesRepeat) {
  const Parameter p = parameter("w", {1, 2}), q = parameter("b", {1});
  Optimizer opt(list_of(p, q), chain(Sign(), on("w", sgd({.momentum = 0.9})), on("b", sgd({.momentum = 0.5})), Sign()));
  std::vector<std::string> keys;
  for (const auto& [key, tensor] : opt.state()) keys.push_back(key);
  EXPECT_EQ(keys, (std::vector<std::string>{"masks", "sgd.2/momentum/b", "sgd/momentum/w", "sign.2/memory/b",
                                            "sign.2/memory/w", "sign/memory/b", "sign/memory/w", "skipped", "step",
                                            "updates"}));
}

TEST(PipelineState, LoadingWhatDoesNotFitChangesNothing) {
  Model model;
  Optimizer opt(model.list, adam());
  model.give_gradients(1);
  opt.step();
  const OptimizerState good = opt.state();
  const auto refuses = [&](const std::function<void(OptimizerState&)>& spoil, const std::string& key) {
    OptimizerState bad = good;
    for (auto& [name, tensor] : bad)
      if (tensor.size() > 0 && is_floating(tensor.dtype())) tensor = Tensor::ones(tensor.shape(), tensor.dtype());
    spoil(bad);
    try {
      opt.load_state(bad);
      ADD_FAILURE() << key;
    } catch (const ConfigError& e) {
      EXPECT_NE(std::string(e.what()).find("'" + key + "'"), std::string::npos) << e.what();
    }
    for (const auto& [name, tensor] : opt.state()) EXPECT_TRUE(equal(tensor, good.at(name))) << name;
  };
  refuses([](auto& s) { s.erase("adam/v/p3"); }, "adam/v/p3");
  refuses([](auto& s) { s.erase("step"); }, "step");
  refuses([](auto& s) { s["adam/q/p3"] = Tensor::zeros({65}); }, "adam/q/p3");
  refuses([](auto& s) { s["adam/m/p3"] = Tensor::zeros({64}); }, "adam/m/p3");
  refuses([](auto& s) { s["adam/m/p3"] = Tensor::zeros({65}, DType::f64); }, "adam/m/p3");
  refuses([](auto& s) { s["adam/m/p3"] = Tensor(); }, "adam/m/p3");
  refuses([](auto& s) { s["step"] = Tensor::from<std::int64_t>({-4}, {}); }, "step");
}

TEST(PipelineState, NamesThatRepeatOrAreEmptyAreToldApart) {
  const Parameter a = parameter("weight", {1}), b = parameter("weight", {2}), c(Tensor::ones({1}));
  Optimizer opt(list_of(a, b, c), sgd({.momentum = 0.5}));
  const OptimizerState state = opt.state();
  EXPECT_TRUE(state.contains("sgd/momentum/weight") && state.contains("sgd/momentum/weight.2") &&
              state.contains("sgd/momentum/parameter"));
}

// --- users' transforms and hooks ------------------------------------------------------------------------------------

TEST(PipelineUsers, ATransformOfTheirOwn) {
  for (DType type : {DType::f32, DType::f64}) {
    const Parameter p = parameter("p", {1, 1, 1}, type);
    Optimizer opt(list_of(p), chain(Sign(), sgd({.lr = 0.25})));
    for (int k = 0; k < 2; ++k) {
      give_gradient(p, {3, -0.1, 0});
      opt.step();
    }
    EXPECT_EQ(values_of(p), (std::vector<double>{1 - 0.25 - 0.375, 1 + 0.25 + 0.375, 1}));
    EXPECT_EQ(values_of(opt.state().at("sign/memory/p")), (std::vector<double>{1.5, -1.5, 0}));
  }
}

TEST(PipelineUsers, WholeTensors) {
  const Parameter p = parameter("p", std::vector<double>(10000, 0), DType::f64);
  std::vector<double> g = numbers(10000, 4);
  Optimizer opt(list_of(p), chain(clip_by_global_norm(1.0), Reverse(), clip_by_value(1e-3), sgd({.lr = 1})));
  give_gradient(p, g);
  opt.step();
  const double c = 1 / norm({g});
  const auto w = values_of(p);
  for (std::size_t i = 0; i < g.size(); ++i)
    ASSERT_NEAR(w[i], -std::clamp(c * g[g.size() - 1 - i], -1e-3, 1e-3), 1e-15);
}

TEST(PipelineUsers, FiguresOfUnits) {
  // Units that are small, split a mask word, span blocks, and span tasks.
  for (const Shape& shape :
       {Shape{70, 3}, Shape{5, 7, 11}, Shape{3, 5000}, Shape{2, 100000}, Shape{4096}, Shape{}, Shape{0, 4}}) {
    const auto n = static_cast<std::size_t>(count(shape));
    const Parameter p = parameter("p", std::vector<double>(n, 0), DType::f64, shape);
    Mask mask(count(shape));
    for (Index i = 0; i < count(shape); i += 5) mask.set(i, false);
    if (n > 0) p.ref()->set_mask(mask);
    auto g = numbers(n, 4);
    const Parameter other = parameter("other", {0}, DType::f64);
    Optimizer opt(list_of(other, p), chain(clip_by_value(0.9), UnitClip(), sgd({.lr = 1, .momentum = 0.5})));
    give_gradient(p, g);
    give_gradient(other, {0.5});
    opt.step();
    const auto w = values_of(p);
    const std::size_t units = shape.rank() < 2 ? 1 : static_cast<std::size_t>(shape[0]);
    for (std::size_t u = 0; u < units; ++u) {
      const std::size_t length = n / units;
      double sum = 0;
      for (std::size_t i = u * length; i < (u + 1) * length; ++i) {
        g[i] = i % 5 == 0 ? 0 : std::clamp(g[i], -0.9, 0.9);
        sum += g[i] * g[i];
      }
      for (std::size_t i = u * length; i < (u + 1) * length; ++i)
        ASSERT_NEAR(w[i], -g[i] / std::max(1.0, std::sqrt(sum)), 1e-12) << i;
    }
    EXPECT_EQ(values_of(other)[0], -0.5);
  }
}

TEST(PipelineUsers, AConstraintThatMeasures) {
  for (DType type : {DType::f32, DType::f64}) {
    Model model(type);
    model.prune_every_third();
    Optimizer opt(model.list,
                  chain(adam({.lr = 0.1}), clamp_parameters(-0.5, 0.5), UnitBall(), clamp_parameters(-1e-3, 1)));
    model.give_gradients(3);
    opt.step();
    const auto w = model.values();
    EXPECT_LE(norm(w), 1 + 1e-6);
    EXPECT_GT(norm(w), 0.5);
    for (const auto& values : w)
      for (double x : values) ASSERT_GE(x, -1.0001e-3);
  }
}

/// Prunes the first weight at its second step, and notes what it saw.
class PruneFirst final : public StepHook {
 public:
  explicit PruneFirst(ParameterRef p) : p_(std::move(p)) {}
  bool due(std::int64_t step) const override { return step == 1; }
  void begin(const StepContext& context) override {
    EXPECT_EQ(context.step, 1);
    seen = values_of(p_->grad());
    Mask mask(p_->value().size());
    mask.set(0, false);
    p_->set_mask(mask);
  }
  std::vector<double> seen;

 private:
  ParameterRef p_;
};
struct Handle {
  std::shared_ptr<PruneFirst> hook_;
  std::shared_ptr<StepHook> hook() const { return hook_; }
};

TEST(PipelineHooks, RunBeforeTheSweepsAndSetMasks) {
  const Parameter p = parameter("p", {1, 1}, DType::f64);
  const Handle pruner{std::make_shared<PruneFirst>(p.ref())};
  Optimizer opt(list_of(p), chain(clip_by_global_norm(100.0), sgd({.lr = 0.1, .momentum = 0.9})));
  opt.attach(pruner);
  give_gradient(p, {3, 4});
  EXPECT_EQ(opt.step()["clip_by_global_norm"].norm_before, 5);
  give_gradient(p, {3, NAN});
  EXPECT_THROW(opt.step(), NonFiniteError);  // and the hook did not run
  EXPECT_FALSE(p.mask().defined());
  give_gradient(p, {3, 4});
  EXPECT_EQ(opt.step()["clip_by_global_norm"].norm_before, 4);  // live coordinates
  EXPECT_EQ(pruner.hook_->seen, (std::vector<double>{3, 4}));
  EXPECT_EQ(values_of(p)[0], 0);
  EXPECT_EQ(values_of(opt.state().at("sgd/momentum/p"))[0], 0);
  EXPECT_THROW(opt.add_hook(nullptr), ConfigError);
}

TEST(Selections, ByNameAndRank) {
  EXPECT_TRUE(matches("*.weight", "fc1.weight") && matches("fc?.*", "fc1.bias") && matches("*", "") &&
              matches("a*b*c", "axbbc"));
  EXPECT_FALSE(matches("*.weight", "fc1.weights") || matches("fc?", "fc") || matches("", "x") || matches("a*b", "a"));
  const Parameter w(Tensor::ones({2, 3}), "fc.weight"), b(Tensor::ones({2}), "fc.bias");
  const auto chosen = [&](const Select& s) {
    std::string names;
    for (const NamedParameter& p : list_of(w, b))
      if (s(p)) names += p.name + " ";
    return names;
  };
  EXPECT_EQ(chosen(select_rank(2)), "fc.weight ");
  EXPECT_EQ(chosen(!select_rank(2)), "fc.bias ");
  EXPECT_EQ(chosen(named("fc*") && !named("*.weight")), "fc.bias ");
  EXPECT_EQ(chosen("*.bias" || select_rank(2)), "fc.weight fc.bias ");
  EXPECT_EQ(chosen([](const NamedParameter& p) { return p.parameter->value().size() == 6; }), "fc.weight ");
}

}  // namespace
}  // namespace espalier::optim
