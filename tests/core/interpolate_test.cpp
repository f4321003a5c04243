// Resizing against plain loops over its definition: every SIMD target, both types, widths around the vectors'.
#include "espalier/core/interpolate.h"

#include <gtest/gtest.h>

#include <array>

#include "espalier/core/parallel.h"
#include "espalier/core/rng.h"
#include "tests/core/kernels/kernel_test.h"
#include "tests/support.h"

namespace espalier {
namespace {

Resize to_size(Interpolation mode, Index from, Index to, bool corners = false) {
  const auto n = static_cast<double>(from), m = static_cast<double>(to);
  if (!corners) return {mode, from, to, n, m, false};
  return {mode, from, to, to > 1 ? n - 1 : 0, to > 1 ? m - 1 : 1, true};
}

/// As [outer, length, inner], one axis after the other; the adjoint adds where resizing reads.
template <class T>
std::vector<double> plain(std::vector<double> x, const Shape& from, std::span<const Resize> axes, bool adjoint) {
  Shape shape = from;
  const int first = from.rank() - static_cast<int>(axes.size());
  for (int axis = first; axis < from.rank(); ++axis) {
    const Resize& r = axes[static_cast<std::size_t>(axis - first)];
    const Index in = adjoint ? r.to : r.from, out = adjoint ? r.from : r.to;
    Index outer = 1, inner = 1;
    for (int a = 0; a < axis; ++a) outer *= shape[a];
    for (int a = axis + 1; a < shape.rank(); ++a) inner *= shape[a];
    std::vector<double> y(static_cast<std::size_t>(outer * out * inner));
    for (Index o = 0; o < outer; ++o)
      for (Index i = 0; i < r.to; ++i)
        for (Index k = 0; k < inner; ++k) {
          const Resize::Place p = r.place(i);
          auto add = [&](Index place, T part) {
            if (part == 0) return;
            const Index to = adjoint ? place : i, source = adjoint ? i : place;
            y[static_cast<std::size_t>((o * out + to) * inner + k)] +=
                static_cast<double>(part) * x[static_cast<std::size_t>((o * in + source) * inner + k)];
          };
          const T share = static_cast<T>(p.share);
          add(p.low, T(1) - share);
          add(p.low + 1, share);
        }
    shape[axis] = out;
    x = std::move(y);
  }
  return x;
}

template <class T>
void check(const Tensor& x, std::span<const Resize> axes) {
  for (const bool adjoint : {false, true}) {
    Shape shape = x.shape();
    for (int k = 0; k < static_cast<int>(axes.size()); ++k)
      shape[shape.rank() - static_cast<int>(axes.size()) + k] = axes[static_cast<std::size_t>(k)].from;
    Tensor in = x;
    if (adjoint) {
      in = resize(x, axes);
      shape = in.shape();
    }
    const Tensor y = adjoint ? resize_adjoint(in, axes) : resize(in, axes);
    std::vector<double> values;
    for (const T v : in.to_vector<T>()) values.push_back(static_cast<double>(v));
    const std::vector<double> expected = plain<T>(values, shape, axes, adjoint);
    const std::vector<T> got = y.to_vector<T>();
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(static_cast<double>(got[i]), expected[i],
                  (sizeof(T) == 4 ? 2e-6 : 4e-15) * (1 + std::abs(expected[i])))
          << i << " of " << y.shape() << (adjoint ? ", adjoint" : "");
  }
}

TEST(Resize, AgreesWithThePlainLoopOnEveryTarget) {
  using enum Interpolation;
  constexpr std::array<std::pair<Index, Index>, 14> lengths = {{{1, 1},
                                                                {1, 20},
                                                                {20, 1},
                                                                {3, 6},
                                                                {7, 14},
                                                                {8, 16},
                                                                {9, 18},
                                                                {33, 66},
                                                                {31, 45},
                                                                {45, 31},
                                                                {64, 16},
                                                                {19, 57},
                                                                {12, 12},
                                                                {5, 70}}};
  kernels::on_each_target([&] {
    Rng rng(1);
    for (const auto& [from, to] : lengths)
      for (const Interpolation mode : {nearest, linear})
        for (const DType dtype : {DType::f32, DType::f64}) {
          SCOPED_TRACE(std::to_string(from) + " -> " + std::to_string(to));
          auto run = [&](const Shape& shape, std::vector<Resize> axes) {
            const Tensor x = randn(rng, shape, dtype);
            dtype == DType::f32 ? check<float>(x, axes) : check<double>(x, axes);
          };
          const Resize wide = to_size(mode, from, to), high = to_size(mode, 4, 7, true), same = to_size(mode, 5, 5);
          run({2, from}, {wide});
          run({2, from}, {to_size(mode, from, to, mode == linear)});
          run({3, 4, from}, {high, wide});
          run({2, from, 5}, {wide, same});
          run({2, 5, from}, {same, wide});
          run({2, 4, from, 5}, {high, wide, same});
          run({2, 5, 4, from}, {same, high, wide});
        }
  });
}

TEST(Resize, PlacesOfAScaleMayLieBehindTheEnd) {
  using enum Interpolation;
  Rng rng(1);
  for (const Interpolation mode : {nearest, linear})  // 1 / scale beyond from / to
    check<float>(randn(rng, {2, 10, 11}),
                 std::array{Resize{mode, 10, 9, 1.25, 1, false}, Resize{mode, 11, 30, 1, 2, false}});
}

TEST(Resize, NearestIsExactWhereTheRatioIsRounded) {
  for (Index from = 1; from <= 60; ++from)
    for (Index to = 1; to <= 120; ++to) {
      const Resize size = to_size(Interpolation::nearest, from, to);
      const Resize scale{Interpolation::nearest, from, from * to, 1, static_cast<double>(to), false};
      for (Index i = 0; i < to; ++i) ASSERT_EQ(size.place(i).low, i * from / to) << i << " of " << from << " to " << to;
      for (Index i = 0; i < from * to; i += to) ASSERT_EQ(scale.place(i).low, i / to) << from << " times " << to;
    }
}

TEST(Resize, WhatHasNoShareDoesNotCount) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  kernels::on_each_target([&] {
    std::vector<float> x(20, 1);
    x[9] = nan;
    x[15] = inf;
    const std::array corners{to_size(Interpolation::linear, 20, 39, true)};  // every other place is an input
    const std::vector<float> y = resize(Tensor::from(x, {1, 20}), corners).to_vector<float>();
    for (std::size_t i = 0; i < y.size(); ++i) {
      EXPECT_EQ(std::isnan(y[i]), i >= 17 && i <= 19) << i;
      EXPECT_EQ(std::isinf(y[i]), i >= 29 && i <= 31) << i;
    }
    std::vector<float> g(39, 1);
    g[18] = nan;  // goes to input 9 alone
    const std::vector<float> back = resize_adjoint(Tensor::from(g, {1, 39}), corners).to_vector<float>();
    for (std::size_t i = 0; i < back.size(); ++i) EXPECT_EQ(std::isnan(back[i]), i == 9) << i;
  });
}

TEST(Resize, ThreadsDoNotChangeABit) {
  const std::array axes{to_size(Interpolation::linear, 60, 101), to_size(Interpolation::linear, 70, 93)};
  Rng rng(1);
  const Tensor x = randn(rng, {10, 60, 70});
  auto both = [&](int threads) {
    const ThreadLimit limit(threads);
    const Tensor y = resize(x, axes);
    return std::pair(y, resize_adjoint(y, axes));
  };
  const auto [y, back] = both(1);
  for (const int n : {2, 4}) {
    const auto [y_n, back_n] = both(n);
    EXPECT_TRUE(testing::same_bytes(y, y_n));
    EXPECT_TRUE(testing::same_bytes(back, back_n));
  }
}

TEST(Resize, ViewsEmptyBatchesAndNothingToDo) {
  const std::array axes{to_size(Interpolation::nearest, 5, 10), to_size(Interpolation::nearest, 7, 14)};
  Rng rng(1);
  const Tensor x = randn(rng, {3, 7, 5});
  EXPECT_TRUE(testing::same_bytes(resize(x.transpose(1, 2), axes), resize(x.transpose(1, 2).contiguous(), axes)));
  EXPECT_EQ(resize(Tensor::zeros({0, 5, 7}), axes).shape(), (Shape{0, 10, 14}));
  EXPECT_EQ(resize_adjoint(Tensor::zeros({0, 10, 14}), axes).shape(), (Shape{0, 5, 7}));
  const std::array none{to_size(Interpolation::linear, 7, 7), to_size(Interpolation::linear, 5, 5)};
  const Tensor y = resize(x, none);
  EXPECT_TRUE(testing::same_bytes(y, x));
  EXPECT_NE(y.data<float>(), x.data<float>());
}

}  // namespace
}  // namespace espalier
