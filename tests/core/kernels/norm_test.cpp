// Kernels of normalisation and attention on every SIMD target, against plain loops in f64.
#include "espalier/core/kernels/norm.h"

#include <array>

#include "espalier/core/kernels/attention.h"
#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

template <class T>
Moments plain_moments(const T* x, Runs runs) {
  Moments m;
  auto each = [&](auto f) {
    for (Index k = 0; k < runs.count; ++k)
      for (Index i = 0; i < runs.length; ++i) f(static_cast<long double>(x[k * runs.stride + i]));
  };
  long double sum = 0, squares = 0;
  each([&](long double v) { sum += v; });
  m.count = static_cast<double>(runs.count * runs.length);
  each([&](long double v) { squares += (v - sum / m.count) * (v - sum / m.count); });
  m.mean = static_cast<double>(sum / m.count);
  m.squares = static_cast<double>(squares);
  return m;
}

template <class T>
void check_moments(double low, double high, double tolerance) {
  const std::vector<T> x = uniform<T>(12000, low, high);
  for (const Runs runs : {Runs{1, 0, 1}, Runs{1, 0, 4097}, Runs{7, 11, 3}, Runs{90, 90, 64}, Runs{3, 3000, 1025},
                          Runs{200, 40, 1}, Runs{5, 2100, 2048}}) {
    const Moments got = norm<T>().moments(x.data(), runs), expected = plain_moments(x.data(), runs);
    EXPECT_EQ(got.count, expected.count);
    const double spread = std::sqrt(expected.variance());
    EXPECT_NEAR(got.mean, expected.mean, tolerance * spread + 4e-16 * std::abs(expected.mean)) << runs.length;
    EXPECT_NEAR(got.squares, expected.squares, 4 * tolerance * expected.squares) << runs.length;
  }
}

TEST(NormKernels, FindMomentsAlsoFarFromZero) {
  on_each_target([] {
    check_moments<float>(-1, 1, 1e-6);
    check_moments<double>(-1, 1, 1e-14);
    check_moments<float>(1e4, 1e4 + 1, 1e-6);  // the spread is 300 units in the last place
    check_moments<double>(1e6, 1e6 + 1, 1e-11);
    EXPECT_EQ(norm<float>().moments(nullptr, {0, 0, 0}).count, 0);
  });
}

TEST(NormKernels, OverflowOnlyWhereTheNumbersDo) {
  on_each_target([] {
    std::vector<float> x(2000, 3e38f);
    std::fill_n(x.begin(), 1000, -3e38f);
    const Moments m = norm<float>().moments(x.data(), {1, 0, 2000});
    EXPECT_NEAR(m.mean, 0, 1e30);
    EXPECT_NEAR(m.variance() / 9e76, 1, 1e-6);
    x[1500] = static_cast<float>(infinity);
    EXPECT_FALSE(std::isfinite(norm<float>().moments(x.data(), {1, 0, 2000}).squares));
  });
}

