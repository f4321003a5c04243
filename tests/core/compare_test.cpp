#include "espalier/core/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support.h"

namespace espalier {
namespace {

using testing::throws;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

std::vector<bool> bits(const Tensor& t) {
  EXPECT_EQ(t.dtype(), DType::boolean);
  return t.to_vector<bool>();
}

TEST(Compare, NaNDiffersFromEverything) {
  const Tensor a = Tensor::from({1.f, 2.f, nan, nan, inf}), b = Tensor::from({2.f, 2.f, nan, 1.f, -inf});
  EXPECT_EQ(bits(eq(a, b)), (std::vector<bool>{false, true, false, false, false}));
  EXPECT_EQ(bits(ne(a, b)), (std::vector<bool>{true, false, true, true, true}));
  EXPECT_EQ(bits(lt(a, b)), (std::vector<bool>{true, false, false, false, false}));
  EXPECT_EQ(bits(le(a, b)), (std::vector<bool>{true, true, false, false, false}));
  EXPECT_EQ(bits(gt(a, b)), (std::vector<bool>{false, false, false, false, true}));
  EXPECT_EQ(bits(ge(a, b)), (std::vector<bool>{false, true, false, false, true}));
}

TEST(Compare, TakesNumbersAndEveryElementType) {
  for (DType type : {DType::f32, DType::f64, DType::i64, DType::i32, DType::u8}) {
    const Tensor x = Tensor::arange(0, 5, 1, type);
    EXPECT_EQ(bits(eq(x, 2)), (std::vector<bool>{false, false, true, false, false})) << name_of(type);
    EXPECT_EQ(bits(ne(x, 2)), (std::vector<bool>{true, true, false, true, true})) << name_of(type);
    EXPECT_EQ(bits(lt(x, 2)), (std::vector<bool>{true, true, false, false, false})) << name_of(type);
    EXPECT_EQ(bits(le(x, 2)), (std::vector<bool>{true, true, true, false, false})) << name_of(type);
    EXPECT_EQ(bits(gt(x, 2)), (std::vector<bool>{false, false, false, true, true})) << name_of(type);
    EXPECT_EQ(bits(ge(x, 2)), (std::vector<bool>{false, false, true, true, true})) << name_of(type);
  }
  const Tensor big = Tensor::from({std::int64_t{9007199254740993}, std::int64_t{9007199254740992}});
  EXPECT_EQ(bits(eq(big, big.slice(0, 1, 2))), (std::vector<bool>{false, true})) << "not through doubles";
}

// Against a plain loop, for broadcast, strided, empty and large operands.
TEST(Compare, BroadcastsViewsOfAnyLayout) {
  const Tensor x = Tensor::arange(0, 24).reshape({2, 3, 4});
  const std::vector<std::pair<Tensor, Tensor>> pairs = {
      {x, Tensor::scalar(11)},
      {Tensor::scalar(11), x},
      {x, x.slice(0, 0, 1)},
      {x.permute({2, 0, 1}), x.permute({2, 0, 1}).slice(1, 1, 2)},
      {x.slice(2, 0, 4, 2), Tensor::from({9.f, 10.f})},
      {Tensor::arange(0, 3).reshape({3, 1}), Tensor::arange(0, 4)},
      {Tensor::zeros({0, 3}), Tensor::zeros({1, 3})},
      {Tensor::arange(0, 300000).reshape({300, 1000}), Tensor::full({300, 1}, 150000)},
      {Tensor::arange(0, 100000), Tensor::full({1}, 50000)},
  };
  for (const auto& [a, b] : pairs) {
    const Shape shape = broadcast_shapes("test", a.shape(), b.shape());
    const std::vector<float> p = a.broadcast_to(shape).to_vector<float>(), q = b.broadcast_to(shape).to_vector<float>();
    const std::vector<bool> less = bits(lt(a, b));
    ASSERT_EQ(less.size(), p.size());
    for (std::size_t i = 0; i < p.size(); ++i) ASSERT_EQ(less[i], p[i] < q[i]) << i << " of " << shape;
  }
}

TEST(Compare, TellsKindsOfNumbers) {
  const Tensor x = Tensor::from({1.f, nan, inf, -inf, 0.f});
  EXPECT_EQ(bits(isnan(x)), (std::vector<bool>{false, true, false, false, false}));
  EXPECT_EQ(bits(isinf(x)), (std::vector<bool>{false, false, true, true, false}));
  EXPECT_EQ(bits(isfinite(x)), (std::vector<bool>{true, false, false, false, true}));
  const Tensor whole = Tensor::arange(0, 2, 1, DType::i64);
  EXPECT_EQ(bits(isnan(whole)), (std::vector<bool>{false, false}));
  EXPECT_EQ(bits(isinf(whole)), (std::vector<bool>{false, false}));
  EXPECT_EQ(bits(isfinite(whole)), (std::vector<bool>{true, true}));
}

TEST(Compare, LogicTakesWhatIsNotZeroAsTrue) {
  const Tensor a = Tensor::from({0.f, 2.f, nan, -0.f}), b = Tensor::from({1.f, 1.f, 0.f, 0.f});
  EXPECT_EQ(bits(logical_and(a, b)), (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(bits(logical_or(a, b)), (std::vector<bool>{true, true, true, false}));
  EXPECT_EQ(bits(logical_xor(a, b)), (std::vector<bool>{true, false, true, false}));
  EXPECT_EQ(bits(logical_not(a)), (std::vector<bool>{true, false, false, true}));
  EXPECT_EQ(bits(logical_not(Tensor::from(std::vector<bool>{true, false}, {2}))), (std::vector<bool>{false, true}));
}

TEST(Compare, AnyAndAllAlongAxes) {
  const Tensor x = Tensor::from({0.f, 0.f, 1.f, 0.f, 2.f, nan}, {2, 3});
  EXPECT_EQ(any(x).item(), 1);
  EXPECT_EQ(all(x).item(), 0);
  EXPECT_EQ(bits(any(x, {0})), (std::vector<bool>{false, true, true}));
  EXPECT_EQ(bits(all(x, {0})), (std::vector<bool>{false, false, true}));
  EXPECT_EQ(bits(any(x.transpose(0, 1), {-1})), (std::vector<bool>{false, true, true}));
  EXPECT_EQ(any(x, {1}, true).shape(), (Shape{2, 1}));
  EXPECT_EQ(bits(any(Tensor::zeros({0, 2}), {0})), (std::vector<bool>{false, false})) << "of nothing";
  EXPECT_EQ(bits(all(Tensor::zeros({0, 2}), {0})), (std::vector<bool>{true, true})) << "of nothing";
  EXPECT_EQ(any(Tensor::zeros({2, 0}), {0}).shape(), (Shape{0}));
  EXPECT_EQ(any(Tensor::scalar(3)).item(), 1);
  EXPECT_THROW(any(x, {2}), IndexError);
}

TEST(Compare, WhereChoosesAndIgnoresTheRest) {
  const Tensor c = Tensor::from(std::vector<bool>{true, false, true}, {3});
  const Tensor a = Tensor::from({1.f, nan, 3.f}), b = Tensor::from({nan, 5.f, nan});
  EXPECT_EQ(where(c, a, b).to_vector<float>(), (std::vector<float>{1, 5, 3}));
  const Tensor column = Tensor::from(std::vector<bool>{false, true}, {2, 1});
  EXPECT_EQ(where(column, Tensor::arange(0, 3), Tensor::scalar(-1)).to_vector<float>(),
            (std::vector<float>{-1, -1, -1, 0, 1, 2}));
  EXPECT_EQ(where(column, Tensor::scalar(1, DType::i64), Tensor::arange(5, 8, 1, DType::i64)).to_vector<std::int64_t>(),
            (std::vector<std::int64_t>{5, 6, 7, 1, 1, 1}));
  EXPECT_EQ(where(Tensor::zeros({0, 2}, DType::boolean), Tensor::zeros({2}), Tensor::zeros({0, 1})).shape(),
            (Shape{0, 2}));
  EXPECT_TRUE(throws<DTypeError>([&] { where(a, a, b); }, "[where]", "bool", "f32"));
  EXPECT_TRUE(throws<DTypeError>([&] { where(c, a, b.to(DType::f64)); }, "[where]", "f64"));
  EXPECT_TRUE(throws<ShapeError>([&] { where(c, a, Tensor::zeros({2})); }, "[where]", "[2]", "[3]"));
}

TEST(Compare, SameBytesAtAnyThreadCount) {
  const Tensor x = Tensor::arange(0, 200000).reshape({400, 500}), y = Tensor::full({400, 1}, 77777);
  const testing::Threads one(1);
  const Tensor less = lt(x, y), chosen = where(less, x, y), some = any(less, {1});
  const testing::Threads four(4);
  EXPECT_TRUE(testing::same_bytes(less, lt(x, y)));
  EXPECT_TRUE(testing::same_bytes(chosen, where(less, x, y)));
  EXPECT_TRUE(testing::same_bytes(some, any(less, {1})));
}

}  // namespace
}  // namespace espalier
