// Averages of weights: against plain loops, under masks, after a resume, and in the model.
#include "espalier/optim/average.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "tests/optim/values.h"
#include "tests/support.h"

namespace espalier::optim {
namespace {

using namespace testing;
using espalier::testing::same_bytes;
using espalier::testing::Threads;

/// A step of a parameter by itself; returns the new values.
std::vector<double> step(Optimizer& opt, const Parameter& p, unsigned seed) {
  give_gradient(p, numbers(static_cast<std::size_t>(p.size()), seed));
  opt.step();
  return values_of(p);
}
std::int64_t averaged(const Optimizer& opt, const std::string& name, std::size_t k = 0) {
  return opt.memory(name).at("averaged").to_vector<std::int64_t>().at(k);
}
std::vector<double> average_of(const Optimizer& opt, const std::string& name, std::size_t k = 0) {
  return values_of(opt.state(name, "average", k));
}
void expect_near(const std::vector<double>& got, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], tolerance) << i;
}

TEST(Ema, BeginsWithACopyAndFollows) {
  for (const bool warmup : {false, true})
    for (const std::int64_t period : {1, 3})
      for (const DType type : {DType::f64, DType::f32}) {
        const Parameter p = parameter("p", numbers(5000, 1), type);
        Optimizer opt({{"p", p.ref()}},
                      chain(sgd({.lr = 0.1}), ema({.decay = 0.75, .warmup = warmup, .every = period})));
        std::vector<double> expected;
        int n = 0;
        for (int t = 0; t < 10; ++t) {
          const auto w = step(opt, p, 10 + static_cast<unsigned>(t));
          if (t % period != period - 1) continue;
          const double d = n == 0 ? 0 : warmup ? std::min(0.75, (1.0 + n) / (10.0 + n)) : 0.75;
          if (expected.empty()) expected = w;
          for (std::size_t i = 0; i < w.size(); ++i) expected[i] = d * expected[i] + (1 - d) * w[i];
          ++n;
          expect_near(average_of(opt, "ema"), expected, type == DType::f32 ? 1e-6 : 1e-14);
          EXPECT_EQ(averaged(opt, "ema"), n);
        }
      }
}

TEST(Ema, OfWeightsThatRestIsExact) {
  const Parameter p = parameter("p", numbers(1000, 1), DType::f32);
  Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 0.0}), ema({.decay = 0.9999})));
  for (int t = 0; t < 50; ++t) step(opt, p, 1);
  EXPECT_TRUE(same_bytes(opt.state("ema", "average", 0), p.value()));
}

TEST(Swa, IsTheMeanOfTheLastOfEachPeriod) {
  const Parameter p = parameter("p", numbers(70, 1), DType::f64);
  Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 0.1}), swa({.begin = 3, .every = 2})));
  std::vector<double> sum(70);
  for (int t = 0; t < 10; ++t) {
    const auto w = step(opt, p, 10 + static_cast<unsigned>(t));
    if (t == 4 || t == 6 || t == 8)
      for (std::size_t i = 0; i < w.size(); ++i) sum[i] += w[i];
  }
  for (double& s : sum) s /= 3;
  EXPECT_EQ(averaged(opt, "swa"), 3);
  expect_near(average_of(opt, "swa"), sum, 1e-15);
}

TEST(Averages, SeeConstraintsBeforeThemAndRestWithoutGradients) {
  const Parameter p = parameter("p", {0.0}, DType::f64), q = parameter("q", {7.0}, DType::f64);
  Optimizer opt({{"p", p.ref()}, {"q", q.ref()}}, chain(sgd({.lr = 1.0}), clamp_parameters(-1, 1), swa()));
  for (int t = 0; t < 3; ++t) {
    give_gradient(p, {-5.0});
    opt.step();
  }
  EXPECT_EQ(average_of(opt, "swa"), std::vector<double>{1});
  EXPECT_EQ(averaged(opt, "swa", 0), 3);
  EXPECT_EQ(averaged(opt, "swa", 1), 0);
  {
    const AverageGuard guard(opt, "swa");
    EXPECT_EQ(values_of(q), std::vector<double>{7});  // never averaged: as it was
  }
  give_gradient(q, {0.0});
  opt.step();
  EXPECT_EQ(average_of(opt, "swa", 1), std::vector<double>{1});
}

TEST(Averages, BeginInTheMiddle) {
  const Parameter p = parameter("p", numbers(10, 1), DType::f64);
  Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 0.1}), when([](std::int64_t t) { return t >= 2; }, ema())));
  step(opt, p, 1);
  step(opt, p, 2);
  EXPECT_EQ(averaged(opt, "ema"), 0);
  const auto third = step(opt, p, 3);
  EXPECT_EQ(average_of(opt, "ema"), third);
}

TEST(Averages, AreZeroWhereTheMaskIs) {
  for (const MaskMode mode : {MaskMode::hard, MaskMode::soft}) {
    Parameter p = parameter("p", numbers(5000, 1), DType::f32);
    Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 0.1, .momentum = 0.9}), ema({.decay = 0.5}), swa()));
    step(opt, p, 1);
    step(opt, p, 2);
    p.set_mask(every_dead(5000), mode);
    {  // a mask that no step has seen yet
      const AverageGuard guard(opt);
      for (std::size_t i = 0; i < 5000; i += 3) ASSERT_EQ(values_of(p)[i], 0);
    }
    std::vector<double> expected = average_of(opt, "ema");
    const auto w = step(opt, p, 3);
    for (const char* name : {"ema", "swa"}) {
      const auto got = average_of(opt, name);
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (i % 3 == 0) {
          ASSERT_TRUE(got[i] == 0 && !std::signbit(got[i]));
        } else if (std::string(name) == "ema") {
          ASSERT_NEAR(got[i], 0.5 * (expected[i] + w[i]), 1e-6);
        }
      }
    }
    EXPECT_EQ(averaged(opt, "ema"), 3);
  }
}

