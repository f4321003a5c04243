// Sorts, selections and scans: stability, NaN, zeros of either sign, integers, long rows, any axis.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "espalier/core/index.h"
#include "espalier/core/rearrange.h"
#include "espalier/core/rng.h"
#include "espalier/core/scan.h"
#include "espalier/core/sort.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::Threads;
using testing::throws;
constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

/// Places in a stable order; NaN largest.
template <class T>
std::vector<Index> plain_order(const std::vector<T>& x, bool descending) {
  std::vector<Index> order(x.size());
  std::iota(order.begin(), order.end(), Index{0});
  const auto less = [](T a, T b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    const T p = x[static_cast<std::size_t>(a)], q = x[static_cast<std::size_t>(b)];
    return descending ? less(q, p) : less(p, q);
  });
  return order;
}

TEST(Sort, IsStableAndPutsNotANumberLast) {
  for (const bool descending : {false, true})
    for (const Index n : {1, 2, 50, 127, 128, 129, 5000}) {
      Rng rng(static_cast<std::uint64_t>(n));
      std::vector<float> x;
      constexpr float odd[] = {0.f, -0.f, NAN, INFINITY, -INFINITY, 1e-40f, -1e-40f, 3.4e38f};
      for (Index i = 0; i < n; ++i) {
        const double u = rng.uniform();
        x.push_back(u < 0.3 ? odd[static_cast<std::size_t>(u * 26)]
                            : static_cast<float>(std::floor(20 * rng.uniform()) - 10));
      }
      const std::vector<Index> expected = plain_order(x, descending);
      const MaxResult narrow = sort(Tensor::from(x, {n}), 0, descending);
      EXPECT_EQ(narrow.indices.to_vector<Index>(), expected) << n;
      const MaxResult wide = sort(Tensor::from(x, {n}).to(DType::f64), 0, descending);
      EXPECT_EQ(wide.indices.to_vector<Index>(), expected) << n;
      for (Index i = 0; i < n; ++i) {
        const float a = narrow.values.data<float>()[i],
                    b = x[static_cast<std::size_t>(expected[static_cast<std::size_t>(i)])];
        EXPECT_TRUE(std::memcmp(&a, &b, sizeof a) == 0 || std::isnan(a)) << "the very element, sign of zero and all";
      }
    }
}

TEST(Sort, TakesIntegersAndBools) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max(),
                         least = std::numeric_limits<std::int64_t>::min();
  const Tensor x = Tensor::from({most, std::int64_t{0}, least, std::int64_t{-1}, most});
  EXPECT_EQ(sort(x).values.to_vector<std::int64_t>(), (std::vector<std::int64_t>{least, -1, 0, most, most}));
  EXPECT_EQ(argsort(x, 0, true).to_vector<Index>(), (std::vector<Index>{0, 4, 1, 3, 2}));
  EXPECT_EQ(median(x).values.item(), 0) << "the largest integer is no NaN";
  EXPECT_EQ(argsort(Tensor::from(std::vector<bool>{true, false, true}, {3})).to_vector<Index>(),
            (std::vector<Index>{1, 0, 2}));
}

TEST(Sort, AnyAxisOfAnyView) {
  const Tensor x = Rng(1).uniform({6, 5, 7}, -1, 1);
  for (const int axis : {0, 1, 2, -1}) {
    const int last = axis < 0 ? 2 : axis;
    const Tensor dense = sort(x.transpose(last, 2).contiguous(), 2).values;
    EXPECT_TRUE(same_bytes(sort(x, axis).values.transpose(last, 2).contiguous(), dense));
    EXPECT_TRUE(same_bytes(gather(x, axis, argsort(x, axis)), sort(x, axis).values));
  }
  EXPECT_EQ(sort(Tensor::zeros({3, 0, 2}), 1).values.shape(), Shape({3, 0, 2}));
  EXPECT_EQ(sort(Tensor::scalar(3)).values.item(), 3);
}

