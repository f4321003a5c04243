// Pooling: the fast kernel against the plain loop, special values, places.
#include "espalier/core/pool.h"

#include <gtest/gtest.h>

#include "espalier/core/kernels/pool.h"
#include "espalier/core/rng.h"
#include "tests/core/kernels/kernel_test.h"
#include "tests/support.h"

namespace espalier {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

PoolGeometry pairs(Index planes, Index height, Index width) {
  return {planes, {height, width}, {height / 2, width / 2}, {2, 2}, {2, 2}, {1, 1}, {0, 0}, false};
}

template <class T>
void check_pairs() {
  for (const Index n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 33}) {
    std::vector<T> top = kernels::uniform<T>(2 * n, -3, 3, 1), bottom = kernels::uniform<T>(2 * n, -3, 3, 2);
    for (Index i = 0; i < n; ++i) {  // ties, NaN and infinities in all places
      const auto at = static_cast<std::size_t>(2 * i);
      if (i % 5 == 1) top[at] = top[at + 1] = bottom[at] = bottom[at + 1] = T(i);
      if (i % 5 == 2) bottom[at + static_cast<std::size_t>(i % 2)] = static_cast<T>(nan);
      if (i % 5 == 3) top[at] = bottom[at] = static_cast<T>(nan);
      if (i % 5 == 4) top[at] = top[at + 1] = bottom[at] = bottom[at + 1] = static_cast<T>(-inf);
    }
    std::vector<T> y(static_cast<std::size_t>(n)), back_top(top.size()), back_bottom(top.size());
    std::vector<std::uint8_t> place(y.size());
    kernels::pool<T>().max_pairs(top.data(), bottom.data(), n, y.data(), place.data());
    kernels::pool<T>().spread_pairs(y.data(), place.data(), n, back_top.data(), back_bottom.data());
    for (std::size_t i = 0; i < y.size(); ++i) {
      const T four[4] = {top[2 * i], top[2 * i + 1], bottom[2 * i], bottom[2 * i + 1]};
      const T back[4] = {back_top[2 * i], back_top[2 * i + 1], back_bottom[2 * i], back_bottom[2 * i + 1]};
      std::size_t best = 0;
      for (std::size_t k = 1; k < 4; ++k)
        if (four[k] > four[best] || (std::isnan(four[k]) && !std::isnan(four[best]))) best = k;
      ASSERT_EQ(place[i], best) << i << " of " << n;
      ASSERT_TRUE(kernels::same_bits(y[i], four[best]));
      for (std::size_t k = 0; k < 4; ++k) ASSERT_TRUE(kernels::same_bits(back[k], k == best ? y[i] : T(0)));
    }
  }
}

TEST(Pool, PairsAgreeWithThePlainLoopOnEveryTarget) {
  kernels::on_each_target([] {
    check_pairs<float>();
    check_pairs<double>();
  });
}

TEST(Pool, OddImagesLeaveTheirLastRowAndColumnOut) {
  const PoolGeometry g = pairs(2, 5, 7);
  Rng rng(1);
  const Tensor x = randn(rng, {2, 5, 7});
  const MaxPool pool = max_pool(x, {2, 2, 3}, g);
  const Tensor even = x.slice(1, 0, 4).slice(2, 0, 6).clone();
  EXPECT_TRUE(testing::same_bytes(pool.values, max_pool(even, {2, 2, 3}, pairs(2, 4, 6)).values));
  const Tensor back = max_pool_spread(Tensor::ones({2, 2, 3}), pool.places, {2, 5, 7}, g);
  EXPECT_EQ(back.select(1, 4).to_vector<float>(), std::vector<float>(14, 0.0f));
  EXPECT_EQ(back.select(2, 6).to_vector<float>(), std::vector<float>(10, 0.0f));
  double total = 0;
  for (float v : back.to_vector<float>()) total += static_cast<double>(v);
  EXPECT_EQ(total, 12);
}

TEST(Pool, AllMinusInfinityIsAValueToo) {
  const PoolGeometry g{1, {3, 3}, {2, 2}, {2, 2}, {1, 1}, {1, 1}, {0, 0}, false};
  const MaxPool pool = max_pool(Tensor::full({1, 3, 3}, -std::numeric_limits<double>::infinity()), {1, 2, 2}, g);
  EXPECT_EQ(pool.values.to_vector<float>(), std::vector<float>(4, -inf));
  EXPECT_EQ(max_pool_indices(pool.places, g).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 1, 3, 4}));
}

TEST(Pool, TheFirstNanWins) {
  const PoolGeometry g{1, {1, 4}, {1, 1}, {1, 4}, {1, 4}, {1, 1}, {0, 0}, false};
  const MaxPool pool = max_pool(Tensor::from({1.0f, nan, 7.0f, nan}, {1, 1, 4}), {1, 1, 1}, g);
  EXPECT_TRUE(std::isnan(pool.values.item()));
  EXPECT_EQ(pool.places.to_vector<std::uint8_t>()[0], 1);
}

TEST(Pool, PlacesOfLargeWindowsDoNotFitAByte) {
  const PoolGeometry g{1, {20, 20}, {1, 1}, {20, 20}, {20, 20}, {1, 1}, {0, 0}, false};
  Tensor x = Tensor::zeros({1, 20, 20});
  x.write<float>("test")[399] = 1;
  const MaxPool pool = max_pool(x, {1, 1, 1}, g);
  EXPECT_EQ(pool.places.dtype(), DType::i32);
  EXPECT_EQ(max_pool_indices(pool.places, g).to_vector<std::int64_t>()[0], 399);
  EXPECT_EQ(max_pool_pick(x, pool.places, g).item(), 1);
}

TEST(Pool, MeansOfLargePlanesKeepTheirDigits) {
  const Index n = 1000;
  const PoolGeometry g{1, {n, n}, {1, 1}, {n, n}, {n, n}, {1, 1}, {0, 0}, false};
  EXPECT_NEAR(avg_pool(Tensor::full({1, n, n}, 0.1), {1, 1, 1}, g).item(), 0.1, 5e-8);  // half a dozen units
}

}  // namespace
}  // namespace espalier
