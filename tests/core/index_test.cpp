#include "espalier/core/index.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/elementwise.h"
#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::throws;

Tensor list(std::initializer_list<Index> values) { return Tensor::from(values); }

TEST(Index, GatherTakesAnyElementTypeAndView) {
  const Tensor x = Tensor::arange(0, 12, 1, DType::i32).reshape({3, 4});
  const Tensor index = Tensor::from<Index>({3, 0, 1, 1}, {2, 2});
  EXPECT_EQ(gather(x, 1, index).to_vector<std::int32_t>(), (std::vector<std::int32_t>{3, 0, 5, 5}));
  EXPECT_EQ(gather(x.t(), 0, index.t()).to_vector<std::int32_t>(), (std::vector<std::int32_t>{3, 5, 0, 5}));
  const Tensor yes = Tensor::ones({2}, DType::boolean);
  EXPECT_EQ(gather(yes, 0, list({1, 1, 0})).dtype(), DType::boolean);
}

TEST(Index, ScatterKeepsTheLastOfSeveral) {
  const Tensor y = scatter(Tensor::zeros({4}), 0, list({2, 2, 1}), Tensor::from({1.f, 2.f, 3.f}));
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{0, 3, 2, 0}));
  EXPECT_EQ(scatter_survivors({4}, 0, list({2, 2, 1}), DType::f32).to_vector<float>(), (std::vector<float>{0, 1, 1}));
}

TEST(Index, IndexAddSumsInTheOrderOfTheList) {
  // 1e8 swallows a single 1 in f32: the result tells the order.
  const Tensor values = Tensor::from({1e8f, 1.f, -1e8f, 1.f}, {4, 1});
  const Tensor y = index_add(Tensor::zeros({2, 1}), 0, list({1, 1, 1, 1}), values);
  EXPECT_EQ(y.at({1, 0}), 1);
  EXPECT_EQ(index_add(Tensor::ones({2}), 0, list({0, 0}), Tensor::ones({2}), -2).to_vector<float>(),
            (std::vector<float>{-3, 1}));
}

TEST(Index, ManyRowsAndColumnsAreTheSameBytesAtAnyThreadCount) {
  Rng rng(4);
  const Tensor source = rng.normal({3000, 200});
  std::vector<Index> rows(3000);
  for (Index& r : rows) r = rng.below(40);
  const Tensor index = Tensor::from(rows, {3000});
  std::vector<double> plain(40 * 200);
  Tensor reference = Tensor::zeros({40, 200});
  float* out = reference.write<float>("test");
  for (Index j = 0; j < 3000; ++j)
    for (Index i = 0; i < 200; ++i)
      out[rows[static_cast<std::size_t>(j)] * 200 + i] += source.data<float>()[j * 200 + i];
  for (int threads : {1, 2, 4}) {
    const testing::Threads use(threads);
    EXPECT_TRUE(same_bytes(index_add(Tensor::zeros({40, 200}), 0, index, source), reference));
    const Tensor wide = index.unsqueeze(1).broadcast_to({3000, 200});
    EXPECT_TRUE(same_bytes(scatter_add(Tensor::zeros({40, 200}), 0, wide, source), reference));
    EXPECT_TRUE(same_bytes(index_add(Tensor::zeros({200, 40}), 1, index, source.t()), reference.t()));
  }
}

TEST(Index, LongRowsAgreeWithThePlainLoop) {
  Rng rng(5);
  for (const DType type : {DType::f32, DType::f64}) {
    const Tensor x = rng.normal({3, 2500}).to(type), source = rng.normal({3, 2500}).to(type);
    std::vector<Index> at(3 * 2500);
    for (Index& place : at) place = rng.below(2500);
    const Tensor index = Tensor::from(at, {3, 2500});
    Tensor taken = x.clone(), added = x.clone();
    dispatch_floating("test", type, [&]<class T>() {
      T *y = taken.write<T>("test"), *sum = added.write<T>("test");
      for (Index i = 0; i < 3 * 2500; ++i) {
        const Index place = i / 2500 * 2500 + at[static_cast<std::size_t>(i)];
        y[i] = x.data<T>()[place];
        sum[place] += source.data<T>()[i];
      }
    });
    for (int threads : {1, 2, 4}) {
      const testing::Threads use(threads);
      EXPECT_TRUE(same_bytes(gather(x, 1, index), taken));
      EXPECT_TRUE(same_bytes(gather(x.t().contiguous(), 0, index.t()), taken.t()));
      EXPECT_TRUE(same_bytes(scatter_add(x, 1, index, source), added));
      Tensor into = x.t().contiguous();
      scatter_add_in_place(into, 0, index.t(), source.t());
      EXPECT_TRUE(same_bytes(into, added.t()));
    }
    at[2 * 2500 + 1500] = 2500;  // far behind the first that are looked at
    const Tensor bad = Tensor::from(at, {3, 2500});
    EXPECT_TRUE(throws<IndexError>([&] { gather(x, 1, bad); }, "index 2500 at [2, 1500]", "along axis 1"));
    EXPECT_TRUE(throws<IndexError>([&] { scatter_add(x, 1, bad, source); }, "index 2500 at [2, 1500]"));
  }
}

