#include "espalier/prune/score.h"

#include <gtest/gtest.h>

#include <cmath>

#include "espalier/core/elementwise.h"

namespace espalier::prune {
namespace {

NamedParameter named(const Tensor& value) {
  return {"fc.weight", std::make_shared<ParameterState>(value, "fc.weight")};
}

TEST(Score, MagnitudeIsThePower) {
  const NamedParameter p = named(Tensor::from<float>({-3, 2, -0.0f, 1e-30f}, {2, 2}));
  EXPECT_EQ(magnitude()(p, {}).to_vector<float>(), (std::vector<float>{3, 2, 0, 1e-30f}));
  const Tensor squares = magnitude({.p = 2})(p, {});
  EXPECT_GT(squares.at({1, 1}), 0);  // 1e-60 does not vanish
  EXPECT_DOUBLE_EQ(squares.at({0, 0}), 9);
  EXPECT_NEAR(magnitude({.p = 0.5})(p, {}).at({0, 1}), std::sqrt(2.0), 1e-15);
  EXPECT_THROW(magnitude({.p = 0}), ConfigError);
}

TEST(Score, MagnitudeOfSoftMasksIsThatOfTheDenseWeights) {
  const NamedParameter p = named(Tensor::from<float>({-3, 2}));
  Mask mask(2);
  mask.set(0, false);
  p.parameter->set_mask(mask, MaskMode::soft);
  EXPECT_EQ(p.parameter->value().at({0}), 0);
  EXPECT_EQ(magnitude()(p, {}).at({0}), 3);
}

TEST(Score, ALambdaIsAScore) {
  const Score s = [](const ParameterState& p, const Statistics&) {
    return map_with("neg", p.value(), [](auto v) { return -v; });
  };
  EXPECT_EQ(s(named(Tensor::from<double>({1, 2})), {}).to_vector<double>(), (std::vector<double>{-1, -2}));
  EXPECT_EQ(s.name(), "custom");
}

TEST(Score, WhatDoesNotFitIsAnErrorThatNamesTheParameter) {
  const NamedParameter p = named(Tensor::ones({2, 3}));
  auto error = [&](const Score& s) -> std::string {
    try {
      s(p, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  auto constant = [](Tensor t) { return Score("mine", [t](const ParameterState&, const Statistics&) { return t; }); };
  EXPECT_NE(error(constant(Tensor::ones({3, 2}))).find("fc.weight"), std::string::npos);
  EXPECT_NE(error(constant(Tensor())).find("undefined"), std::string::npos);
  EXPECT_NE(error(constant(Tensor::zeros({2, 3}, DType::i64))).find("i64"), std::string::npos);
  EXPECT_EQ(error(constant(Tensor::ones({2, 3}))), "");
  EXPECT_TRUE(constant(Tensor::ones({3, 2}).t())(p, {}).is_contiguous());
  const Score needy("needy", [](const ParameterState&, const Statistics& s) { return s.gradient; }, {.gradient = true});
  EXPECT_NE(error(needy).find("no gradient"), std::string::npos);
}

TEST(Score, RandomRepeatsAndDiffersByParameterAndStep) {
  Rng a(5), b(5);
  const NamedParameter p = named(Tensor::ones({100}));
  const Score x = random(a), y = random(b);
  EXPECT_TRUE(equal(x(p, {}), y(p, {})));
  EXPECT_TRUE(equal(x(p, {}), x(p, {})));
  EXPECT_FALSE(equal(x(p, {.step = 1}), x(p, {})));
  EXPECT_FALSE(equal(x(p, {.parameter = 1}), x(p, {})));
  EXPECT_FALSE(equal(random(a)(p, {}), x(p, {})));
}

}  // namespace
}  // namespace espalier::prune
