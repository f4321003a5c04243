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
