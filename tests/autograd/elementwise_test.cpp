// Elementwise ops where the op table does not look: at kinks, at NaN, at infinities.
#include "espalier/autograd/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/autograd/ops/math.h"
#include "espalier/autograd/ops/reduce.h"
#include "espalier/core/compare.h"
#include "tests/support.h"

namespace espalier {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

using Values = std::vector<double>;

/// d sum(f(x)) / dx
template <class F>
Values slopes(const Values& at, F f) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from(at, {static_cast<Index>(at.size())}));
  const Tensor dx = tape.gradient(sum(f(x)), {x})[0].value();
  return dx.to_vector<double>();
}

TEST(Elementwise, SlopesAtKinksArePyTorchs) {
  EXPECT_EQ(slopes({-1, 1}, [](auto x) { return hardtanh(x); }), (Values{0, 0}));
  EXPECT_EQ(slopes({-1, 1}, [](auto x) { return clamp(x, -1, 1); }), (Values{1, 1}));
  EXPECT_EQ(slopes({0, 6}, relu6), (Values{0, 0}));
  EXPECT_EQ(slopes({-3, 3}, hardsigmoid), (Values{0, 0}));
  EXPECT_EQ(slopes({-3, 3, -4, 4}, hardswish), (Values{-0.5, 1.5, 0, 1}));
  EXPECT_EQ(slopes({0}, [](auto x) { return leaky_relu(x, 0.25); }), (Values{0.25}));
  EXPECT_EQ(slopes({0}, [](auto x) { return elu(x, 0.5); }), (Values{0.5}));
  EXPECT_EQ(slopes({-0.5, 0.5}, [](auto x) { return softshrink(x); }), (Values{0, 0}));
  EXPECT_EQ(slopes({0}, [](auto x) { return abs(x); }), (Values{0}));
  EXPECT_EQ(slopes({2, nan}, [](auto x) { return sign(x); }), (Values{0, 0}));
  EXPECT_EQ(sign(Variable(Tensor::from({nan, -0., -2.}))).value().to_vector<double>(), (Values{0, 0, -1}));
}

TEST(Elementwise, WhatIsNotChosenSendsNoNaNBack) {
  const auto safe_log = [](const Variable& x) {
    return where(gt(x.value(), 0), log(clamp(x, 1e-300, inf)), Variable(Tensor::scalar(0, DType::f64)));
  };
  EXPECT_EQ(slopes({2, 0, -1}, safe_log), (Values{0.5, 0, 0}));
  Tape tape;
  const Variable a = tape.watch(Tensor::from({1., nan})), b = tape.watch(Tensor::from({inf, 2.}));
  const Variable y = where(Tensor::from(std::vector<bool>{true, false}, {2}), a, b * 3.);
  const auto g = tape.gradient(sum(y), {a, b});
  EXPECT_EQ(g[0].value().to_vector<double>(), (Values{1, 0}));
  EXPECT_EQ(g[1].value().to_vector<double>(), (Values{0, 3}));
}

TEST(Elementwise, AMaskChangedInPlaceIsSeen) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1., 2.}));
  Tensor mask = Tensor::from(std::vector<bool>{true, false}, {2});
  const Variable y = masked_fill(x, mask, 0);
  mask.fill(0, "the test");
  EXPECT_TRUE(testing::throws<GradError>([&] { tape.gradient(sum(y), {x}); }, "[the test]"));
}

TEST(Elementwise, GradientsOfTensorBoundsGoWhereTheValueCameFrom) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({-5., 0., 5., 1.})), low = tape.watch(Tensor::from({-1., -1., -1., 3.})),
                 high = tape.watch(Tensor::from({2., 2., 2., 2.}));
  const Variable y = clamp(x, low, high);
  EXPECT_EQ(y.value().to_vector<double>(), (Values{-1, 0, 2, 2})) << "the upper bound where they are out of order";
  const auto g = tape.gradient(sum(y), {x, low, high});
  EXPECT_EQ(g[0].value().to_vector<double>(), (Values{0, 1, 0, 0}));
  EXPECT_EQ(g[1].value().to_vector<double>(), (Values{1, 0, 0, 0}));
  EXPECT_EQ(g[2].value().to_vector<double>(), (Values{0, 0, 1, 1}));
}

TEST(Elementwise, PowersOfZeroHaveFiniteGradients) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({0., 0., 0., 2.})), b = tape.watch(Tensor::from({0., 1., 2., 0.}));
  const auto g = tape.gradient(sum(pow(x, b)), {x, b});
  EXPECT_EQ(g[0].value().to_vector<double>(), (Values{0, 1, 0, 0}));
  EXPECT_EQ(g[1].value().to_vector<double>(), (Values{0, 0, 0, std::log(2.)}));
}

