#include "espalier/core/kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "espalier/core/parallel.h"

namespace espalier::kernels {
namespace {

/// One product with its operands, and the plain loop it is compared with.
template <class T>
struct Case {
  Index m, n, k;
  bool ta = false, tb = false;
  T alpha = 1, beta = 0;
  bool bias = false, relu = false;
  Index gap = 0;  // unused elements behind each row

  std::vector<T> a{}, b{}, c{}, shift{};
  Index lda() const { return (ta ? m : k) + gap; }
  Index ldb() const { return (tb ? k : n) + gap; }
  Index ldc() const { return n + gap; }

  void fill(unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<T> uniform(-1, 1);
    const auto make = [&](Index size) {
      std::vector<T> v(static_cast<std::size_t>(size));
      for (T& x : v) x = uniform(random);
      return v;
    };
    a = make((ta ? k : m) * lda());
    b = make((tb ? n : k) * ldb());
    c = make(m * ldc());
    shift = make(n);
  }

  std::vector<T> run() const {
    std::vector<T> out = c;
    gemm<T>(m, n, k, alpha, {a.data(), lda(), ta}, {b.data(), ldb(), tb}, beta, out.data(), ldc(),
            {bias ? shift.data() : nullptr, relu});
    return out;
  }

  void check() const {
    const std::vector<T> out = run();
    const double eps = std::numeric_limits<T>::epsilon();
    const auto at = [](const std::vector<T>& v, Index i) {
      return static_cast<double>(v[static_cast<std::size_t>(i)]);
    };
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < ldc(); ++j) {
        const Index place = i * ldc() + j;
        if (j >= n) {
          ASSERT_EQ(at(out, place), at(c, place)) << "wrote behind a row";
          continue;
        }
        double sum = 0, size = 0;
        for (Index p = 0; p < k; ++p) {
          const double term = at(a, ta ? p * lda() + i : i * lda() + p) * at(b, tb ? j * ldb() + p : p * ldb() + j);
          sum += term;
          size += std::abs(term);
        }
        double expected = alpha * sum, scale = std::abs(alpha) * size;
        if (beta != 0) {
          expected += beta * at(c, place);
          scale += std::abs(beta * at(c, place));
        }
        if (bias) {
          expected += at(shift, j);
          scale += std::abs(at(shift, j));
        }
        if (relu && expected < 0) expected = 0;
        ASSERT_NEAR(at(out, place), expected, static_cast<double>(k + 4) * eps * scale)
            << m << 'x' << n << 'x' << k << " ta " << ta << " tb " << tb << " at " << i << ',' << j;
      }
    }
  }
};

template <class T>
class Gemm : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Gemm, Types);

TYPED_TEST(Gemm, MatchesThePlainLoopAtAllSizesAndTransposes) {
  unsigned seed = 0;
  for (const Index m : {0, 1, 2, 7, 48, 49, 100}) {
    for (const Index n : {0, 1, 2, 7, 10, 16, 17, 49, 100}) {
      for (const Index k : {0, 1, 2, 7, 49, 100}) {
        for (int t = 0; t < 4; ++t) {
          Case<TypeParam> one{.m = m, .n = n, .k = k, .ta = (t & 1) != 0, .tb = (t & 2) != 0};
          one.bias = (seed & 1) != 0;
          one.relu = (seed & 2) != 0;
          one.gap = seed % 5 == 0 ? 3 : 0;
          one.beta = seed % 3 == 0 ? TypeParam(0.5) : TypeParam(0);
          one.alpha = seed % 7 == 0 ? TypeParam(-1.5) : TypeParam(1);
          one.fill(++seed);
          one.check();
          if (this->HasFatalFailure()) return;
        }
      }
    }
  }
}

TYPED_TEST(Gemm, MatchesThePlainLoopWhereTilesAreCut) {
  unsigned seed = 100;
  for (const auto& [m, n, k] : std::vector<std::tuple<Index, Index, Index>>{{64, 300, 784},
                                                                            {100, 200, 1100},
                                                                            {40, 700, 400},
                                                                            {100, 256, 256},
                                                                            {61, 512, 70},
                                                                            {300, 784, 64},
                                                                            {1, 300, 784},
                                                                            {784, 1, 300},
                                                                            {130, 10, 1024},
                                                                            {300, 300, 300},
                                                                            {3, 4100, 97}}) {
    for (int t = 0; t < 4; ++t) {
      for (const bool extras : {false, true}) {
        Case<TypeParam> one{.m = m, .n = n, .k = k, .ta = (t & 1) != 0, .tb = (t & 2) != 0};
        if (extras) {
          one.bias = one.relu = true;
          one.beta = TypeParam(2);
          one.gap = 5;
        }
        one.fill(++seed);
        one.check();
        if (this->HasFatalFailure()) return;
      }
    }
  }
}

