#include "espalier/core/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::Threads;
using testing::throws;

/// The 128 bits of one Philox block: a split hands them on as the child's seed and stream.
std::vector<std::uint32_t> block_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t counter) {
  Rng rng;
  rng.set_state({seed, stream, counter});
  const Rng::State child = rng.split().state();
  return {static_cast<std::uint32_t>(child[0]), static_cast<std::uint32_t>(child[0] >> 32),
          static_cast<std::uint32_t>(child[1]), static_cast<std::uint32_t>(child[1] >> 32)};
}

TEST(Rng, PhiloxKnownAnswers) {
  // "philox4x32 10" of Random123 1.14, tests/kat_vectors.
  using Words = std::vector<std::uint32_t>;
  EXPECT_EQ(block_words(0, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  EXPECT_EQ(block_words(ones, ones, ones), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(block_words(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, DrawsAreTheBlocksInOrder) {
  Rng rng(5);
  for (std::uint64_t n = 0; n < 10; ++n) {
    const auto words = block_words(5, 0, n);
    EXPECT_EQ(rng.next(), words[0] | static_cast<std::uint64_t>(words[1]) << 32);
  }
}

TEST(Rng, TensorsHoldTwoDrawsOfEachBlock) {
  Rng rng(11);
  const std::vector<double> filled = rng.uniform({5}, 0, 1, DType::f64).to_vector<double>();
  for (std::uint64_t i = 0; i < 5; ++i) {
    const auto words = block_words(11, 0, i / 2);
    const std::uint64_t bits = i % 2 == 0 ? words[0] | static_cast<std::uint64_t>(words[1]) << 32
                                          : words[2] | static_cast<std::uint64_t>(words[3]) << 32;
    EXPECT_EQ(filled[static_cast<std::size_t>(i)], static_cast<double>(bits >> 11) * 0x1p-53);
  }
  EXPECT_EQ(rng.state()[2], 3u) << "an odd length leaves half a block unused";
}

TEST(Rng, SameBytesAtAnyThreadCount) {
  const Shape shape{100003};
  auto draw = [&](int threads) {
    const Threads use(threads);
    Rng rng(3);
    std::vector<Tensor> all = {rng.uniform(shape), rng.uniform(shape, -1, 1, DType::f64), rng.normal(shape),
                               rng.normal(shape, 2, 3, DType::f64), rng.bernoulli(shape, 0.3)};
    all.push_back(Tensor::from(rng.permutation(1000), {1000}));
    return all;
  };
  const std::vector<Tensor> one = draw(1);
  for (int threads : {2, 4}) {
    const std::vector<Tensor> many = draw(threads);
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bytes(one[i], many[i])) << i << ' ' << threads;
  }
}

TEST(Rng, StateRoundTripContinuesExactly) {
  Rng rng(8);
  rng.normal({7});
  rng.below(10);
  const Rng::State state = rng.state();
  const Tensor next = rng.normal({9});
  Rng other(1234);
  other.set_state(state);
  EXPECT_TRUE(same_bytes(other.normal({9}), next));
  EXPECT_EQ(other.state(), rng.state());
  Rng copy = rng;
  EXPECT_EQ(copy.next(), rng.next()) << "a copy goes its own way from the same point";
}

TEST(Rng, SplitsAreIndependentOfTheParentAndOfEachOther) {
  Rng parent(1);
  std::set<std::uint64_t> seen;
  std::vector<Rng> rngs;
  for (int i = 0; i < 50; ++i) rngs.push_back(parent.split());
  rngs.push_back(parent);
  const Rng first = rngs[0];
  for (Rng& rng : rngs)
    for (int i = 0; i < 100; ++i) seen.insert(rng.next());
  EXPECT_EQ(seen.size(), 51u * 100u) << "a collision of 64-bit draws has a chance of 1e-12";
  // Correlation of two streams of n draws has deviation 1 / sqrt(n).
  constexpr Index n = 100000;
  Rng a = rngs[0], b = rngs[1];
  const auto x = a.normal({n}, 0, 1, DType::f64).to_vector<double>(),
             y = b.normal({n}, 0, 1, DType::f64).to_vector<double>();
  double product = 0;
  for (std::size_t i = 0; i < x.size(); ++i) product += x[i] * y[i];
  EXPECT_LT(std::abs(product / n), 5 / std::sqrt(static_cast<double>(n)));
  Rng again(1);
  EXPECT_EQ(again.split().next(), Rng(first).next()) << "the same seed splits the same way";
}

TEST(Rng, UniformStaysBelowItsUpperEnd) {
  // In f32, a draw in [1 - 2^-25, 1) would round to 1: among 2^22 draws there are none to speak of, so the range is
  // chosen where rounding is coarse: between 2^24 and 2^24 + 4 an f32 holds 2 values.
  Rng rng(2);
  const double low = 0x1p24, high = 0x1p24 + 4;
  const std::vector<float> coarse = rng.uniform({10000}, low, high).to_vector<float>();
  for (float v : coarse) {
    ASSERT_GE(v, low);
    ASSERT_LT(v, high);
  }
  const std::vector<float> fine = rng.uniform({1 << 22}).to_vector<float>();
  EXPECT_LT(*std::max_element(fine.begin(), fine.end()), 1.f);
  EXPECT_GE(*std::min_element(fine.begin(), fine.end()), 0.f);
  EXPECT_EQ(rng.uniform({3}, 2, 2).to_vector<float>(), std::vector<float>(3, 2)) << "an empty range is its one end";
  for (int i = 0; i < 10000; ++i) {
    const double v = rng.uniform();
    ASSERT_TRUE(v >= 0 && v < 1);
  }
}

/// Mean, variance, third and fourth standardised moment.
std::array<double, 4> moments(const std::vector<double>& x) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, m2 = 0, m3 = 0, m4 = 0;
  for (double v : x) mean += v / n;
  for (double v : x) {
    const double d = v - mean;
    m2 += d * d / n;
    m3 += d * d * d / n;
    m4 += d * d * d * d / n;
  }
  return {mean, m2, m3 / std::pow(m2, 1.5), m4 / (m2 * m2)};
}

TEST(Rng, MomentsLieWithinFiveDeviations) {
  constexpr Index n = 1 << 18;
  const double root = std::sqrt(static_cast<double>(n));
  Rng rng(17);
  const auto u = moments(rng.uniform({n}, -1, 3, DType::f64).to_vector<double>());
  EXPECT_LT(std::abs(u[0] - 1), 5 * std::sqrt(16. / 12) / root);
  EXPECT_LT(std::abs(u[1] - 16. / 12), 5 * 16 * std::sqrt(1. / 180) / root);  // Var((U - 1/2)^2) = 1/180
  const auto g = moments(rng.normal({n}, 2, 3, DType::f64).to_vector<double>());
  EXPECT_LT(std::abs(g[0] - 2), 5 * 3 / root);
  EXPECT_LT(std::abs(g[1] - 9), 5 * 9 * std::sqrt(2.) / root);
  EXPECT_LT(std::abs(g[2]), 5 * std::sqrt(6.) / root);
  EXPECT_LT(std::abs(g[3] - 3), 5 * std::sqrt(24.) / root);
  const auto f = moments(rng.normal({n}).to(DType::f64).to_vector<double>());
  EXPECT_LT(std::abs(f[0]), 5 / root);
  EXPECT_LT(std::abs(f[1] - 1), 5 * std::sqrt(2.) / root);
  std::vector<double> one_by_one;
  for (Index i = 0; i < n; ++i) one_by_one.push_back(rng.normal());
  EXPECT_LT(std::abs(moments(one_by_one)[1] - 1), 5 * std::sqrt(2.) / root);
  const auto flags = moments(rng.bernoulli({n}, 0.2).to(DType::f64).to_vector<double>());
  EXPECT_LT(std::abs(flags[0] - 0.2), 5 * std::sqrt(0.2 * 0.8) / root);
}

TEST(Rng, TheTwoNormalsOfABlockAreUncorrelated) {
  constexpr Index n = 1 << 17;
  Rng rng(23);
  const auto x = rng.normal({2 * n}, 0, 1, DType::f64).to_vector<double>();
  double product = 0;
  for (std::size_t i = 0; i < x.size(); i += 2) product += x[i] * x[i + 1];
  EXPECT_LT(std::abs(product / n), 5 / std::sqrt(static_cast<double>(n)));
}

TEST(Rng, BernoulliEndsAreCertain) {
  Rng rng(4);
  EXPECT_EQ(rng.bernoulli({1000}, 0).to_vector<bool>(), std::vector<bool>(1000, false));
  EXPECT_EQ(rng.bernoulli({1000}, 1).to_vector<bool>(), std::vector<bool>(1000, true));
  for (double p : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_TRUE(throws<ConfigError>([&] { rng.bernoulli({1}, p); }, "[bernoulli]"));
}

TEST(Rng, BelowIsUnbiased) {
  Rng rng(6);
  for (Index n : {2, 3, 7, 10}) {
    const double draws = 100000;
    std::vector<double> seen(static_cast<std::size_t>(n), 0);
    for (int i = 0; i < draws; ++i) ++seen[static_cast<std::size_t>(rng.below(n))];
    double chi = 0;
    for (double s : seen)
      chi +=
          (s - draws / static_cast<double>(n)) * (s - draws / static_cast<double>(n)) * static_cast<double>(n) / draws;
    const auto degrees = static_cast<double>(n - 1);
    EXPECT_LT(chi, degrees + 5 * std::sqrt(2 * degrees) + 10) << n;
  }
  // With n = 3 * 2^61, plain multiplication would give a third of the results twice the chance of the others.
  constexpr Index wide = Index{3} << 61;
  int low = 0;
  for (int i = 0; i < 30000; ++i) low += rng.below(wide) % 3 == 0;
  EXPECT_LT(std::abs(low - 10000), 5 * std::sqrt(30000 * 2 / 9.));
  EXPECT_EQ(rng.below(1), 0);
  EXPECT_TRUE(throws<ConfigError>([&] { rng.below(0); }, "n >= 1"));
  EXPECT_TRUE(throws<ConfigError>([&] { rng.below(-3); }, "got -3"));
}

TEST(Rng, PermutationsAreCompleteAndUniform) {
  Rng rng(9);
  EXPECT_TRUE(rng.permutation(0).empty());
  EXPECT_EQ(rng.permutation(1), std::vector<Index>{0});
  std::vector<Index> order = rng.permutation(1000);
  std::sort(order.begin(), order.end());
  for (Index i = 0; i < 1000; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
  std::array<double, 6> seen{};  // of the 6 orders of 3
  for (int i = 0; i < 60000; ++i) {
    const auto p = rng.permutation(3);
    ++seen[static_cast<std::size_t>(p[0] * 2 + (p[1] > p[2]))];
  }
  for (double s : seen) EXPECT_LT(std::abs(s - 10000), 5 * std::sqrt(60000 * 5 / 36.));
  EXPECT_TRUE(throws<ConfigError>([&] { rng.permutation(-1); }, "n >= 0"));
}

TEST(Rng, ShapesAndTypesAreChecked) {
  Rng rng(1);
  EXPECT_EQ(rng.uniform({0}).size(), 0);
  EXPECT_EQ(rng.normal({3, 0}).shape(), (Shape{3, 0}));
  EXPECT_EQ(rng.state()[2], 0u) << "nothing drawn, nothing used";
  EXPECT_EQ(rng.normal({}).rank(), 0);
  EXPECT_TRUE(throws<DTypeError>([&] { rng.uniform({2}, 0, 1, DType::i64); }, "[uniform]", "i64"));
  EXPECT_TRUE(throws<DTypeError>([&] { rng.normal({2}, 0, 1, DType::boolean); }, "[normal]"));
  EXPECT_TRUE(throws<ShapeError>([&] { rng.normal({-1}); }, "negative length"));
}

}  // namespace
}  // namespace espalier
