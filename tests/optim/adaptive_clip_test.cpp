// Bounds that come from the weights: AGC, and the ratio of an update to its weight.
#include "espalier/optim/adaptive_clip.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "espalier/core/parallel.h"
#include "tests/optim/clip_support.h"

namespace espalier::optim {
namespace {

using namespace testing;

/// Brock et al. 2021, equation 3, over live coordinates.
std::vector<double> plain_agc(const std::vector<double>& g, const std::vector<double>& w, std::size_t unit,
                              const Mask& mask, double clipping, double eps) {
  std::vector<double> result = g;
  for (std::size_t begin = 0; begin < g.size(); begin += unit) {
    double gg = 0, ww = 0;
    for (std::size_t i = begin; i < begin + unit; ++i) {
      if (mask.defined() && !mask[static_cast<Index>(i)]) {
        result[i] = 0;
        continue;
      }
      gg += g[i] * g[i];
      ww += w[i] * w[i];
    }
    const double bound = clipping * std::max(std::sqrt(ww), eps);
    if (std::sqrt(gg) > bound)
      for (std::size_t i = begin; i < begin + unit; ++i) result[i] *= bound / std::sqrt(gg);
  }
  return result;
}

TEST(ClipAdaptive, AgreesWithThePlainRule) {
  for (DType type : {DType::f32, DType::f64})
    for (const Shape& shape : {Shape{40, 3}, Shape{3, 2, 3, 3}, Shape{17}, Shape{}, Shape{2, 4096}, Shape{3, 5000},
                               Shape{1, 131072}, Shape{6000}, Shape{0, 3}})
      for (bool per_tensor : {false, true})
        for (bool masked : {false, true}) {
          const auto n = static_cast<std::size_t>(count(shape));
          const std::size_t unit =
              per_tensor || shape.rank() < 2 ? n : n / std::max<std::size_t>(1, std::size_t(shape[0]));
          const auto g = values_of(tensor(numbers(n, 5), type)), w = values_of(tensor(numbers(n, 6, 0.1), type));
          Parameter p = parameter("w", w, type, shape);
          if (masked && n > 0) p.set_mask(every_third_dead(p.size()));
          give_gradient(p, g);
          const StepReport report =
              apply_to_gradients(list_of(p), clip_adaptive({.clipping = 0.05, .per_tensor = per_tensor}));
          const auto expected = plain_agc(g, w, std::max<std::size_t>(unit, 1), p.mask(), 0.05, 1e-3);
          const auto got = values_of(p.grad());
          for (std::size_t i = 0; i < n; ++i)
            ASSERT_NEAR(got[i], expected[i], type == DType::f32 ? 1e-7 : 1e-14) << shape << " at " << i;
          EXPECT_EQ(report["clip_adaptive"].clipped, n > (masked ? 1 : 0)) << shape << masked;
        }
}

TEST(ClipAdaptive, UnitsThatStartAtZeroMayLearn) {
  Parameter w = parameter("w", {0, 0, 3, 4}, DType::f64, {2, 2});
  give_gradient(w, {6, 8, 6, 8});
  apply_to_gradients(list_of(w), clip_adaptive({.clipping = 0.5, .eps = 0.01}));
  const auto g = values_of(w.grad());
  EXPECT_NEAR(norm({{g[0], g[1]}}), 0.5 * 0.01, 1e-15);
  EXPECT_NEAR(norm({{g[2], g[3]}}), 0.5 * 5, 1e-12);
  give_gradient(w, {1e-9, 0, 0, 0});
  apply_to_gradients(list_of(w), clip_adaptive());  // within its bound: the same bits
  EXPECT_EQ(values_of(w.grad())[0], 1e-9);
}

TEST(ClipAdaptive, LeavesTheHeadOut) {
  Parameter body = parameter("body.weight", {1, 1}), head = parameter("head.weight", {1, 1});
  give_gradient(body, {3, 4});
  give_gradient(head, {3, 4});
  apply_to_gradients(list_of(body, head), on(!named("head.*"), clip_adaptive()));
  EXPECT_NEAR(norm({values_of(body.grad())}), 0.01 * std::sqrt(2), 1e-8);
  EXPECT_EQ(values_of(head.grad()), (std::vector<double>{3, 4}));
}

TEST(ClipAdaptive, MeasuresTheHiddenWeightsOfSoftMasks) {
  Parameter w = parameter("w", {3, 4}, DType::f64);
  Mask mask(2);
  mask.set(1, false);
  w.set_mask(mask, MaskMode::soft);
  give_gradient(w, {30, 40});
  apply_to_gradients(list_of(w), clip_adaptive({.clipping = 1}));
  EXPECT_NEAR(norm({values_of(w.grad())}), 5, 1e-12);
}

TEST(ClipAdaptive, IsExactInEveryRange) {
  for (double scale : {1e-200, 1e-30, 1e25, 1e200}) {
    Parameter w = parameter("w", {3 * scale, 4 * scale}, DType::f64);
    give_gradient(w, {scale * 60, scale * 80});
    const StepReport report = apply_to_gradients(list_of(w), clip_adaptive({.clipping = 0.1, .eps = 0}));
    EXPECT_NEAR(norm({values_of(w.grad())}) / scale, 0.5, 1e-12);
    EXPECT_NEAR(report["clip_adaptive"].coefficient, 0.005, 1e-12);
  }
}

TEST(ClipAdaptive, SchedulesAndBadSettings) {
  const Chain falling = clip_adaptive({.clipping = [](std::int64_t t) { return t < 3 ? 1.0 : 0.5; }});
  Clipped c = clip(falling, {{3, 4}}, DType::f64, {.step = 2});
  EXPECT_NEAR(c.norm(), std::sqrt(2), 1e-12);
  c = clip(falling, {{3, 4}}, DType::f64, {.step = 3});
  EXPECT_NEAR(c.norm(), std::sqrt(2) / 2, 1e-12);
  EXPECT_THROW(clip_adaptive({.clipping = -1}), ConfigError);
  EXPECT_THROW(clip_adaptive({.eps = NAN}), ConfigError);
  EXPECT_THROW(clip_update_ratio(-0.1), ConfigError);
}

TEST(ClipAdaptive, RunsInOneSweepWhereUnitsFit) {
  Parameter w = parameter("w", std::vector<double>(60, 1), DType::f32, {4, 15});
  const Optimizer opt(list_of(w), chain(clip_adaptive(), sgd({.lr = 0.1})));
  EXPECT_NE(opt.describe().find("clip_adaptive(clipping 0.01, eps 0.001) > sgd"), std::string::npos) << opt.describe();
  EXPECT_EQ(opt.describe().find("measure clip_adaptive"), std::string::npos) << opt.describe();
}

TEST(ClipUpdateRatio, BoundsEachUpdateByItsWeight) {
  Parameter a = parameter("a", {3, 4}, DType::f64), b = parameter("b", {0, 0, 0}, DType::f64);
  Parameter c = parameter("c", {100}, DType::f64);
  Optimizer opt(list_of(a, b, c), chain(sgd({.lr = 2.0}), clip_update_ratio({.tau = 0.1, .eps = 0.01})));
  give_gradient(a, {0, 50});
  give_gradient(b, {1, 0, 0});
  give_gradient(c, {1});
  const StepReport report = opt.step();
  EXPECT_NEAR(values_of(a)[1], 4 - 0.5, 1e-12);
  EXPECT_NEAR(values_of(b)[0], -0.1 * 0.01, 1e-15);
  EXPECT_EQ(values_of(c)[0], 98);
  EXPECT_NEAR(report["clip_update_ratio"].coefficient, 0.001 / 2, 1e-15);  // b, the worst
  EXPECT_NEAR(report["clip_update_ratio"].bound, 0.001, 1e-15);
}

TEST(ClipUpdateRatio, HoldsBehindAdamWithDecayAndMasks) {
  Parameter w = parameter("w", numbers(5000, 1), DType::f64);
  w.set_mask(every_third_dead(5000));
  Optimizer opt(list_of(w), chain(adamw({.lr = 1.0, .weight_decay = 0.1}), clip_update_ratio(0.02)));
  for (unsigned t = 0; t < 3; ++t) {
    const auto before = values_of(w);
    give_gradient(w, numbers(5000, 10 + t));
    opt.step();
    std::vector<double> update;
    for (std::size_t i = 0; i < before.size(); ++i) update.push_back(values_of(w.value())[i] - 0.9 * before[i]);
    EXPECT_NEAR(norm({update}), 0.02 * norm({before}), 1e-9);
  }
}

TEST(ClipAdaptive, GivesTheSameBytesAtAnyThreadCount) {
  std::vector<std::vector<double>> results;
  for (int threads : {1, 2, 4}) {
    const ThreadLimit limit(threads);
    Parameter a = parameter("a", numbers(300000, 1), DType::f32, {1000, 300});
    Parameter b = parameter("b", numbers(200000, 2), DType::f32, {20, 10000});
    Optimizer opt(list_of(a, b), chain(clip_adaptive(), adam(), clip_update_ratio(0.01)));
    for (unsigned t = 0; t < 2; ++t) {
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

}  // namespace
}  // namespace espalier::optim
