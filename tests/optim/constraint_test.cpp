// Constraints of values behind the update; clamp_parameters is also tested with the pipeline.
#include "espalier/optim/constraint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/rng.h"
#include "tests/optim/values.h"
#include "tests/support.h"

namespace espalier::optim {
namespace {

using namespace testing;
using espalier::testing::same_bytes;
using espalier::testing::Threads;
using espalier::testing::throws;

TEST(MaxNorm, ScalesTheUnitsAboveTheBoundAndLeavesTheOthersTheirBits) {
  Parameter p(Tensor::from({3.0, 4.0, 0.1, 0.2, 0.0, 0.0}, {3, 2}), "p");
  constrain(p, max_norm(1.0));
  const std::vector<double> w = p.value().to_vector<double>();
  EXPECT_NEAR(w[0], 0.6, 1e-15);
  EXPECT_NEAR(w[1], 0.8, 1e-15);
  EXPECT_EQ(w[2], 0.1);
  EXPECT_EQ(w[3], 0.2);
  EXPECT_EQ(w[4], 0.0);
}

TEST(MaxNorm, TakesAVectorAsOneUnitAndUnitsLongerThanABlock) {
  Parameter vector(Tensor::full({4}, 1.0, DType::f64), "v");
  constrain(vector, max_norm(1.0));
  EXPECT_NEAR(vector.value().at({3}), 0.5, 1e-15);

  const Index n = 10000;
  Parameter longer(Tensor::full({2, n}, 0.1), "p");
  Tensor half = longer.value().clone();
  half.narrow(0, 1, 1).fill(1e-4);
  longer.set_value(half);
  constrain(longer, max_norm(2.0));  // the first unit has the norm 10, the second 0.01
  EXPECT_NEAR(longer.value().at({0, n - 1}), 0.02, 0.02 * 4 * std::numeric_limits<float>::epsilon());
  EXPECT_EQ(longer.value().at({1, 0}), static_cast<double>(1e-4f));
}

TEST(MaxNorm, WithEpsIsKerasRuleAlsoWithinTheBound) {
  Parameter p(Tensor::from({3.0, 4.0, 0.3, 0.4}, {2, 2}), "p");
  constrain(p, max_norm({.max_norm = 1.0, .eps = 0.5}));
  const std::vector<double> w = p.value().to_vector<double>();
  EXPECT_NEAR(w[0], 3 * 1 / 5.5, 1e-15);
  EXPECT_NEAR(w[2], 0.3 * 0.5 / 1.0, 1e-15);
}

TEST(MaxNorm, NeitherOverflowsNorMovesPrunedWeights) {
  Parameter p(Tensor::from({3e30f, 4e30f, 5.f, 1.f}, {2, 2}), "p");
  Mask mask(4);
  mask.set(2, false);
  p.set_mask(mask);
  constrain(p, max_norm(0.5));
  const std::vector<float> w = p.value().to_vector<float>();
  EXPECT_NEAR(w[0], 0.3f, 1e-6);
  EXPECT_NEAR(w[1], 0.4f, 1e-6);
  EXPECT_EQ(w[2], 0.f);
  EXPECT_NEAR(w[3], 0.5f, 1e-6);  // the pruned weight is no part of the norm
}

TEST(MaxNorm, HasTheSameBytesAtAnyThreadCount) {
  auto run = [](int n) {
    const Threads threads(n);
    Parameter p(Rng(3).normal({300, 700}), "p");
    constrain(p, max_norm(20.0));
    return p.value();
  };
  const Tensor one = run(1);
  EXPECT_TRUE(same_bytes(run(2), one));
  EXPECT_TRUE(same_bytes(run(4), one));
}

TEST(MaxNorm, RefusesBoundsThatMakeNoSense) {
  EXPECT_TRUE(throws<ConfigError>([] { max_norm(-1.0); }, "[max_norm]", "negative"));
  EXPECT_TRUE(throws<ConfigError>([] { max_norm(std::nan("")); }, "[max_norm]"));
  EXPECT_TRUE(throws<ConfigError>([] { max_norm({.max_norm = 1.0, .eps = -1}); }, "eps"));
  Parameter p(Tensor::ones({2}), "p");
  EXPECT_TRUE(throws<ConfigError>([&] { constrain(p, max_norm([](std::int64_t) { return -1.0; })); }, "[max_norm]"));
  EXPECT_EQ(p.value().at({0}), 1.0);
}

/// Unit by unit, by a rule for the factor.
template <class F>
void check_factors(const Chain& constraint, F factor, Over over = Over::unit) {
  for (const Shape& shape : {Shape{6, 5}, Shape{100, 333}, Shape{3, 9001}, Shape{40}})
    for (const DType type : {DType::f64, DType::f32})
      for (const bool masked : {false, true}) {
        const Index n = count(shape), unit = over == Over::unit && shape.rank() > 1 ? n / shape[0] : n;
        Parameter p = parameter("p", numbers(static_cast<std::size_t>(n), 3), type, shape);
        if (masked) p.set_mask(every_dead(n, 4, 2));
        const auto before = values_of(p);
        constrain(p, constraint);
        const auto after = values_of(p);
        for (Index u = 0; u < n; u += unit) {
          const double c = factor(norm({{before.begin() + u, before.begin() + u + unit}}));
          for (Index i = u; i < u + unit; ++i) {
            const auto k = static_cast<std::size_t>(i);
            ASSERT_NEAR(after[k], c * before[k], (type == DType::f32 ? 3e-7 : 1e-14) * std::abs(c)) << shape << i;
            ASSERT_TRUE(c != 1 || after[k] == before[k]);
            ASSERT_TRUE(c != 0 || (after[k] == 0 && !std::signbit(after[k])));
          }
        }
      }
}

TEST(UnitNorm, MakesEveryUnitAsLongAsOne) {
  check_factors(unit_norm(), [](double norm) { return 1 / norm; });
  check_factors(unit_norm({.eps = 0.5}), [](double norm) { return 1 / (norm + 0.5); });
  check_factors(
      unit_norm({.over = Over::tensor}), [](double norm) { return 1 / norm; }, Over::tensor);
  const auto with_zeros = constrained({0, 0, 3, 4}, unit_norm(), {2, 2});
  EXPECT_EQ(with_zeros[0], 0);
  EXPECT_NEAR(with_zeros[3], 0.8, 1e-15);
  const auto huge = constrained({3e200, 4e200}, unit_norm());
  EXPECT_NEAR(huge[0], 0.6, 1e-15);
  const auto tiny = constrained({3e-200, 4e-200}, unit_norm());
  EXPECT_NEAR(tiny[1], 0.8, 1e-15);
}

TEST(MinMaxNorm, GoesPartOfTheWay) {
  for (const double rate : {1.0, 0.25, 0.0})
    check_factors(min_max_norm({.min = 1.0, .max = 1.3, .rate = rate}), [=](double norm) {
      const double within = std::clamp(norm, 1.0, 1.3);
      return within == norm ? 1 : (rate * within + (1 - rate) * norm) / norm;
    });
  check_factors(min_max_norm({.max = 1.3, .eps = 0.1}), [](double norm) { return std::min(norm, 1.3) / (norm + 0.1); });
  EXPECT_EQ(constrained({0, 0}, min_max_norm({.min = 1.0})), (std::vector<double>{0, 0}));
}

TEST(Balls, BoundTheNormOfUnitsOrTensors) {
  const auto factor = [](double norm) { return norm > 1.2 ? 1.2 / norm : 1; };
  check_factors(l2_ball({.radius = 1.2}), factor, Over::tensor);
  check_factors(l2_ball({.radius = 1.2, .over = Over::unit}), factor);
  check_factors(max_norm({.max_norm = 1.2, .over = Over::tensor}), factor, Over::tensor);
  for (double v : constrained({1, -2}, l2_ball({.radius = 0}))) EXPECT_TRUE(v == 0 && !std::signbit(v));
}

TEST(GroupLasso, ShrinksUnitsAndThrowsOutShortOnes) {
  check_factors(group_lasso(1.3), [](double norm) { return std::max(0.0, 1 - 1.3 / norm); });
  check_factors(
      group_lasso({.strength = 2.0, .over = Over::tensor}), [](double norm) { return std::max(0.0, 1 - 2.0 / norm); },
      Over::tensor);
  const auto w = constrained({3, 4, -0.3, 0.4, 0, 0}, group_lasso(1.0), {3, 2});
  EXPECT_NEAR(w[0], 2.4, 1e-15);
  EXPECT_EQ(w[2], 0);
  EXPECT_FALSE(std::signbit(w[2]));
  EXPECT_EQ(constrained({3, 4, 0, 0}, group_lasso(0.0), {2, 2}), (std::vector<double>{3, 4, 0, 0}));
}

TEST(GroupLasso, IsTheProximalStepOfTheSumOfNorms) {
  // 0 lies in the subdifferential of ||u - w||^2 / 2 + s ||u||: u - w + s u / ||u|| = 0, or ||w|| <= s where u = 0.
  const auto w = numbers(30, 8);
  const auto u = constrained(w, group_lasso(0.9), {3, 10});
  for (std::size_t g = 0; g < 30; g += 10) {
    const double length = norm({{u.begin() + static_cast<Index>(g), u.begin() + static_cast<Index>(g) + 10}});
    for (std::size_t i = g; i < g + 10 && length > 0; ++i) EXPECT_NEAR(u[i] - w[i] + 0.9 * u[i] / length, 0, 1e-14);
  }
}

TEST(ProximalL1, MakesExactZeros) {
  for (const DType type : {DType::f32, DType::f64})
    for (const bool masked : {false, true}) {
      Parameter p = parameter("p", numbers(10001, 3), type);
      if (masked) p.set_mask(every_dead(10001));
      const auto before = values_of(p);
      constrain(p, proximal_l1(0.375));
      const auto after = values_of(p);
      for (std::size_t i = 0; i < after.size(); ++i) {
        const double size = std::max(std::abs(before[i]) - 0.375, 0.0);
        ASSERT_EQ(after[i], size == 0 ? 0 : std::copysign(size, before[i]));
        ASSERT_TRUE(after[i] != 0 || !std::signbit(after[i]));
      }
    }
  const auto w = numbers(50, 2);
  EXPECT_EQ(constrained(w, proximal_l1(0.0)), w);
}

TEST(ProximalL1, FollowsTheRateOfASchedule) {
  const Parameter p = parameter("p", {1.0}, DType::f64);
  const auto rate = [](std::int64_t step) { return step == 0 ? 0.5 : 0.25; };
  Optimizer opt({{"p", p.ref()}},
                chain(sgd({.lr = rate}), proximal_l1([=](std::int64_t step) { return 0.5 * rate(step); })));
  for (const double expected : {0.75, 0.625, 0.5}) {
    give_gradient(p, {0.0});
    opt.step();
    EXPECT_EQ(values_of(p)[0], expected);
  }
}

TEST(NonNegative, CutsAtZero) {
  EXPECT_EQ(constrained({-1, 0, 2, -1e-300}, non_negative()), (std::vector<double>{0, 0, 2, 0}));
}

TEST(Constraints, LeaveNanAndUnitsThatHoldOne) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {nan, infinity})
    for (const Chain& c : {max_norm(1.0), l2_ball({.over = Over::unit}), unit_norm(), min_max_norm(), group_lasso(1.0)})
      for (const DType type : {DType::f32, DType::f64}) {
        const auto w = constrained({bad, 7, 3, 4}, c, {2, 2}, type);
        EXPECT_TRUE(std::isnan(bad) ? std::isnan(w[0]) : w[0] == bad);
        EXPECT_EQ(w[1], 7);
        EXPECT_LT(w[2], 3);
      }
  EXPECT_TRUE(std::isnan(constrained({nan}, non_negative())[0]));
  EXPECT_TRUE(std::isnan(constrained({nan}, proximal_l1(1.0))[0]));
}