TEST(Index, MaskedSelectOfMany) {
  const Tensor x = Rng(6).normal({201, 257});
  const Tensor mask = zip_with<bool>("test", x, Tensor::zeros({}), [](auto a, auto b) { return a < b; });
  std::vector<float> expected;
  for (const float v : x.to_vector<float>())
    if (v < 0) expected.push_back(v);
  for (int threads : {1, 4}) {
    const testing::Threads use(threads);
    EXPECT_EQ(masked_select(x, mask).to_vector<float>(), expected);
  }
}

TEST(Index, NaNStays) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from({1.f, nan});
  EXPECT_TRUE(std::isnan(index_select(x, 0, list({1})).item()));
  EXPECT_TRUE(std::isnan(index_add(x, 0, list({1}), Tensor::ones({1})).at({1})));
}

TEST(Index, MaskedSelectBroadcastsAndTakesNothing) {
  const Tensor x = Tensor::arange(0, 3);
  const Tensor mask = Tensor::from(std::vector<bool>{true, false}, {2, 1});
  EXPECT_EQ(masked_select(x, mask).to_vector<float>(), (std::vector<float>{0, 1, 2}));
  EXPECT_EQ(masked_select(x, Tensor::zeros({}, DType::boolean)).shape(), (Shape{0}));
}

TEST(Index, OneHotCountsTheClassesItself) {
  EXPECT_EQ(one_hot(list({2, 0})).to_vector<Index>(), (std::vector<Index>{0, 0, 1, 1, 0, 0}));
  EXPECT_EQ(one_hot(list({1}).reshape({1, 1}), 3, DType::f64).shape(), (Shape{1, 1, 3}));
  EXPECT_EQ(one_hot(Tensor::empty({0}, DType::i64), 3).shape(), (Shape{0, 3}));
  EXPECT_TRUE(throws<ShapeError>([] { one_hot(Tensor::empty({0}, DType::i64)); }, "[one_hot] no labels"));
  EXPECT_TRUE(throws<IndexError>([] { one_hot(Tensor::from<Index>({3}), 3); }, "index 3 at [0]"));
  EXPECT_TRUE(throws<ShapeError>([] { one_hot(Tensor::from<Index>({3}), -7); }, "[one_hot] -7 classes"));
  EXPECT_TRUE(throws<IndexError>([] { one_hot(Tensor::from<Index>({-3})); }, "index -3 at [0] is outside [0, 0)"));
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_TRUE(throws<IndexError>([] { one_hot(Tensor::from<Index>({most})); }, "is outside [0, "));
}

TEST(Index, ErrorsAreFoundBeforeAnythingIsRead) {
  const Tensor x = Tensor::zeros({2, 3});
  for (Index bad : {Index{3}, Index{-1}, std::numeric_limits<Index>::min(), std::numeric_limits<Index>::max()}) {
    const Tensor index = Tensor::from({Index{0}, bad}, {2, 1});
    EXPECT_TRUE(throws<IndexError>([&] { gather(x, 1, index); }, "[gather] index ", std::to_string(bad), "at [1, 0]"));
    EXPECT_TRUE(throws<IndexError>([&] { scatter(x, 1, index, x); }, "[scatter]"));
    EXPECT_TRUE(throws<IndexError>([&] { index_select(x, 1, list({bad})); }, "[index_select]", "along axis 1"));
    EXPECT_TRUE(throws<IndexError>([&] { index_fill(x, 1, list({bad}), 0); }, "[index_fill]"));
    Tensor into = Tensor::zeros({2, 3});
    EXPECT_TRUE(throws<IndexError>([&] { index_add_in_place(into, 1, list({bad}), Tensor::ones({2, 1})); }));
    EXPECT_TRUE(same_bytes(into, x));
  }
  EXPECT_TRUE(throws<IndexError>([&] { gather(Tensor::zeros({0}), 0, list({0})); }, "outside [0, 0)"));
  EXPECT_TRUE(throws<IndexError>([&] { gather(x, 2, Tensor::zeros({1, 1}, DType::i64)); }));
  EXPECT_TRUE(throws<DTypeError>([&] { gather(x, 1, x); }, "i64", "f32"));
  EXPECT_TRUE(throws<ShapeError>([&] { gather(x, 1, Tensor::zeros({3, 1}, DType::i64)); }, "[3, 1]", "[2, 3]"));
  EXPECT_TRUE(throws<ShapeError>(
      [&] {
        scatter(x, 1, Tensor::zeros({2, 2}, DType::i64), Tensor::zeros({2, 1}));
      },
      "src"));
  EXPECT_TRUE(throws<DTypeError>([&] { masked_select(x, Tensor::zeros({2, 3})); }, "bool"));
}

}  // namespace
}  // namespace espalier
