// What clipping does to gradients, edge by edge.
#include "espalier/optim/clip.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "tests/optim/clip_support.h"

namespace espalier::optim {
namespace {

using namespace testing;

TEST(ClipByGlobalNorm, ScalesAllGradientsTogether) {
  for (DType type : {DType::f32, DType::f64}) {
    const Clipped c = clip(clip_by_global_norm(1.0), {{3, 0}, {0, 4, 0}}, type);
    const ClipRecord& record = c.report["clip_by_global_norm"];
    EXPECT_DOUBLE_EQ(record.norm_before, 5);
    EXPECT_DOUBLE_EQ(record.norm_after, 1);
    EXPECT_DOUBLE_EQ(record.coefficient, 0.2);
    EXPECT_TRUE(record.clipped && c.report.clipped());
    EXPECT_NEAR(c.gradients[0][0], 0.6, 1e-7);
    EXPECT_NEAR(c.gradients[1][1], 0.8, 1e-7);
    EXPECT_EQ(c.gradients[1][0], 0);
  }
}

TEST(ClipByGlobalNorm, LeavesSmallGradientsAloneBitForBit) {
  const std::vector<double> g = values_of(tensor(numbers(1000, 3, 1e-3), DType::f32));
  const Clipped c = clip(clip_by_global_norm(1.0), {g});
  EXPECT_EQ(c.gradients[0], g);
  EXPECT_FALSE(c.report.clipped());
  EXPECT_EQ(c.report["clip_by_global_norm"].coefficient, 1);
  // Exactly at the bound, too; PyTorch's rule shrinks even there.
  EXPECT_EQ(clip(clip_by_global_norm(5.0), {{3, 4}}).gradients[0], (std::vector<double>{3, 4}));
  EXPECT_LT(clip(clip_by_global_norm({.max_norm = 5.0, .eps = 1e-3}), {{3, 4}}).norm(), 5);
}

TEST(ClipByGlobalNorm, BoundsTheNormInEveryRange) {
  for (DType type : {DType::f32, DType::f64}) {
    for (double scale : {1e-30, 1e-20, 1e-5, 1.0, 1e10, 1e25, 1e37}) {
      for (double ratio : {0.999, 1e-3, 1e-8}) {
        for (std::size_t n : {1u, 63u, 64u, 65u, 4096u, 4097u, 70001u}) {
          const auto g = values_of(tensor(numbers(n, 5, scale), type));
          const double before = norm({g}), bound = before * ratio;
          if (type == DType::f32 && bound / std::sqrt(static_cast<double>(n)) < 1e-32) continue;  // subnormal results
          const Clipped c = clip(clip_by_global_norm(bound), {g}, type);
          EXPECT_NEAR(c.report["clip_by_global_norm"].norm_before / before, 1, 1e-6);
          EXPECT_LE(c.norm(), bound * (1 + 1e-6)) << n << " " << scale << " " << ratio;
          EXPECT_GE(c.norm(), bound * (1 - 1e-6)) << n << " " << scale << " " << ratio;
        }
      }
    }
  }
}

TEST(ClipByGlobalNorm, EqualEntriesDoNotAddUpToAWrongNorm) {  // where the rounding of a float sum has a bias
  for (double value : {0.1, 0.7, 1.1, 1.3, 3.3333333, 1e20}) {
    for (std::size_t n : {4096u, 65536u, 200000u}) {
      const auto g = values_of(tensor(std::vector<double>(n, value), DType::f32));
      const Clipped c = clip(clip_by_global_norm(1.0), {g});
      EXPECT_LE(c.norm(), 1 + 1e-6) << value << " x " << n;
    }
  }
}

TEST(ClipByGlobalNorm, DoublesBeyondTheRangeOfTheirSquares) {
  for (double scale : {1e-300, 1e-200, 1e200, 1e300}) {
    const auto g = numbers(5000, 7, scale);
    const Clipped c = clip(clip_by_global_norm(scale), {g}, DType::f64);
    EXPECT_NEAR(c.norm() / scale, 1, 1e-9) << scale;
    EXPECT_NEAR(c.gradients[0][17] / g[17], c.gradients[0][4999] / g[4999], 1e-9);
  }
}

TEST(ClipByGlobalNorm, OtherNorms) {
  const std::vector<std::vector<double>> g = {numbers(100, 1), numbers(5000, 2)};
  for (double p : {1.0, 1.5, 3.0, 8.0, inf}) {
    const Clipped c = clip(clip_by_global_norm({.max_norm = 0.25, .p = p}), g, DType::f64);
    EXPECT_NEAR(c.report["clip_by_global_norm"].norm_before, norm(g, p), 1e-9 * norm(g, p)) << p;
    EXPECT_NEAR(c.norm(p), 0.25, 1e-12) << p;
  }
  EXPECT_NEAR(clip(clip_by_global_norm({.max_norm = 1, .p = 5}), {{3e30, 4e30}}, DType::f64).norm(5), 1, 1e-12);
  EXPECT_NEAR(clip(clip_by_global_norm({.max_norm = 1, .p = 1}), {std::vector<double>(500, 3e38)}).norm(1), 1, 1e-5);
  EXPECT_THROW(clip_by_global_norm({.max_norm = 1, .p = 0}), ConfigError);
  EXPECT_THROW(clip_by_global_norm({.max_norm = 1, .p = -2}), ConfigError);
  EXPECT_THROW(clip_by_global_norm({.max_norm = 1, .p = NAN}), ConfigError);
}

TEST(ClipByGlobalNorm, ImpossibleBounds) {
  EXPECT_THROW(clip_by_global_norm(-1.0), ConfigError);
  EXPECT_THROW(clip_by_global_norm(NAN), ConfigError);
  EXPECT_THROW(clip_by_global_norm({.max_norm = 1, .eps = -1}), ConfigError);
  const Chain scheduled = clip_by_global_norm([](std::int64_t step) { return 1.0 - static_cast<double>(step); });
  EXPECT_NO_THROW(clip(scheduled, {{1}}));
  try {
    clip(scheduled, {{1}}, DType::f32, {.step = 7});
    FAIL();
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("max_norm"), std::string::npos) << e.what();
  }
}

TEST(ClipByGlobalNorm, ZeroAndInfiniteBounds) {
  EXPECT_EQ(clip(clip_by_global_norm(0.0), {{3, 4}}).gradients[0], (std::vector<double>{0, 0}));
  EXPECT_EQ(clip(clip_by_global_norm(0.0), {{0, 0}}).gradients[0], (std::vector<double>{0, 0}));  // not 0 / 0
  EXPECT_EQ(clip(clip_by_global_norm(inf), {{3, 4}}).gradients[0], (std::vector<double>{3, 4}));
  const Clipped logged = clip(clip_by_global_norm(inf), {{3, inf}}, DType::f32, {.nonfinite = Nonfinite::propagate});
  EXPECT_EQ(logged.gradients[0], (std::vector<double>{3, inf}));
}

TEST(ClipByGlobalNorm, MeasureOnlyNeverWrites) {
  const Clipped c = clip(clip_by_global_norm({.max_norm = 1, .measure_only = true}), {{3, 4}});
  EXPECT_EQ(c.gradients[0], (std::vector<double>{3, 4}));
  EXPECT_DOUBLE_EQ(c.report["clip_by_global_norm"].coefficient, 0.2);
}

TEST(ClipByGlobalNorm, NothingToClip) {
  EXPECT_TRUE(apply_to_gradients({}, clip_by_global_norm(1.0)).nothing_to_clip());
  const Parameter p = parameter("p", {1, 2});
  const StepReport report = apply_to_gradients(list_of(p), clip_by_global_norm(1.0));
  EXPECT_TRUE(report.nothing_to_clip());
  EXPECT_FALSE(report.clipped());
  EXPECT_EQ(report["clip_by_global_norm"].norm_before, 0);
  EXPECT_EQ(report.without_gradient, 1);
}

TEST(ClipByGlobalNorm, ATiedParameterCountsOnce) {
  const Parameter p = parameter("p", {0, 0});
  give_gradient(p, {3, 4});
  const ParameterList twice = {{"encoder", p.ref()}, {"decoder", p.ref()}};
  const StepReport report = apply_to_gradients(twice, clip_by_global_norm(1.0));
  EXPECT_DOUBLE_EQ(report["clip_by_global_norm"].norm_before, 5);
  EXPECT_NEAR(values_of(p.grad())[0], 0.6, 1e-7);
  EXPECT_NEAR(values_of(p.grad())[1], 0.8, 1e-7);
}

TEST(ClipByGlobalNorm, EmptyTensorsAndScalars) {
  const Parameter empty = parameter("empty", {}), scalar(Tensor::scalar(2), "scalar");
  give_gradient(empty, {});
  scalar.ref()->accumulate(Tensor::scalar(-8));
  const StepReport report = apply_to_gradients(list_of(empty, scalar), clip_by_global_norm(2.0));
  EXPECT_EQ(report["clip_by_global_norm"].norm_before, 8);
  EXPECT_EQ(scalar.grad().item(), -2);
}

TEST(ClipByGlobalNorm, BothTypesTogether) {
  const Parameter a = parameter("a", {0}, DType::f32), b = parameter("b", {0}, DType::f64);
  give_gradient(a, {3});
  give_gradient(b, {4});
  EXPECT_EQ(apply_to_gradients(list_of(a, b), clip_by_global_norm(1.0))["clip_by_global_norm"].norm_before, 5);
  EXPECT_NEAR(values_of(a.grad())[0], 0.6, 1e-7);
  EXPECT_DOUBLE_EQ(values_of(b.grad())[0], 0.8);
}

TEST(ClipByGlobalNorm, PropagatesAsPyTorchDoes) {
  const ApplyOptions propagate{.nonfinite = Nonfinite::propagate};
  for (double p : {1.0, 2.0, 3.0, inf}) {
    const Chain pytorch = clip_by_global_norm({.max_norm = 1, .p = p, .eps = 1e-6});
    for (double bad : {inf, -inf}) {
      const Clipped c = clip(pytorch, {{1, bad, 2}, {3}}, DType::f32, propagate);
      EXPECT_EQ(c.gradients[0][0], 0) << p;
      EXPECT_TRUE(std::isnan(c.gradients[0][1])) << p;
      EXPECT_EQ(c.gradients[1][0], 0) << p;
      EXPECT_EQ(c.report["clip_by_global_norm"].norm_before, inf);
      EXPECT_EQ(c.report.nonfinite, 1);
    }
    const Clipped c = clip(pytorch, {{1, NAN}, {3}}, DType::f32, propagate);
    for (const auto& g : c.gradients)
      for (double x : g) EXPECT_TRUE(std::isnan(x)) << p;
    EXPECT_TRUE(std::isnan(c.report["clip_by_global_norm"].norm_before));
    const Clipped ours = clip(clip_by_global_norm({.max_norm = 1, .p = p}), {{1, NAN}, {3}}, DType::f64, propagate);
    EXPECT_TRUE(std::isnan(ours.gradients[1][0]));
  }
  // max_norm 0 and the constant that dominates.
  EXPECT_EQ(clip(clip_by_global_norm({.max_norm = 0, .eps = 1e-6}), {{3, 4}}).gradients[0][1], 0);
  EXPECT_NEAR(clip(clip_by_global_norm({.max_norm = 1e-7, .eps = 1e-6}), {{5e-7}}).gradients[0][0], 5e-7 / 15, 1e-14);
}

TEST(ClipByGlobalNorm, NonfiniteThrowsByDefaultAndChangesNothing) {
  const Parameter a = parameter("layer.weight", {1, 1}), b = parameter("head.bias", {1, 1, 1});
  give_gradient(a, {3, 4});
  give_gradient(b, {0, NAN, inf});
  try {
    apply_to_gradients(list_of(a, b), clip_by_global_norm(1.0));
    FAIL();
  } catch (const NonFiniteError& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("'head.bias'"), std::string::npos) << text;
    EXPECT_NE(text.find("index 1"), std::string::npos) << text;
    EXPECT_NE(text.find("2 of all"), std::string::npos) << text;
  }
  EXPECT_EQ(values_of(a.grad()), (std::vector<double>{3, 4}));
}

