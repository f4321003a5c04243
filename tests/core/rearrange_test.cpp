// Copies between views and tensors made of others, against plain loops over positions.
#include "espalier/core/rearrange.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/elementwise.h"
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::Threads;
using testing::throws;

/// 0, 1, 2, ...: every element tells where it came from.
Tensor counted(const Shape& shape, DType type) {
  return Tensor::arange(0, static_cast<double>(count(shape)), 1, DType::i64).to(type).reshape(shape);
}

TEST(Copy, EveryPermutationOfEveryType) {
  for (const DType type : {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8, DType::boolean})
    for (const Shape& shape : {Shape{3, 4, 5}, Shape{1, 70, 65}, Shape{40, 3, 33}, Shape{2, 1, 9}})
      for (const Dims& order : {Dims{0, 2, 1}, Dims{2, 1, 0}, Dims{1, 0, 2}, Dims{2, 0, 1}, Dims{1, 2, 0}}) {
        const Tensor x = counted(shape, type);
        const Tensor y = x.permute(order).contiguous();
        ASSERT_TRUE(y.is_contiguous());
        ASSERT_TRUE(equal(y, x.permute(order)));
        for (Index i = 0; i < y.dim(0); i += 2)
          for (Index j = 0; j < y.dim(1); j += 3)
            for (Index k = 0; k < y.dim(2); k += 4) ASSERT_EQ(y.at({i, j, k}), x.permute(order).at({i, j, k}));
        Tensor back = Tensor::zeros(shape, type);
        back.permute(order).copy_from(y);  // written through the view
        ASSERT_TRUE(same_bytes(back, x));
      }
}

TEST(Copy, SlicesAndBroadcastsAndThreads) {
  const Tensor x = counted({64, 96, 40}, DType::f32);
  const Tensor view = x.slice(0, 3, 60, 2).transpose(0, 2).slice(0, 1, 39);
  const Threads use_one(1);
  const Tensor one = view.contiguous();
  const Threads use(3);
  EXPECT_TRUE(same_bytes(view.contiguous(), one));
  EXPECT_EQ(one.at({5, 7, 9}), x.at({21, 7, 6}));
  const Tensor wide = Tensor::from({1.f, 2.f}, {2, 1}).broadcast_to({3, 2, 50});
  EXPECT_EQ(wide.contiguous().at({2, 1, 49}), 2);
  EXPECT_EQ(Tensor::from({1.f, 2.f}).broadcast_to({40, 2}).t().contiguous().at({1, 39}), 2) << "stride 0 against 1";
}

TEST(Concatenated, LeavesOutPiecesOfNothing) {
  const Tensor a = counted({2, 3}, DType::i32), nothing = Tensor::zeros({0}, DType::i32);
  EXPECT_TRUE(same_bytes(concatenated(std::vector{nothing, a, nothing}, 1), a));
  EXPECT_EQ(concatenated(std::vector{nothing, nothing}).shape(), Shape({0}));
  EXPECT_TRUE(throws<ShapeError>(
      [&] {
        concatenated(std::vector{a, counted({3, 2}, DType::i32)});
      },
      "[cat] tensor 1", "[3, 2]", "[2, 3]"));
  EXPECT_TRUE(throws<DTypeError>([&] { concatenated(std::vector{a, a.to(DType::f32)}); }, "[cat]"));
  EXPECT_TRUE(throws<ShapeError>([] { concatenated({}); }, "[cat]"));
}

TEST(TakeAxis, UpDownAndJumping) {
  const Tensor x = counted({2, 6, 3}, DType::f64);
  const std::vector<Index> places = {5, 4, 3, 0, 1, 2, 2, 0, 4};
  const Tensor y = take_axis(x, places, 1);
  for (std::size_t j = 0; j < places.size(); ++j)
    for (const Index o : {0, 1}) EXPECT_EQ(y.at({o, static_cast<Index>(j), 2}), x.at({o, places[j], 2}));
  const Tensor back = add_axis(Tensor::ones({2, 9, 3}, DType::f64), places, 6, 1);
  EXPECT_EQ(back.select(2, 0).select(0, 1).to_vector<double>(), (std::vector<double>{2, 1, 2, 1, 2, 1}));
  EXPECT_TRUE(throws<IndexError>([&] { take_axis(x, std::vector<Index>{6}, 1); }, "[take_axis]", "6"));
}

TEST(AddAxis, ReversedRunsAndPermutations) {
  const Tensor g = Rng(2).normal({3, 700, 2});
  std::vector<Index> down, round, folded;  // turned round; rolled; up and down again
  for (Index j = 0; j < 700; ++j) {
    down.push_back(699 - j);
    round.push_back((j + 23) % 700);
    folded.push_back(j < 400 ? j : 799 - j);
  }
  for (const Tensor& x : {g, g.transpose(1, 2).contiguous().transpose(1, 2), g.select(2, 1)})
    for (const DType type : {DType::f32, DType::f64})
      for (const std::vector<Index>* places : {&down, &round, &folded}) {
        const Tensor typed = x.to(type).transpose(1, -1);  // along the last axis, and along one before it
        for (const int axis : {typed.rank() - 1, 1}) {
          if (typed.shape()[axis] != 700) continue;
          Shape shape = typed.shape();
          Tensor expected = Tensor::zeros(shape, type);
          for (Index j = 0; j < 700; ++j) {
            Tensor row = expected.select(axis, (*places)[static_cast<std::size_t>(j)]);
            add_in_place(row, typed.select(axis, j));
          }
          EXPECT_TRUE(equal(add_axis(typed, *places, 700, axis), expected));
        }
        EXPECT_TRUE(equal(add_axis(x.to(type), *places, 700, 1),
                          add_axis(x.to(type).transpose(0, 1), *places, 700, 0).transpose(0, 1)));
      }
}

