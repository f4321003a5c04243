// Bounds that are learned from the norms of earlier steps: AutoClip, ZClip, quantile tracking.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "espalier/optim/detail/norm_history.h"
#include "tests/optim/clip_support.h"

namespace espalier::optim {
namespace {

using namespace testing;

/// numpy.percentile, linear.
double plain_percentile(std::vector<double> x, double percent) {
  std::sort(x.begin(), x.end());
  const double where = percent / 100 * static_cast<double>(x.size() - 1), part = where - std::floor(where);
  const auto k = static_cast<std::size_t>(where);
  return k + 1 < x.size() ? x[k] + (x[k + 1] - x[k]) * part : x.back();
}
/// The last `window` of x and `next`.
std::vector<double> recent(std::vector<double> x, double next, std::size_t window) {
  x.push_back(next);
  if (x.size() > window) x.erase(x.begin(), x.end() - static_cast<std::ptrdiff_t>(window));
  return x;
}
/// Norms like those of a training run: drifting, with outliers and repetitions.
std::vector<double> norms(std::size_t n, unsigned seed) {
  std::vector<double> x = numbers(n, seed);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = 2 + x[i] + 0.01 * static_cast<double>(i % 100);
    if (i % 17 == 5) x[i] *= 20;
    if (i % 5 == 3) x[i] = x[i - 1];
  }
  return x;
}

TEST(NormHistory, AgreesWithSortingAnew) {
  for (Index window : {1, 2, 3, 10, 97}) {
    detail::NormHistory history("test", window);
    std::vector<double> all;
    for (double x : norms(400, 3)) {
      for (double percent : {0.0, 10.0, 33.3, 50.0, 99.0, 100.0}) {
        const auto with = recent(all, x, static_cast<std::size_t>(window));
        ASSERT_NEAR(history.percentile(percent, x), plain_percentile(with, percent), 1e-13) << window;
        if (!all.empty()) {
          ASSERT_NEAR(history.percentile(percent), plain_percentile(all, percent), 1e-13) << window;
        }
      }
      history.push(x);
      all = recent(all, x, static_cast<std::size_t>(window));
    }
    detail::NormHistory copy("test", window);
    copy.set_memory(history.memory());
    EXPECT_EQ(copy.percentile(37, 2.5), history.percentile(37, 2.5));
    copy.push(1);
    history.push(1);
    EXPECT_EQ(copy.percentile(60), history.percentile(60));
  }
}

TEST(Autoclip, ClipsToThePercentileOfTheNormsSoFar) {
  for (Index window : {5, 10000})
    for (double percent : {0.0, 10.0, 80.0, 100.0}) {
      Clipper clipper({1}, autoclip({.percentile = percent, .window = window}));
      std::vector<double> all;
      for (double x : norms(60, 1)) {
        all = recent(all, x, static_cast<std::size_t>(window));
        const double bound = plain_percentile(all, percent);
        EXPECT_NEAR(clipper.step_of(x), std::min(x, bound), 1e-12);
        EXPECT_NEAR(clipper.report["autoclip"].bound, bound, 1e-12);
        EXPECT_EQ(clipper.report["autoclip"].norm_before, x);
      }
    }
}

TEST(Autoclip, NeverLearnsFromWhatIsNotFiniteOrWasSkipped) {
  Clipper clipper({1}, autoclip(50.0), DType::f64, {.nonfinite = Nonfinite::propagate});
  EXPECT_EQ(clipper.step_of(-inf), -inf);  // nothing is known yet: no bound
  EXPECT_EQ(clipper.step_of(4), 4);
  EXPECT_EQ(clipper.step_of(2), 2);
  EXPECT_TRUE(std::isnan(clipper.step_of(inf)));  // 3 / infinity times infinity
  EXPECT_EQ(clipper.report["autoclip"].bound, 3);
  EXPECT_TRUE(std::isnan(clipper.step_of(NAN)));
  EXPECT_EQ(clipper.step_of(10), 4);  // the median of 2, 4, 10
  EXPECT_EQ(clipper.optimizer().state().at("autoclip/count").to_vector<std::int64_t>()[0], 3);

  Clipper skipping({1}, autoclip(50.0), DType::f64, {.nonfinite = Nonfinite::skip_step});
  skipping.step_of(4);
  skipping.step_of(NAN);
  EXPECT_EQ(skipping.step_of(10), 7);

  Clipper without({1, 1}, on("p0", autoclip(50.0)));  // a step in which it has no gradient
  without.step({{4}, {1}});
  without.step({{}, {1}});
  EXPECT_TRUE(without.report["autoclip"].nothing_to_clip);
  without.step({{6}, {1}});
  EXPECT_EQ(without.report["autoclip"].bound, 5);
}

TEST(Autoclip, KeepsAHistoryForEachGroup) {
  Clipper clipper({1, 1}, chain(on("p0", as("first", autoclip(0.0))), on("p1", as("second", autoclip(0.0)))));
  clipper.step({{1}, {100}});
  EXPECT_EQ(clipper.step({{5}, {500}}), (std::vector<std::vector<double>>{{1}, {100}}));
  EXPECT_EQ(clipper.report["second"].norm_before, 500);
}

TEST(Autoclip, SettingsAndErrors) {
  const Chain scheduled = autoclip([](std::int64_t t) { return t < 2 ? 100.0 : 0.0; });
  Clipper clipper({1}, scheduled);
  EXPECT_EQ(clipper.step_of(1), 1);
  EXPECT_EQ(clipper.step_of(5), 5);
  EXPECT_EQ(clipper.step_of(7), 1);
  EXPECT_THROW(autoclip(-1.0), ConfigError);
  EXPECT_THROW(autoclip(100.5), ConfigError);
  EXPECT_THROW(autoclip(NAN), ConfigError);
  EXPECT_THROW(autoclip({.window = 0}), ConfigError);
  EXPECT_THROW(clip(autoclip(), {{1}}), ConfigError);  // a history of one call tells nothing
  EXPECT_NE(clipper.optimizer().describe().find("autoclip(percentile scheduled, window 10000)"), std::string::npos);
  OptimizerState state = clipper.optimizer().state();
  state["autoclip/count"] = Tensor::from<std::int64_t>({-3}, {});
  EXPECT_THROW(clipper.optimizer().load_state(state), ConfigError);
  state = clipper.optimizer().state();
  std::vector<double> history(10000, -1);
  state["autoclip/history"] = Tensor::from(history, {10000});
  EXPECT_THROW(clipper.optimizer().load_state(state), ConfigError);
}

TEST(Zclip, FollowsItsEquations) {
  constexpr std::int64_t warm_up = 25;
  Clipper clipper({1}, zclip());
  std::vector<double> seen;
  double mean = 0, variance = 0;
  int clipped = 0;
  for (double x : norms(200, 2)) {
    double bound = inf;
    if (static_cast<std::int64_t>(seen.size()) >= warm_up) {
      const double z = (x - mean) / std::sqrt(variance);
      if (z > 2.5) bound = mean + 2.5 * std::sqrt(variance) * (2.5 / z);
    }
    const double after = std::min(x, bound);
    ASSERT_NEAR(clipper.step_of(x), after, 1e-10);
    EXPECT_EQ(clipper.report.clipped(), x > bound);
    clipped += x > bound;
    seen.push_back(x);
    if (static_cast<std::int64_t>(seen.size()) < warm_up) continue;
    if (static_cast<std::int64_t>(seen.size()) == warm_up) {
      mean = variance = 0;
      for (double s : seen) mean += s / warm_up;
      for (double s : seen) variance += (s - mean) * (s - mean) / warm_up;
      continue;
    }
    mean = 0.97 * mean + 0.03 * after;
    variance = 0.97 * variance + 0.03 * (after - mean) * (after - mean);
  }
  EXPECT_GT(clipped, 3);
}

TEST(Zclip, EdgesOfItsStatistics) {
  Clipper constant({1}, zclip({.warm_up = 3}));
  for (int t = 0; t < 5; ++t) EXPECT_EQ(constant.step_of(2), 2);
  EXPECT_EQ(constant.step_of(3), 3);  // no spread was seen: nothing to judge by
  EXPECT_LT(constant.step_of(300), 10);

  Clipper bounded({1}, zclip({.warm_up = 2, .max_norm = 1.5}));
  EXPECT_EQ(bounded.step_of(1), 1);
  EXPECT_EQ(bounded.step_of(3), 1.5);  // also during warm-up
  Clipper broken({1}, zclip({.warm_up = 1}), DType::f64, {.nonfinite = Nonfinite::propagate});
  broken.step_of(1);
  broken.step_of(NAN);
  broken.step_of(inf);
  EXPECT_EQ(broken.optimizer().state().at("zclip/count").to_vector<std::int64_t>()[0], 1);
  EXPECT_EQ(values_of(broken.optimizer().state().at("zclip/statistics")), (std::vector<double>{1, 0}));

  EXPECT_THROW(zclip({.alpha = 1}), ConfigError);
  EXPECT_THROW(zclip({.z = -1}), ConfigError);
  EXPECT_THROW(zclip({.warm_up = 0}), ConfigError);
  EXPECT_THROW(zclip({.max_norm = NAN}), ConfigError);
  OptimizerState state = broken.optimizer().state();
  state["zclip/statistics"] = Tensor::from<double>({1, -1}, {2});
  EXPECT_THROW(broken.optimizer().load_state(state), ConfigError);
}

TEST(ClipByQuantile, FollowsTheQuantile) {
  for (double gamma : {0.1, 0.5, 0.9}) {
    Clipper clipper({1}, clip_by_quantile({.quantile = gamma, .rate = 0.05, .initial = 0.2}));
    const auto x = norms(3000, 4);
    double bound = 0.2;
    int passed = 0;
    for (std::size_t t = 0; t < x.size(); ++t) {
      ASSERT_NEAR(clipper.step_of(x[t]), std::min(x[t], bound), 1e-9);
      ASSERT_NEAR(clipper.report["clip_by_quantile"].bound, bound, 1e-9 * bound);
      if (t >= 1000) passed += x[t] <= bound;
      bound *= std::exp(-0.05 * ((x[t] <= bound ? 1 : 0) - gamma));
    }
    EXPECT_NEAR(passed / 2000.0, gamma, 0.03);
  }
}

TEST(ClipByQuantile, StaysWithinItsBounds) {
  Clipper clipper({1}, clip_by_quantile({.rate = 1, .initial = 9, .min = 0.5, .max = 2}));
  EXPECT_EQ(clipper.step_of(100), 2);  // from within
  for (int t = 0; t < 9; ++t) clipper.step_of(1e-3);
  EXPECT_EQ(clipper.step_of(100), 0.5);
  Clipper zero({1}, clip_by_quantile({.rate = 500}), DType::f64, {.nonfinite = Nonfinite::propagate});
  for (int t = 0; t < 9; ++t) zero.step_of(0);
  EXPECT_GT(zero.report["clip_by_quantile"].bound, 0);  // or it could never grow again
  zero.step_of(NAN);
  EXPECT_TRUE(std::isfinite(zero.optimizer().state().at("clip_by_quantile/bound").item()));
  EXPECT_THROW(clip_by_quantile({.quantile = 1.5}), ConfigError);
  EXPECT_THROW(clip_by_quantile({.rate = -1}), ConfigError);
  EXPECT_THROW(clip_by_quantile({.initial = 0}), ConfigError);
  EXPECT_THROW(clip_by_quantile({.min = 2, .max = 1}), ConfigError);
  EXPECT_THROW(clip_by_quantile({.max = NAN}), ConfigError);
  OptimizerState state = clipper.optimizer().state();
  state["clip_by_quantile/bound"] = Tensor::from<double>({7}, {});
  EXPECT_THROW(clipper.optimizer().load_state(state), ConfigError);
}

TEST(LearnedBounds, ResumeInTheMiddleWithTheSameBytes) {
  for (const Chain& c : {autoclip({.window = 7}), zclip({.warm_up = 6}), clip_by_quantile()}) {
    const auto x = norms(40, 6);
    Clipper whole({3}, c, DType::f32), first({3}, c, DType::f32), second({3}, c, DType::f32);
    for (std::size_t t = 0; t < x.size(); ++t) {
      const std::vector<std::vector<double>> g = {{x[t], -x[t] / 3, 0.1}};
      if (t == 17) second.optimizer().load_state(first.optimizer().state());
      EXPECT_EQ((t < 17 ? first : second).step(g), whole.step(g)) << c.names()[0] << " step " << t;
    }
    EXPECT_THROW(second.optimizer().load_state(Clipper({3}, chain()).optimizer().state()), ConfigError);
  }
}

TEST(LearnedBounds, LearnOnceFromAStepThatBeginsAnew) {  // entries that are not finite are zeroed, and it starts over
  for (const Chain& c : {autoclip(100.0), zclip(), clip_by_quantile({.initial = 100})}) {
    Clipper zeroed({2}, c, DType::f64, {.nonfinite = Nonfinite::zero}), plain({2}, c);
    for (int t = 0; t < 3; ++t) {
      EXPECT_EQ(zeroed.step({{3.0 + t, NAN}}), plain.step({{3.0 + t, 0}}));
      const auto a = zeroed.optimizer().state(), b = plain.optimizer().state();
      for (const auto& [key, value] : a) EXPECT_EQ(values_of(value), values_of(b.at(key))) << key;
    }
  }
}

}  // namespace
}  // namespace espalier::optim
