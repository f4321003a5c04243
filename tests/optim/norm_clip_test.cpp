// Norm clips of units and by root mean square, bounds that follow the density, and what clips report of each parameter.
#include <gtest/gtest.h>

#include <cmath>

#include "espalier/core/parallel.h"
#include "tests/optim/clip_support.h"

namespace espalier::optim {
namespace {

using namespace testing;

/// The plain rule: each unit of live coordinates has a p-norm of at most `bound`, times (live / all)^(1/p).
std::vector<double> plain_unit_clip(const std::vector<double>& g, std::size_t unit, const Mask& mask, double bound,
                                    double p, bool by_density) {
  std::vector<double> result = g;
  for (std::size_t begin = 0; begin < g.size(); begin += unit) {
    std::vector<double> live;
    for (std::size_t i = begin; i < begin + unit; ++i) {
      if (mask.defined() && !mask[static_cast<Index>(i)])
        result[i] = 0;
      else
        live.push_back(g[i]);
    }
    const double density = static_cast<double>(live.size()) / static_cast<double>(unit), n = norm({live}, p);
    const double limit = by_density && density > 0 ? bound * std::pow(density, 1 / p) : bound;
    if (n > limit)
      for (std::size_t i = begin; i < begin + unit; ++i) result[i] *= limit / n;
  }
  return result;
}

TEST(ClipPerUnitNorm, AgreesWithThePlainRuleInShortAndLongUnits) {
  for (const Shape& shape : {Shape{50, 7}, Shape{3, 2, 3, 3}, Shape{3, 4096}, Shape{3, 4097}, Shape{2, 70001},
                             Shape{300}, Shape{9000}, Shape{1, 1}})
    for (double p : {1.0, 2.0, 3.0, inf})
      for (bool masked : {false, true})
        for (bool by_density : {false, true}) {
          const auto n = static_cast<std::size_t>(count(shape)), units = shape.rank() > 1 ? std::size_t(shape[0]) : 1;
          auto g = numbers(n, 3);
          for (std::size_t i = 0; i < n / units; ++i) g[i] *= 1e-6;  // the first stays as it is
          Parameter w = parameter("w", numbers(n, 4), DType::f64, shape);
          if (masked) w.set_mask(every_third_dead(w.size(), 1));
          give_gradient(w, g);
          const double bound = 0.3 * norm({g}, p) / std::sqrt(static_cast<double>(units));
          const StepReport report = apply_to_gradients(
              list_of(w), clip_per_unit_norm({.max_norm = bound, .p = p, .scale_by_density = by_density}));
          const auto expected = plain_unit_clip(g, n / units, w.mask(), bound, p, by_density);
          const auto got = values_of(w.grad());
          for (std::size_t i = 0; i < n; ++i)
            ASSERT_NEAR(got[i], expected[i], 1e-11) << shape << " p " << p << " masked " << masked << " at " << i;
          if (units > 1 && !masked) {
            EXPECT_TRUE(std::equal(g.begin(), g.begin() + std::ptrdiff_t(n / units), got.begin()));
          }
          const ClipRecord& record = report["clip_per_unit_norm"];
          bool clips = false;
          for (std::size_t i = 0; i < n; ++i) clips = clips || (got[i] != g[i] && expected[i] != 0);
          EXPECT_EQ(record.clipped, clips) << shape;
          EXPECT_NEAR(record.norm_after, record.coefficient * record.norm_before, 1e-12);
        }
}

TEST(ClipPerUnitNorm, ReportsTheUnitCutBackMost) {
  Parameter w = parameter("w", std::vector<double>(6, 1), DType::f64, {3, 2});
  give_gradient(w, {0.3, 0.4, 6, 8, 3, 4});
  const StepReport report = apply_to_gradients(list_of(w), clip_per_unit_norm(1.0));
  const ClipRecord& record = report["clip_per_unit_norm"];
  EXPECT_EQ(record.norm_before, 10);
  EXPECT_EQ(record.coefficient, 0.1);
  EXPECT_EQ(record.bound, 1);
  EXPECT_TRUE(record.clipped);
  give_gradient(w, {0.3, 0.4, 0, 0, 0.1, 0});  // none: the largest
  const StepReport none = apply_to_gradients(list_of(w), clip_per_unit_norm(1.0));
  EXPECT_DOUBLE_EQ(none["clip_per_unit_norm"].norm_before, 0.5);
  EXPECT_FALSE(none.clipped());
  EXPECT_TRUE(apply_to_gradients({}, clip_per_unit_norm(1.0)).nothing_to_clip());
}

TEST(ClipByRms, DividesByHowFarTheRmsIsAbove) {
  const std::vector<std::vector<double>> g = {{3, 4, 0, 0}, {0.1, -0.1}, {}, {-8}};
  const Clipped c = clip(clip_by_rms(0.5), g, DType::f64);  // rms 2.5, 0.1, none, 8
  EXPECT_DOUBLE_EQ(c.gradients[0][0], 0.6);
  EXPECT_DOUBLE_EQ(c.gradients[0][1], 0.8);
  EXPECT_EQ(c.gradients[1], g[1]);
  EXPECT_EQ(c.gradients[3], (std::vector<double>{-0.5}));
  EXPECT_EQ(c.report["clip_by_rms"].norm_before, 8);
  EXPECT_EQ(clip(clip_by_rms(0.0), g).gradients[0], (std::vector<double>{0, 0, 0, 0}));
  EXPECT_EQ(clip(clip_by_rms({.threshold = 0.5, .measure_only = true}), g).gradients[0], g[0]);
}

TEST(ClipByRms, MeansOverLiveCoordinates) {
  Parameter w = parameter("w", {1, 1, 1, 1}, DType::f64), dead = parameter("d", {1, 1}, DType::f64);
  Mask mask(4), none(2);
  mask.set(1, false);
  mask.set(2, false);
  none.set(0, false);
  none.set(1, false);
  w.set_mask(mask);
  dead.set_mask(none);
  give_gradient(w, {3, NAN, 100, 4});
  give_gradient(dead, {5, 5});
  const StepReport report = apply_to_gradients(list_of(w, dead), clip_by_rms(1.0));
  EXPECT_DOUBLE_EQ(report["clip_by_rms"].norm_before, 5 / std::sqrt(2));
  EXPECT_NEAR(values_of(w.grad())[0], 3 * std::sqrt(2) / 5, 1e-12);
  EXPECT_EQ(values_of(dead.grad()), (std::vector<double>{0, 0}));
}

TEST(ClipByRms, BoundsTheUpdateBehindAnOptimizer) {
  Parameter w = parameter("w", std::vector<double>(5000, 1), DType::f64);
  Optimizer opt(list_of(w), chain(adam({.lr = 1.0}), clip_by_rms(0.01)));
  give_gradient(w, numbers(5000, 1));
  const StepReport report = opt.step();
  EXPECT_NEAR(report["clip_by_rms"].norm_before, 1, 1e-3);  // of Adam's first update, lr
  double sum = 0;
  for (double x : values_of(w)) sum += (x - 1) * (x - 1);
  EXPECT_NEAR(std::sqrt(sum / 5000), 0.01, 1e-9);
}

TEST(ScaleByDensity, TightensTheBoundOfWhatIsMeasured) {
  Parameter a = parameter("a", std::vector<double>(100, 1), DType::f64),
            b = parameter("b", std::vector<double>(300, 1), DType::f64);
  Mask mask(300);
  for (Index i = 0; i < 300; ++i) mask.set(i, i < 44);
  b.set_mask(mask);
  const auto give = [&] {
    give_gradient(a, std::vector<double>(100, 1));
    give_gradient(b, std::vector<double>(300, 1));
  };
  give();  // 144 of 400 are live
  StepReport report = apply_to_gradients(list_of(a, b), clip_by_global_norm({.max_norm = 5, .scale_by_density = true}));
  EXPECT_NEAR(report["clip_by_global_norm"].bound, 5 * 0.6, 1e-12);
  EXPECT_NEAR(report["clip_by_global_norm"].norm_before, 12, 1e-12);
  EXPECT_NEAR(report["clip_by_global_norm"].norm_after, 3, 1e-12);
  give();
  apply_to_gradients(list_of(a, b), clip_per_tensor_norm({.max_norm = 5, .p = 1, .scale_by_density = true}));
  EXPECT_NEAR(values_of(a.grad())[0], 0.05, 1e-12);
  EXPECT_NEAR(norm({values_of(b.grad())}, 1), 5 * 44 / 300.0, 1e-12);
  give();
  report =
      apply_to_gradients(list_of(a, b), clip_by_global_norm({.max_norm = 0.5, .p = inf, .scale_by_density = true}));
  EXPECT_EQ(report["clip_by_global_norm"].bound, 0.5);
  give();  // the mask of this very step counts
  b.set_mask(Mask());
  report = apply_to_gradients(list_of(a, b), clip_by_global_norm({.max_norm = 5, .scale_by_density = true}));
  EXPECT_EQ(report["clip_by_global_norm"].bound, 5);
}

/// The records of one step on two vectors and a matrix, the last of which has no gradient, with a listener.
std::vector<ClippedParameter> details(const Chain& clips, bool listens = true) {
  Parameter a = parameter("a", {1, 1}, DType::f64), b = parameter("b", {1, 1, 1}, DType::f64);
  Parameter w = parameter("w", {1, 1, 1, 1}, DType::f64, {2, 2}), none = parameter("none", {1});
  Optimizer opt(list_of(a, b, w, none), chain(clips, sgd()));
  const Listening listening;
  if (listens) opt.attach(listening);
  give_gradient(a, {3, 4});
  give_gradient(b, {0, 0.5, 0});
  give_gradient(w, {0, 2, 6, 8});
  return opt.step().clips()[0].parameters;
}
void expect_details(const Chain& clips, std::vector<double> norms, std::vector<double> coefficients) {
  const auto found = details(clips);
  ASSERT_EQ(found.size(), 3);
  for (std::size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(found[k].parameter, k);
    EXPECT_NEAR(found[k].norm_before, norms[k], 1e-12) << k;
    EXPECT_NEAR(found[k].coefficient, coefficients[k], 1e-12) << k;
  }
  EXPECT_TRUE(details(clips, false).empty());
}

TEST(Details, ListEachParameterOfEveryClip) {
  const double w = std::sqrt(104.), all = std::sqrt(25 + 0.25 + 104);
  expect_details(clip_by_global_norm(1.0), {5, 0.5, w}, {1 / all, 1 / all, 1 / all});
  expect_details(clip_by_global_norm({.max_norm = 1, .p = inf}), {4, 0.5, 8}, {0.125, 0.125, 0.125});
  expect_details(clip_per_tensor_norm(1.0), {5, 0.5, w}, {0.2, 1, 1 / w});
  expect_details(clip_per_unit_norm(4.0), {5, 0.5, 10}, {0.8, 1, 0.4});
  expect_details(clip_by_rms(1.0), {5 / std::sqrt(2.), 0.5 / std::sqrt(3.), w / 2}, {std::sqrt(2.) / 5, 1, 2 / w});
  expect_details(clip_smooth_norm(1.0), {5, 0.5, w}, std::vector<double>(3, 1 / std::sqrt(1 + all * all)));
  expect_details(clip_adaptive({.clipping = 1.0}), {5, 0.5, 10}, {std::sqrt(2.) / 5, 1, std::sqrt(2.) / 10});
  for (const Chain& clips : {clip_by_value({.max = 3}), clip_tanh(3.0)}) {
    const auto found = details(clips);
    ASSERT_EQ(found.size(), 3);
    EXPECT_EQ(found[0].entries, 1);
    EXPECT_EQ(found[1].entries, 0);
    EXPECT_EQ(found[2].entries, 2);
    EXPECT_TRUE(details(clips, false).empty());
  }
}

TEST(Details, AreTheSameAtAnyThreadCount) {
  std::vector<std::vector<double>> seen;
  for (int threads : {1, 2, 4}) {
    const ThreadLimit limit(threads);
    Parameter w = parameter("w", numbers(400000, 1), DType::f32, {4000, 100});
    Parameter v = parameter("v", numbers(400000, 2), DType::f32, {50, 8000});
    Optimizer opt(list_of(w, v),
                  chain(clip_per_unit_norm(3.0), clip_adaptive({.clipping = 0.3}), clip_tanh(0.1), sgd()));
    const Listening listening;
    opt.attach(listening);
    give_gradient(w, numbers(400000, 3));
    give_gradient(v, numbers(400000, 4));
    const StepReport report = opt.step();
    std::vector<double> all;
    for (const ClipRecord& record : report.clips()) {
      all.insert(all.end(), {record.norm_before, record.norm_after, record.coefficient, double(record.entries)});
      for (const ClippedParameter& p : record.parameters)
        all.insert(all.end(), {p.norm_before, p.coefficient, double(p.entries)});
    }
    EXPECT_GT(report["clip_tanh"].entries, 0);
    for (double x : values_of(w)) all.push_back(x);
    seen.push_back(all);
  }
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_EQ(seen[0], seen[2]);
}

TEST(MeasureOnly, ReportsAndNeverWrites) {
  const std::vector<std::vector<double>> g = {{3, 4}, {0.1, -9}};
  const Chain clips[] = {clip_by_global_norm({.max_norm = 1, .measure_only = true}),
                         clip_per_tensor_norm({.max_norm = 1, .measure_only = true}),
                         clip_per_unit_norm({.max_norm = 1, .measure_only = true}),
                         clip_by_rms({.threshold = 1, .measure_only = true}),
                         clip_by_value({.min = -1, .max = 1, .measure_only = true}),
                         clip_adaptive({.measure_only = true}),
                         clip_update_ratio({.measure_only = true}),
                         clip_smooth_norm({.tau = 1, .measure_only = true}),
                         clip_tanh({.bound = 1, .measure_only = true}),
                         autoclip({.measure_only = true}),
                         zclip({.max_norm = 1, .measure_only = true}),
                         clip_by_quantile({.measure_only = true})};
  for (const Chain& c : clips) {
    Clipper clipper({2, 2}, c);
    clipper.step({{0.1, 0}, {0, 0.1}});
    EXPECT_EQ(clipper.step(g), g) << c.names()[0];
    EXPECT_TRUE(clipper.report.clipped()) << c.names()[0];
    EXPECT_NE(clipper.optimizer().describe().find("measure only"), std::string::npos) << c.names()[0];
  }
  const auto counted = clip(clips[4], {std::vector<double>(9001, -2)});  // more than a block
  EXPECT_EQ(counted.report["clip_by_value"].entries, 9001);
}

}  // namespace
}  // namespace espalier::optim