TEST(Map, OfAnyViewIsThatOfItsCopy) {
  const Tensor x = Rng(3).normal({5, 37, 70, 3});
  const auto& kernel = kernels::unary().affine;
  for (const Tensor& view :
       {x.transpose(0, 3), x.permute({0, 2, 3, 1}), x.slice(2, 3, 60, 2), x.select(3, 1), x.narrow(1, 4, 0),
        x.select(1, 2).unsqueeze(0).broadcast_to({40, 5, 70, 3}), x.transpose(1, 2)})
    for (const DType type : {DType::f32, DType::f64})
      for (int threads : {1, 4}) {
        const testing::Threads use(threads);
        const Tensor typed = x.dtype() == type ? view : view.to(type).transpose(0, 1).contiguous().transpose(0, 1);
        EXPECT_TRUE(equal(map("test", kernel, typed, 2, 1), map("test", kernel, typed.contiguous(), 2, 1)));
      }
}

TEST(Copy, ShortRowsOfBroadcasts) {
  for (const Index n : {1, 2, 3, 5, 15, 16}) {
    const Tensor x = Tensor::arange(0, 7 * 311).reshape({7, 311, 1});
    const Tensor y = x.broadcast_to({7, 311, n}).clone(), parts = y.slice(1, 0, 311, 2).clone();
    for (Index i = 0; i < 7 * 311 * n; ++i) ASSERT_EQ(y.data<float>()[i], static_cast<float>(i / n));
    for (Index r = 0; r < 156; ++r) ASSERT_EQ(parts.at({6, r, n - 1}), 6 * 311 + 2 * r);
  }
}

TEST(Padded, GrowsAndCropsInOneCall) {
  const Tensor x = counted({3, 4}, DType::f32);
  const Tensor y = padded(x, std::vector<Index>{-1, 2, 1, -2}, 7);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{7, 7, 7, 7, 7, 1, 2, 3, 7, 7}));
  EXPECT_EQ(padded(x, std::vector<Index>{-3, 5}).shape(), Shape({3, 6}));
  EXPECT_EQ(padded(Tensor::zeros({0, 2}), std::vector<Index>{0, 0, 1, 1}, 5).at({1, 1}), 5);
  EXPECT_EQ(padded(x, std::vector<Index>{-6, 3}, 9).at({2, 0}), 9) << "cropped beyond its end";
  EXPECT_TRUE(throws<ShapeError>([&] { padded(x, std::vector<Index>{-5, 0}); }, "[pad]", "[3, 4]"));
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_TRUE(throws<ShapeError>([&] { padded(x, std::vector<Index>{most, most}); }, "[pad]", "no Index holds"));
}

TEST(Padded, TakesAnyRankViewsAndTypes) {
  const Tensor x = counted({4, 3, 5, 6}, DType::f64);
  const std::vector<Index> pads{2, -1, -2, 3, 1, 1};
  for (const Tensor& view :
       {x, x.transpose(1, 3), x.narrow(3, 1, 4), x.select(0, 1).unsqueeze(0).broadcast_to({2, 3, 5, 6})}) {
    const Tensor y = padded(view, pads, -1);
    const Shape &n = view.shape(), &m = y.shape();
    EXPECT_EQ(m, (Shape{n[0], n[1] + 2, n[2] + 1, n[3] + 1}));
    for (Index i = 0; i < y.size(); ++i) {
      const Index d = i % m[3], c = i / m[3] % m[2], b = i / m[3] / m[2] % m[1], a = i / m[3] / m[2] / m[1];
      const Index in_b = b - 1, in_c = c + 2, in_d = d - 2;
      const bool inside = in_b >= 0 && in_b < n[1] && in_c < n[2] && in_d >= 0 && in_d < n[3] - 1;
      EXPECT_EQ(y.at({a, b, c, d}), inside ? view.at({a, in_b, in_c, in_d}) : -1);
    }
    const testing::Threads use(4);
    EXPECT_TRUE(testing::same_bytes(padded(view, pads, -1), y));
  }
  EXPECT_EQ(padded(counted({}, DType::f32), std::vector<Index>{}).shape(), Shape{});
  EXPECT_EQ(padded(counted({2}, DType::i64), std::vector<Index>{1, 1}, 9).to_vector<std::int64_t>().front(), 9);
}

TEST(Triangles, ZeroWhatTheyCutEvenIfItIsNotANumber) {
  const Tensor x = Tensor::full({2, 3, 4}, std::numeric_limits<double>::quiet_NaN());
  for (const Index d : {-9, -1, 0, 2, 9}) {
    const Tensor low = tril(x, d), high = triu(x, d);
    for (Index i = 0; i < 3; ++i)
      for (Index j = 0; j < 4; ++j) {
        EXPECT_EQ(std::isnan(low.at({1, i, j})), j - i <= d);
        EXPECT_EQ(std::isnan(high.at({1, i, j})), j - i >= d);
      }
  }
}

TEST(Diagonal, IsAView) {
  Tensor x = counted({3, 4}, DType::f32);
  EXPECT_EQ(diagonal(x, -1).to_vector<float>(), (std::vector<float>{4, 9}));
  for (const Index beyond : {Index{9}, Index{-9}, std::numeric_limits<Index>::max(), std::numeric_limits<Index>::min()})
    EXPECT_EQ(diagonal(x, beyond).shape(), Shape({0}));
  diagonal(x, 1).fill(-1);
  EXPECT_EQ(x.at({2, 3}), -1);
}

}  // namespace
}  // namespace espalier
