// The transforms of docs/own_transform.md, compiled, run, and held to the page.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "espalier/optim/adam.h"
#include "espalier/optim/clip.h"
#include "espalier/optim/optimizer.h"
#include "espalier/optim/sgd.h"
#include "espalier/optim/telemetry.h"
#include "tests/support.h"
#include "tests/support/snippets.h"

// Outside of the library, as a user's code is.
namespace mine {

using namespace espalier;

/// g <- g + alpha (w - w_0), w_0 being the weight before its first update: fine-tuning that stays near where it began.
/// Li, Grandvalet, Davoine 2018 (L2-SP).
class PullToStart final : public optim::TransformOf<PullToStart> {
 public:
  explicit PullToStart(optim::Scalar alpha) : alpha_(std::move(alpha)) {}

  std::string name() const override { return "pull_to_start"; }
  std::vector<optim::StateSpec> states() const override { return {{"start"}}; }
  bool keeps_zeros() const override { return true; }
  void begin(const optim::StepContext& context) override { now_ = alpha_.at(context.step); }

  template <class T>
  void apply(optim::Block<T>& b) const {
    const std::span<T> start = b.state(0);
    if (b.updates() == 1) std::ranges::copy(b.value(), start.begin());
    b.add_value(now_);
    b.add(-now_, start);
  }

 private:
  optim::Scalar alpha_;
  double now_ = 0;
};

/// g <- min(max(g, -k u), k u), u being the running mean of |g| of that weight: outliers are cut to k times the usual.
class ClipToUsual final : public optim::TransformOf<ClipToUsual> {
 public:
  explicit ClipToUsual(double k) : k_(k) {}

  std::string name() const override { return "clip_to_usual"; }
  std::vector<optim::StateSpec> states() const override { return {{"usual"}}; }
  bool keeps_zeros() const override { return true; }
  bool is_clip() const override { return true; }
  void begin(const optim::StepContext&) override { moved_ = 0; }
  template <class T>
  void apply(optim::Block<T>& b) const {
    const T k = static_cast<T>(k_), rate = T(1) / static_cast<T>(std::min<std::int64_t>(b.updates(), 100));
    const std::span<T> g = b.gradient(), u = b.state(0);
    Index moved = 0;
    for (std::size_t i = 0; i < g.size(); ++i) {
      u[i] += rate * (std::abs(g[i]) - u[i]);
      const T cut = std::min(std::max(g[i], -k * u[i]), k * u[i]);
      moved += cut != g[i];
      g[i] = cut;
    }
    std::atomic_ref(moved_) += moved;  // several threads at once
  }
  void end(optim::ClipRecord* record) override { record->clipped = (record->entries = moved_) > 0; }

