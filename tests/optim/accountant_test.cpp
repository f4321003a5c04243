// The privacy accountant, against closed forms, an integral, and figures that were published.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "espalier/optim/accountant.h"

namespace espalier::optim {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr PrivacyConversion classic = PrivacyConversion::classic;

double epsilon_after(std::int64_t steps, PrivacyOptions options, double delta,
                     PrivacyConversion conversion = PrivacyConversion::improved) {
  PrivacyAccountant accountant(options);
  accountant.step(steps);
  return accountant.epsilon(delta, conversion);
}

/// The definition: 1 / (alpha - 1) log of the integral of mu0 ((1 - q) + q mu1 / mu0)^alpha, mu0 = N(0, sigma^2),
/// mu1 = N(1, sigma^2); trapezoids, which converge like exp(-steps) for what vanishes at both ends.
double rdp_by_integral(double alpha, double sigma, double q) {
  const double low = -14 * sigma, high = alpha + 14 * sigma;
  const int n = 20000;
  std::vector<double> logs;
  double most = -infinity;
  for (int k = 0; k <= n; ++k) {
    const double z = low + (high - low) * k / n, s2 = 2 * sigma * sigma;
    // log of (1 - q) + q exp(a), without overflow.
    const double a = (2 * z - 1) / s2, top = std::max(0.0, a);
    const double mixed = top + std::log((1 - q) * std::exp(-top) + q * std::exp(a - top));
    logs.push_back(alpha * mixed - z * z / s2);
    most = std::max(most, logs.back());
  }
  long double sum = 0;
  for (const double l : logs) sum += std::exp(l - most);
  const double log_integral =
      most + std::log(static_cast<double>(sum) * (high - low) / n / (sigma * std::sqrt(2 * std::numbers::pi)));
  return log_integral / (alpha - 1);
}

TEST(PrivacyAccountant, RenyiDivergenceIsTheIntegral) {
  for (const double q : {0.004, 0.1, 0.5, 0.97})
    for (const double sigma : {0.6, 1.1, 4.0})
      for (const double alpha : {1.3, 1.9, 2.0, 2.5, 5.0, 7.7, 10.9, 20.0}) {
        const double want = rdp_by_integral(alpha, sigma, q), got = sampled_gaussian_rdp(alpha, {sigma, q});
        // log A is near 0 for small q: its rounding is absolute.
        EXPECT_NEAR(got, want, 1e-9 * want + 4e-13 / (alpha - 1)) << q << ' ' << sigma << ' ' << alpha;
      }
}

TEST(PrivacyAccountant, ClosedForms) {
  for (const double sigma : {0.3, 1.0, 7.0})
    for (const double alpha : {1.1, 2.0, 63.0}) {
      EXPECT_EQ(sampled_gaussian_rdp(alpha, {sigma, 1}), alpha / (2 * sigma * sigma));
      // All but every example takes part: next to the same.
      EXPECT_NEAR(sampled_gaussian_rdp(alpha, {sigma, 1 - 1e-12}) / (alpha / (2 * sigma * sigma)), 1, 1e-9);
    }
  for (const double q : {0.01, 0.4}) {  // the binomial sum of two terms and one
    const double sigma = 1.7;
    EXPECT_NEAR(sampled_gaussian_rdp(2, {sigma, q}), std::log1p(q * q * std::expm1(1 / (sigma * sigma))), 1e-13);
  }
  EXPECT_EQ(sampled_gaussian_rdp(2, {1, 0}), 0);
  EXPECT_EQ(sampled_gaussian_rdp(2, {0, 0.5}), infinity);
  EXPECT_NEAR(sampled_gaussian_rdp(3, {1.3, 0.2}), sampled_gaussian_rdp(3 + 1e-9, {1.3, 0.2}), 1e-8);
}

TEST(PrivacyAccountant, PublishedFigures) {
  // TensorFlow Privacy's tutorial on MNIST: 60,000 examples in batches of 256, 60 epochs, sigma 1.1: epsilon 3.01; and
  // its table: 15 epochs, sigma 1.3: 1.19. Both by the classic conversion.
  const double q = 256.0 / 60000;
  EXPECT_NEAR(epsilon_after(14062, {1.1, q}, 1e-5, classic), 3.01, 0.005);
  EXPECT_NEAR(epsilon_after(3515, {1.3, q}, 1e-5, classic), 1.19, 0.005);
  // Abadi et al. 2016, section 3.2: q = 0.01, sigma = 4, T = 10,000: 1.26 by moments.
  EXPECT_NEAR(epsilon_after(10000, {4, 0.01}, 1e-5, classic), 1.26, 0.005);
  // A unit test of TensorFlow Privacy: ten steps at q = 0.1, sigma = 2, order 5.
  EXPECT_NEAR(10 * sampled_gaussian_rdp(5, {2, 0.1}), 0.07737, 5e-6);
}

TEST(PrivacyAccountant, ConversionsByHand) {
  // One release of all examples: the best order of the classic bound is 1 + sigma sqrt(2 log(1 / delta)).
  const double sigma = 5, delta = 1e-5, log_delta = std::log(1 / delta);
  const double best = 1 / (2 * sigma * sigma) + std::sqrt(2 * log_delta) / sigma;
  EXPECT_NEAR(epsilon_after(1, {sigma, 1}, delta, classic), best, 1e-3 * best);
  EXPECT_GE(epsilon_after(1, {sigma, 1}, delta, classic), best * (1 - 1e-12)) << "no order does better";
  for (const double s : {0.7, 2.0, 30.0})
    EXPECT_LT(epsilon_after(50, {s, 0.3}, delta), epsilon_after(50, {s, 0.3}, delta, classic));
}

TEST(PrivacyAccountant, Composes) {
  PrivacyAccountant one({1.2, 0.01});
  for (int k = 0; k < 300; ++k) one.step();
  EXPECT_EQ(one.steps(), 300);
  EXPECT_EQ(one.epsilon(1e-5), epsilon_after(300, {1.2, 0.01}, 1e-5));

  // Two kinds of step in turns are the same as one after the other, and cost more than either.
  PrivacyAccountant turns({1.2, 0.01}), blocks({1.2, 0.01});
  for (int k = 0; k < 40; ++k) {
    turns.set({k % 2 ? 0.9 : 1.2, 0.01});
    turns.step(5);
  }
  blocks.step(100);
  EXPECT_LT(blocks.epsilon(1e-5), turns.epsilon(1e-5));
  blocks.set({0.9, 0.01});
  EXPECT_LT(blocks.epsilon(1e-5), turns.epsilon(1e-5)) << "set() alone costs nothing";
  blocks.step(100);
  EXPECT_EQ(blocks.epsilon(1e-5), turns.epsilon(1e-5));
  EXPECT_EQ(turns.state().shape(), (Shape{2, 3}));
}

TEST(PrivacyAccountant, GrowsWithStepsAndRateAndShrinksWithNoise) {
  double last = 0;
  for (const std::int64_t steps : {1, 10, 100, 1000, 10000}) {
    const double now = epsilon_after(steps, {1, 0.01}, 1e-5);
    EXPECT_GT(now, last) << steps;
    last = now;
  }
  last = infinity;
  for (const double sigma : {0.2, 0.5, 1.0, 3.0, 50.0}) {
    const double now = epsilon_after(100, {sigma, 0.01}, 1e-5);
    EXPECT_LT(now, last) << sigma;
    EXPECT_TRUE(std::isfinite(now)) << sigma;
    last = now;
  }
  last = 0;
  for (const double q : {1e-6, 1e-4, 0.01, 0.5, 1.0}) {
    const double now = epsilon_after(1000, {1, q}, 1e-5);
    EXPECT_GE(now, last) << q;
    last = now;
  }
}

TEST(PrivacyAccountant, EndsOfTheRange) {
  EXPECT_EQ(PrivacyAccountant({1, 0.5}).epsilon(1e-5), 0) << "nothing was told";
  EXPECT_EQ(epsilon_after(0, {1, 0.5}, 1e-5), 0);
  EXPECT_EQ(epsilon_after(10, {0, 0.5}, 1e-5), infinity);
  EXPECT_EQ(epsilon_after(10, {0, 0}, 1e-5), 0);
  EXPECT_EQ(epsilon_after(1, {1e6, 1e-6}, 0.99), 0);
  EXPECT_TRUE(std::isfinite(epsilon_after(1, {0.05, 1e-9}, 1e-12)));
  EXPECT_TRUE(std::isfinite(epsilon_after(1'000'000'000, {1, 0.01}, 1e-5)));
}

TEST(PrivacyAccountant, SavedAndRestored) {
  PrivacyAccountant a({1.2, 0.01});
  a.step(17);
  a.set({0.8, 0.02});
  a.step(3);
  a.set({1.2, 0.01});
  PrivacyAccountant b({5, 0.5});
  b.step(9);
  b.load_state(a.state());
  EXPECT_EQ(b.steps(), 20);
  EXPECT_EQ(b.options().noise_multiplier, 1.2);
  EXPECT_EQ(b.epsilon(1e-6), a.epsilon(1e-6));
  a.step(5);
  b.step(5);
  EXPECT_EQ(b.epsilon(1e-6), a.epsilon(1e-6));
  EXPECT_TRUE(equal(b.state(), a.state()));
  PrivacyAccountant fresh({1, 0.5});
  fresh.load_state(PrivacyAccountant({2, 0.25}).state());
  EXPECT_EQ(fresh.steps(), 0);
  EXPECT_EQ(fresh.options().sample_rate, 0.25);
}

TEST(NoiseFor, IsTheLeastThatKeepsWithin) {
  for (const double epsilon : {0.5, 3.0, 20.0}) {
    const double q = 256.0 / 60000;
    const double sigma = noise_for({.epsilon = epsilon, .delta = 1e-5, .sample_rate = q, .steps = 5000});
    EXPECT_LE(epsilon_after(5000, {sigma, q}, 1e-5), epsilon);
    EXPECT_GT(epsilon_after(5000, {sigma * (1 - 2e-6), q}, 1e-5), epsilon);
  }
  EXPECT_EQ(noise_for({.epsilon = 1, .delta = 1e-5, .sample_rate = 0.1, .steps = 0}), 0);
  EXPECT_EQ(noise_for({.epsilon = 1, .delta = 1e-5, .sample_rate = 0, .steps = 10}), 0);
}

}  // namespace
}  // namespace espalier::optim