TEST(ClipByGlobalNorm, NonfiniteAsZero) {
  const Clipped c = clip(clip_by_global_norm(1.0), {{3, NAN}, {inf, 4}}, DType::f32, {.nonfinite = Nonfinite::zero});
  EXPECT_EQ(c.report.nonfinite, 2);
  EXPECT_NEAR(c.gradients[0][0], 0.6, 1e-7);
  EXPECT_EQ(c.gradients[0][1], 0);
  EXPECT_EQ(c.gradients[1][0], 0);
}

TEST(ClipPerTensorNorm, BoundsEachOnItsOwn) {
  const Clipped c = clip(clip_per_tensor_norm(1.0), {{3, 4}, {0.1, 0.2}, {0, 0}, {30}});
  EXPECT_NEAR(c.gradients[0][0], 0.6, 1e-7);
  EXPECT_EQ(c.gradients[1], values_of(tensor({0.1, 0.2}, DType::f32)));
  EXPECT_EQ(c.gradients[2], (std::vector<double>{0, 0}));
  EXPECT_NEAR(c.gradients[3][0], 1, 1e-7);
  const ClipRecord& worst = c.report["clip_per_tensor_norm"];
  EXPECT_DOUBLE_EQ(worst.norm_before, 30);
  EXPECT_TRUE(worst.clipped);
}