TEST(TopK, IsTheHeadOfTheSort) {
  const Tensor x = Rng(1).uniform({4, 300}, -1, 1);
  for (const bool largest : {false, true})
    for (const Index k : {0, 1, 7, 200, 300}) {
      const MaxResult best = topk(x, k, -1, largest), all = sort(x, -1, largest);
      EXPECT_TRUE(same_bytes(best.values, all.values.slice(1, 0, k)));
      EXPECT_TRUE(same_bytes(best.indices, all.indices.slice(1, 0, k)));
    }
  EXPECT_TRUE(throws<IndexError>([&] { topk(x, 301); }, "[topk]", "301", "[4, 300]"));
  EXPECT_TRUE(throws<IndexError>([&] { kthvalue(x, 0); }, "[kthvalue]"));
}

void expect_head_of_sort(const Tensor& x, int axis, Index k) {
  for (const bool largest : {false, true}) {
    const MaxResult best = topk(x, k, axis, largest), all = sort(x, axis, largest);
    EXPECT_TRUE(same_bytes(best.values, all.values.narrow(axis, 0, k))) << x.shape() << " k " << k;
    EXPECT_TRUE(same_bytes(best.indices, all.indices.narrow(axis, 0, k))) << x.shape() << " k " << k;
  }
}

TEST(TopK, FindsAFewOfManyAmongEqualsAndNotANumber) {
  for (const DType type : {DType::f32, DType::f64, DType::i64}) {
    const Tensor coarse = Rng(3).uniform({5, 1003}, -20, 20).to(DType::i64).to(type);  // many equals
    for (const Index k : {1, 3, 10, 125}) {
      expect_head_of_sort(coarse, 1, k);
      expect_head_of_sort(coarse.t(), 0, k);
      expect_head_of_sort(sort(coarse, 1).values, 1, k);        // each one better than those before
      expect_head_of_sort(sort(coarse, 1, true).values, 1, k);  // or worse
    }
  }
  std::vector<float> values(3 * 500);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = i < 500 || i % 7 == 3 ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(i * 37 % 101);
  for (const DType type : {DType::f32, DType::f64})
    for (const Index k : {1, 20, 60}) expect_head_of_sort(Tensor::from(values, {3, 500}).to(type), 1, k);
}

TEST(Median, IsTheLowerMiddleAndNotANumberIfThereIsOne) {
  EXPECT_EQ(median(Tensor::from({4., 1., 3., 2.})).values.item(), 2);
  const MaxResult bad = median(Tensor::from({4., nan, 3., nan}));
  EXPECT_TRUE(std::isnan(bad.values.item()));
  EXPECT_EQ(bad.indices.item(), 1);
  EXPECT_EQ(kthvalue(Tensor::from({4., nan, 3.}), 3).indices.item(), 1);
  EXPECT_TRUE(throws<ShapeError>([] { median(Tensor::zeros({2, 0}), 1); }, "[median]"));
}

TEST(Scan, SumsWithinTheRangeStayThereWhateverIsAddedFirst) {
  const Tensor x = Tensor::from({-1e308, 0., 1e308, 1e308, -1e308, 1e308, 0.}),
               y = Tensor::from({-1e308, 1e308, 1e308});
  EXPECT_EQ(cumsum(x, 0).to_vector<double>(), (std::vector<double>{-1e308, -1e308, 0, 1e308, 0, 1e308, 1e308}));
  for (const Index before : {1, 2, 3, 4}) {
    const Tensor shifted = padded(y, std::array{before, Index{4}}, 0);
    EXPECT_EQ(cumsum(shifted, 0).at({before + 1}), 0) << before;
    EXPECT_EQ(cumsum(shifted, 0).at({-1}), 1e308) << before;
  }
}

TEST(Scan, LongRowsInPiecesAndColumnsInStrips) {
  for (const Shape& shape :
       {Shape{1, 100000, 1}, Shape{3, 70001, 1}, Shape{300, 9, 1}, Shape{2, 1000, 3}, Shape{1, 40, 1100}})
    for (const bool reverse : {false, true}) {
      const Tensor x = Rng(2).uniform(shape, -1, 1);
      std::vector<double> expected(static_cast<std::size_t>(x.size()));
      const float* p = x.data<float>();
      for (Index o = 0; o < shape[0]; ++o)
        for (Index i = 0; i < shape[2]; ++i) {
          double state = 0;
          for (Index k = 0; k < shape[1]; ++k) {
            const Index at = (o * shape[1] + (reverse ? shape[1] - 1 - k : k)) * shape[2] + i;
            expected[static_cast<std::size_t>(at)] = state += static_cast<double>(p[at]);
          }
        }
      // Sums of f64 round once to f32; the pieces' own sums are of lanes of f32.
      EXPECT_TRUE(allclose(cumsum(x, 1, reverse).to(DType::f64), Tensor::from(expected, shape), 1e-6, 2e-4));
      const Threads use(3);
      const Tensor many = cumsum(x, 1, reverse);
      const Threads use_one(1);
      EXPECT_TRUE(same_bytes(many, cumsum(x, 1, reverse)));
    }
}

