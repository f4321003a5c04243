#include "espalier/optim/soft_clip.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/optim/clip_support.h"

namespace espalier::optim {
namespace {

using namespace testing;

TEST(ClipSmoothNorm, FollowsItsFormula) {
  const std::vector<std::vector<double>> g = {{3, 0}, {0, -4, 0}};
  const Clipped all = clip(clip_smooth_norm(12.0), g, DType::f64);  // 12 / sqrt(144 + 25)
  EXPECT_NEAR(all.gradients[0][0], 3 * 12 / 13.0, 1e-15);
  EXPECT_NEAR(all.gradients[1][1], -4 * 12 / 13.0, 1e-15);
  const ClipRecord& record = all.report["clip_smooth_norm"];
  EXPECT_EQ(record.norm_before, 5);
  EXPECT_EQ(record.bound, 12);
  EXPECT_DOUBLE_EQ(record.norm_after, 60 / 13.0);
  EXPECT_TRUE(record.clipped);
  const Clipped each = clip(clip_smooth_norm({.tau = 4.0, .per_tensor = true}), g, DType::f64);
  EXPECT_NEAR(each.gradients[0][0], 3 * 4 / 5.0, 1e-15);
  EXPECT_NEAR(each.gradients[1][1], -4 / std::sqrt(2), 1e-15);
}

TEST(ClipSmoothNorm, IsExactInEveryRange) {
  for (double scale : {1e-300, 1e-150, 1e-30, 1.0, 1e30, 1e150, 1e300})
    for (double ratio : {1e-12, 1e-3, 1.0, 1e3, 1e12}) {
      if (scale * ratio > 1e305 || scale * ratio < 1e-305) continue;
      const Clipped c = clip(clip_smooth_norm(scale * ratio), {{0.6 * scale, 0.8 * scale}}, DType::f64);
      EXPECT_NEAR(c.norm() / scale, ratio / std::hypot(1, ratio), 1e-14 * std::min(1.0, ratio))
          << scale << " " << ratio;
      EXPECT_LE(c.norm(), scale * ratio * (1 + 1e-15));
      EXPECT_LE(c.norm(), scale * (1 + 1e-15));
    }
  const Clipped f = clip(clip_smooth_norm(1e-3), {{3e25, 4e25}});
  EXPECT_NEAR(f.gradients[0][0], 6e-4, 1e-10);
}

TEST(ClipSmoothNorm, Edges) {
  EXPECT_EQ(clip(clip_smooth_norm(0.0), {{0, 0}}).gradients[0], (std::vector<double>{0, 0}));
  EXPECT_EQ(clip(clip_smooth_norm(0.0), {{3, 4}}).gradients[0], (std::vector<double>{0, 0}));
  EXPECT_EQ(clip(clip_smooth_norm(inf), {{3, 4}}).gradients[0], (std::vector<double>{3, 4}));
  EXPECT_FALSE(clip(clip_smooth_norm(inf), {{3, 4}}).report.clipped());
  EXPECT_FALSE(clip(clip_smooth_norm(1.0), {{0, 0}}).report.clipped());
  const Clipped bad = clip(clip_smooth_norm(1.0), {{1, NAN}}, DType::f32, {.nonfinite = Nonfinite::propagate});
  EXPECT_TRUE(std::isnan(bad.gradients[0][0]));
  EXPECT_THROW(clip_smooth_norm(-1.0), ConfigError);
  EXPECT_THROW(clip(clip_smooth_norm([](std::int64_t) { return NAN; }), {{1}}), ConfigError);
}

TEST(ClipTanh, AgreesWithStdTanh) {
  for (DType type : {DType::f32, DType::f64})
    for (double bound : {1e-3, 0.7, 1.0, 250.0})
      for (std::size_t n : {1u, 7u, 64u, 4096u, 4099u, 70000u}) {
        auto g = values_of(tensor(numbers(n, 3, 5), type));
        for (std::size_t i = 0; i < n; i += 3) g[i] *= 1e-7;
        const double b = type == DType::f32 ? static_cast<double>(static_cast<float>(bound)) : bound;
        const double ulp = type == DType::f32 ? 1.2e-7 : 2.3e-16;
        const Clipped c = clip(clip_tanh(bound), {g}, type);
        Index beyond = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const double expected = b * std::tanh(g[i] / b);
          const double got = values_of(tensor({g[i]}, type))[0];
          ASSERT_NEAR(c.gradients[0][i], expected, 8 * ulp * std::abs(expected)) << got << " bound " << bound;
          beyond += std::abs(g[i]) > b;
        }
        EXPECT_EQ(c.report["clip_tanh"].entries, beyond);
        EXPECT_EQ(c.report.clipped(), beyond > 0);
      }
}

TEST(ClipTanh, LimitsAreExact) {
  const ApplyOptions propagate{.nonfinite = Nonfinite::propagate};
  for (DType type : {DType::f32, DType::f64}) {
    const Clipped c = clip(clip_tanh(2.0), {{inf, -inf, NAN, 0, 1e30, -1e30, 1e-30}}, type, propagate);
    EXPECT_EQ(c.gradients[0][0], 2);
    EXPECT_EQ(c.gradients[0][1], -2);
    EXPECT_TRUE(std::isnan(c.gradients[0][2]));
    EXPECT_EQ(c.gradients[0][3], 0);
    EXPECT_EQ(c.gradients[0][4], 2);
    EXPECT_EQ(c.gradients[0][5], -2);
    EXPECT_EQ(c.gradients[0][6], values_of(tensor({1e-30}, type))[0]);
    EXPECT_EQ(c.report["clip_tanh"].entries, 4);
    // Far below the bound the bits stay, also where g / bound has no digits left.
    const auto tiny = values_of(tensor({1e-30, -3e-20, 0.25}, type));
    EXPECT_EQ(clip(clip_tanh(1e30), {tiny}, type).gradients[0], tiny);
    EXPECT_EQ(clip(clip_tanh(inf), {{1, -5}}, type).gradients[0], (std::vector<double>{1, -5}));
    const Clipped zero = clip(clip_tanh(0.0), {{0, 3, -inf, NAN}}, type, propagate);
    for (std::size_t k = 0; k < 3; ++k) EXPECT_EQ(zero.gradients[0][k], 0);
    EXPECT_TRUE(std::isnan(zero.gradients[0][3]));
  }
  EXPECT_EQ(clip(clip_tanh(1e300), {{1, -5}}, DType::f32).gradients[0], (std::vector<double>{1, -5}));
  EXPECT_THROW(clip_tanh(-1.0), ConfigError);
}

TEST(ClipTanh, IsMonotonicAndBelowTheBound) {
  std::vector<double> g;
  for (int i = 0; i < 20000; ++i) g.push_back(1e-6 * std::exp(i * 1e-3));
  g = values_of(tensor(g, DType::f32));
  const Clipped c = clip(clip_tanh(1.0), {g});
  for (std::size_t i = 0; i < g.size(); ++i) {
    ASSERT_LE(c.gradients[0][i], 1);
    ASSERT_LE(c.gradients[0][i], g[i] * (1 + 2e-7));
    if (i > 0) {
      ASSERT_GE(c.gradients[0][i], c.gradients[0][i - 1] * (1 - 2e-7)) << g[i];
    }
  }
}

TEST(ClipTanh, LeavesPrunedWeightsOutAndFollowsASchedule) {
  Parameter w = parameter("w", numbers(200, 1), DType::f32);
  w.set_mask(every_third_dead(200));
  give_gradient(w, std::vector<double>(200, 100));
  const Chain c = clip_tanh([](std::int64_t step) { return 1.0 + static_cast<double>(step); });
  const StepReport report = apply_to_gradients(list_of(w), c, {.step = 4});
  EXPECT_EQ(report["clip_tanh"].entries, w.mask().live());
  EXPECT_EQ(values_of(w.grad())[0], 0);
  EXPECT_EQ(values_of(w.grad())[1], 5);
  // Behind a clip whose factor is no normal float.
  const Clipped behind = clip(chain(clip_by_global_norm(1e-45), clip_tanh(1.0)), {{3e30, 4e30}}, DType::f64);
  EXPECT_NEAR(behind.gradients[0][0] / 6e-46, 1, 1e-12);
}

TEST(ClipTanh, StaysInTheSweep) {
  const Parameter w = parameter("w", {1, 1});
  const Optimizer opt(list_of(w), chain(clip_by_global_norm(1.0), clip_tanh(0.5), sgd({.lr = 0.1})));
  EXPECT_EQ(opt.describe().find("sweep 3"), std::string::npos);
  EXPECT_NE(opt.describe().find("clip_tanh(bound 0.5) > sgd"), std::string::npos) << opt.describe();
}

}  // namespace
}  // namespace espalier::optim