TEST(Elementwise, XlogyAtZeroIsZeroAndItsSlopeTheLogarithm) {
  Tape tape;
  const Variable x = tape.watch(Tensor::zeros({5}, DType::f64)), y(Tensor::from({1., 4., 0., -1., nan}));
  const Variable z = xlogy(x, y);
  const std::vector<double> dx = tape.gradient(sum(z), {x})[0].value().to_vector<double>();
  for (std::size_t k = 0; k < 4; ++k) EXPECT_EQ(z.value().to_vector<double>()[k], 0) << k;
  EXPECT_TRUE(std::isnan(z.value().to_vector<double>()[4]));
  for (std::size_t k = 0; k < 4; ++k) EXPECT_DOUBLE_EQ(dx[k], k == 1 ? std::log(4.) : 0) << k;
  EXPECT_TRUE(std::isnan(dx[4]));
}

TEST(Elementwise, PowersZeroAreFlatWhereTheInverseOverflows) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1e-40f, 2.f})), b = tape.watch(Tensor::from({0.f, 0.f}));
  EXPECT_EQ(tape.gradient(sum(pow(x, b)), {x})[0].value().to_vector<float>(), (std::vector<float>{0, 0}));
}

TEST(Elementwise, AnInfiniteBoundTakesTheGradientWhereItTookThePlace) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1., 2.})), low = tape.watch(Tensor::from({inf, 0.}));
  const auto g = tape.gradient(sum(clamp(x, low, Variable())), {x, low});
  EXPECT_EQ(g[0].value().to_vector<double>(), (Values{0, 1}));
  EXPECT_EQ(g[1].value().to_vector<double>(), (Values{1, 0}));
  Tape other;
  const Variable again = other.watch(x.value()), high = other.watch(Tensor::from({-inf, 3.}));
  const auto h = other.gradient(sum(clamp(again, Variable(), high)), {again, high});
  EXPECT_EQ(h[0].value().to_vector<double>(), (Values{0, 1}));
  EXPECT_EQ(h[1].value().to_vector<double>(), (Values{1, 0}));
}

TEST(Elementwise, NaNOnOneSideSendsTheGradientToBoth) {
  for (auto f : {maximum, minimum}) {
    Tape tape;
    const Variable a = tape.watch(Tensor::from({nan, 1.})), b = tape.watch(Tensor::from({1., nan}));
    const auto g = tape.gradient(sum(f(a, b)), {a, b});
    for (const Variable& side : g) EXPECT_EQ(side.value().to_vector<double>(), (Values{1, 1}));
  }
}

TEST(Elementwise, DivisionByANumberIsRoundedOnce) {
  Values numbers;
  for (int k = 1; k < 200; ++k) numbers.push_back(k);
  for (double c : numbers) {
    Tape tape;
    const Variable x = tape.watch(Tensor::from(numbers, {199}));
    const Variable y = x / c, z = c / x;
    const Tensor dx = tape.gradient(sum(y), {x}, {.retain = true})[0].value();
    for (Index i = 0; i < 199; ++i) {
      const double v = numbers[static_cast<std::size_t>(i)];
      ASSERT_EQ(y.value().at({i}), v / c);
      ASSERT_EQ(z.value().at({i}), c / v);
      ASSERT_EQ(dx.at({i}), 1 / c);
    }
  }
  EXPECT_EQ((Variable(Tensor::from({0.f, 1e-40f})) / 1e-40).value().to_vector<float>(), (std::vector<float>{0, 1}))
      << "1 / c overflows";
}

TEST(Elementwise, NoStepOnTheWayOverflows) {
  Tape tape;
  const Variable a = tape.watch(Tensor::from({0.f})), b = tape.watch(Tensor::from({1e-30f}));
  EXPECT_EQ(tape.gradient(sum(div(a, b)) * 1e20, {b})[0].value().item(), 0) << "g / b overflows";
  Tape other;
  const Variable x = other.watch(Tensor::from({1e30f, 200.f}));
  EXPECT_EQ(other.gradient(sum(glu(x, 0)) * 1e20, {x})[0].value().at({1}), 0) << "g a overflows";
}

TEST(Elementwise, StepsSendBackZeroEvenOfInfinity) {
  Tape tape;
  const Variable x = tape.watch(Tensor::from({1.5, -2.5}));
  for (auto f : {floor, ceil, round, trunc}) {
    const Variable y = f(x) * inf;
    EXPECT_EQ(tape.gradient(sum(y), {x}, {.retain = true})[0].value().to_vector<double>(), (Values{0, 0}));
  }
}

TEST(Elementwise, SecondDerivativesOfEluStayFiniteFarAbove) {
  for (const bool scaled : {false, true}) {
    Tape tape;
    const Variable x = tape.watch(Tensor::from({800., -1.}));
    const Variable dx = tape.gradient(sum(scaled ? selu(x) : elu(x)), {x}, {.create_graph = true})[0];
    const Tensor second = tape.gradient(sum(dx), {x})[0].value();
    EXPECT_EQ(second.at({0}), 0);
    EXPECT_GT(second.at({1}), 0.3);
  }
}

TEST(Elementwise, LerpEndsExactlyAtBothEnds) {
  const Variable a(Tensor::from({0.1f, 1e8f})), b(Tensor::from({0.7f, 1.f}));
  EXPECT_TRUE(testing::same_bytes(lerp(a, b, 0.).value(), a.value()));
  EXPECT_TRUE(testing::same_bytes(lerp(a, b, 1.).value(), b.value()));
}

}  // namespace
}  // namespace espalier
