// Reductions where they go wrong: large means, huge and tiny numbers, NaN, ties, nothing at all, every layout.
#include "espalier/core/reduce.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "espalier/core/rng.h"
#include "tests/support.h"

namespace espalier {
namespace {

using testing::same_bytes;
using testing::Threads;
using testing::throws;
constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

/// Shapes in which every loop of the engine has its turn: short and long rows, folded and wide columns, cut rows.
std::vector<Shape> engine_shapes() {
  return {{300, 7, 1},    {40, 64, 1},   {17, 65, 1}, {3, 40000, 1}, {1, 50000, 1}, {2, 3, 5},
          {5, 90, 3},     {1, 20000, 4}, {2, 77, 32}, {1, 500, 33},  {1, 9000, 40}, {3, 40, 700},
          {1, 300, 1030}, {20, 3000, 6}, {1, 1, 5},   {16, 1, 1},    {1, 4097, 2}};
}

/// f of every group over the middle axis, by a plain loop over doubles.
template <class F>
Tensor plain(const Tensor& x, F f) {
  const Index outer = x.dim(0), n = x.dim(1), inner = x.dim(2);
  const std::vector<double> v = x.to(DType::f64).to_vector<double>();
  std::vector<double> y;
  for (Index o = 0; o < outer; ++o)
    for (Index i = 0; i < inner; ++i) {
      std::vector<double> group;
      for (Index k = 0; k < n; ++k) group.push_back(v[static_cast<std::size_t>((o * n + k) * inner + i)]);
      y.push_back(f(group));
    }
  return Tensor::from(y, {outer, inner});
}
using Group = const std::vector<double>&;
double total(Group x) {
  double sum = 0;
  for (const double v : x) sum += v;
  return sum;
}

TEST(Reduce, EveryLoopGivesWhatThePlainOneGives) {
  for (const Shape& shape : engine_shapes())
    for (const DType type : {DType::f32, DType::f64}) {
      SCOPED_TRACE(std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + ", " + std::to_string(shape[2]));
      const Tensor x = Rng(3).uniform(shape, -1, 2, DType::f64).to(type);
      const double eps = type == DType::f32 ? 1e-6 : 1e-14;
      const auto agrees = [&](const Tensor& got, const Tensor& expected, double relative) {
        EXPECT_TRUE(allclose(got.to(DType::f64), expected, relative, relative, true));
      };
      agrees(sum(x, {1}), plain(x, total), eps * std::sqrt(static_cast<double>(shape[1])));
      agrees(amax(x, {1}), plain(x, [](Group g) { return *std::max_element(g.begin(), g.end()); }), 0);
      agrees(amin(x, {1}), plain(x, [](Group g) { return *std::min_element(g.begin(), g.end()); }), 0);
      const auto place = [](auto best) {
        return [best](Group g) { return static_cast<double>(best(g.begin(), g.end()) - g.begin()); };
      };
      agrees(argmax(x, 1), plain(x, place([](auto a, auto b) { return std::max_element(a, b); })), 0);
      agrees(argmin(x, 1), plain(x, place([](auto a, auto b) { return std::min_element(a, b); })), 0);
      agrees(logsumexp(x, {1}),
             plain(x,
                   [](Group g) {
                     double s = 0;
                     for (const double v : g) s += std::exp(v);
                     return std::log(s);
                   }),
             4 * eps);
      agrees(norm(x, 2, {1}),
             plain(x,
                   [](Group g) {
                     double s = 0;
                     for (const double v : g) s += v * v;
                     return std::sqrt(s);
                   }),
             4 * eps);
      agrees(mean_var(x, {1}, false).var,
             plain(x,
                   [](Group g) {
                     const double n = static_cast<double>(g.size()), mean = total(g) / n;
                     double s = 0;
                     for (const double v : g) s += (v - mean) * (v - mean);
                     return s / n;
                   }),
             4 * eps);
      agrees(prod(x.slice(1, 0, 8), {1}),
             plain(x.slice(1, 0, 8).contiguous(),
                   [](Group g) {
                     double p = 1;
                     for (const double v : g) p *= v;
                     return p;
                   }),
             4 * eps);
    }
}

TEST(Reduce, AnyThreadCountGivesTheSameBytes) {
  for (const Shape& shape : engine_shapes()) {
    const Tensor x = Rng(3).uniform(shape, -1, 2);
    const auto all = [&](int threads) {
      const Threads use(threads);
      const MeanVar spread = mean_var(x, {1});
      return std::vector<Tensor>{sum(x, {1}),     prod(x, {1}),
                                 amax(x, {1}),    logsumexp(x, {1}),
                                 norm(x, 2, {1}), norm(x, 1, {1}),
                                 spread.mean,     spread.var,
                                 argmax(x, 1),    scaled_deviations(x, {1}, spread.mean, spread.var)};
    };
    const std::vector<Tensor> one = all(1), three = all(3);
    for (std::size_t k = 0; k < one.size(); ++k) EXPECT_TRUE(same_bytes(one[k], three[k])) << k;
  }
}

TEST(Reduce, VarianceSurvivesAMeanFarLargerThanTheSpread) {
  for (const Shape& shape : engine_shapes()) {
    if (shape[1] < 3) continue;
    // 1e6 + {-1, 0, 1, ...}: exact in f32, while squares of it are not.
    Tensor x = Tensor::empty(shape);
    float* p = x.write<float>("the test");
    for (Index i = 0; i < x.size(); ++i) p[i] = 1e6f + static_cast<float>(i / shape[2] % shape[1] % 3 - 1);
    const Tensor expected = plain(x, [](Group g) {
      const double n = static_cast<double>(g.size()), mean = total(g) / n;
      double s = 0;
      for (const double v : g) s += (v - mean) * (v - mean);
      return s / (n - 1);
    });
    EXPECT_TRUE(allclose(mean_var(x, {1}).var.to(DType::f64), expected, 1e-5)) << shape[1];
  }
}

TEST(Reduce, VarianceOfTooLittleIsNotANumber) {
  EXPECT_TRUE(std::isnan(mean_var(Tensor::ones({1})).var.item()));
  EXPECT_EQ(mean_var(Tensor::ones({1}), {}, false).var.item(), 0);
  EXPECT_TRUE(std::isnan(mean_var(Tensor::ones({0}), {}, false).var.item()));
  EXPECT_TRUE(std::isnan(mean_var(Tensor::from({1., inf}), {}, false).var.item()));
  EXPECT_EQ(mean_var(Tensor::full({100, 40}, 0.1f)).var.item(), 0);
}

TEST(Reduce, NormsNeitherOverflowNorVanish) {
  for (const Shape& shape : {Shape{4, 3}, Shape{3, 4}, Shape{200, 3}, Shape{3, 2000}})
    for (const double scale : {1e30, 1e-30})
      for (const int axis : {0, 1}) {
        const double n = static_cast<double>(shape[axis]);
        const Tensor y = norm(Tensor::full(shape, scale), 2, {axis});
        EXPECT_TRUE(allclose(y, Tensor::full(y.shape(), scale * std::sqrt(n)), 1e-5, 0)) << y;
      }
}

TEST(Reduce, NotANumberWinsOnEveryPath) {
  for (const Shape& shape : engine_shapes()) {
    Tensor x = Tensor::zeros(shape);
    const Index at = shape[1] * 2 / 3;
    x.select(1, at).fill(nan);
    for (const Tensor& y : {amax(x, {1}), amin(x, {1}), sum(x, {1}), norm(x, inf, {1}), logsumexp(x, {1})})
      for (const float v : y.to_vector<float>()) EXPECT_TRUE(std::isnan(v));
    for (const Tensor& y : {argmax(x, 1), argmin(x, 1)})
      for (const Index v : y.to_vector<Index>()) EXPECT_EQ(v, at);
  }
}

TEST(Reduce, TheFirstAmongEqualsIsFound) {
  for (const Shape& shape : engine_shapes()) {
    for (const Index v : argmax(Tensor::ones(shape), 1).to_vector<Index>()) EXPECT_EQ(v, 0);
    for (const Index v : argmin(Tensor::ones(shape), 1).to_vector<Index>()) EXPECT_EQ(v, 0);
  }
  EXPECT_EQ(argmax(Tensor::from({1., 5., 2., 5.}, {2, 2})).item(), 1);
}

TEST(Reduce, LogSumExpAtTheEdges) {
  const Tensor x = Tensor::from({-inf, -inf, inf, 0., 1000., 1000., nan, 0.}, {4, 2});
  for (const Tensor& y : {logsumexp(x, {1}), logsumexp(x.t(), {0}), logsumexp(x.t().contiguous(), {0})}) {
    EXPECT_EQ(y.at({0}), -inf);
    EXPECT_EQ(y.at({1}), inf);
    EXPECT_NEAR(y.at({2}), 1000 + std::log(2), 1e-10);
    EXPECT_TRUE(std::isnan(y.at({3})));
  }
  EXPECT_EQ(logsumexp(Tensor::zeros({0})).item(), -inf);
}

TEST(Softmax, DownColumnsIsThatOfRows) {
  for (const Shape& shape : {Shape{2, 33, 70}, Shape{3, 5, 8}, Shape{1, 130, 9}, Shape{1, 1000, 200}, Shape{2, 7, 3},
                             Shape{2, 1, 17}, Shape{2, 0, 9}, Shape{0, 4, 9}})
    for (const DType type : {DType::f32, DType::f64}) {
      SCOPED_TRACE(::testing::Message() << shape[0] << ", " << shape[1] << ", " << shape[2]);
      const double eps = type == DType::f32 ? 1e-6 : 1e-14;
      Tensor x = Rng(3).uniform(shape, -6, 6, DType::f64).to(type);
      const Tensor g = Rng(4).uniform(shape, -2, 2, DType::f64).to(type);
      if (x.size() > 0) {
        x.select(2, 1).fill(-inf);
        x.select(2, 2).select(1, shape[1] / 2).fill(nan);
        x.select(2, 0).select(1, shape[1] / 2).fill(-inf);
      }
      const auto all = [&](int threads, Index columns) {
        const Threads use(threads);
        const Tensor a = x.narrow(2, 0, columns), b = g.narrow(2, 0, columns);
        const Tensor y = softmax(a, 1), log_y = log_softmax(a, 1);
        return std::vector<Tensor>{y, log_y, softmax_backward(b, y, 1), log_softmax_backward(b, log_y, 1)};
      };
      const Tensor rows = x.transpose(1, 2).contiguous(), g_rows = g.transpose(1, 2).contiguous();
      const Tensor y = softmax(rows, 2), log_y = log_softmax(rows, 2);
      const std::vector<Tensor> expected{y, log_y, softmax_backward(g_rows, y, 2),
                                         log_softmax_backward(g_rows, log_y, 2)};
      const std::vector<Tensor> one = all(1, shape[2]), three = all(3, shape[2]);
      for (std::size_t k = 0; k < one.size(); ++k) {
        EXPECT_TRUE(same_bytes(one[k], three[k])) << k;
        EXPECT_TRUE(allclose(one[k].transpose(1, 2), expected[k], 64 * eps, 64 * eps, true)) << k;
      }
      if (shape[2] < 9) continue;
      const std::vector<Tensor> fewer = all(1, 8);
      for (std::size_t k = 0; k < one.size(); ++k)
        EXPECT_TRUE(same_bytes(one[k].narrow(2, 0, 8).contiguous(), fewer[k])) << k << ": neighbours do not count";
    }
}

TEST(Reduce, NothingHasNoLargest) {
  EXPECT_TRUE(throws<ShapeError>([] { amax(Tensor::zeros({2, 0}), {1}); }, "[amax]", "[2, 0]"));
  EXPECT_TRUE(throws<ShapeError>([] { argmin(Tensor::zeros({0, 3}), 0); }, "[min_along]"));
  EXPECT_EQ(amax(Tensor::zeros({0, 3}), {1}).shape(), Shape({0}));
  EXPECT_EQ(max_along(Tensor::zeros({0, 3}), 1, true).indices.shape(), Shape({0, 1}));
  EXPECT_TRUE(throws<ConfigError>([] { norm(Tensor::zeros({3}), -2); }, "[norm]", "-2"));
  EXPECT_TRUE(throws<IndexError>([] { prod(Tensor::zeros({3, 3}), {0, -2}); }, "[prod]", "twice"));
}

}  // namespace
}  // namespace espalier
