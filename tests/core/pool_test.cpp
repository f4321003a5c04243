// Pooling: the fast kernels against plain loops, special values, places.
#include "espalier/core/pool.h"

#include <gtest/gtest.h>

#include "espalier/core/kernels/pool.h"
#include "espalier/core/parallel.h"
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
void check_pairs(bool one_row) {
  for (const Index n : {0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 33}) {
    std::vector<T> top = kernels::uniform<T>(2 * n, -3, 3, 1), bottom = kernels::uniform<T>(2 * n, -3, 3, 2);
    for (Index i = 0; i < n; ++i) {  // ties, NaN and infinities in all places
      const auto at = static_cast<std::size_t>(2 * i);
      if (i % 5 == 1) top[at] = top[at + 1] = bottom[at] = bottom[at + 1] = T(i);
      if (i % 5 == 2) bottom[at + static_cast<std::size_t>(i % 2)] = static_cast<T>(nan);
      if (i % 5 == 3) top[at] = bottom[at] = static_cast<T>(nan);
      if (i % 5 == 4) top[at] = top[at + 1] = bottom[at] = bottom[at + 1] = static_cast<T>(-inf);
    }
    if (one_row) bottom = top;
    std::vector<T> y(static_cast<std::size_t>(n)), back_top(top.size()), back_bottom(top.size());
    std::vector<std::uint8_t> place(y.size());
    kernels::pool<T>().max_pairs(top.data(), one_row ? top.data() : bottom.data(), n, y.data(), place.data());
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
    for (const bool one_row : {false, true}) {
      check_pairs<float>(one_row);
      check_pairs<double>(one_row);
    }
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

/// Calls f(place in the window, position in the image) for what window (i, j) sees, in order.
template <class F>
void each_seen(const PoolGeometry& g, Index i, Index j, F&& f) {
  for (Index a = 0; a < g.kernel[0]; ++a)
    for (Index b = 0; b < g.kernel[1]; ++b) {
      const Index u = g.begin(0, i) + a * g.dilation[0], v = g.begin(1, j) + b * g.dilation[1];
      if (u < 0 || v < 0 || u >= g.size[0] || v >= g.size[1]) continue;
      if (g.adaptive && (u >= g.window(0, i).end || v >= g.window(1, j).end)) continue;
      f(a * g.kernel[1] + b, u * g.size[1] + v);
    }
}

template <class T>
void check_windows(const PoolGeometry& g) {
  const Shape in{g.planes, g.size[0], g.size[1]}, out{g.planes, g.result[0], g.result[1]};
  const Index image = g.size[0] * g.size[1], pixels = g.result[0] * g.result[1];
  std::vector<T> x = kernels::uniform<T>(count(in), -3, 3, 1);
  for (std::size_t i = 0; i < x.size();
       ++i) {  // ties; NaN and infinities in the second plane, nothing else in the third
    x[i] = std::round(x[i]);
    if (static_cast<Index>(i) / image == 1 && i % 11 == 3) x[i] = static_cast<T>(nan);
    if (static_cast<Index>(i) / image == 1 && i % 5 == 1) x[i] = static_cast<T>(i % 2 == 0 ? inf : -inf);
    if (static_cast<Index>(i) / image == 2) x[i] = static_cast<T>(-inf);
  }
  const Tensor source = Tensor::from(x, in);
  const MaxPool pool = max_pool(source, out, g);
  const std::vector<T> most = pool.values.to_vector<T>();
  const auto from = max_pool_indices(pool.places, g).to_vector<std::int64_t>();
  const std::vector<T> weights = kernels::uniform<T>(count(out), -1, 1, 2);
  const Tensor gradient = Tensor::from(weights, out);
  const std::vector<T> spread = max_pool_spread(gradient, pool.places, in, g).to_vector<T>();
  EXPECT_TRUE(testing::same_bytes(max_pool_pick(source, pool.places, g), pool.values));
  const std::vector<T> mean = avg_pool(source, out, g).to_vector<T>();
  const std::vector<T> shares = avg_pool_spread(gradient, in, g).to_vector<T>();
  const bool means = g.dilation == PoolGeometry::Pair{1, 1};  // which dilated pools do not have
  std::vector<double> max_back(x.size()), mean_back(x.size());
  for (std::size_t k = 0; k < most.size(); ++k) {
    const auto at = static_cast<Index>(k), plane = at / pixels * image;
    const Index i = at % pixels / g.result[1], j = at % g.result[1];
    Index best = -1;
    double sum = 0;
    auto value = [&](Index position) { return x[static_cast<std::size_t>(plane + position)]; };
    each_seen(g, i, j, [&](Index, Index position) {
      sum += static_cast<double>(value(position));
      if (best < 0 || value(position) > value(best) || (std::isnan(value(position)) && !std::isnan(value(best))))
        best = position;
    });
    ASSERT_TRUE(kernels::same_bits(most[k], value(best))) << k;
    ASSERT_EQ(from[k], best) << k;
    const double n = g.divisor != 0 ? g.divisor : static_cast<double>(g.window(0, i).length * g.window(1, j).length);
    if (means) {
      const double expected = sum / n;
      const bool close = std::abs(mean[k] - expected) <= (sizeof(T) == 4 ? 2e-7 : 1e-15) * (1 + std::abs(expected));
      ASSERT_TRUE((std::isfinite(expected) && close) || kernels::same_bits(static_cast<double>(mean[k]), expected))
          << k << ": " << mean[k] << ", not " << expected;
    }
    max_back[static_cast<std::size_t>(plane + best)] += static_cast<double>(weights[k]);
    each_seen(g, i, j, [&](Index, Index position) {
      mean_back[static_cast<std::size_t>(plane + position)] += static_cast<double>(weights[k]) / n;
    });
  }
  for (std::size_t k = 0; k < x.size(); ++k) {
    ASSERT_NEAR(spread[k], max_back[k], sizeof(T) == 4 ? 1e-5 : 1e-13) << k;
    if (means) {
      ASSERT_NEAR(shares[k], mean_back[k], sizeof(T) == 4 ? 1e-5 : 1e-13) << k;
    }
  }
  const ThreadLimit several(4);
  EXPECT_TRUE(testing::same_bytes(max_pool(source, out, g).values, pool.values));
  EXPECT_TRUE(testing::same_bytes(avg_pool(source, out, g), Tensor::from(mean, out)));
  EXPECT_TRUE(testing::same_bytes(avg_pool_spread(gradient, in, g), Tensor::from(shares, in)));
}

TEST(Pool, WindowsInGeneralAgreeWithThePlainLoopOnEveryTarget) {
  using Pair = PoolGeometry::Pair;
  struct Case {
    Pair size, kernel, stride, dilation, before;
    bool ceil = false, count_padding = true;
    double divisor = 0;
  };
  const Case cases[] = {
      {{9, 56}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
      {{7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {{8, 33}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, false, false},
      {{8, 34}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, true},
      {{8, 41}, {3, 5}, {3, 4}, {1, 1}, {1, 2}, true, false},
      {{13, 40}, {3, 2}, {2, 3}, {2, 3}, {1, 1}},
      {{13, 40}, {4, 3}, {1, 2}, {1, 2}, {2, 1}},
      {{6, 29}, {2, 3}, {3, 5}, {1, 1}, {0, 0}, false, true, 7},  // gaps between windows
      {{1, 70}, {1, 3}, {1, 2}, {1, 1}, {0, 1}},
      {{1, 71}, {1, 2}, {1, 2}, {1, 1}, {0, 0}},
      {{20, 50}, {18, 18}, {1, 1}, {1, 1}, {9, 9}},  // places beyond a byte
      {{12, 5}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},     // too narrow for vectors
      {{4, 300}, {2, 1}, {2, 1}, {1, 1}, {0, 0}},
  };
  kernels::on_each_target([&] {
    for (const Case& c : cases) {
      SCOPED_TRACE(::testing::Message() << c.size[0] << " x " << c.size[1] << " by " << c.kernel[0] << " x "
                                        << c.kernel[1]);
      PoolGeometry g{4, c.size, {}, c.kernel, c.stride, c.dilation, c.before, false, c.count_padding, c.divisor};
      for (std::size_t a = 0; a < 2; ++a) {
        const Index room = c.size[a] + 2 * c.before[a] - c.dilation[a] * (c.kernel[a] - 1) - 1;
        g.result[a] = (room + (c.ceil ? c.stride[a] - 1 : 0)) / c.stride[a] + 1;
        if (c.ceil && (g.result[a] - 1) * c.stride[a] >= c.size[a] + c.before[a]) --g.result[a];
      }
      check_windows<float>(g);
      check_windows<double>(g);
    }
  });
}

TEST(Pool, AdaptiveWindowsAgreeWithThePlainLoop) {
  for (const auto& [from, to] : {std::pair<Index, Index>{56, 7}, {24, 5}, {6, 1}, {5, 9}}) {
    const PoolGeometry g{4,  {from, from}, {to, to}, {(from + to - 1) / to + 1, (from + to - 1) / to + 1},
                         {}, {1, 1},       {},       true};
    check_windows<float>(g);
    check_windows<double>(g);
  }
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
