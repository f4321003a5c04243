#include "espalier/train/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "tests/support.h"

namespace espalier::train {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Folds for scores that do not look at rows.
std::vector<Fold> blank_folds(std::size_t k) { return std::vector<Fold>(k, Fold{{0, 1}, {2}}); }

/// Scores from a table: value -> one a fold.
GridSearch search_in(const std::map<double, std::vector<double>>& scores, GridSearchOptions options = {},
                     std::vector<double> values = {}) {
  if (values.empty())
    for (const auto& [value, of_folds] : scores) values.push_back(value);
  return grid_search(
      values, blank_folds(scores.begin()->second.size()),
      [&](double value, const Fold&, std::size_t k) { return scores.at(value)[k]; }, options);
}

TEST(KFolds, ValidateEveryRowOnceAndTrainOnTheOthers) {
  for (const auto& [n, k] : std::vector<std::pair<Index, Index>>{{2, 2}, {7, 2}, {10, 3}, {11, 11}, {103, 10}}) {
    Rng rng(4);
    const std::vector<Fold> folds = k_folds(n, k, rng);
    ASSERT_EQ(folds.size(), static_cast<std::size_t>(k));
    std::vector<int> validated(static_cast<std::size_t>(n));
    std::size_t before = folds[0].validation.size();
    for (const Fold& fold : folds) {
      EXPECT_TRUE(fold.validation.size() == before || fold.validation.size() + 1 == before) << n << " " << k;
      before = fold.validation.size();
      EXPECT_TRUE(std::is_sorted(fold.train.begin(), fold.train.end()));
      EXPECT_TRUE(std::is_sorted(fold.validation.begin(), fold.validation.end()));
      std::vector<Index> both = fold.train;
      both.insert(both.end(), fold.validation.begin(), fold.validation.end());
      std::sort(both.begin(), both.end());
      ASSERT_EQ(both.size(), static_cast<std::size_t>(n));
      for (std::size_t i = 0; i < both.size(); ++i) EXPECT_EQ(both[i], static_cast<Index>(i));
      for (Index row : fold.validation) ++validated[static_cast<std::size_t>(row)];
    }
    EXPECT_LE(folds.front().validation.size() - folds.back().validation.size(), 1u);
    EXPECT_TRUE(std::all_of(validated.begin(), validated.end(), [](int times) { return times == 1; }));
  }
}

TEST(KFolds, AreDrawnAndRepeatable) {
  Rng rng(1), same(1);
  const std::vector<Fold> a = k_folds(50, 5, rng), b = k_folds(50, 5, same), next = k_folds(50, 5, rng);
  EXPECT_EQ(a[0].validation, b[0].validation);
  EXPECT_NE(a[0].validation, next[0].validation);
  std::vector<Index> first(10);
  for (std::size_t i = 0; i < 10; ++i) first[i] = static_cast<Index>(i);
  EXPECT_NE(a[0].validation, first);
}

TEST(LogGrid, HasExactEndsAndEqualRatios) {
  const std::vector<double> grid = log_grid(0.01, 100, 9);
  ASSERT_EQ(grid.size(), 9u);
  EXPECT_EQ(grid.front(), 0.01);
  EXPECT_EQ(grid.back(), 100);
  for (std::size_t i = 1; i < 9; ++i) EXPECT_NEAR(grid[i] / grid[i - 1], std::sqrt(10.0), 1e-14);
  EXPECT_EQ(log_grid(1, 4, 2), (std::vector<double>{1, 4}));
  const std::vector<double> wide = log_grid(1e-300, 1e300, 3);  // high / low is no double
  EXPECT_NEAR(wide[1], 1, 1e-12);
  const double next = std::nextafter(1.0, 2.0);
  for (double v : log_grid(1, next, 5)) EXPECT_TRUE(v >= 1 && v <= next);
}

TEST(GridSearch, CallsEveryValueOnEveryFoldInOrder) {
  Rng rng(2);
  const std::vector<Fold> folds = k_folds(9, 3, rng);
  std::vector<std::tuple<double, const Fold*, std::size_t>> calls;
  const std::vector<double> values{3, 1};
  grid_search(values, folds, [&](double value, const Fold& fold, std::size_t k) {
    calls.emplace_back(value, &fold, k);
    return value;
  });
  ASSERT_EQ(calls.size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(calls[i], std::make_tuple(values[i / 3], &folds[i % 3], i % 3)) << i;
}

TEST(GridSearch, MeansAndStandardErrorsAreThoseOfTheTextbook) {
  const GridSearch s = search_in({{1, {1, 2, 3, 6}}});
  EXPECT_DOUBLE_EQ(s.values[0].mean, 3);
  EXPECT_DOUBLE_EQ(s.values[0].standard_error, std::sqrt((4.0 + 1 + 0 + 9) / 3 / 4));
  EXPECT_EQ(s.values[0].scores, (std::vector<double>{1, 2, 3, 6}));
  const GridSearch huge = search_in({{1, {1e308, 1.5e308, 1.1e308}}});  // neither sum nor squares are doubles
  EXPECT_NEAR(huge.values[0].mean / 1.2e308, 1, 1e-15);
  EXPECT_TRUE(std::isfinite(huge.values[0].standard_error));
}

TEST(GridSearch, OneStandardErrorIsTheLargestThresholdNotMeasurablyWorse) {
  // Best is 0.5, with mean 2 and standard error 1 / sqrt(3) = 0.577.
  const std::map<double, std::vector<double>> losses{{0.1, {5, 5, 5}},      {0.5, {1, 2, 3}}, {1, {2, 2, 2.9}},
                                                     {2, {2.5, 2.6, 2.55}}, {4, {2, 3, 4}},   {infinity, {9, 9, 9}}};
  const GridSearch low = search_in(losses);
  EXPECT_EQ(low.values[low.best].value, 0.5);
  EXPECT_EQ(low.values[low.one_standard_error].value, 2);
  auto gains = losses;
  for (auto& [value, scores] : gains)
    for (double& s : scores) s = -s;
  const GridSearch high = search_in(gains, {.lower_is_better = false});
  EXPECT_EQ(high.best, low.best);
  EXPECT_EQ(high.one_standard_error, low.one_standard_error);
  const GridSearch backwards = search_in(losses, {}, {infinity, 4, 2, 1, 0.5, 0.1});
  EXPECT_EQ(backwards.values[backwards.best].value, 0.5);
  EXPECT_EQ(backwards.values[backwards.one_standard_error].value, 2);
}

TEST(GridSearch, OfEqualsTheLargestValueIsBestWhereverItStands) {
  const GridSearch s = search_in({{1, {2, 4}}, {3, {3, 3}}, {2, {4, 2}}}, {}, {1, 3, 2});
  EXPECT_EQ(s.best, 1u);
  EXPECT_EQ(s.one_standard_error, 1u);
}

TEST(GridSearch, WhatFailedInAnyFoldIsNeverChosen) {
  const GridSearch s = search_in({{1, {2, 2.2}}, {2, {0, nan}}, {3, {-infinity, 0}}, {4, {nan, infinity}}});
  EXPECT_EQ(s.best, 0u);
  EXPECT_EQ(s.one_standard_error, 0u);
  EXPECT_EQ(s.values[1].failed, 1u);
  EXPECT_EQ(s.values[1].mean, 0);
  EXPECT_EQ(s.values[1].standard_error, 0);
  EXPECT_TRUE(std::isnan(s.values[2].scores[0]));
  EXPECT_EQ(s.values[3].failed, 2u);
  EXPECT_TRUE(std::isnan(s.values[3].mean));
  EXPECT_TRUE(std::isnan(s.values[3].standard_error));
}

TEST(GridSearch, ANonFiniteErrorIsAFailureAndOtherErrorsAreErrors) {
  const std::vector<double> values{1, 10};
  const GridSearch s = grid_search(values, blank_folds(3), [](double value, const Fold&, std::size_t k) {
    if (value > 5 && k == 1) fail<NonFiniteError>("[step] it blew up");
    return value > 5 ? 0.0 : 1.0;
  });
  EXPECT_EQ(s.best, 0u);
  EXPECT_EQ(s.values[1].failed, 1u);
  EXPECT_TRUE(espalier::testing::throws<ShapeError>(
      [&] {
        grid_search(values, blank_folds(3),
                    [](double, const Fold&, std::size_t) -> double { fail<ShapeError>("[f] no"); });
      },
      "[f] no"));
}

TEST(GridSearch, OneFoldIsAPlainHoldOut) {
  const GridSearch s = search_in({{1, {2}}, {2, {1.5}}, {3, {1.6}}});
  EXPECT_EQ(s.values[s.best].value, 2);
  EXPECT_EQ(s.one_standard_error, s.best);
  EXPECT_EQ(s.values[0].standard_error, 0);
}

TEST(GridSearch, TableMarksTheChoices) {
  const GridSearch s =
      search_in({{0.5, {1, 2, 3}}, {2, {2.5, 2.6, 2.55}}, {infinity, {1, nan, nan}}, {9, {nan, nan, nan}}});
  EXPECT_EQ(s.table(),
            "value  mean score  standard error  failed folds\n"
            "--------------------------------------------------------------------------\n"
            "0.5             2          0.5774                best\n"
            "2            2.55         0.02887                within one standard error\n"
            "9               -               -        3 of 3\n"
            "inf             1               0        2 of 3\n");
  EXPECT_NE(search_in({{1, {1, 1}}}).table().find("best, no larger one within a standard error"), std::string::npos);
}

}  // namespace
}  // namespace espalier::train
