#include "espalier/core/kernels/reduce.h"

#include <algorithm>

#include "espalier/core/kernels/groups.h"
#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

template <class T>
class ReduceKernelsTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(ReduceKernelsTest, Types);

template <class F>
void on_each_row(F&& body) {
  on_each_target([&] {
    for (const Index n : awkward_sizes())
      for (Index offset = 0; offset < 4; ++offset) body(n, offset);
    body(100003, 1);
  });
}

// A lane adds at most 1024 numbers (baseline: 256) before f64 takes over; with vectors a lane adds 64 or fewer.
template <class T>
constexpr double sum_error = 256 * std::numeric_limits<T>::epsilon();

TYPED_TEST(ReduceKernelsTest, SumsAgreeWithPlainLoops) {
  using T = TypeParam;
  on_each_row([](Index n, Index offset) {
    const auto& k = reduce<T>();
    const auto x = uniform<T>(n + 4, -3, 3, 1), z = uniform<T>(n + 4, -3, 3, 2);
    const T *a = x.data() + offset, *b = z.data();
    long double sum = 0, absolute = 0, squares = 0, dot = 0, dots = 0;
    for (Index i = 0; i < n; ++i) {
      const long double v = a[i], w = b[i];
      sum += v, absolute += std::abs(v), squares += v * v, dot += v * w, dots += std::abs(v * w);
    }
    ASSERT_NEAR(k.sum(a, n), static_cast<double>(sum), sum_error<T> * static_cast<double>(absolute));
    ASSERT_NEAR(k.abs_sum(a, n), static_cast<double>(absolute), sum_error<T> * static_cast<double>(absolute));
    ASSERT_NEAR(k.sum_squares(a, n), static_cast<double>(squares), sum_error<T> * static_cast<double>(squares));
    ASSERT_NEAR(k.dot(a, b, n), static_cast<double>(dot), sum_error<T> * static_cast<double>(dots));
    ASSERT_EQ(k.count_nonfinite(a, n), 0);
  });
}

TYPED_TEST(ReduceKernelsTest, ExtremesAgreeWithPlainLoops) {
  using T = TypeParam;
  on_each_row([](Index n, Index offset) {
    const auto& k = reduce<T>();
    auto x = uniform<T>(n + 4, -3, 3, 1);
    for (T& v : x) v = std::round(v * 8);  // many ties
    const T* a = x.data() + offset;
    if (n == 0) {
      ASSERT_EQ(k.max(a, 0), T(-infinity));
      ASSERT_EQ(k.min(a, 0), T(infinity));
      ASSERT_EQ(k.abs_max(a, 0), T(0));
      ASSERT_EQ(k.argmax(a, 0), -1);
      ASSERT_EQ(k.argmin(a, 0), -1);
      return;
    }
    const Index most = std::max_element(a, a + n) - a, least = std::min_element(a, a + n) - a;
    ASSERT_EQ(k.max(a, n), a[most]);
    ASSERT_EQ(k.min(a, n), a[least]);
    ASSERT_EQ(k.argmax(a, n), most);
    ASSERT_EQ(k.argmin(a, n), least);
    ASSERT_EQ(k.abs_max(a, n), std::max(std::abs(a[most]), std::abs(a[least])));

    x[static_cast<std::size_t>(offset + n / 2)] = T(nan);
    x[static_cast<std::size_t>(offset + n - 1)] = T(nan);
    ASSERT_TRUE(std::isnan(k.max(a, n)) && std::isnan(k.min(a, n)) && std::isnan(k.abs_max(a, n)));
    ASSERT_EQ(k.argmax(a, n), n / 2);
    ASSERT_EQ(k.argmin(a, n), n / 2);
    ASSERT_EQ(k.count_nonfinite(a, n), n / 2 == n - 1 ? 1 : 2);
    ASSERT_TRUE(std::isnan(k.sum(a, n)) && std::isnan(k.sum_squares(a, n)));
  });
}

TYPED_TEST(ReduceKernelsTest, InfinitiesAreExtremes) {
  using T = TypeParam;
  on_each_target([] {
    const auto& k = reduce<T>();
    const std::vector<T> x(23, -T(infinity)), y(23, T(infinity));
    EXPECT_EQ(k.max(x.data(), 23), -T(infinity));
    EXPECT_EQ(k.argmax(x.data(), 23), 0);
    EXPECT_EQ(k.min(y.data(), 23), T(infinity));
    EXPECT_EQ(k.argmin(y.data(), 23), 0);
    EXPECT_EQ(k.abs_max(x.data(), 23), T(infinity));
    EXPECT_EQ(k.count_nonfinite(x.data(), 23), 23);
  });
}

TYPED_TEST(ReduceKernelsTest, ProductIsTakenInDouble) {
  using T = TypeParam;
  on_each_target([] {
    const std::vector<T> x{T(1e30), T(1e30), T(1e-30), T(1e-30), T(2), T(3), T(-1)};
    EXPECT_NEAR(reduce<T>().prod(x.data(), 7), -6, 1e-5);
    EXPECT_EQ(reduce<T>().prod(x.data(), 0), 1);
  });
}

