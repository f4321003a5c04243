// Every edge case of a clip's coefficient, for every clip that it can happen to.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/autograd/ops/elementwise.h"
#include "espalier/autograd/ops/embedding.h"
#include "espalier/autograd/ops/linalg.h"
#include "espalier/autograd/ops/reduce.h"
#include "tests/optim/clip_support.h"

namespace espalier::optim {
namespace {

using namespace testing;

struct Kind {
  const char* name;
  Chain (*make)(Scalar bound);
  /// Of two entries: what the rule makes of their 2-norm n under bound c.
  double (*norm_after)(double n, double c);
};
double held(double n, double c) { return n > c ? c : n; }
/// All that hold a norm to a bound that is given; `autoclip` and the like take theirs from elsewhere.
const Kind kinds[] = {
    {"clip_by_global_norm", [](Scalar c) { return clip_by_global_norm(c); }, held},
    {"clip_per_tensor_norm", [](Scalar c) { return clip_per_tensor_norm(c); }, held},
    {"clip_per_unit_norm", [](Scalar c) { return clip_per_unit_norm(c); }, held},
    {"clip_by_rms", [](Scalar c) { return clip_by_rms(c); },
     [](double n, double c) { return held(n, c * std::sqrt(2)); }},
    {"clip_smooth_norm", [](Scalar c) { return clip_smooth_norm(c); },
     [](double n, double c) { return n * c / std::hypot(n, c); }},
    {"clip_adaptive", [](Scalar c) { return clip_adaptive({.clipping = c, .eps = 0}); },
     [](double n, double c) { return held(n, c * std::sqrt(2)); }},
    {"clip_update_ratio", [](Scalar c) { return clip_update_ratio({.tau = c, .eps = 0}); },
     [](double n, double c) { return held(n, c * std::sqrt(2)); }},
    {"zclip", [](Scalar c) { return zclip({.max_norm = c}); }, held},
};
Chain by_value(Scalar c) { return clip_by_value(std::move(c)); }
Chain by_tanh(Scalar c) { return clip_tanh(std::move(c)); }

bool learns(const Kind& kind) { return kind.name == std::string("zclip"); }

/// The gradient behind one step of a clip, on a parameter whose values are 1.
std::vector<double> run(const Chain& c, const std::vector<double>& g, DType type, Nonfinite policy) {
  Parameter p = parameter("p0", std::vector<double>(g.size(), 1), type);
  give_gradient(p, g);
  Optimizer opt(list_of(p), chain(c, sgd({.lr = 1.0, .maximize = true})), {.nonfinite = policy});
  opt.step();
  std::vector<double> after = values_of(p);
  for (double& x : after) x -= 1;
  return after;
}

TEST(ClipEdgeCases, AnyNanOrInfinityThrowsBeforeAnythingIsTouched) {
  for (const Kind& kind : kinds)
    for (double bad : {double(NAN), inf, -inf}) {
      Parameter a = parameter("a", {1, 1}), b = parameter("b", {1, 1});
      give_gradient(a, {3, 4});
      give_gradient(b, {0, bad});
      Optimizer opt(list_of(a, b), chain(kind.make(1.0), sgd({.lr = 1.0})));
      EXPECT_THROW(opt.step(), NonFiniteError) << kind.name;
      EXPECT_EQ(values_of(a.grad()), (std::vector<double>{3, 4})) << kind.name;
      EXPECT_EQ(values_of(a), (std::vector<double>{1, 1})) << kind.name;
      EXPECT_EQ(opt.steps(), 0) << kind.name;
    }
}

TEST(ClipEdgeCases, AnyNanPropagatesAsAPolicy) {
  for (const Kind& kind : kinds)
    for (double x : run(kind.make(1.0), {1, NAN}, DType::f32, Nonfinite::propagate))
      EXPECT_TRUE(std::isnan(x)) << kind.name;
  EXPECT_EQ(run(by_value(1.0), {5, NAN}, DType::f32, Nonfinite::propagate)[0], 1);
  EXPECT_TRUE(std::isnan(run(by_value(1.0), {5, NAN}, DType::f32, Nonfinite::propagate)[1]));
}

TEST(ClipEdgeCases, NonfiniteEntriesAsZeroAsAPolicy) {
  for (const Kind& kind : kinds)
    EXPECT_NEAR(norm({run(kind.make(1.0), {30, inf}, DType::f64, Nonfinite::zero)}), kind.norm_after(30, 1), 1e-12)
        << kind.name;
}

TEST(ClipEdgeCases, FiniteEntriesWhoseSquaresOverflow) {
  for (const Kind& kind : kinds)
    for (auto [scale, type] :
         {std::pair(1e25, DType::f32), std::pair(1e25, DType::f64), std::pair(1e200, DType::f64)}) {
      const auto g = run(kind.make(1.0), {3 * scale, 4 * scale}, type, Nonfinite::throw_error);
      EXPECT_NEAR(norm({g}), kind.norm_after(5 * scale, 1), 1e-6) << kind.name;
      EXPECT_NEAR(g[1] / g[0], 4 / 3.0, 1e-6) << kind.name << ": the direction is kept";
    }
}

TEST(ClipEdgeCases, EntriesWhoseSquaresUnderflow) {
  for (const Kind& kind : kinds) {
    if (kind.name == std::string("clip_adaptive") || kind.name == std::string("clip_update_ratio")) continue;
    for (auto [scale, type] :
         {std::pair(1e-30, DType::f32), std::pair(1e-30, DType::f64), std::pair(1e-200, DType::f64)}) {
      const double bound = 0.5 * scale;
      Parameter p = parameter("p", {1, 1}, type);
      give_gradient(p, {0.6 * scale, 0.8 * scale});
      Optimizer opt(list_of(p), chain(kind.make(bound), sgd({.lr = 1.0})));
      const StepReport report = opt.step();
      const ClipRecord& record = report.clips()[0];
      EXPECT_TRUE(record.clipped) << kind.name;
      EXPECT_NEAR(record.coefficient, kind.norm_after(1, 0.5), 1e-6) << kind.name << " " << scale;
    }
  }
}

TEST(ClipEdgeCases, ABoundOfFortyZerosBehindThePoint) {  // where PyTorch finds a norm of 0
  const Clipped c = clip(clip_by_global_norm(1e-40), {{3e-30, 4e-30}}, DType::f64);
  EXPECT_NEAR(c.norm() / 1e-40, 1, 1e-12);
}

TEST(ClipEdgeCases, ANegativeBoundIsAnError) {
  for (const Kind& kind : kinds)
    for (double bound : {-1.0, -inf, double(NAN)}) {
      EXPECT_THROW(kind.make(bound), ConfigError) << kind.name;
      const Chain scheduled = kind.make([bound](std::int64_t) { return bound; });
      Parameter p = parameter("p", {1, 1});
      give_gradient(p, {3, 4});
      Optimizer opt(list_of(p), chain(scheduled, sgd({.lr = 1.0})));
      EXPECT_THROW(opt.step(), ConfigError) << kind.name;
      EXPECT_EQ(values_of(p.grad()), (std::vector<double>{3, 4})) << kind.name << ": no sign was flipped";
    }
  for (auto make : {by_value, by_tanh}) EXPECT_THROW(make(-1.0), ConfigError);
}

TEST(ClipEdgeCases, AnInfiniteBoundOrMeasureOnlyLeavesInfiniteGradientsAlone) {  // clips that only log
  const std::vector<double> g = {3, inf, -inf, -1};
  for (const Kind& kind : kinds) EXPECT_EQ(run(kind.make(inf), g, DType::f64, Nonfinite::propagate)[0], 3) << kind.name;
  for (const Chain& c :
       {clip_by_global_norm({.max_norm = inf, .measure_only = true}), clip_by_global_norm(inf),
        clip_by_global_norm({.max_norm = 1, .measure_only = true}), clip_by_rms({.threshold = 0, .measure_only = true}),
        clip_per_unit_norm({.max_norm = 1, .measure_only = true}), clip_adaptive({.measure_only = true}),
        clip_smooth_norm({.tau = 1, .measure_only = true}), clip_by_value({.min = -1, .measure_only = true}),
        clip_tanh({.bound = 1, .measure_only = true})}) {
    const Clipped logged = clip(c, {g}, DType::f32, {.nonfinite = Nonfinite::propagate});
    EXPECT_EQ(logged.gradients[0], g) << c.names()[0];
  }
}

TEST(ClipEdgeCases, AParameterListedTwiceCountsOnce) {
  for (const Kind& kind : kinds) {
    if (learns(kind)) continue;
    Parameter p = parameter("p", {1, 1}, DType::f64);
    give_gradient(p, {3, 4});
    const ParameterList twice = {{"encoder", p.ref()}, {"decoder", p.ref()}};
    apply_to_gradients(twice, kind.make(1.0));
    EXPECT_NEAR(norm({values_of(p.grad())}), kind.norm_after(5, 1), 1e-12) << kind.name;
  }
}

TEST(ClipEdgeCases, AnEmptyListHasNothingToClip) {
  for (const Kind& kind : kinds) {
    if (learns(kind)) continue;
    const StepReport report = apply_to_gradients({}, kind.make(1.0));
    EXPECT_TRUE(report.nothing_to_clip()) << kind.name;
    EXPECT_EQ(report.clips()[0].norm_before, 0) << kind.name;
    EXPECT_FALSE(report.clipped()) << kind.name;
  }
}

TEST(ClipEdgeCases, ParametersWithoutAGradientAreSkippedAndCounted) {
  for (const Kind& kind : kinds) {
    Parameter a = parameter("a", {1, 1}, DType::f64), none = parameter("none", {1, 1}, DType::f64);
    Optimizer opt(list_of(a, none), chain(kind.make(1.0), sgd({.lr = 1.0})));
    give_gradient(a, {3, 4});
    const StepReport report = opt.step();
    EXPECT_EQ(report.with_gradient, 1) << kind.name;
    EXPECT_EQ(report.without_gradient, 1) << kind.name;
    EXPECT_FALSE(report.nothing_to_clip()) << kind.name;
    EXPECT_EQ(values_of(none), (std::vector<double>{1, 1})) << kind.name;
  }
  const Parameter p = parameter("p", {1});
  EXPECT_TRUE(apply_to_gradients(list_of(p), clip_tanh(1.0)).nothing_to_clip());
}

TEST(ClipEdgeCases, RowsOfASparseGradientThatRepeatAreAddedBeforeTheNorm) {
  const Tensor index = Tensor::from<std::int64_t>({2, 5, 2}, {3});
  for (const Kind& kind : kinds) {
    if (learns(kind)) continue;
    std::vector<std::vector<double>> results;
    for (bool sparse : {false, true}) {
      Parameter table = parameter("table", std::vector<double>(8 * 2, 1), DType::f64, {8, 2});
      Tape tape;
      const Variable rows = embedding(index, table, {.sparse = sparse});
      tape.backward(sum(rows * Variable(Tensor::from<double>({1, 0, 0, 8, 5, 0}, {3, 2}))));
      EXPECT_EQ(table.ref()->row_gradient() != nullptr, sparse);
      const StepReport report = apply_to_gradients(list_of(table), kind.make(1.0));
      if (kind.name == std::string("clip_by_global_norm")) {
        EXPECT_EQ(report.clips()[0].norm_before, 10);  // rows (6, 0) and (0, 8): not sqrt(1 + 64 + 25)
      }
      results.push_back(values_of(table.grad()));
    }
    EXPECT_EQ(results[0], results[1]) << kind.name;
  }
}

TEST(ClipEdgeCases, SparseGradientsOfSeveralBackwardsAddUp) {
  Parameter table = parameter("table", std::vector<double>(8, 1), DType::f64, {4, 2});
  for (std::int64_t row : {1, 3, 1}) {
    Tape tape;
    tape.backward(sum(embedding(Tensor::from<std::int64_t>({row}, {1}), table, {.sparse = true}) *
                      Variable(Tensor::from<double>({3, 0}, {1, 2}))));
  }
  const StepReport report = apply_to_gradients(list_of(table), clip_by_global_norm(1.0));
  EXPECT_DOUBLE_EQ(report.clips()[0].norm_before, std::sqrt(36 + 9));
}

TEST(ClipEdgeCases, ATiedWeightIsOneEntryWithOneMask) {
  Parameter table = parameter("table", std::vector<double>(8, 1), DType::f64, {4, 2});
  Mask mask(8);
  mask.set(3, false);
  table.set_mask(mask);
  Tape tape;
  const Variable h = embedding(Tensor::from<std::int64_t>({1}, {1}), table, {.sparse = true});
  tape.backward(sum(linear(h, table)));  // the same weight reads and writes
  const auto raw = values_of(table.grad());
  std::vector<double> live = raw;
  live[3] = 0;
  const ParameterList both = {{"embedding", table.ref()}, {"head", table.ref()}};
  const StepReport report = apply_to_gradients(both, clip_by_global_norm(1.0));
  EXPECT_EQ(report.with_gradient, 1);
  EXPECT_NEAR(report.clips()[0].norm_before, norm({live}), 1e-12);
  EXPECT_EQ(values_of(table.grad())[3], 0);
  EXPECT_NEAR(norm({values_of(table.grad())}), 1, 1e-12);
}

TEST(ClipEdgeCases, AZeroGradientUnderABoundOfZeroIsZero) {  // not 0 / 0
  for (const Kind& kind : kinds)
    for (double x : run(kind.make(0.0), {0, 0}, DType::f32, Nonfinite::throw_error)) EXPECT_EQ(x, 0) << kind.name;
  for (auto make : {by_value, by_tanh}) EXPECT_EQ(clip(make(0.0), {{0, 0}}).gradients[0], (std::vector<double>{0, 0}));
  const Clipped c = clip(clip_by_global_norm(0.0), {{0, 0}});
  EXPECT_EQ(c.report.clips()[0].coefficient, 1);
}

TEST(ClipEdgeCases, GradientsWithinTheBoundKeepTheirBits) {
  const auto g = values_of(tensor(numbers(5000, 1, 1e-4), DType::f32));
  for (const Kind& kind : kinds) {
    if (learns(kind) || kind.name == std::string("clip_smooth_norm")) continue;
    const Clipped c = clip(kind.make(1.0), {g});
    EXPECT_EQ(c.gradients[0], g) << kind.name;
    EXPECT_EQ(c.report.clips()[0].coefficient, 1) << kind.name;
  }
  EXPECT_EQ(clip(by_value(1.0), {g}).gradients[0], g);
}

TEST(ClipEdgeCases, MicroBatchesAreClippedOnceTogether) {
  for (const Kind& kind : kinds) {
    Parameter p = parameter("p", {1, 1}, DType::f64);
    Optimizer opt(list_of(p), chain(kind.make(1.0), sgd({.lr = 1.0, .maximize = true})),
                  {.accumulate = 2, .average = false});
    give_gradient(p, {3, 0});
    EXPECT_TRUE(opt.step().accumulating);
    p.ref()->accumulate(tensor({0, 4}, DType::f64));
    opt.step();
    EXPECT_NEAR(std::hypot(values_of(p)[0] - 1, values_of(p)[1] - 1), kind.norm_after(5, 1), 1e-12) << kind.name;
  }
}

/// g <- g / 1024, as behind a loss that was scaled up against underflow.
class Unscale final : public TransformOf<Unscale> {
 public:
  std::string name() const override { return "unscale"; }
  bool keeps_zeros() const override { return true; }
  template <class T>
  void apply(Block<T>& b) const {
    b.multiply(1 / 1024.0);
  }
};

TEST(ClipEdgeCases, AScaledLossIsUnscaledBeforeTheClipMeasures) {
  for (const Kind& kind : kinds) {
    if (learns(kind)) continue;
    const Clipped c = clip(chain(Unscale(), kind.make(1.0)), {{3 * 1024, 4 * 1024}}, DType::f64);
    EXPECT_NEAR(c.norm(), kind.norm_after(5, 1), 1e-12) << kind.name;
  }
}

}  // namespace
}  // namespace espalier::optim