TEST(ClipByValue, TwoSidedOneSidedAsymmetric) {
  const std::vector<double> g = {-2, -0.5, 0, 0.25, 3};
  EXPECT_EQ(clip(clip_by_value(1.0), {g}).gradients[0], (std::vector<double>{-1, -0.5, 0, 0.25, 1}));
  EXPECT_EQ(clip(clip_by_value({.min = -0.5}), {g}).gradients[0], (std::vector<double>{-0.5, -0.5, 0, 0.25, 3}));
  EXPECT_EQ(clip(clip_by_value({.max = 0.25}), {g}).gradients[0], (std::vector<double>{-2, -0.5, 0, 0.25, 0.25}));
  const Clipped c = clip(clip_by_value({.min = -1, .max = 2}), {g});
  EXPECT_EQ(c.gradients[0], (std::vector<double>{-1, -0.5, 0, 0.25, 2}));
  EXPECT_EQ(c.report["clip_by_value"].entries, 2);
  EXPECT_TRUE(c.report.clipped());
  EXPECT_FALSE(clip(clip_by_value(5.0), {g}).report.clipped());
  EXPECT_EQ(clip(clip_by_value(0.0), {g}).gradients[0], std::vector<double>(5, 0));
  const Clipped bad = clip(clip_by_value(1.0), {{NAN, inf, -inf}}, DType::f32, {.nonfinite = Nonfinite::propagate});
  EXPECT_TRUE(std::isnan(bad.gradients[0][0]));
  EXPECT_EQ(bad.gradients[0][1], 1);
  EXPECT_EQ(bad.gradients[0][2], -1);
}