TYPED_TEST(ReduceKernelsTest, ProductsAgreeWithPlainLoops) {
  using T = TypeParam;
  on_each_row([](Index n, Index offset) {
    auto x = uniform<T>(n + 4, -1, 1, 1);
    for (T& v : x) v = std::copysign(std::exp2(v), v);  // products stay within range
    const T* a = x.data() + offset;
    long double product = 1;
    for (Index i = 0; i < n; ++i) product *= a[i];
    ASSERT_NEAR(reduce<T>().prod(a, n) / static_cast<double>(product), 1, 1e-15 * static_cast<double>(n + 1));
    if (n == 0) return;
    x[static_cast<std::size_t>(offset + n / 2)] = static_cast<T>(nan);
    ASSERT_TRUE(std::isnan(reduce<T>().prod(a, n)));
  });
}

TYPED_TEST(ReduceKernelsTest, ProductsOfColumnsAreThoseOfAPlainLoop) {
  using T = TypeParam;
  on_each_target([] {
    for (const Index rows : {0, 1, 3, 4, 5, 11})
      for (Index cols = 0; cols <= 40; ++cols) {
        const Index stride = cols + 3;
        const auto x = uniform<T>(rows * stride, -2, 2, 1);
        std::vector<double> out(static_cast<std::size_t>(cols) + 1, 7);
        groups<T>().multiply(x.data(), rows, cols, stride, out.data());
        for (Index c = 0; c < cols; ++c) {
          double product = 1;
          for (Index r = 0; r < rows; ++r) product *= static_cast<double>(x[static_cast<std::size_t>(r * stride + c)]);
          ASSERT_EQ(out[static_cast<std::size_t>(c)], product) << rows << " x " << cols << " at " << c;
        }
        ASSERT_EQ(out.back(), 7);
      }
  });
}

TEST(Sum, OfMillionsLosesNothingToItsLength) {
  on_each_target([] {
    const std::vector<float> x(1 << 22, 0.1f);
    EXPECT_NEAR(reduce<float>().sum(x.data(), 1 << 22) / (static_cast<double>(0.1f) * (1 << 22)), 1, sum_error<float>);
    const std::vector<double> y(1 << 22, 0.1);
    EXPECT_NEAR(reduce<double>().sum(y.data(), 1 << 22) / (0.1 * (1 << 22)), 1, sum_error<double>);
  });
}

TEST(PairwiseSum, AddsByATree) {
  for (int n = 0; n < 40; ++n) {
    PairwiseSum sum;
    for (int i = 1; i <= n; ++i) sum.add(i);
    EXPECT_EQ(sum.total(), n * (n + 1) / 2);
  }
}

// Any split of the columns gives the same bits, and the sums are right.
TYPED_TEST(ReduceKernelsTest, AddRowsSumsEachColumnForItself) {
  using T = TypeParam;
  on_each_target([] {
    for (const Index rows : {0, 1, 2, 10, 63, 64, 65, 200})
      for (const Index cols : {0, 1, 3, 7, 8, 17, 64, 67, 101}) {
        const Index stride = cols + 3;
        const auto x = uniform<T>(rows * stride + 1, -3, 3);
        std::vector<T> out(static_cast<std::size_t>(cols) + 1, T(-77)), split = out;
        reduce<T>().add_rows(x.data() + 1, rows, cols, stride, out.data());
        const Index cut = cols / 3;
        reduce<T>().add_rows(x.data() + 1, rows, cut, stride, split.data());
        reduce<T>().add_rows(x.data() + 1 + cut, rows, cols - cut, stride, split.data() + cut);
        ASSERT_EQ(out.back(), T(-77));
        for (Index c = 0; c < cols; ++c) {
          long double sum = 0;
          for (Index r = 0; r < rows; ++r) sum += x[static_cast<std::size_t>(1 + r * stride + c)];
          const auto j = static_cast<std::size_t>(c);
          ASSERT_NEAR(out[j], static_cast<double>(sum),
                      64 * 3 * std::numeric_limits<T>::epsilon() * (1 + static_cast<double>(rows)));
          ASSERT_TRUE(same_bits(out[j], split[j])) << rows << " x " << cols;
        }
      }
  });
}