TYPED_TEST(Gemm, SameBytesAtAnyThreadCount) {
  const int before = threads();
  for (const auto& [m, n, k] : std::vector<std::tuple<Index, Index, Index>>{{64, 300, 784},
                                                                            {100, 200, 1100},
                                                                            {100, 256, 512},
                                                                            {5, 900, 400},
                                                                            {300, 784, 64},
                                                                            {1, 1000, 784},
                                                                            {1000, 1, 784},
                                                                            {500, 10, 512},
                                                                            {300, 300, 300}}) {
    for (int t = 0; t < 4; ++t) {
      Case<TypeParam> one{.m = m, .n = n, .k = k, .ta = (t & 1) != 0, .tb = (t & 2) != 0, .bias = true, .relu = true};
      one.fill(7);
      set_threads(1);
      const auto reference = one.run();
      for (const int count : {2, 4}) {
        set_threads(count);
        for (int round = 0; round < 5; ++round) {
          const auto out = one.run();
          EXPECT_EQ(0, std::memcmp(out.data(), reference.data(), out.size() * sizeof(TypeParam))) << m << 'x' << n;
        }
      }
    }
  }
  set_threads(before);
}

TYPED_TEST(Gemm, ZeroBetaDoesNotReadTheOldValues) {
  const TypeParam nan = std::numeric_limits<TypeParam>::quiet_NaN();
  for (const Index m : {1, 5, 80}) {
    for (const Index n : {1, 10, 17, 80}) {
      for (const Index k : {0, 3, 80}) {
        Case<TypeParam> one{.m = m, .n = n, .k = k};
        one.fill(3);
        for (auto& v : one.c) v = nan;
        for (const auto v : one.run()) EXPECT_FALSE(std::isnan(v)) << m << 'x' << n << 'x' << k;
      }
    }
  }
}

TYPED_TEST(Gemm, NanAndInfinityPassThrough) {
  const TypeParam nan = std::numeric_limits<TypeParam>::quiet_NaN();
  const TypeParam inf = std::numeric_limits<TypeParam>::infinity();
  for (const Index m : {1, 5, 80}) {
    for (const Index n : {1, 10, 17, 80}) {
      const Index k = 80;
      for (int t = 0; t < 4; ++t) {
        Case<TypeParam> one{.m = m, .n = n, .k = k, .ta = (t & 1) != 0, .tb = (t & 2) != 0, .relu = true};
        one.fill(5);
        one.a[0] = nan;  // op(A)[0, 0]: all of row 0
        for (auto& v : one.b) v = v == 0 ? TypeParam(0.5) : v;
        const auto out = one.run();
        for (Index j = 0; j < n; ++j) EXPECT_TRUE(std::isnan(out[static_cast<std::size_t>(j)])) << m << 'x' << n;
        for (std::size_t i = static_cast<std::size_t>(n); i < out.size(); ++i) EXPECT_FALSE(std::isnan(out[i]));

        one.a[0] = inf;
        for (auto& v : one.b) v = 0;  // infinity times zero
        for (Index j = 0; j < n; ++j) EXPECT_TRUE(std::isnan(one.run()[static_cast<std::size_t>(j)]));
      }
    }
  }
}

TYPED_TEST(Gemm, LeadingDimensionsBeyond32BitsAreHandled) {
  // One row of each matrix: the stride is never walked, but BLAS could not even be told of it.
  const Index huge = Index{1} << 40;
  std::vector<TypeParam> a(300), b(300), c(300);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = b[i] = static_cast<TypeParam>(i);
  gemm<TypeParam>(300, 300, 1, 1, {a.data(), huge, true}, {b.data(), huge, false}, 0,
                  std::vector<TypeParam>(90000).data(), 300);
  gemm<TypeParam>(1, 300, 1, 1, {a.data() + 2, huge}, {b.data(), huge}, 0, c.data(), huge);
  for (std::size_t i = 0; i < c.size(); ++i) EXPECT_EQ(c[i], TypeParam(2) * b[i]);
}

}  // namespace
}  // namespace espalier::kernels