TEST(ClipByValue, ImpossibleBounds) {
  EXPECT_THROW(clip_by_value(-1.0), ConfigError);
  EXPECT_THROW(clip_by_value(NAN), ConfigError);
  EXPECT_THROW(clip_by_value({.min = 1, .max = -1}), ConfigError);
  EXPECT_THROW(clip_by_value({.min = NAN}), ConfigError);
  EXPECT_THROW(clip(clip_by_value([](std::int64_t) { return -1.0; }), {{1}}), ConfigError);
}

TEST(Clips, InTheOrderOfTheChain) {
  const std::vector<std::vector<double>> g = {{3, 4}};
  const Clipped a = clip(chain(clip_by_value(3.0), clip_by_global_norm(1.0)), g, DType::f64);
  EXPECT_NEAR(a.gradients[0][0], std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(a.report["clip_by_global_norm"].norm_before, std::sqrt(18), 1e-12);
  EXPECT_EQ(a.report["clip_by_value"].entries, 1);
  const Clipped b = clip(chain(clip_by_global_norm(1.0), clip_by_value(0.7)), g, DType::f64);
  EXPECT_NEAR(b.gradients[0][0], 0.6, 1e-12);
  EXPECT_NEAR(b.gradients[0][1], 0.7, 1e-12);
  const Clipped c = clip(chain(clip_by_global_norm(2.0), clip_per_tensor_norm(1.0), clip_by_global_norm(0.5)), g);
  EXPECT_NEAR(c.norm(), 0.5, 1e-6);
  EXPECT_EQ(c.report["clip_by_global_norm.2"].norm_before, 1);
  EXPECT_THROW(c.report["clip"], ConfigError);
}

TEST(Clips, OnASelection) {
  const std::vector<std::vector<double>> g = {{3, 4}, {30, 40}};
  const Clipped c = clip(on("p0", clip_by_global_norm(1.0)), g);
  EXPECT_EQ(c.report["clip_by_global_norm"].norm_before, 5);
  EXPECT_NEAR(c.gradients[0][1], 0.8, 1e-7);
  EXPECT_EQ(c.gradients[1], g[1]);
  EXPECT_TRUE(clip(on("none*", clip_by_global_norm(1.0)), g).report["clip_by_global_norm"].nothing_to_clip);
  EXPECT_THROW(clip(on("p0", clip_by_global_norm(1.0)), {{1}, {NAN}}), NonFiniteError);  // looked for everywhere
}

TEST(Clips, NormOverLiveCoordinates) {
  const Parameter p = parameter("p", {1, 1, 1});
  Mask mask(3);
  mask.set(2, false);
  p.ref()->set_mask(mask);
  give_gradient(p, {3, 4, NAN});  // what a dense backward leaves at a pruned weight does not matter
  const StepReport report = apply_to_gradients(list_of(p), clip_by_global_norm(10.0));
  EXPECT_EQ(report["clip_by_global_norm"].norm_before, 5);
  EXPECT_EQ(values_of(p.grad()), (std::vector<double>{3, 4, 0}));
}

}  // namespace
}  // namespace espalier::optim
