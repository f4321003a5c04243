// What the pipeline offers transforms: figures of units and in pairs, states of other shapes, memory, steps left out,
// skipped or put together.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "espalier/core/parallel.h"
#include "tests/optim/support.h"

namespace espalier::optim {
namespace {

using namespace testing;

/// g <- g - mean of its unit, over live entries.
class CenterUnits final : public TransformOf<CenterUnits> {
 public:
  std::string name() const override { return "center_units"; }
  Span measures() const override { return Span::unit; }
  template <class T>
  std::array<Figure, 2> measure(Block<T>& b) const {
    return {b.sum(), static_cast<Figure>(b.live())};
  }
  template <class T>
  void apply(Block<T>& b) const {
    if (b.figure(1) > 0) b.add(static_cast<double>(-b.figure(0) / b.figure(1)));
  }
};

/// Counts in states of all shapes; its update is minus the gradient.
class Counting final : public TransformOf<Counting> {
 public:
  std::string name() const override { return "counting"; }
  std::vector<StateSpec> states() const override {
    return {{"weights"}, {"units", StateShape::unit}, {"columns", StateShape::column}, {"one", StateShape::tensor}};
  }
  Grain grain() const override { return Grain::tensor; }
  bool keeps_zeros() const override { return true; }
  bool makes_update() const override { return true; }
  template <class T>
  void apply(Block<T>& b) const {
    for (std::size_t k = 0; k < 4; ++k)
      for (T& x : b.state(k)) x += static_cast<T>(k + 1);
    b.multiply(-1);
    b.decay(0.5);
  }
  template <class T>
  void changed(Block<T>& b) const {
    b.state(1)[0] = 100;
  }
  void mask_changed(Block<float>& b) const override { changed(b); }
  void mask_changed(Block<double>& b) const override { changed(b); }
};

/// Skips the step if the largest entry is beyond 10; remembers how many steps it let through.
class Guard final : public TransformOf<Guard> {
 public:
  std::string name() const override { return "guard"; }
  Span measures() const override { return Span::everything; }
  Combine combines() const override { return Combine::max; }
  bool keeps_zeros() const override { return true; }
  bool may_skip() const override { return true; }
  bool skips() const override { return skips_; }
  void measured(const Measured& m, const StepContext&) override { skips_ = m.total > 10; }
  void end(ClipRecord*) override { ++passed_; }
  Memory memory() const override { return {{"passed", Tensor::from<std::int64_t>({passed_}, {})}}; }
  void set_memory(const Memory& memory) override {
    const auto passed = memory.at("passed").to_vector<std::int64_t>().front();
    if (passed < 0) fail<ConfigError>("[guard] passed must not be negative");
    passed_ = passed;
  }
  template <class T>
  Figure measure(Block<T>& b) const {
    return b.max_abs();
  }
  template <class T>
  void apply(Block<T>&) const {}

