// Scores from weights alone, against plain loops.
#include "espalier/prune/scores_weight.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/parallel.h"
#include "espalier/prune/pruner.h"
#include "espalier/prune/threshold.h"

namespace espalier::prune {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

NamedParameter named(const Tensor& value) {
  return {"fc.weight", std::make_shared<ParameterState>(value, "fc.weight")};
}
std::vector<double> scores(const Score& s, const Tensor& w) {
  return s(named(w), {}).to(DType::f64).to_vector<double>();
}

Mask mask_of(std::initializer_list<int> live) {
  Mask mask(static_cast<Index>(live.size()));
  Index i = 0;
  for (int bit : live) mask.set(i++, bit != 0);
  return mask;
}

TEST(ScoresWeight, DeviationsMeasureWeightsByTheirSpread) {
  const std::vector<double> s = scores(deviations(), Tensor::from<float>({1, -3, 5, 1}, {2, 2}));
  const double std = std::sqrt(32.0 / 3);  // mean 1, squared deviations 0, 16, 16, 0
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(s[i], std::vector<double>({1, 3, 5, 1})[i] / std, 1e-15);
  EXPECT_EQ(scores(deviations(), Tensor::full({3}, -2)), std::vector<double>(3, infinity));
  EXPECT_EQ(scores(deviations(), Tensor::full({1}, 4, DType::f64)), std::vector<double>(1, infinity));
  EXPECT_TRUE(scores(deviations(), Tensor::zeros({0, 3})).empty());
}

TEST(ScoresWeight, DeviationsLookAtLiveWeightsOnly) {
  const NamedParameter p = named(Tensor::from<double>({1, 100, 3, 5}));
  p.parameter->set_mask(mask_of({1, 0, 1, 1}));
  const auto s = deviations()(p, {}).to_vector<double>();
  EXPECT_DOUBLE_EQ(s[0], 0.5);  // std of 1, 3, 5 is 2
  EXPECT_EQ(s[1], 0);
  EXPECT_DOUBLE_EQ(s[3], 2.5);
}

TEST(ScoresWeight, PruneBelowIsHansRule) {
  Rng rng(3);
  const Parameter w(rng.normal({40, 50}, 0.1, 2), "w");
  const Parameter bias(rng.normal({40}), "b");
  const std::vector<float> values = w.value().to_vector<float>();
  double mean = 0, squares = 0;
  for (float v : values) mean += v;
  mean /= 2000;
  for (float v : values) squares += (v - mean) * (v - mean);
  const double q = 0.7, std = std::sqrt(squares / 1999);
  prune_below(list_of(w, bias), deviations(), q);
  EXPECT_FALSE(bias.mask().defined());  // biases are left alone
  ASSERT_TRUE(w.mask().defined());
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(w.mask()[static_cast<Index>(i)], std::abs(values[i]) >= q * std) << i;
}

TEST(ScoresWeight, LampIsTheDefinition) {
  Rng rng(5);
  for (const DType type : {DType::f32, DType::f64}) {
    Tensor w = rng.normal({7, 11}, 0, 1, type);
    w.narrow(0, 0, 1).fill(0.25);  // ties
    w.narrow(0, 1, 1).fill(0);
    const std::vector<double> v = w.to(DType::f64).to_vector<double>(), s = scores(lamp(), w);
    for (std::size_t u = 0; u < v.size(); ++u) {
      double sum = 0;
      for (double x : v) sum += std::abs(x) >= std::abs(v[u]) ? x * x : 0;
      EXPECT_NEAR(s[u], v[u] * v[u] / sum, 1e-13) << u;
    }
    EXPECT_EQ(s[12], 0);
  }
  EXPECT_EQ(scores(lamp(), Tensor::zeros({2, 2})), std::vector<double>(4, 0));
  EXPECT_TRUE(scores(lamp(), Tensor::zeros({2, 0})).empty());
  EXPECT_EQ(scores(lamp(), Tensor::from<double>({3e200, 4e-200}))[0], 1);  // squares beyond the range
}

TEST(ScoresWeight, LampOfEqualLayersIsScaleFree) {
  const Tensor w = Tensor::from<double>({1, 2, 3, 4}), big = Tensor::from<double>({1024, 2048, 3072, 4096});
  EXPECT_EQ(scores(lamp(), w), scores(lamp(), big));
}

TEST(ScoresWeight, LnStructuredIsANormOfEachUnit) {
  const Tensor w = Tensor::from<float>({3, -4, 0, 1, 1, -1}, {2, 3});
  EXPECT_EQ(scores(ln_structured({.p = 1}), w), (std::vector<double>{7, 3}));
  EXPECT_EQ(scores(ln_structured(), w)[0], 5);
  EXPECT_EQ(scores(ln_structured({.p = infinity}), w), (std::vector<double>{4, 1}));
  EXPECT_EQ(scores(ln_structured({.p = 1, .axis = 1}), w), (std::vector<double>{4, 5, 1}));
  EXPECT_EQ(scores(ln_structured({.p = 1, .mean = true}), w), (std::vector<double>{1.4, 0.6}));
  EXPECT_EQ(scores(ln_structured(), Tensor::zeros({4, 0})), std::vector<double>(4, 0));
  EXPECT_EQ(ln_structured({.axis = 1}).axis(), 1);
  EXPECT_THROW(ln_structured({.p = 0}), ConfigError);
  EXPECT_THROW(scores(ln_structured({.axis = 2}), w), IndexError);
}

TEST(ScoresWeight, LnStructuredOfADeadUnitIsZero) {
  const NamedParameter p = named(Tensor::ones({3, 2}));
  p.parameter->set_mask(mask_of({1, 1, 0, 0, 1, 0}));
  const auto s = ln_structured({.p = 1})(p, {}).to_vector<double>();
  EXPECT_EQ(s, (std::vector<double>{2, 0, 1}));
}

TEST(ScoresWeight, FpgmIsTheSumOfDistances) {
  Rng rng(8);
  for (const Shape& shape : {Shape{6, 4, 3, 3}, Shape{9, 5}, Shape{3}, Shape{1, 4}, Shape{2, 0}, Shape{0, 2}}) {
    const Tensor w = rng.normal(shape);
    const std::vector<float> v = w.to_vector<float>();
    const auto units = static_cast<std::size_t>(shape[0]), n = units == 0 ? 0 : v.size() / units;
    std::vector<double> expected(units);
    for (std::size_t i = 0; i < units; ++i)
      for (std::size_t j = 0; j < units; ++j) {
        double squares = 0;
        for (std::size_t k = 0; k < n; ++k) squares += std::pow(double{v[i * n + k]} - v[j * n + k], 2);
        expected[i] += std::sqrt(squares);
      }
    const std::vector<double> s = scores(fpgm(), w);
    ASSERT_EQ(s.size(), units);
    for (std::size_t i = 0; i < units; ++i) EXPECT_NEAR(s[i], expected[i], 1e-12 * (1 + expected[i]));
  }
}

TEST(ScoresWeight, FpgmPrunesTheUnitThatOthersReplace) {
  // The median of the three is the one in the middle, though its norm is not the smallest.
  const auto s = scores(fpgm(), Tensor::from<float>({10, 0, 9, 0, 1, 0}, {3, 2}));
  EXPECT_LT(s[1], s[0]);
  EXPECT_LT(s[1], s[2]);
}

TEST(ScoresWeight, NaNIsAnErrorThatNamesTheParameter) {
  for (const Score& score : {deviations(), lamp()}) {
    Tensor w = Tensor::ones({2, 3});
    w.write<float>("test")[4] = std::numeric_limits<float>::quiet_NaN();
    const Parameter p(w, "fc.weight");
    try {
      Pruner(list_of(p), {.score = score}).to_sparsity(0.5);
      FAIL() << score.name();
    } catch (const NonFiniteError& error) {
      EXPECT_NE(std::string(error.what()).find("fc.weight"), std::string::npos);
    }
    EXPECT_FALSE(p.mask().defined());
  }
}

TEST(ScoresWeight, TheSameBytesAtAnyThreadCount) {
  Rng rng(9);
  const NamedParameter p = named(rng.normal({130, 700}));
  for (const Score& score : {deviations(), lamp(), ln_structured(), ln_structured({.p = 3, .axis = 1}), fpgm()}) {
    const Tensor one = [&] {
      ThreadLimit limit(1);
      return score(p, {});
    }();
    for (int n : {2, 4}) {
      ThreadLimit limit(n);
      EXPECT_TRUE(equal(score(p, {}), one)) << score.name();
    }
  }
}

TEST(ScoresWeight, AScoreOfUnitsIsNoScoreOfWeights) {
  const Parameter p(Tensor::ones({4, 3}), "fc.weight");
  try {
    Pruner(list_of(p), {.score = fpgm()}).to_sparsity(0.5);
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "[to_sparsity] fpgm scores whole units of 'fc.weight', and single weights are pruned here. Hint: "
                 ".granularity = "
                 "units({.axis = 0})");
  }
}

}  // namespace
}  // namespace espalier::prune
