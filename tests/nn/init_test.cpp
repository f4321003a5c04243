#include "espalier/nn/init.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "espalier/core/matmul.h"
#include "tests/support.h"

namespace espalier::nn {
namespace {

using espalier::testing::same_bytes;
using espalier::testing::throws;

double mean_of(const std::vector<double>& v) {
  double sum = 0;
  for (double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}
double variance_of(const std::vector<double>& v) {
  const double m = mean_of(v);
  double sum = 0;
  for (double x : v) sum += (x - m) * (x - m);
  return sum / static_cast<double>(v.size());
}

TEST(Init, ConstantUniformNormal) {
  Rng rng(1);
  EXPECT_EQ(init::constant({2, 3}, 0.5).to_vector<float>(), std::vector<float>(6, 0.5f));
  const std::vector<double> u = init::uniform(rng, {100, 100}, -3, 1, DType::f64).to_vector<double>();
  for (double x : u) ASSERT_TRUE(x >= -3 && x < 1) << x;
  EXPECT_NEAR(mean_of(u), -1, 0.05);  // deviation of the mean: 4 / sqrt(12 * 10^4) = 0.012
  const std::vector<double> n = init::normal(rng, {100, 100}, 2, 3, DType::f64).to_vector<double>();
  EXPECT_NEAR(mean_of(n), 2, 0.15);
  EXPECT_NEAR(variance_of(n), 9, 0.6);
  EXPECT_EQ(init::uniform(rng, {0, 4}).size(), 0);
  EXPECT_TRUE(throws<ConfigError>([&] { init::uniform(rng, {2}, 1, 0); }, "[uniform]", "1", "0"));
  EXPECT_TRUE(throws<ConfigError>([&] { init::normal(rng, {2}, 0, -1); }, "[normal]", "-1"));
  EXPECT_TRUE(throws<DTypeError>([&] { init::normal(rng, {2}, 0, 1, DType::i64); }));
}

TEST(Init, KaimingOfEitherFan) {
  Rng rng(2);
  const Shape shape{200, 50, 3, 3};  // fan_in 450, fan_out 1800
  for (const auto& [mode, fan] : {std::pair{init::Fan::in, 450.}, std::pair{init::Fan::out, 1800.}}) {
    const double gain = init::gain::relu;
    const Tensor u = init::kaiming_uniform(rng, shape, gain, DType::f64, mode);
    const Tensor n = init::kaiming_normal(rng, shape, gain, DType::f64, mode);
    EXPECT_NEAR(variance_of(u.to_vector<double>()) * fan / 2, 1, 0.04);
    EXPECT_NEAR(variance_of(n.to_vector<double>()) * fan / 2, 1, 0.04);
  }
}

TEST(Init, GainsAreTheOnesOfTheTable) {
  EXPECT_EQ(init::gain::linear, 1);
  EXPECT_EQ(init::gain::conv, 1);
  EXPECT_EQ(init::gain::sigmoid, 1);
  EXPECT_EQ(init::gain::tanh, 5.0 / 3);
  EXPECT_EQ(init::gain::relu, std::numbers::sqrt2);
  EXPECT_EQ(init::gain::selu, 0.75);
  EXPECT_EQ(init::gain::leaky_relu(0), std::numbers::sqrt2);
  EXPECT_EQ(init::gain::leaky_relu(1), 1);
}

TEST(Init, TruncatedNormalHasTheLawBetweenItsBounds) {
  Rng rng(3);
  const std::vector<double> x = init::truncated_normal(rng, {200, 200}, {}, DType::f64).to_vector<double>();
  for (double v : x) ASSERT_LE(std::abs(v), 2);
  EXPECT_NEAR(mean_of(x), 0, 0.02);
  // 1 - 2 a phi(a) / (2 Phi(a) - 1) with a = 2
  const double phi = std::exp(-2.) / std::sqrt(2 * std::numbers::pi), inside = std::erf(std::numbers::sqrt2);
  EXPECT_NEAR(variance_of(x), 1 - 4 * phi / inside, 0.02);
  // Each share of the law holds as many weights: the median is 0, a quarter lies below the quartile.
  const double quartile = -0.6427;  // of the truncated law: Phi(q) = 0.0228 + 0.9545 / 4
  int below = 0;
  for (double v : x) below += v < quartile;
  EXPECT_NEAR(below / 40000., 0.25, 0.01);
}

TEST(Init, TruncatedNormalFarInATail) {
  Rng rng(4);
  for (const double sign : {1., -1.}) {
    const double low = sign > 0 ? 10 : -11, high = sign > 0 ? 11 : -10;
    const std::vector<double> x =
        init::truncated_normal(rng, {10000}, {.low = low, .high = high}, DType::f64).to_vector<double>();
    for (double v : x) ASSERT_TRUE(v >= low && v <= high) << v;
    EXPECT_NEAR(std::abs(mean_of(x)), 10.098, 0.005);  // x - 10 is about exponential with rate 10
  }
  const Tensor f32 = init::truncated_normal(rng, {1000}, {.mean = 5, .deviation = 0.1, .low = 4.9, .high = 5});
  for (float v : f32.to_vector<float>()) ASSERT_TRUE(v >= 4.9f && v <= 5.0f);
  EXPECT_EQ(init::truncated_normal(rng, {3, 0}).size(), 0);
  EXPECT_TRUE(throws<ConfigError>([&] { init::truncated_normal(rng, {2}, {.low = 1, .high = 1}); }, "low < high"));
  EXPECT_TRUE(throws<ConfigError>([&] { init::truncated_normal(rng, {2}, {.deviation = 0}); }, "positive"));
  EXPECT_TRUE(
      throws<ConfigError>([&] { init::truncated_normal(rng, {2}, {.low = 50, .high = 60}); }, "next to nothing"));
}

TEST(Init, OrthogonalInAllShapes) {
  Rng rng(5);
  for (const Shape& shape : {Shape{5, 5}, Shape{3, 7}, Shape{7, 3}, Shape{1, 9}, Shape{100, 70}, Shape{70, 130},
                             Shape{8, 3, 3, 3}, Shape{40, 2, 3}}) {
    const Index out = shape[0];
    const Tensor w = init::orthogonal(rng, shape, 2, DType::f64);
    ASSERT_EQ(w.shape(), shape);
    const Tensor m = w.reshape({out, w.size() / out});
    const bool wide = out <= m.dim(1);
    const Tensor gram = wide ? matmul(m, m.transpose(0, 1)) : matmul(m.transpose(0, 1), m);
    const Tensor expected = init::eye(gram.shape(), DType::f64);
    double worst = 0;
    for (Index i = 0; i < gram.size(); ++i)
      worst = std::max(worst, std::abs(gram.contiguous().data<double>()[i] - 4 * expected.data<double>()[i]));
    EXPECT_LT(worst, 4e-14) << shape;  // gain^2 times some rounding errors of sums of up to 130 terms
  }
  EXPECT_EQ(init::orthogonal(rng, {0, 4}).shape(), (Shape{0, 4}));
  EXPECT_TRUE(throws<ShapeError>([&] { init::orthogonal(rng, {4}); }, "two axes"));
}

TEST(Init, OrthogonalPrefersNoDirection) {
  // Uniform over all rotations: each entry of a 2 x 2 one has mean 0, and the determinant is 1 or -1 equally often.
  Rng rng(6);
  double entry = 0, determinant = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::vector<double> w = init::orthogonal(rng, {2, 2}, 1, DType::f64).to_vector<double>();
    entry += w[0];
    determinant += w[0] * w[3] - w[1] * w[2];
  }
  EXPECT_NEAR(entry / 4000, 0, 0.05);
  EXPECT_NEAR(determinant / 4000, 0, 0.07);
}

TEST(Init, OrthogonalIsTheSameAtAnyNumberOfThreads) {
  auto draw = [](int n) {
    const espalier::testing::Threads threads(n);
    Rng rng(7);
    return init::orthogonal(rng, {90, 200});
  };
  EXPECT_TRUE(same_bytes(draw(1), draw(4)));
}

TEST(Init, SparseUnitsReadOnlySomeInputs) {
  Rng rng(8);
  const Tensor w = init::sparse(rng, {50, 33}, {.sparsity = 0.9, .deviation = 0.5}, DType::f64);
  std::vector<double> live;
  for (Index unit = 0; unit < 50; ++unit) {
    int zeros = 0;
    for (Index i = 0; i < 33; ++i) {
      const double v = w.at({unit, i});
      v == 0 ? void(++zeros) : live.push_back(v);
    }
    EXPECT_EQ(zeros, 30) << "0.9 * 33, rounded up";
  }
  EXPECT_NEAR(variance_of(live), 0.25, 0.12);
  EXPECT_EQ(init::sparse(rng, {3, 0}).size(), 0);
  EXPECT_TRUE(throws<ShapeError>([&] { init::sparse(rng, {3, 3, 3}); }, "matrix", "[3, 3, 3]"));
  EXPECT_TRUE(throws<ConfigError>([&] { init::sparse(rng, {3, 3}, {.sparsity = 1.5}); }, "1.5"));
}

TEST(Init, EyeAndDirac) {
  EXPECT_EQ(init::eye({2, 3}).to_vector<float>(), (std::vector<float>{1, 0, 0, 0, 1, 0}));
  EXPECT_TRUE(throws<ShapeError>([] { init::eye({2}); }, "[eye]"));
  const Tensor w = init::dirac({4, 2, 3}, 2);
  for (Index o = 0; o < 4; ++o)
    for (Index c = 0; c < 2; ++c)
      for (Index k = 0; k < 3; ++k) EXPECT_EQ(w.at({o, c, k}), c == o % 2 && k == 1 ? 1 : 0) << o << c << k;
  EXPECT_TRUE(throws<ShapeError>([] { init::dirac({2, 2}); }, "convolution"));
  EXPECT_TRUE(throws<ConfigError>([] { init::dirac({4, 2, 3}, 3); }, "3 groups"));
}

}  // namespace
}  // namespace espalier::nn
