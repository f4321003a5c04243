#include "espalier/autograd/mask.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

TEST(Mask, StartsAllLiveAndCounts) {
  for (Index n : {1, 63, 64, 65, 127, 128, 1000}) {
    Mask mask(n);
    EXPECT_TRUE(mask.defined());
    EXPECT_EQ(mask.size(), n);
    EXPECT_EQ(mask.live(), n);
    EXPECT_EQ(mask.words().size(), static_cast<std::size_t>((n + 63) / 64));
    mask.set(n - 1, false);
    mask.set(0, false);
    mask.set(0, false);
    EXPECT_EQ(mask.live(), n - (n > 1 ? 2 : 1));
    EXPECT_FALSE(mask[n - 1]);
    mask.set(0, true);
    EXPECT_TRUE(mask[0]);
  }
  EXPECT_FALSE(Mask().defined());
  EXPECT_FALSE(Mask(0).defined()) << "of nothing, nothing is pruned";
  EXPECT_EQ(Mask().live(), 0);
}

TEST(Mask, BitsBehindTheLastAreZeroWhateverTheWordsSaid) {
  const Mask from_words(70, {~std::uint64_t{0}, ~std::uint64_t{0}});
  EXPECT_EQ(from_words.words()[1], 0x3fu);
  EXPECT_EQ(from_words, Mask(70));
  EXPECT_EQ(from_words.live(), 70);
  EXPECT_TRUE(throws<ShapeError>([] { Mask(70, {1}); }, "[mask]", "1 words", "70 bits"));
  EXPECT_TRUE(throws<ShapeError>([] { Mask(64, {1, 2}); }, "[mask]"));
}

TEST(Mask, NegativeSizesAreErrors) {
  EXPECT_TRUE(throws<ShapeError>([] { Mask(Index{-1}); }, "[mask]"));
  EXPECT_TRUE(throws<ShapeError>([] { Mask(-64, {}); }, "[mask]"));
}

TEST(Mask, RoundTripsThroughABoolTensorOfAnyLayout) {
  Rng rng(2);
  const Tensor keep = rng.bernoulli({13, 17}, 0.4);
  const Mask mask(keep);
  EXPECT_TRUE(same_bytes(mask.to_tensor({13, 17}), keep));
  Index live = 0;
  for (bool k : keep.to_vector<bool>()) live += k;
  EXPECT_EQ(mask.live(), live);
  EXPECT_TRUE(same_bytes(Mask(keep.t()).to_tensor({17, 13}), keep.t())) << "row-major order of the view";
  EXPECT_TRUE(throws<DTypeError>([] { Mask(Tensor::ones({3})); }, "bool"));
  EXPECT_TRUE(throws<ShapeError>([&] { mask.to_tensor({13}); }, "[mask]", "[13]"));
}

TEST(Mask, CombinesAsSetsDo) {
  Rng rng(3);
  for (Index n : {1, 64, 65, 1000}) {
    const Mask a(rng.bernoulli({n}, 0.5)), b(rng.bernoulli({n}, 0.3));
    Mask both = a, either = a;
    both &= b;
    either |= b;
    const Mask other = ~a;
    for (Index i = 0; i < n; ++i) {
      EXPECT_EQ(both[i], a[i] && b[i]);
      EXPECT_EQ(either[i], a[i] || b[i]);
      EXPECT_EQ(other[i], !a[i]);
    }
    EXPECT_EQ(other.live(), n - a.live()) << "bits behind the last stay 0";
    Mask all;  // undefined: live everywhere
    EXPECT_FALSE((all |= a).defined());
    EXPECT_EQ(all &= a, a);
    EXPECT_EQ(all &= Mask(), a);
    EXPECT_FALSE((all |= Mask()).defined());
  }
  Mask three(3);
  EXPECT_TRUE(throws<ShapeError>([&] { three &= Mask(4); }, "[mask]", "3 and 4 bits"));
  EXPECT_TRUE(throws<ShapeError>([&] { three |= Mask(70); }, "[mask]", "3 and 70 bits"));
  EXPECT_TRUE(throws<ShapeError>([] { ~Mask(); }, "[mask]", "no size"));
}

TEST(Mask, ZeroPrunedGivesExactZeros) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (DType type : {DType::f32, DType::f64}) {
    Tensor values = Tensor::from({nan, inf, -3., -0., 5., nan}).to(type);
    zero_pruned(values, Mask(6, {0b010100}), "test");
    const std::vector<double> after = values.to(DType::f64).to_vector<double>();
    EXPECT_EQ(after, (std::vector<double>{0, 0, -3, 0, 5, 0}));
    for (std::size_t i : {0u, 1u, 3u, 5u}) EXPECT_FALSE(std::signbit(after[i]));
    EXPECT_STREQ(values.writer(), "test");
  }
  Tensor wide = Tensor::ones({200});
  Mask third(200);
  for (Index i = 0; i < 200; i += 3) third.set(i, false);
  zero_pruned(wide, third, "test");
  for (Index i = 0; i < 200; ++i) EXPECT_EQ(wide.at({i}), i % 3 != 0);
}

}  // namespace
}  // namespace espalier
