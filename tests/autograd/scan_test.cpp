// Running products where the op table does not look: zeros, and products that leave the range on the way.
#include "espalier/autograd/ops/scan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "espalier/autograd/gradcheck.h"
#include "espalier/autograd/ops/elementwise.h"

namespace espalier {
namespace {

/// The plain loop: dx[t] = sum over k >= t of g[k] times the product of the others up to k.
std::vector<double> plain(const std::vector<double>& x, const std::vector<double>& g) {
  std::vector<double> dx(x.size());
  for (std::size_t t = 0; t < x.size(); ++t)
    for (std::size_t k = t; k < x.size(); ++k) {
      long double product = g[k];
      for (std::size_t j = 0; j <= k; ++j)
        if (j != t) product *= x[j];
      dx[t] += static_cast<double>(product);
    }
  return dx;
}

Tensor gradient_of(const Tensor& x, const Tensor& weight, bool again = false) {
  Tape tape;
  const Variable v = tape.watch(x);
  return tape.gradient(sum(mul(cumprod(v, 0), weight)), {v}, {.create_graph = again})[0].value();
}

TEST(Cumprod, GradientsSurviveProductsThatLeaveTheRange) {
  std::vector<double> x(120, 0.1), g(120);
  for (std::size_t k = 0; k < g.size(); ++k) g[k] = 1 + static_cast<double>(k % 3);
  std::fill(x.begin() + 60, x.end(), 10.);
  const std::vector<double> expected = plain(x, g);
  const Tensor from = Tensor::from(x, {120}).to(DType::f32), weight = Tensor::from(g, {120}).to(DType::f32);
  for (const bool again : {false, true}) {
    const Tensor dx = gradient_of(from, weight, again);
    for (Index t = 0; t < 120; ++t)
      ASSERT_NEAR(dx.at({t}), expected[static_cast<std::size_t>(t)],
                  1e-4 * std::abs(expected[static_cast<std::size_t>(t)]))
          << t;
  }
}

TEST(Cumprod, NothingOverflowsBehindAZero) {
  std::vector<double> x(62, 1e10);
  x[0] = 3;
  x[1] = 0;
  const Tensor ones = Tensor::ones({62}, DType::f64);
  const Tensor dx = gradient_of(Tensor::from(x, {62}), ones);
  EXPECT_EQ(dx.at({0}), 1);
  EXPECT_EQ(dx.at({1}), std::numeric_limits<double>::infinity()) << "3e600";
  for (Index t = 2; t < 62; ++t) ASSERT_EQ(dx.at({t}), 0) << t;
}

TEST(Cumprod, AWeightOfZeroKeepsInfinityOut) {
  std::vector<double> x(40, 1e10), g(40, 0);
  g[0] = g[1] = 1;
  for (const bool again : {false, true}) {
    const Tensor dx = gradient_of(Tensor::from(x, {40}), Tensor::from(g, {40}), again);
    EXPECT_NEAR(dx.at({0}), 1 + 1e10, 1);
    EXPECT_NEAR(dx.at({1}), 1e10, 1);
    EXPECT_EQ(dx.at({2}), 0);
  }
}

TEST(Cumprod, GradientsAreRightWithZerosAnywhere) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<double> x(7), g(7);
    for (std::size_t k = 0; k < 7; ++k) {
      x[k] = random() % 3 == 0 ? 0 : 0.5 + static_cast<double>(random() % 100) / 50;
      g[k] = static_cast<double>(random() % 5) - 2;
    }
    const std::vector<double> expected = plain(x, g);
    for (const bool again : {false, true}) {
      const Tensor dx = gradient_of(Tensor::from(x, {7}), Tensor::from(g, {7}), again);
      for (std::size_t t = 0; t < 7; ++t) ASSERT_NEAR(dx.at({static_cast<Index>(t)}), expected[t], 1e-12);
    }
  }
}

TEST(Cumprod, SecondGradientsAreRightAtZeros) {
  const Tensor x = Tensor::from({2., 0., 3., 0.5, 0., -1., 2., 4., 1., 0., 0., 3.}, {3, 4});
  const auto f = [](std::span<const Variable> v) { return sum(mul(cumprod(v[0], 1), v[1])); };
  const Tensor weight = Tensor::from({1., 2., -1., 3., 0.5, 1., 1., -2., 2., 1., -1., 1.}, {3, 4});
  const GradcheckResult once = gradcheck(f, {x, weight}), twice = gradgradcheck(f, {x, weight});
  EXPECT_TRUE(once) << once.message;
  EXPECT_TRUE(twice) << twice.message;
}

}  // namespace
}  // namespace espalier