TEST(Averages, ResumeWithTheSameBytesAtAnyThreadCount) {
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2, 4}) {
    const Threads limit(threads);
    const Parameter p = parameter("p", numbers(300000, 1), DType::f32, {300, 1000});
    const auto make = [&] {
      return std::make_unique<Optimizer>(
          ParameterList{{"p", p.ref()}},
          chain(adam({.lr = 0.01}), max_norm(3.0), ema({.warmup = true}), swa({.begin = 1, .every = 2})));
    };
    auto opt = make();
    for (unsigned t = 0; t < 7; ++t) {
      step(*opt, p, t);
      if (threads == 1 || t != 3) continue;
      const OptimizerState state = opt->state();
      opt = make();
      opt->load_state(state);
    }
    results.push_back(average_of(*opt, "ema"));
    for (double x : average_of(*opt, "swa")) results.back().push_back(x);
    EXPECT_EQ(averaged(*opt, "swa"), 3);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(Averages, RefuseStatesThatCannotBe) {
  const Parameter p = parameter("p", {1.0}, DType::f64);
  Optimizer opt({{"p", p.ref()}}, chain(sgd(), ema()));
  OptimizerState state = opt.state();
  state["ema/averaged"] = Tensor::from<std::int64_t>({-1}, {1});
  EXPECT_THROW(opt.load_state(state), ConfigError);
  state["ema/averaged"] = Tensor::from<std::int64_t>({1, 1}, {2});
  EXPECT_THROW(opt.load_state(state), ConfigError);
}

TEST(AverageGuard, ShowsTheAverageAndGivesBackTheWeights) {
  for (const int masked : {0, 1, 2}) {
    Parameter p = parameter("p", numbers(100, 1), DType::f32, {10, 10});
    if (masked > 0) p.set_mask(every_dead(100), masked == 1 ? MaskMode::hard : MaskMode::soft);
    const std::uint32_t mask_version = p.ref()->mask_version();
    Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 0.1}), ema({.decay = 0.5})));
    for (unsigned t = 0; t < 3; ++t) step(opt, p, t);
    const Tensor trained = p.value().clone(), dense = p.ref()->dense().defined() ? p.ref()->dense().clone() : Tensor();
    const std::uint32_t version = p.value().version();
    const auto look = [&] {
      const AverageGuard guard(opt, "ema");
      EXPECT_TRUE(same_bytes(p.value(), opt.state("ema", "average", 0)));
      EXPECT_NE(p.value().version(), version);
      EXPECT_EQ(p.mask().defined(), masked > 0);
      throw std::runtime_error("an evaluation that fails");
    };
    EXPECT_THROW(look(), std::runtime_error);
    EXPECT_TRUE(same_bytes(p.value(), trained));
    EXPECT_TRUE(same_bytes(p.ref()->dense(), dense));
    EXPECT_GT(p.value().version(), version + 1);
    EXPECT_EQ(p.ref()->mask_version(), mask_version);
  }
}

TEST(AverageGuard, RespectsMasksSetMeanwhile) {
  Parameter p = parameter("p", {1, 2, 3}, DType::f64);
  Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 0.0}), ema()));
  step(opt, p, 1);
  {
    const AverageGuard guard(opt);
    p.set_mask(every_dead(3));
  }
  EXPECT_EQ(values_of(p), (std::vector<double>{0, 2, 3}));
}

TEST(AverageGuard, BeforeTheFirstStepChangesNothing) {
  const Parameter p = parameter("p", {1, 2, 3}, DType::f64);
  Optimizer opt({{"p", p.ref()}}, chain(sgd({.lr = 1.0}), swa({.begin = 10})));
  const AverageGuard guard(opt, "swa");
  EXPECT_EQ(values_of(p), (std::vector<double>{1, 2, 3}));
}

TEST(CopyAverage, WritesByName) {
  const Parameter a = parameter("a", {1, 2}, DType::f64), b = parameter("b", {5}, DType::f32);
  Optimizer opt({{"a", a.ref()}, {"b", b.ref()}}, chain(sgd({.lr = 1.0}), swa()));
  for (const double g : {-1.0, -2.0}) {
    give_gradient(a, {g, g});
    opt.step();
  }
  Parameter copy = parameter("a", {0, 0}, DType::f64), copy_b = parameter("b", {0}, DType::f32);
  copy.set_mask(every_dead(2));
  const Parameter stranger = parameter("c", {9}, DType::f32);
  EXPECT_EQ(copy_average(opt, "swa", {{"c", stranger.ref()}, {"b", copy_b.ref()}, {"a", copy.ref()}}), 2);
  EXPECT_EQ(values_of(copy), (std::vector<double>{0, 4}));  // the mean of 3 and 5, but for the mask
  EXPECT_EQ(values_of(copy_b), std::vector<double>{5});
  EXPECT_EQ(values_of(stranger), std::vector<double>{9});
  EXPECT_EQ(copy_average(opt, "swa", opt.parameters()), 2);  // for good
  EXPECT_EQ(values_of(a), (std::vector<double>{3, 4}));
}

}  // namespace
}  // namespace espalier::optim
