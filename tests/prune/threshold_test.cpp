#include "espalier/prune/threshold.h"

#include <gtest/gtest.h>

#include <limits>

#include "espalier/prune/scores_weight.h"

namespace espalier::prune {
namespace {

const double nan = std::numeric_limits<double>::quiet_NaN();

std::vector<bool> bits(const Mask& mask, Index n) {
  std::vector<bool> all;
  for (Index i = 0; i < n; ++i) all.push_back(!mask.defined() || mask[i]);
  return all;
}

TEST(Threshold, KeepsWhatReachesIt) {
  const Candidate c{"w", Tensor::from<float>({1, -2, 3, 2, 2, -5})};
  EXPECT_EQ(bits(keep_at_least(c, 2), 6), (std::vector<bool>{0, 0, 1, 1, 1, 0}));
  EXPECT_FALSE(keep_at_least(c, -5).defined());
  EXPECT_EQ(keep_at_least(c, 100).live(), 0);
  EXPECT_EQ(bits(keep_at_least(c, 100, 2), 6),
            (std::vector<bool>{0, 0, 1, 0, 1, 0}));  // of equals the lower goes first
  const double infinity = std::numeric_limits<double>::infinity();
  const Candidate wide{"w", Tensor::from<double>({-infinity, 0, infinity})};
  EXPECT_EQ(bits(keep_at_least(wide, infinity), 3), (std::vector<bool>{0, 0, 1}));
}

TEST(Threshold, WhatWasPrunedStaysPruned) {
  Mask pruned(4);
  pruned.set(2, false);
  const Candidate c{"w", Tensor::from<double>({1, 2, 3, 4}), pruned};
  EXPECT_EQ(bits(keep_at_least(c, 1.5), 4), (std::vector<bool>{0, 1, 0, 1}));
  EXPECT_EQ(bits(keep_at_least(c, 0), 4), (std::vector<bool>{1, 1, 0, 1}));
}

TEST(Threshold, NaNIsRefused) {
  EXPECT_THROW(keep_at_least({"w", Tensor::from<double>({1, 2})}, nan), ConfigError);
  EXPECT_THROW(keep_at_least({"w", Tensor::from<double>({1, nan})}, 0), NonFiniteError);
  EXPECT_THROW(lowest_of_rows({"w", Tensor::from<double>({1, nan}, {1, 2})}, 0.5), NonFiniteError);
}

TEST(Threshold, RowsLoseTheSameNumber) {
  const Candidate c{"w", Tensor::from<double>({1, 2, 3, 4, 40, 30, 20, 10}, {2, 4})};
  EXPECT_EQ(bits(lowest_of_rows(c, 0.5), 8), (std::vector<bool>{0, 0, 1, 1, 1, 1, 0, 0}));
  EXPECT_FALSE(lowest_of_rows(c, 0.1).defined());
  EXPECT_EQ(lowest_of_rows(c, 1).live(), 0);
  EXPECT_FALSE(lowest_of_rows({"w", Tensor::zeros({3, 0})}, 0.5).defined());
  EXPECT_FALSE(lowest_of_rows({"w", Tensor::zeros({0, 3})}, 0.5).defined());
  EXPECT_THROW(lowest_of_rows(c, 1.5), ConfigError);
  Mask pruned(8);
  pruned.set(3, false);
  pruned.set(4, false);
  EXPECT_EQ(bits(lowest_of_rows({"w", c.scores, pruned}, 0.5), 8), (std::vector<bool>{0, 1, 1, 0, 0, 1, 1, 0}));
}

TEST(Threshold, ParametersKeepTheirMasksIfOneFails) {
  Tensor broken = Tensor::ones({2, 2});
  broken.write<float>("test")[0] = std::numeric_limits<float>::quiet_NaN();
  const Parameter good(Tensor::from<float>({1, 2, 3, 4}, {2, 2}), "good"), bad(broken, "bad");
  EXPECT_THROW(prune_below(list_of(good, bad), magnitude(), 2.5), NonFiniteError);
  EXPECT_FALSE(good.mask().defined());
  EXPECT_THROW(prune_below(list_of(good), fpgm(), 2.5), ConfigError);
  prune_below(list_of(good), magnitude(), 2.5);
  EXPECT_EQ(bits(good.mask(), 4), (std::vector<bool>{0, 0, 1, 1}));
  EXPECT_EQ(good.value().at({0, 0}), 0);
}

TEST(Threshold, MinKeepHoldsInEveryTensorAndRowsOfParametersArePruned) {
  const Parameter a(Tensor::from<float>({1, 2, 3, 4}, {2, 2}), "a"), b(Tensor::full({2, 2}, 0.5), "b");
  prune_below(list_of(a, b), magnitude(), 2.5);
  EXPECT_EQ(b.mask().live(), 1);
  const Parameter c(Tensor::from<double>({1, 2, 4, 3}, {2, 2}), "c");
  prune_rows(list_of(c), magnitude(), 0.5);
  EXPECT_EQ(bits(c.mask(), 4), (std::vector<bool>{0, 1, 1, 0}));
}

}  // namespace
}  // namespace espalier::prune