// The softmax family against long double. The argument x - max is rounded to T, up to half an ulp of 12: relative error
// of exp up to 8 epsilon/2, and a few more for the rest.
TYPED_TEST(ReduceKernelsTest, SoftmaxFamilyAgreesWithPlainLoops) {
  using T = TypeParam;
  using L = long double;
  on_each_target([] {
    const auto& k = reduce<T>();
    const double eps = std::numeric_limits<T>::epsilon();
    for (const Index n : awkward_sizes())
      for (std::size_t offset = 0; offset < 4; ++offset) {
        if (n == 0) continue;
        const auto x = uniform<T>(n + 5, -6, 6, 1), g = uniform<T>(n + 5, -2, 2, 2);
        const T *from = x.data() + offset, *grad = g.data() + offset;
        std::vector<T> y(x.size(), T(-77)), log_y = y, dx = y, dlog = y, in_place = x, dloss = y;
        k.softmax_row(from, y.data() + offset, n);
        k.softmax_row(in_place.data() + offset, in_place.data() + offset, n);
        k.log_softmax_row(from, log_y.data() + offset, n);
        k.softmax_backward_row(grad, y.data() + offset, dx.data() + offset, n);
        k.log_softmax_backward_row(grad, log_y.data() + offset, dlog.data() + offset, n);
        const Index label = n / 3;
        const double loss = k.cross_entropy_row(from, n, label, dloss.data() + offset, T(0.5));
        ASSERT_EQ(loss, k.cross_entropy_row(from, n, label, nullptr, T(0.5)));
        L sum = 0, weighted = 0, total = 0;
        for (Index i = 0; i < n; ++i) sum += std::exp(static_cast<L>(from[i]));
        for (Index i = 0; i < n; ++i) weighted += grad[i] * std::exp(static_cast<L>(from[i])) / sum, total += grad[i];
        const double log_sum = static_cast<double>(std::log(sum));
        ASSERT_NEAR(k.logsumexp_row(from, n), log_sum, 16 * eps);
        ASSERT_NEAR(loss, log_sum - static_cast<double>(from[label]), 16 * eps);
        ASSERT_EQ(y[static_cast<std::size_t>(n) + offset], T(-77)) << "wrote behind the end";
        for (Index i = 0; i < n; ++i) {
          const auto j = static_cast<std::size_t>(i) + offset;
          const L p = std::exp(static_cast<L>(from[i])) / sum;
          const auto at = [&](L v) { return static_cast<double>(v); };
          ASSERT_NEAR(y[j], at(p), 24 * eps * at(p)) << n;
          ASSERT_TRUE(same_bits(y[j], in_place[j]));
          ASSERT_NEAR(log_y[j], at(from[i] - std::log(sum)), 24 * eps);
          ASSERT_NEAR(dx[j], at(p * (grad[i] - weighted)), 64 * eps * at(p) * 4);
          ASSERT_NEAR(dlog[j], at(grad[i] - p * total), 64 * eps * (2 + at(p) * 2 * static_cast<double>(n)));
          ASSERT_NEAR(dloss[j], at((p - (i == label)) / 2), 24 * eps);
        }
      }
  });
}

TYPED_TEST(ReduceKernelsTest, SoftmaxFamilyAtTheEdges) {
  using T = TypeParam;
  on_each_target([] {
    const auto& k = reduce<T>();
    for (const Index n : {1, 3, 8, 33}) {
      const auto size = static_cast<std::size_t>(n);
      std::vector<T> y(size), x(size, -T(infinity));
      k.softmax_row(x.data(), y.data(), n);
      for (const T v : y) EXPECT_TRUE(std::isnan(v));
      k.log_softmax_row(x.data(), y.data(), n);
      for (const T v : y) EXPECT_TRUE(std::isnan(v));
      EXPECT_EQ(k.logsumexp_row(x.data(), n), -infinity);

      x.back() = 7;  // all others masked out
      k.softmax_row(x.data(), y.data(), n);
      EXPECT_EQ(y.back(), 1);
      EXPECT_EQ(y.front(), n == 1 ? 1 : 0);
      EXPECT_EQ(k.logsumexp_row(x.data(), n), 7);
      EXPECT_EQ(k.cross_entropy_row(x.data(), n, 0, nullptr, 1), n == 1 ? 0 : infinity);
      k.log_softmax_row(x.data(), y.data(), n);
      EXPECT_EQ(y.front(), n == 1 ? 0 : -T(infinity));

      x.front() = T(infinity);
      EXPECT_EQ(k.logsumexp_row(x.data(), n), infinity);
      x.front() = T(nan);
      EXPECT_TRUE(std::isnan(k.logsumexp_row(x.data(), n)));
      k.softmax_row(x.data(), y.data(), n);
      for (const T v : y) EXPECT_TRUE(std::isnan(v));

      std::fill(x.begin(), x.end(), std::numeric_limits<T>::max());  // no overflow
      k.softmax_row(x.data(), y.data(), n);
      EXPECT_NEAR(y.front() * static_cast<T>(n), 1, 1e-6);
      std::fill(x.begin(), x.end(), T(-1000));
      EXPECT_NEAR(k.logsumexp_row(x.data(), n), -1000 + std::log(static_cast<double>(n)), 1e-3);
    }
    EXPECT_EQ(k.logsumexp_row(nullptr, 0), -infinity);
    k.softmax_row(nullptr, nullptr, 0);
    k.log_softmax_row(nullptr, nullptr, 0);
    EXPECT_EQ(k.sum(nullptr, 0), 0);
    EXPECT_EQ(k.dot(nullptr, nullptr, 0), 0);
  });
}

}  // namespace
}  // namespace espalier::kernels
