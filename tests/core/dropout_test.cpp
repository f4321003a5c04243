#include "espalier/core/dropout.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support.h"
#include "tests/support/philox.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

std::uint64_t word(const Tensor& bits, Index k) { return std::bit_cast<std::uint64_t>(bits.data<std::int64_t>()[k]); }

TEST(RandomBits, AreThoseOfThePlainGenerator) {
  Rng rng(0x123456789abcdef0);
  rng = rng.split();  // a key and a stream of 64 bits each
  auto [key, stream, counter] = rng.state();
  counter = 0xffffffffffull;
  rng.set_state({key, stream, counter});
  constexpr double p = 0.7;
  const Tensor bits = random_bits(rng, 64 * 5, p);
  EXPECT_EQ(rng.state()[2], counter + 5 * 16);
  const auto first = testing::philox(key, stream, counter);
  Rng same;
  same.set_state({key, stream, counter});
  EXPECT_EQ(same.next(), first[0] | static_cast<std::uint64_t>(first[1]) << 32);  // the reference is Rng's function
  for (std::uint64_t k = 0; k < 5; ++k)
    for (std::uint64_t i = 0; i < 64; ++i) {
      const std::uint64_t block = counter + 16 * k + i % 16;
      const auto draws = testing::philox(key, stream, block);
      const bool expected = static_cast<double>(draws[i / 16]) >= std::round(0x1p32 * (1 - p));
      EXPECT_EQ(word(bits, static_cast<Index>(k)) >> i & 1, expected) << k << ' ' << i;
    }
}

TEST(RandomBits, HaveTheirProbabilityAndAreTheSameAtAnyThreadCount) {
  constexpr Index n = 1 << 22;
  Rng first(5);
  const Tensor reference = random_bits(first, n, 0.9);
  Index ones = 0;
  for (Index k = 0; k < reference.size(); ++k) ones += std::popcount(word(reference, k));
  EXPECT_NEAR(static_cast<double>(ones) / n, 0.9, 5 * std::sqrt(0.9 * 0.1 / n));
  for (int threads : {1, 2, 4}) {
    const testing::Threads use(threads);
    Rng rng(5);
    EXPECT_TRUE(same_bytes(random_bits(rng, n, 0.9), reference));
    EXPECT_EQ(rng.state(), first.state());
  }
}

TEST(RandomBits, OfProbabilityZeroAndOneAreCertain) {
  Rng rng(1);
  EXPECT_EQ(word(random_bits(rng, 64, 0), 0), 0u);
  EXPECT_EQ(word(random_bits(rng, 64, 1), 0), ~std::uint64_t{0});
  EXPECT_EQ(random_bits(rng, 0, 0.5).size(), 0);
  EXPECT_TRUE(throws<ConfigError>([&] { random_bits(rng, 1, 1.5); }, "1.5"));
  EXPECT_TRUE(throws<ConfigError>([&] { random_bits(rng, 1, std::numeric_limits<double>::quiet_NaN()); }));
}

TEST(KeepWhere, IsThePlainLoopAndZeroWhateverWasThere) {
  Rng rng(2);
  for (Index n : {0, 1, 63, 64, 65, 1000, 70000}) {
    Tensor x = rng.normal({n});
    if (n > 2) x.select(0, 1).fill(std::numeric_limits<double>::quiet_NaN());
    const Tensor bits = random_bits(rng, n, 0.4), y = keep_where(x, bits, 2.5);
    for (Index i = 0; i < n; ++i) {
      const bool stays = word(bits, i / 64) >> (i % 64) & 1;
      const float in = x.data<float>()[i], out = y.data<float>()[i];
      if (!stays)
        EXPECT_EQ(out, 0) << i;
      else if (std::isnan(in))
        EXPECT_TRUE(std::isnan(out)) << i;
      else
        EXPECT_EQ(out, 2.5f * in) << i;
    }
  }
  EXPECT_TRUE(throws<ShapeError>([&] { keep_where(Tensor::ones({65}), random_bits(rng, 64, 1), 1); }, "[65]"));
}

}  // namespace
}  // namespace espalier
