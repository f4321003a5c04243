#include "espalier/prune/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "espalier/core/error.h"

namespace espalier::prune {
namespace {

std::vector<std::int64_t> firing(const Schedule& s, std::int64_t until) {
  std::vector<std::int64_t> steps;
  for (std::int64_t t = 0; t < until; ++t)
    if (s(t)) steps.push_back(t);
  return steps;
}

TEST(Schedule, DefaultNeverFires) { EXPECT_TRUE(firing(Schedule(), 100).empty()); }

TEST(Schedule, OneShotFiresOnce) {
  const Schedule s = one_shot({.sparsity = 0.4, .at = 7});
  EXPECT_EQ(firing(s, 100), (std::vector<std::int64_t>{7}));
  EXPECT_EQ(*s(7), 0.4);
}

TEST(Schedule, CubicFiresAtEndThoughEveryDoesNotDivide) {
  const Schedule s = cubic({.final_sparsity = 0.9, .begin = 5, .end = 21, .every = 5});
  EXPECT_EQ(firing(s, 100), (std::vector<std::int64_t>{5, 10, 15, 20, 21}));
  EXPECT_EQ(*s(21), 0.9);  // exactly
  EXPECT_EQ(*s(5), 0.0);
}

TEST(Schedule, CubicFollowsZhuAndGuptaAndNeverFalls) {
  const PolynomialOptions o{
      .final_sparsity = 0.95, .initial_sparsity = 0.5, .begin = 3, .end = 40, .every = 1, .power = 3};
  const Schedule s = cubic({.final_sparsity = 0.95, .initial_sparsity = 0.5, .begin = 3, .end = 40, .every = 1});
  double last = 0;
  for (std::int64_t t = 3; t <= 40; ++t) {
    const double left = 1 - static_cast<double>(t - 3) / 37;
    EXPECT_NEAR(*s(t), 0.95 + (0.5 - 0.95) * left * left * left, 1e-15);
    EXPECT_EQ(*s(t), polynomial_sparsity(o, t));
    EXPECT_GE(*s(t), last);
    last = *s(t);
  }
  EXPECT_EQ(polynomial_sparsity(o, 0), 0.5);      // held before begin
  EXPECT_EQ(polynomial_sparsity(o, 1000), 0.95);  // and after end, where the cubic itself would rise again
}

TEST(Schedule, BeginAtEndIsOneShot) {
  const Schedule s = cubic({.final_sparsity = 0.9, .begin = 4, .end = 4});
  EXPECT_EQ(firing(s, 50), (std::vector<std::int64_t>{4}));
  EXPECT_EQ(*s(4), 0.9);
}

TEST(Schedule, ConstantFiresAgainAndAgain) {
  const Schedule s = constant({.sparsity = 0.5, .begin = 10, .end = 31, .every = 10});
  EXPECT_EQ(firing(s, 100), (std::vector<std::int64_t>{10, 20, 30, 31}));
}

TEST(Schedule, LambdasAreSchedulesAndAreChecked) {
  const Schedule s = [](std::int64_t t) -> std::optional<double> {
    if (t == 3) return 0.25;
    if (t == 4) return 1.5;
    if (t == 5) return std::nan("");
    return {};
  };
  EXPECT_EQ(*s(3), 0.25);
  EXPECT_FALSE(s(2));
  EXPECT_THROW(s(4), ConfigError);
  EXPECT_THROW(s(5), ConfigError);
}

TEST(Schedule, AllGradualOnesFireAtBeginEveryAndAlwaysAtEnd) {
  const Schedule all[] = {
      linear({.final_sparsity = 0.9, .initial_sparsity = 0.2, .begin = 5, .end = 21, .every = 5}),
      exponential({.final_sparsity = 0.9, .initial_sparsity = 0.2, .begin = 5, .end = 21, .every = 5}),
      one_cycle({.final_sparsity = 0.9, .initial_sparsity = 0.2, .begin = 5, .end = 21, .every = 5}),
      cubic({.final_sparsity = 0.9, .initial_sparsity = 0.2, .begin = 5, .end = 21, .every = 5})};
  for (const Schedule& s : all) {
    EXPECT_EQ(firing(s, 100), (std::vector<std::int64_t>{5, 10, 15, 20, 21})) << s.describe();
    EXPECT_EQ(*s(21), 0.9) << s.describe();  // exactly
    double last = 0.2 - 1e-15;
    for (std::int64_t t : firing(s, 100)) {
      EXPECT_GE(*s(t), last) << s.describe() << " at " << t;
      last = *s(t);
    }
  }
}

TEST(Schedule, LinearPrunesTheSameShareOfAll) {
  const Schedule s = linear({.final_sparsity = 0.8, .initial_sparsity = 0.3, .begin = 10, .end = 60, .every = 10});
  for (int k = 0; k <= 5; ++k) EXPECT_NEAR(*s(10 + 10 * k), 0.3 + 0.1 * k, 1e-15);
}

TEST(Schedule, ExponentialPrunesTheSameShareOfTheLive) {
  const Schedule s = exponential({.final_sparsity = 0.99, .end = 100, .every = 10});
  EXPECT_EQ(*s(0), 0.0);
  for (int k = 1; k < 10; ++k) {
    EXPECT_NEAR(*s(10 * k), 1 - std::pow(0.01, k / 10.0), 1e-14);  // SynFlow's 1 - rho^(t / T)
    EXPECT_NEAR((1 - *s(10 * k)) / (1 - *s(10 * k - 10)), std::pow(0.01, 0.1), 1e-13);
  }
  const Schedule later = exponential({.final_sparsity = 0.96, .initial_sparsity = 0.36, .end = 2, .every = 1});
  EXPECT_NEAR(*later(1), 1 - std::sqrt(0.64 * 0.04), 1e-15);
}

TEST(Schedule, OneCycleFollowsHubens) {
  const Schedule s = one_cycle({.final_sparsity = 0.9, .initial_sparsity = 0.1, .end = 1000, .every = 1});
  for (std::int64_t t = 0; t < 1000; ++t) {
    const double x = static_cast<double>(t) / 1000;
    const double expected = 0.1 + 0.8 * (1 + std::exp(-14 + 5.0)) / (1 + std::exp(-14 * x + 5));
    EXPECT_NEAR(*s(t), expected, 1e-14);
  }
  EXPECT_NEAR(*s(1000 * 5 / 14), 0.5, 0.01);  // half at beta / alpha
  EXPECT_LT(*s(0), 0.11);
}

TEST(Schedule, IterativePrunesAFractionOfWhatIsLeftEachTime) {
  const Schedule s = iterative({.fraction = 0.2, .begin = 100, .end = 350, .every = 100});
  EXPECT_EQ(firing(s, 1000), (std::vector<std::int64_t>{100, 200, 300, 350}));
  EXPECT_NEAR(*s(100), 0.2, 1e-15);
  EXPECT_NEAR(*s(200), 0.36, 1e-15);
  EXPECT_NEAR(*s(300), 0.488, 1e-15);
  EXPECT_NEAR(*s(350), 0.5904, 1e-15);
  EXPECT_EQ(*iterative({.fraction = 1, .end = 3, .every = 1})(2), 1);
  EXPECT_EQ(*iterative({.fraction = 0, .end = 3, .every = 1})(3), 0);
}

TEST(Schedule, StepsFireWhereTheyStand) {
  const Schedule s = steps({{0, 0.1}, {7, 0.5}, {20, 0.4}});
  EXPECT_EQ(firing(s, 100), (std::vector<std::int64_t>{0, 7, 20}));
  EXPECT_EQ(*s(7), 0.5);
  EXPECT_EQ(*s(20), 0.4);
  EXPECT_EQ(s.describe(), "steps 0.1 at 0, 0.5 at 7, 0.4 at 20");
}

TEST(Schedule, BeginAtEndIsOneShotForAllOfThem) {
  for (const Schedule& s : {linear({.final_sparsity = 0.9, .begin = 4, .end = 4}),
                            exponential({.final_sparsity = 0.9, .begin = 4, .end = 4}),
                            one_cycle({.final_sparsity = 0.9, .begin = 4, .end = 4})}) {
    EXPECT_EQ(firing(s, 50), (std::vector<std::int64_t>{4}));
    EXPECT_EQ(*s(4), 0.9);
  }
}

TEST(Schedule, SaysWhatItIs) {
  EXPECT_EQ(linear({.final_sparsity = 0.9, .end = 50}).describe(), "linear 0 to 0.9 in steps 0 to 50 every 100");
  EXPECT_EQ(iterative({.fraction = 0.2, .end = 500}).describe(),
            "iterative 0.2 of the live in steps 0 to 500 every 100");
}

TEST(Schedule, WhatCannotBeIsAnError) {
  EXPECT_THROW(one_shot({}), ConfigError);
  EXPECT_THROW(one_shot({.sparsity = 1.1}), ConfigError);
  EXPECT_THROW(one_shot({.sparsity = -0.1}), ConfigError);
  EXPECT_THROW(one_shot({.sparsity = 0.5, .at = -1}), ConfigError);
  EXPECT_THROW(cubic({.final_sparsity = 0.9}), ConfigError);  // no end
  EXPECT_THROW(cubic({.end = 10}), ConfigError);              // no sparsity
  EXPECT_THROW(cubic({.final_sparsity = 0.9, .begin = 10, .end = 9}), ConfigError);
  EXPECT_THROW(cubic({.final_sparsity = 0.9, .begin = -1, .end = 9}), ConfigError);
  EXPECT_THROW(cubic({.final_sparsity = 0.9, .end = 9, .every = 0}), ConfigError);
  EXPECT_THROW(cubic({.final_sparsity = 0.9, .initial_sparsity = 2, .end = 9}), ConfigError);
  EXPECT_THROW(polynomial({.final_sparsity = 0.9, .end = 9, .power = 0}), ConfigError);
  EXPECT_THROW(constant({.sparsity = 0.5, .every = -3}), ConfigError);
}

}  // namespace
}  // namespace espalier::prune