TEST(Constraints, PassByEmptyAndDeadParameters) {
  for (const Chain& c :
       {non_negative(), proximal_l1(1.0), max_norm(1.0), l2_ball(), unit_norm(), min_max_norm(), group_lasso(1.0)}) {
    EXPECT_TRUE(constrained({}, c, {0, 3}).empty());
    Parameter dead = parameter("d", {1, 2}, DType::f32);
    dead.set_mask(every_dead(2, 1));
    constrain(dead, c);
    EXPECT_EQ(values_of(dead), (std::vector<double>{0, 0}));
  }
}

TEST(Constraints, AreMeasuredWithinTheSweepWhereUnitsAreShort) {
  const Parameter p = parameter("p", numbers(20, 1), DType::f32, {4, 5});
  const auto text = [&](const Chain& c) { return Optimizer({{"p", p.ref()}}, chain(sgd({.lr = 1.0}), c)).describe(); };
  EXPECT_EQ(text(chain(non_negative(), proximal_l1(0.5), max_norm(2.0), unit_norm({.eps = 1e-7}), group_lasso(0.5))),
            "sweep 1: finite check\nsweep 2: mask > sgd > apply > non_negative > proximal_l1(strength 0.5) > "
            "max_norm(max_norm 2, over units) > unit_norm(eps 1e-07, over units) > group_lasso(strength 0.5, over "
            "units) > mask\n");
  EXPECT_EQ(text(chain(l2_ball(), min_max_norm({.rate = 0.5}))),
            "sweep 1: finite check\nsweep 2: mask > sgd > apply > measure l2_ball > mask\n"
            "sweep 3: l2_ball(radius 1, over tensors) > min_max_norm(min 0, max 1, rate 0.5, over units) > mask\n");
}

}  // namespace
}  // namespace espalier::optim
