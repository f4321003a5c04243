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

/// The kernels of columns against those of runs, a column being a run of one element a row.
template <class T>
void check_columns(Index rows, Index count, double low, double tolerance) {
  const Index stride = count + 3;
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  const std::vector<T> x = uniform<T>(rows * stride, low, low + 1), g = uniform<T>(rows * stride, -1, 1, 2);
  const Columns columns{rows, stride, count};
  std::vector<Moments> found(at(count));
  norm<T>().column_moments(x.data(), columns, found.data());
  for (const bool relu : {false, true}) {
    ColumnMaps<T> maps;
    ColumnTerms<T> terms;
    maps.relu = relu;
    for (Index c = 0; c < count; ++c) {
      maps.shift[c] = static_cast<T>(low + 0.5);
      maps.factor[c] = static_cast<T>(c % 5) - T(2);
      maps.offset[c] = static_cast<T>(0.1 * static_cast<double>(c % 3));
      terms.of_g[c] = static_cast<T>(c % 7);
      terms.of_x[c] = static_cast<T>(c % 4) - T(1);
      terms.rest[c] = static_cast<T>(c % 2);
    }
    std::vector<T> y(x.size(), T(7)), dx(x.size(), T(7)), expected_y = y, expected_dx = y;
    std::vector<PassedSums> sums(at(count));
    norm<T>().column_scale_shift(x.data(), y.data(), columns, maps);
    norm<T>().column_gradient_sums(g.data(), x.data(), columns, maps, sums.data());
    norm<T>().column_gradient(g.data(), x.data(), dx.data(), columns, maps, terms);
    for (Index c = 0; c < count; ++c) {
      const Runs run{rows, stride, 1};
      const ScaleShift<T> map{maps.shift[c], maps.factor[c], maps.offset[c], relu};
      const Moments expected = plain_moments(x.data() + c, run);
      EXPECT_EQ(found[at(c)].count, expected.count);
      const double spread = std::sqrt(expected.variance());
      EXPECT_NEAR(found[at(c)].mean, expected.mean, tolerance * spread + 4e-16 * std::abs(expected.mean));
      EXPECT_NEAR(found[at(c)].squares, expected.squares, 4 * tolerance * expected.squares);
      norm<T>().scale_shift(x.data() + c, expected_y.data() + c, run, map);
      norm<T>().gradient(g.data() + c, x.data() + c, expected_dx.data() + c, run, map,
                         {terms.of_g[c], terms.of_x[c], terms.rest[c]});
      const PassedSums of_run = norm<T>().gradient_sums(g.data() + c, x.data() + c, run, map);
      EXPECT_NEAR(sums[at(c)].g, of_run.g, tolerance * static_cast<double>(rows));
      EXPECT_NEAR(sums[at(c)].gx, of_run.gx, tolerance * static_cast<double>(rows));
    }
    EXPECT_EQ(y, expected_y);  // what lies between the columns too
    EXPECT_EQ(dx, expected_dx);
  }
}

TEST(NormKernels, TakeColumnsAsRuns) {
  on_each_target([] {
    for (const Index rows : {1, 2, 127, 128, 129, 700})
      for (const Index count : {1, 3, 8, 31, 33, 63, 64}) {
        check_columns<float>(rows, count, -0.5, 1e-6);
        check_columns<double>(rows, count, -0.5, 1e-14);
        check_columns<float>(rows, count, 1e4, 1e-6);
      }
  });
}

TEST(NormKernels, ColumnsOverflowOnlyWhereTheNumbersDo) {
  on_each_target([] {
    std::vector<float> x(600, 1);
    for (std::size_t i = 0; i < 600; i += 3) x[i] = i < 300 ? 3e38f : -3e38f;
    x[301] = static_cast<float>(nan);
    Moments found[3];
    norm<float>().column_moments(x.data(), {200, 3, 3}, found);
    EXPECT_NEAR(found[0].mean, 0, 1e30);
    EXPECT_NEAR(found[0].variance() / 9e76, 1, 1e-6);
    EXPECT_TRUE(std::isnan(found[1].mean));
    EXPECT_EQ(found[2].mean, 1);
    EXPECT_EQ(found[2].squares, 0);
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