 private:
  bool skips_ = false;
  std::int64_t passed_ = 0;
};

Mask every_third_dead(Index n, Index first = 0) {
  Mask mask(n);
  for (Index i = first; i < n; i += 3) mask.set(i, false);
  return mask;
}

void check_centered(const Parameter& p, const std::vector<double>& before, const std::vector<double>& g, double lr) {
  const Index units = p.shape()[0], unit = p.size() / units;
  const Mask& mask = p.ref()->mask();
  const auto after = values_of(p);
  for (Index u = 0; u < units; ++u) {
    double sum = 0;
    Index live = 0;
    for (Index i = u * unit; i < (u + 1) * unit; ++i)
      if (!mask.defined() || mask[i]) sum += g[static_cast<std::size_t>(i)], ++live;
    for (Index i = u * unit; i < (u + 1) * unit; ++i) {
      const auto k = static_cast<std::size_t>(i);
      if (mask.defined() && !mask[i])
        ASSERT_TRUE(after[k] == 0 && !std::signbit(after[k]));
      else
        ASSERT_NEAR(after[k], before[k] - lr * (g[k] - sum / static_cast<double>(live)), 1e-12) << u << " " << i;
    }
  }
}

TEST(UnitFigures, AreMeasuredWithinBlocksAndBeforeThem) {
  // Units that fit a block many times, once, and not at all; none of them a multiple of a mask word.
  for (const Shape& shape :
       {Shape{3000, 5}, Shape{7, 27}, Shape{100, 333}, Shape{5, 4095}, Shape{3, 9001}, Shape{2, 70000}})
    for (bool masked : {false, true}) {
      const auto n = static_cast<std::size_t>(count(shape));
      const auto g = numbers(n, 5);
      Parameter p = parameter("w", numbers(n, 9), DType::f64, shape);
      if (masked) p.set_mask(every_third_dead(p.size(), 1));
      const auto before = values_of(p);
      give_gradient(p, g);
      Optimizer opt({{"w", p.ref()}}, chain(CenterUnits(), sgd({.lr = 0.1})));
      EXPECT_EQ(opt.describe().find("measure center_units") != std::string::npos, shape[1] > 4096) << opt.describe();
      opt.step();
      check_centered(p, before, g, 0.1);
    }
}

TEST(UnitFigures, AreTheSameBytesAtAnyThreadCount) {
  std::vector<std::vector<double>> results;
  for (int threads : {1, 2, 4}) {
    const ThreadLimit limit(threads);
    Parameter a = parameter("a", numbers(300000, 1), DType::f32, {1000, 300});
    Parameter b = parameter("b", numbers(200000, 2), DType::f32, {20, 10000});
    a.set_mask(every_third_dead(a.size()));
    Optimizer opt({{"a", a.ref()}, {"b", b.ref()}},
                  chain(clip_by_global_norm(0.5), CenterUnits(), adam(), CenterUnits(), max_norm(2.0)));
    for (unsigned t = 0; t < 3; ++t) {
      give_gradient(a, numbers(300000, 10 + t));
      give_gradient(b, numbers(200000, 20 + t));
      opt.step();
    }
    results.push_back(values_of(a));
    for (double x : values_of(b)) results.back().push_back(x);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(UnitFigures, FollowAnOptimizerInTheSameSweep) {
  Parameter p = parameter("w", numbers(60, 1), DType::f64, {4, 15});
  Optimizer opt({{"w", p.ref()}}, chain(adam(), CenterUnits()));
  EXPECT_EQ(opt.describe(), "sweep 1: finite check\nsweep 2: mask > adam > center_units > apply > mask\n");
}

TEST(States, HaveTheShapeTheyAskFor) {
  Parameter w = parameter("w", numbers(24, 1), DType::f32, {4, 6});
  Parameter v = parameter("v", numbers(5, 2), DType::f64);
  Parameter empty = parameter("e", {}, DType::f32, {0, 3});
  Optimizer opt({{"w", w.ref()}, {"v", v.ref()}, {"e", empty.ref()}}, Counting());
  const auto before = values_of(w);
  for (const Parameter* p : {&w, &v, &empty})
    give_gradient(*p, std::vector<double>(static_cast<std::size_t>(p->size()), 0.25));
  opt.step();
  const OptimizerState state = opt.state();
  EXPECT_EQ(state.at("counting/weights/w").shape(), (Shape{4, 6}));
  EXPECT_EQ(state.at("counting/units/w").shape(), (Shape{4}));
  EXPECT_EQ(state.at("counting/columns/w").shape(), (Shape{6}));
  EXPECT_EQ(state.at("counting/one/w").shape(), (Shape{}));
  EXPECT_EQ(state.at("counting/units/v").shape(), (Shape{1}));
  EXPECT_EQ(state.at("counting/columns/v").shape(), (Shape{5}));
  EXPECT_EQ(state.at("counting/columns/v").dtype(), DType::f64);
  EXPECT_EQ(state.at("counting/units/e").size(), 0);
  EXPECT_EQ(values_of(state.at("counting/columns/w")), std::vector<double>(6, 3));
  EXPECT_EQ(values_of(opt.state("counting", "one", 1)), std::vector<double>{4});
  for (std::size_t i = 0; i < before.size(); ++i)  // the decay of a whole-tensor transform is not lost
    EXPECT_FLOAT_EQ(static_cast<float>(values_of(w)[i]), static_cast<float>(0.5 * before[i] - 0.25));

  Mask mask(24);
  mask.set(3, false);
  w.set_mask(mask);
  give_gradient(w, std::vector<double>(24, 0.25));
  opt.step();
  EXPECT_EQ(values_of(opt.state("counting", "units", 0)), (std::vector<double>{102, 4, 4, 4}));
  EXPECT_EQ(values_of(opt.state("counting", "weights", 0))[3], 1);  // zeroed before the step, counted in it

  Optimizer resumed({{"w", w.ref()}, {"v", v.ref()}, {"e", empty.ref()}}, Counting());
  resumed.load_state(opt.state());
  EXPECT_EQ(values_of(resumed.state("counting", "columns", 0)), values_of(opt.state("counting", "columns", 0)));
  EXPECT_THROW(opt.state("counting", "rows", 0), ConfigError);
}

TEST(Steps, AreLeftOutByWhenAndEvery) {
  Parameter p = parameter("w", {1.0}, DType::f64);
  Optimizer opt({{"w", p.ref()}}, chain(when([](std::int64_t step) { return step >= 2; }, clip_by_global_norm(0.5)),
                                        sgd({.lr = 1.0}), every(2, clamp_parameters(-3, 3))));
  std::vector<double> seen;
  std::vector<bool> active;
  for (int t = 0; t < 5; ++t) {
    give_gradient(p, {2.0});
    const StepReport report = opt.step();
    seen.push_back(values_of(p)[0]);
    active.push_back(report["clip_by_global_norm"].active);
  }
  EXPECT_EQ(seen, (std::vector<double>{-1, -3, -3.5, -3, -3.5}));
  EXPECT_EQ(active, (std::vector<bool>{false, false, true, true, true}));
  EXPECT_NE(opt.describe().find("clamp_parameters(min -3, max 3) (in some steps)"), std::string::npos)
      << opt.describe();
  EXPECT_THROW(Optimizer({{"w", p.ref()}}, every(2, sgd({.lr = 1.0}))), ConfigError);
  EXPECT_THROW(every(0, sgd()), ConfigError);
}

TEST(Steps, NestedConditionsMustAllHold) {
  Parameter p = parameter("w", {0.0}, DType::f64);
  const auto late = [](std::int64_t step) { return step >= 3; };
  Optimizer opt({{"w", p.ref()}}, chain(when(late, every(2, clip_by_value(0.5))), sgd({.lr = 1.0})));
  std::string clipped;
  for (int t = 0; t < 6; ++t) {
    give_gradient(p, {2.0});
    clipped += opt.step().clipped() ? 'x' : '.';
  }
  EXPECT_EQ(clipped, "...x.x");
}

TEST(Steps, SumMicroBatchesAndClipThemOnce) {
  for (bool average : {true, false}) {
    Parameter p = parameter("w", {0.0, 0.0}, DType::f64);
    Optimizer opt({{"w", p.ref()}}, chain(clip_by_global_norm(1.0), sgd({.lr = 1.0})),
                  {.accumulate = 3, .average = average});
    for (int round = 0; round < 2; ++round)
      for (int k = 0; k < 3; ++k) {
        p.ref()->accumulate(tensor({3.0, 4.0 * k}, DType::f64));
        const StepReport report = opt.step();
        EXPECT_EQ(report.accumulating, k < 2);
        EXPECT_EQ(report.step, round + (k == 2));
        EXPECT_EQ(p.ref()->has_grad(), k < 2);
        if (k == 2) {
          EXPECT_NEAR(report["clip_by_global_norm"].norm_before, average ? 5 : 15, 1e-12);
        }
      }
    EXPECT_NEAR(values_of(p)[0], -2 * 0.6, 1e-12);
    EXPECT_NEAR(values_of(p)[1], -2 * 0.8, 1e-12);
  }
  Parameter p = parameter("w", {0.0});
  EXPECT_THROW(Optimizer({{"w", p.ref()}}, sgd(), {.accumulate = 0}), ConfigError);
}

TEST(Steps, AccumulatedGradientsSurviveAnErrorInTheLast) {
  Parameter p = parameter("w", {0.0}, DType::f64);
  Optimizer opt({{"w", p.ref()}}, sgd({.lr = 1.0}), {.accumulate = 2});
  give_gradient(p, {1.0});
  opt.step();
  p.ref()->accumulate(tensor({std::numeric_limits<double>::infinity()}, DType::f64));
  EXPECT_THROW(opt.step(), NonFiniteError);
  give_gradient(p, {4.0});
  EXPECT_FALSE(opt.step().accumulating);
  EXPECT_EQ(values_of(p)[0], -2);
}

TEST(Steps, ASkipLeavesEverythingAndIsCounted) {
  Parameter p = parameter("w", {1.0}, DType::f64);
  Optimizer opt({{"w", p.ref()}}, chain(Guard(), adam({.lr = 0.1})), {.most_skips_in_a_row = 2});
  const auto step = [&](double g) {
    give_gradient(p, {g});
    return opt.step();
  };
  EXPECT_FALSE(step(1).skipped);
  const auto value = values_of(p), m = values_of(opt.state("adam", "m", 0));
  for (int k = 1; k <= 2; ++k) {
    const StepReport report = step(11);
    EXPECT_TRUE(report.skipped);
    EXPECT_EQ(report.skipped_by, "guard");
    EXPECT_EQ(report.skipped_in_a_row, k);
  }
  EXPECT_THROW(step(11), NonFiniteError);
  EXPECT_EQ(values_of(p), value);
  EXPECT_EQ(values_of(opt.state("adam", "m", 0)), m);
  EXPECT_EQ(opt.steps(), 1);
  const StepReport report = step(2);
  EXPECT_EQ(report.skipped_in_a_row, 0);
  EXPECT_EQ(report.skipped_in_all, 3);
  EXPECT_EQ(opt.state().at("guard/passed").to_vector<std::int64_t>().front(), 2);

  OptimizerState state = opt.state();
  Optimizer resumed({{"w", p.ref()}}, chain(Guard(), adam({.lr = 0.1})), {.most_skips_in_a_row = 2});
  resumed.load_state(state);
  EXPECT_EQ(resumed.state().at("guard/passed").to_vector<std::int64_t>().front(), 2);
  state["guard/passed"] = Tensor::from<std::int64_t>({-1}, {});
  state["step"] = Tensor::from<std::int64_t>({0}, {});
  state["updates"] = Tensor::from<std::int64_t>({0}, {1});
  EXPECT_THROW(resumed.load_state(state), ConfigError);
  EXPECT_EQ(resumed.steps(), 2);
  EXPECT_THROW(Optimizer({{"w", p.ref()}}, chain(adam(), Guard())), ConfigError);
}

TEST(Groups, WithBoundsOfTheirOwnAreMeasuredInOneSweep) {
  std::vector<Parameter> parameters;
  ParameterList list;
  for (const char* name : {"a.w", "b.w", "c.w"}) {
    parameters.push_back(parameter(name, std::vector<double>(5000, 0), DType::f64));
    list.push_back({name, parameters.back().ref()});
  }
  Optimizer opt(list, chain(on("a.*", as("a", clip_by_global_norm(1.0))), on("b.*", as("b", clip_by_global_norm(2.0))),
                            on("c.*", clip_per_tensor_norm(3.0)), sgd({.lr = 1.0})));
  EXPECT_EQ(opt.describe(),
            "sweep 1: finite check > mask > measure a > measure b > measure clip_per_tensor_norm\n"
            "sweep 2: mask > a(max_norm 1) on 1 of 3 parameters > b(max_norm 2) on 1 of 3 parameters > "
            "clip_per_tensor_norm(max_norm 3) on 1 of 3 parameters > sgd > apply > mask\n");
  for (const Parameter& p : parameters) give_gradient(p, numbers(5000, 3));
  const StepReport report = opt.step();
  for (std::size_t k = 0; k < 3; ++k) EXPECT_NEAR(norm({values_of(parameters[k])}), static_cast<double>(k + 1), 1e-12);
  EXPECT_NEAR(report["a"].norm_after, 1, 1e-12);
  EXPECT_NEAR(report["b"].norm_after, 2, 1e-12);

  Optimizer overlapping(list, chain(on("a.*", clip_by_global_norm(1.0)), clip_by_global_norm(2.0), sgd({.lr = 1.0})));
  EXPECT_NE(overlapping.describe().find("sweep 3"), std::string::npos);
}

TEST(Groups, AClipBehindOneOnOtherParametersStillCounts) {
  // The first sweep passes b by, so that the second is the first to clip its values.
  Parameter a = parameter("a", {0.0}, DType::f64), b = parameter("b", {0.0}, DType::f64);
  Optimizer opt({{"a", a.ref()}, {"b", b.ref()}},
                chain(clip_by_value(1.0), on("a", clip_by_global_norm(0.5)), sgd({.lr = 1.0})));
  give_gradient(a, {3.0});
  give_gradient(b, {3.0});
  EXPECT_EQ(opt.step()["clip_by_value"].entries, 2);
}

}  // namespace
}  // namespace espalier::optim