TEST(Scan, ProductsAndRecurrencesOfEveryShapeAreThoseOfAPlainLoop) {
  for (const Shape& shape : {Shape{1, 5000, 1}, Shape{13, 37, 1}, Shape{9, 6000, 1}, Shape{2, 50, 3}, Shape{1, 9, 1100},
                             Shape{3, 1, 1}, Shape{5, 0, 1}, Shape{2, 0, 3}})
    for (const DType type : {DType::f32, DType::f64})
      for (const bool reverse : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << shape[0] << ", " << shape[1] << ", " << shape[2] << (reverse ? ", reversed" : ""));
        // As a view, and with a NaN in the middle of a line.
        Tensor wide = Rng(2).uniform({shape[0], shape[1], shape[2] + 1}, 0.5, 1.5, DType::f64).to(type);
        if (wide.size() > 40) wide.select(0, 0).select(0, shape[1] / 2).fill(nan);
        const Tensor x = wide.slice(2, 0, shape[2]), a = wide.slice(2, 1, shape[2] + 1);
        const std::vector<double> p = x.to(DType::f64).to_vector<double>(), q = a.to(DType::f64).to_vector<double>();
        std::vector<double> before(p.size()), with(p.size()), recurrence(p.size());
        for (Index line = 0; line < shape[0] * shape[2]; ++line) {
          double product = 1, state = 0;
          for (Index k = 0; k < shape[1]; ++k) {
            const Index t = reverse ? shape[1] - 1 - k : k;
            const auto at = static_cast<std::size_t>((line / shape[2] * shape[1] + t) * shape[2] + line % shape[2]);
            before[at] = product;
            with[at] = product *= p[at];
            recurrence[at] = state = (k == 0 ? 0 : q[at] * state) + p[at];
          }
        }
        const auto all = [&](int threads) {
          const Threads use(threads);
          return std::vector<Tensor>{cumprod(x, 1, reverse), cumprod(x, 1, reverse, true),
                                     linear_scan(a, x, 1, reverse)};
        };
        const std::vector<Tensor> one = all(1), three = all(3);
        EXPECT_TRUE(same_bytes(one[0], Tensor::from(with, shape).to(type)));
        EXPECT_TRUE(same_bytes(one[1], Tensor::from(before, shape).to(type)));
        EXPECT_TRUE(allclose(one[2], Tensor::from(recurrence, shape).to(type), 1e-6, 0, true));
        for (std::size_t k = 0; k < one.size(); ++k) EXPECT_TRUE(same_bytes(one[k], three[k])) << k;
      }
}

TEST(Scan, ExtremesKeepTheLastAmongEqualsAndNotANumber) {
  const MaxResult y = cummax(Tensor::from({1., 3., 3., 2., nan, 5.}), 0);
  EXPECT_EQ(y.indices.to_vector<Index>(), (std::vector<Index>{0, 1, 2, 2, 4, 4}));
  EXPECT_TRUE(std::isnan(y.values.at({5})));
  EXPECT_EQ(cummin(Tensor::from({-inf, 2., -inf}), 0).indices.to_vector<Index>(), (std::vector<Index>{0, 0, 2}));
}

TEST(Scan, ProductsBeforeAndBehind) {
  const Tensor x = Tensor::from({2., 0., 3., 4.});
  EXPECT_EQ(cumprod(x, 0, false, true).to_vector<double>(), (std::vector<double>{1, 2, 0, 0}));
  EXPECT_EQ(cumprod(x, 0, true, true).to_vector<double>(), (std::vector<double>{0, 12, 4, 1}));
  EXPECT_EQ(linear_scan(Tensor::from({inf, 2., -1.}), Tensor::from({1., 1., 5.}), 0).to_vector<double>(),
            (std::vector<double>{1, 3, 2}))
      << "nothing comes before the first, whatever its factor";
}

}  // namespace
}  // namespace espalier