 private:
  double k_;
  mutable Index moved_ = 0;
};

/// A parameter of n weights, and a repeatable gradient for each step.
Parameter weights(const std::string& name, Index n, DType type = DType::f32) {
  Rng rng(5);
  return Parameter(rng.normal({n}, 0, 1, type), name);
}
Tensor gradient(const Parameter& p, std::uint64_t step) {
  Rng rng(100 + step);
  return rng.normal(p.shape(), 0, step % 4 == 3 ? 9 : 1, p.dtype());  // every fourth is an outlier
}
void run(optim::Optimizer& opt, const Parameter& p, std::uint64_t from, std::uint64_t to) {
  for (std::uint64_t step = from; step < to; ++step) {
    p.ref()->accumulate(gradient(p, step));
    opt.step();
  }
}

TEST(OwnTransform, PullsBackToWhereItStarted) {
  for (DType type : {DType::f32, DType::f64}) {
    const Parameter p = weights("p", 5000, type);
    const std::vector<double> start = p.value().to(DType::f64).to_vector<double>();
    const auto alpha = [](std::int64_t step) { return step < 2 ? 0.5 : 0.25; };
    optim::Optimizer opt(list_of(p), optim::chain(PullToStart(alpha), optim::sgd({.lr = 0.1})));
    std::vector<double> w = start;
    for (std::uint64_t step = 0; step < 6; ++step) {
      const std::vector<double> g = gradient(p, step).to(DType::f64).to_vector<double>();
      for (std::size_t i = 0; i < w.size(); ++i)
        w[i] -= 0.1 * (g[i] + alpha(static_cast<std::int64_t>(step)) * (w[i] - start[i]));
      run(opt, p, step, step + 1);
    }
    const std::vector<double> got = p.value().to(DType::f64).to_vector<double>();
    for (std::size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(got[i], w[i], type == DType::f32 ? 1e-5 : 1e-14) << i;
    EXPECT_EQ(opt.state().at("pull_to_start/start/p").to(DType::f64).to_vector<double>(), start);
  }
}

TEST(OwnTransform, ClipsCountsAndIsHeardByTelemetry) {
  const Parameter p = weights("p", 9001, DType::f64);
  optim::Optimizer opt(list_of(p), optim::chain(ClipToUsual(2), optim::sgd({.lr = 1.0})));
  optim::Telemetry telemetry;
  opt.attach(telemetry);
  std::vector<double> w = p.value().to_vector<double>(), usual(w.size());
  Index moved = 0;
  for (std::uint64_t step = 0; step < 8; ++step) {
    const std::vector<double> g = gradient(p, step).to_vector<double>();
    for (std::size_t i = 0; i < w.size(); ++i) {
      usual[i] += (std::abs(g[i]) - usual[i]) / static_cast<double>(step + 1);
      const double bound = 2 * usual[i];
      moved += std::abs(g[i]) > bound;
      w[i] -= g[i] > bound ? bound : g[i] < -bound ? -bound : g[i];
    }
    run(opt, p, step, step + 1);
  }
  const std::vector<double> got = p.value().to_vector<double>();
  for (std::size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(got[i], w[i], 1e-11) << i;
  const optim::ClipTelemetry seen = telemetry.clip("clip_to_usual");
  EXPECT_EQ(seen.steps, 8);
  EXPECT_GT(seen.clipped_steps, 1);
  EXPECT_LT(seen.clipped_steps, 8);  // in the first step everything is usual
  EXPECT_GT(moved, 0);
  p.ref()->accumulate(Tensor::full(p.shape(), 1e6, p.dtype()));
  const optim::ClipRecord record = opt.step()["clip_to_usual"];
  EXPECT_TRUE(record.clipped);
  EXPECT_EQ(record.entries, 9001);
}

optim::Chain both() {
  return optim::chain(optim::clip_by_global_norm(50.0), PullToStart(0.1), ClipToUsual(3), optim::adam());
}

TEST(OwnTransform, RunsInTheSweepsThatAreThereAnyway) {
  const Parameter p = weights("p", 10);
  const optim::Optimizer opt(list_of(p), both());
  const std::string sweeps = opt.describe();
  EXPECT_EQ(std::count(sweeps.begin(), sweeps.end(), '\n'), 2);
  EXPECT_NE(espalier::testing::content_of(ESPALIER_SOURCE_DIR "/docs/own_transform.md").find(sweeps), std::string::npos)
      << "not on the page:\n"
      << sweeps;
}

TEST(OwnTransform, ResumesInTheMiddleWithTheSameBytesAtAnyNumberOfThreads) {
  const Parameter whole = weights("p", 70'001);
  optim::Optimizer opt(list_of(whole), both());
  run(opt, whole, 0, 9);
  for (int threads : {1, 2, 4}) {
    const ThreadLimit limit(threads);
    const Parameter p = weights("p", 70'001);
    optim::Optimizer first(list_of(p), both()), second(list_of(p), both());
    run(first, p, 0, 4);
    second.load_state(first.state());
    run(second, p, 4, 9);
    EXPECT_TRUE(espalier::testing::same_bytes(whole.value(), p.value())) << threads;
  }
}

TEST(OwnTransform, LeavesPrunedWeightsAtZero) {
  const Parameter p = weights("p", 6000);
  Mask mask(6000);
  for (Index i = 0; i < 6000; i += 3) mask.set(i, false);
  optim::Optimizer opt(list_of(p), both());
  run(opt, p, 0, 3);
  p.ref()->set_mask(mask);
  run(opt, p, 3, 6);
  const std::vector<float> w = p.value().to_vector<float>();
  const std::vector<float> start = opt.state().at("pull_to_start/start/p").to_vector<float>();
  const std::vector<float> usual = opt.state().at("clip_to_usual/usual/p").to_vector<float>();
  for (std::size_t i = 0; i < 6000; ++i) {
    if (i % 3 == 0)
      ASSERT_TRUE(w[i] == 0 && start[i] == 0 && usual[i] == 0) << i;
    else
      ASSERT_TRUE(w[i] != 0 && usual[i] > 0) << i;
  }
}

TEST(OwnTransform, ThePageIsTheCodeAboveAndShort) {
  EXPECT_EQ(espalier::testing::snippets_that_stand_in("tests/docs/own_transform_test.cpp", "docs/own_transform.md"), 2);
  EXPECT_LT(espalier::testing::longest_snippet("docs/own_transform.md"), 30);
}

}  // namespace mine