template <class T>
void check_rows(Index n, bool centered, double tolerance) {
  const Index rows = 3;
  const double eps = 1e-3;
  const std::vector<T> x = uniform<T>(rows * n, -1, 3), g = uniform<T>(rows * n, -1, 1, 2), w = uniform<T>(n, -2, 2, 3),
                       b = uniform<T>(n, -2, 2, 4);
  std::vector<T> y(x.size(), T(7)), dx(x.size(), T(7)), dw(w.size(), T(1)), db(w.size(), T(2));
  std::vector<RowStatistics> found(static_cast<std::size_t>(rows));
  norm<T>().rows(x.data(), w.data(), b.data(), y.data(), rows, n, eps, centered, found.data());
  norm<T>().rows_backward(g.data(), x.data(), w.data(), found.data(), rows, n, centered, dx.data(), dw.data(),
                          db.data());
  std::vector<double> expected_dw(w.size(), 1), expected_db(w.size(), 2);
  for (Index r = 0; r < rows; ++r) {
    auto at = [&](Index i) { return static_cast<std::size_t>(r * n + i); };
    double mean = 0, square = 0, of_g = 0, of_gx = 0;
    for (Index i = 0; i < n; ++i) mean += centered ? static_cast<double>(x[at(i)]) / static_cast<double>(n) : 0;
    for (Index i = 0; i < n; ++i) square += std::pow(static_cast<double>(x[at(i)]) - mean, 2) / static_cast<double>(n);
    const double rstd = 1 / std::sqrt(square + eps);
    auto xhat = [&](Index i) { return (static_cast<double>(x[at(i)]) - mean) * rstd; };
    for (Index i = 0; i < n; ++i) {
      const auto c = static_cast<std::size_t>(i);
      const double gw = static_cast<double>(g[at(i)]) * static_cast<double>(w[c]);
      EXPECT_NEAR(y[at(i)], xhat(i) * static_cast<double>(w[c]) + static_cast<double>(b[c]), tolerance);
      of_g += centered ? gw / static_cast<double>(n) : 0;
      of_gx += gw * xhat(i) / static_cast<double>(n);
      expected_dw[c] += static_cast<double>(g[at(i)]) * xhat(i);
      expected_db[c] += static_cast<double>(g[at(i)]);
    }
    for (Index i = 0; i < n; ++i) {
      const double gw = static_cast<double>(g[at(i)]) * static_cast<double>(w[static_cast<std::size_t>(i)]);
      EXPECT_NEAR(dx[at(i)], rstd * (gw - of_g - xhat(i) * of_gx), tolerance * std::max(1.0, rstd));
    }
  }
  for (std::size_t c = 0; c < w.size(); ++c) {
    EXPECT_NEAR(dw[c], expected_dw[c], 4 * tolerance);
    EXPECT_NEAR(db[c], expected_db[c], 4 * tolerance);
  }
}

TEST(NormKernels, NormaliseRowsOfAnyLength) {
  on_each_target([] {
    for (Index n : awkward_sizes())
      for (bool centered : {true, false}) {
        check_rows<float>(n, centered, 4e-6);
        check_rows<double>(n, centered, 2e-14);
      }
  });
}

template <class T>
void check_softmax(Index columns, double tolerance) {
  constexpr Index rows = 3;
  const Index stride = columns + 5;
  std::vector<T> scores = uniform<T>(rows * stride, -5, 5);
  const std::vector<T> before = scores, mask = uniform<T>(rows * stride, -2, 2, 7);
  for (Index visible : {Index{0}, columns / 2, columns + 9})
    for (bool masked : {false, true}) {
      scores = before;
      std::array<T, rows> largest, rescale;
      std::array<double, rows> sum{};
      largest.fill(static_cast<T>(-infinity));
      attention<T>().softmax({scores.data(), rows, columns, stride, visible, masked ? mask.data() : nullptr, stride},
                             largest.data(), sum.data(), rescale.data());
      for (Index r = 0; r < rows; ++r) {
        const auto row = static_cast<std::size_t>(r);
        double total = 0;
        for (Index c = 0; c < columns; ++c) {
          const auto at = static_cast<std::size_t>(r * stride + c);
          const double score = static_cast<double>(before[at]) + (masked ? static_cast<double>(mask[at]) : 0);
          const double p = c < visible + r ? std::exp(score - static_cast<double>(largest[row])) : 0;
          total += p;
          EXPECT_NEAR(scores[at], p, tolerance);
        }
        EXPECT_NEAR(sum[row], total, tolerance * std::max(1.0, total));
        for (Index c = columns; c < stride; ++c) {  // what is not of the tile is left alone
          const auto at = static_cast<std::size_t>(r * stride + c);
          EXPECT_EQ(scores[at], before[at]);
        }
      }
    }
}

TEST(AttentionKernels, TakeTheSoftmaxOfWhatIsVisible) {
  on_each_target([] {
    for (Index n : awkward_sizes()) {
      check_softmax<float>(n, 1e-6);
      check_softmax<double>(n, 1e-14);
    }
  });
}

TEST(AttentionKernels, NeitherLoseNorSpreadANaN) {
  on_each_target([] {
    for (std::size_t place : {0u, 3u, 17u}) {
      std::vector<float> scores(40, 1);
      scores[place] = static_cast<float>(nan);
      float largest[2], rescale[2];
      double sum[2] = {};
      std::fill_n(largest, 2, static_cast<float>(-infinity));
      attention<float>().softmax({scores.data(), 2, 20, 20, 1000, nullptr, 0}, largest, sum, rescale);
      EXPECT_TRUE(std::isnan(sum[0])) << place;
      EXPECT_EQ(sum[1], 20) << place;
    }
  });
}

}  // namespace
}  // namespace espalier::kernels
