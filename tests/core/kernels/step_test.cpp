#include "espalier/core/kernels/step.h"

#include <algorithm>
#include <numeric>

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

using Words = std::vector<std::uint64_t>;

/// About a third of the bits set; bits behind n too, which no kernel may heed.
Words random_mask(Index n, unsigned seed) {
  std::mt19937_64 engine(seed);
  Words words(static_cast<std::size_t>(n + 63) / 64 + 1);
  for (auto& word : words) word = engine() & (engine() | engine());
  return words;
}
bool live(Mask mask, Index i) { return !mask || (mask[i / 64] >> (i % 64) & 1) != 0; }
template <class T>
bool positive_zero(T x) {
  return x == 0 && !std::signbit(x);
}

/// Calls body(n, offset, mask) for sizes 0 ... 70, 1000 and 4096, offsets 0 ... 3, with and without a mask.
template <class F>
void on_each_block(F&& body) {
  on_each_target([&] {
    for (Index n : awkward_sizes())
      for (std::size_t offset = 0; offset < 4; ++offset) {
        n = std::min(n, block_size);
        const Words words = random_mask(n, static_cast<unsigned>(n) + 1);
        body(n, offset, Mask());
        body(n, offset, words.data());
      }
  });
}
template <class T>
double tolerance(double scale) {
  return 4 * std::numeric_limits<T>::epsilon() * scale;
}

template <class T>
class StepKernelsTest : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(StepKernelsTest, Types);

// Every map against its plain loop; dead elements are +0 even where the input is NaN; nothing behind the end is
// written.
TYPED_TEST(StepKernelsTest, MapsAgreeWithPlainLoops) {
  using T = TypeParam;
  on_each_block([](Index n, std::size_t offset, Mask mask) {
    const auto& k = step<T>();
    auto x = uniform<T>(n + 8, -3, 3, 5), y = uniform<T>(n + 8, -3, 3, 6);
    for (Index i = 0; i < n; ++i)
      if (!live(mask, i)) x[static_cast<std::size_t>(i) + offset] = i % 2 ? T(nan) : T(infinity);
    const auto check = [&](const char* name, auto&& run, auto&& plain, bool masked) {
      auto out = y;
      run(out.data() + offset);
      for (std::size_t j = 0; j < out.size(); ++j) {
        const auto i = static_cast<Index>(j) - static_cast<Index>(offset);
        if (i < 0 || i >= n) {
          ASSERT_EQ(out[j], y[j]) << name << " wrote outside";
        } else if (masked && !live(mask, i)) {
          ASSERT_TRUE(positive_zero(out[j])) << name << " " << out[j];
        } else if (live(mask, i)) {
          ASSERT_NEAR(out[j], plain(x[j], y[j]), tolerance<T>(8)) << name << " n " << n << " i " << i;
        }
      }
    };
    const T* from = x.data() + offset;
    check(
        "load", [&](T* out) { k.load(out, from, T(0.5), mask, n); }, [](T a, T) { return a / 2; }, true);
    check(
        "load_clamped", [&](T* out) { k.load_clamped(out, from, T(2), T(-1), T(3), mask, n); },
        [](T a, T) { return std::clamp(2 * a, T(-1), T(3)); }, true);
    check(
        "load_squashed", [&](T* out) { k.load_squashed(out, from, T(2), T(1.5), mask, n); },
        [](T a, T) { return static_cast<T>(1.5 * std::tanh(2 * static_cast<double>(a) / 1.5)); }, true);
    check(
        "load_shifted", [&](T* out) { k.load_shifted(out, from, T(2), T(5), mask, n); },
        [](T a, T) { return 2 * a + 5; }, true);
    check(
        "axpy", [&](T* out) { k.axpy(out, T(0.3), from, n); }, [](T a, T b) { return b + T(0.3) * a; }, false);
    check(
        "blend", [&](T* out) { k.blend(out, T(0.7), T(0.3), from, n); },
        [](T a, T b) { return T(0.7) * b + T(0.3) * a; }, false);
    check(
        "sign", [&](T* out) { k.sign(out, n); }, [](T, T b) { return T((b > 0) - (b < 0)); }, false);
    check(
        "mask_zero", [&](T* out) { k.mask_zero(out, mask, n); }, [](T, T b) { return b; }, true);
    std::vector<T> clamped(static_cast<std::size_t>(n));
    Index outside = 0;
    for (Index i = 0; i < n; ++i) {
      const T a = 2 * from[i];
      outside +=
          live(mask, i) && (a < T(0.5) || a > T(3));  // 0 lies outside: neither dead lanes nor the tail may count
    }
    EXPECT_EQ(k.load_clamped(clamped.data(), from, T(2), T(0.5), T(3), mask, n), outside);
  });
}

TYPED_TEST(StepKernelsTest, ClampsAndSignsKeepNaN) {
  using T = TypeParam;
  on_each_target([] {
    std::vector<T> x(19, T(nan)), y(19);
    step<T>().load_clamped(y.data(), x.data(), T(1), T(-1), T(1), nullptr, 19);
    step<T>().sign(x.data(), 19);
    for (std::size_t i = 0; i < x.size(); ++i) EXPECT_TRUE(std::isnan(x[i]) && std::isnan(y[i]));
  });
}

TYPED_TEST(StepKernelsTest, MeasuresAgreeWithPlainLoops) {
  using T = TypeParam;
  on_each_block([](Index n, std::size_t offset, Mask mask) {
    const auto& k = step<T>();
    auto x = uniform<T>(n + 8, -3, 3, 5);
    for (Index i = 0; i < n; ++i)
      if (!live(mask, i)) x[static_cast<std::size_t>(i) + offset] = T(nan);
    const T* from = x.data() + offset;
    long double sum = 0, absolute = 0, squares = 0, most = 0;
    Index count = 0;
    for (Index i = 0; i < n; ++i) {
      if (!live(mask, i)) continue;
      const long double v = from[i];
      sum += v, absolute += std::abs(v), squares += v * v, ++count;
      most = std::max(most, std::abs(v));
    }
    // Each of at most 16 lanes adds at most n / 16 terms, so the error grows with n / 16 roundings at the worst.
    const double bound =
        std::numeric_limits<T>::epsilon() * (2 + static_cast<double>(n) / 16) * static_cast<double>(absolute);
    ASSERT_NEAR(k.sum(from, mask, n), static_cast<double>(sum), bound);
    ASSERT_NEAR(k.abs_sum(from, mask, n), static_cast<double>(absolute), bound);
    ASSERT_NEAR(k.sum_squares(from, mask, n), static_cast<double>(squares), 3 * bound);
    ASSERT_EQ(k.abs_max(from, mask, n), static_cast<double>(most));
    ASSERT_EQ(k.count_nonfinite(from, mask, n), 0);
    ASSERT_EQ(k.first_nonfinite(from, mask, n), -1);
    ASSERT_EQ(count_live(mask, n), count);
  });
}

TYPED_TEST(StepKernelsTest, FindsNonfiniteLiveElements) {
  using T = TypeParam;
  on_each_target([] {
    const auto& k = step<T>();
    for (const T bad : {T(nan), T(infinity), -T(infinity)})
      for (const Index n : {1, 5, 64, 65, 1000})
        for (const Index at : {Index(0), n / 2, n - 1}) {
          std::vector<T> x(static_cast<std::size_t>(n), std::numeric_limits<T>::max());
          x[static_cast<std::size_t>(at)] = bad;
          x[static_cast<std::size_t>(n - 1)] = bad;
          EXPECT_EQ(k.first_nonfinite(x.data(), nullptr, n), at);
          EXPECT_EQ(k.count_nonfinite(x.data(), nullptr, n), at == n - 1 ? 1 : 2);
          EXPECT_EQ(std::isnan(k.abs_max(x.data(), nullptr, n)), std::isnan(bad));
          const Words none(static_cast<std::size_t>(n) / 64 + 1);
          EXPECT_EQ(k.first_nonfinite(x.data(), none.data(), n), -1);
          EXPECT_EQ(k.count_nonfinite(x.data(), none.data(), n), 0);
          EXPECT_EQ(k.abs_max(x.data(), none.data(), n), 0);
          EXPECT_TRUE(positive_zero(k.sum_squares(x.data(), none.data(), n)));
        }
  });
}

TEST(SumSquares, NeitherOverflowsNorVanishesInSinglePrecision) {
  on_each_target([] {
    for (const float magnitude : {1e-44f, 1e-30f, 1e-20f, 1e-15f, 1.0f, 1e18f, 1e19f, 1e30f, 3e38f})
      for (const Index n : {1, 7, 100, 4096}) {
        const std::vector<float> x(static_cast<std::size_t>(n), magnitude);
        const double exact = static_cast<double>(n) * static_cast<double>(magnitude) * static_cast<double>(magnitude);
        EXPECT_NEAR(step<float>().sum_squares(x.data(), nullptr, n) / exact, 1, 2e-5) << magnitude << " x " << n;
      }
    const std::vector<float> bad{1, std::numeric_limits<float>::infinity()}, worse{1, static_cast<float>(nan)};
    EXPECT_EQ(step<float>().sum_squares(bad.data(), nullptr, 2), infinity);
    EXPECT_TRUE(std::isnan(step<float>().sum_squares(worse.data(), nullptr, 2)));
  });
}

/// Algorithm 1 of Kingma and Ba, element by element in double.
struct PlainAdam {
  double m = 0, v = 0;
  double update(const AdamStep& s, double g, double w) {
    g = s.scale * g + s.weight_decay * w;
    m = s.beta1 * m + (1 - s.beta1) * g;
    v = s.beta2 * v + (1 - s.beta2) * g * g;
    return -s.step * m / (s.root * std::sqrt(v) + s.eps);
  }
};
struct PlainSgd {
  double m = 0;
  double update(const SgdStep& s, double g, double w) {
    g = s.scale * g + s.weight_decay * w;
    if (s.momentum == 0) return -s.lr * g;
    m = s.first ? g : s.momentum * m + (1 - s.dampening) * g;
    return -s.lr * (s.nesterov ? g + s.momentum * m : m);
  }
};

/// Several steps straight into the value, the same into scratch and then applied (the same bits), and the plain loop.
template <class T, class Options, class Plain, class Run>
void expect_steps(Index n, std::size_t offset, Mask mask, Options s, Plain, const Run& run) {
  const auto size = static_cast<std::size_t>(n) + 8;
  auto w = uniform<T>(n + 8, -1, 1, 9);
  for (Index i = 0; i < n; ++i)
    if (!live(mask, i)) w[static_cast<std::size_t>(i) + offset] = 0;
  auto w_scratch = w;
  std::vector<double> w_plain(w.begin(), w.end());
  std::vector<T> m(size), v(size), m_scratch(size), v_scratch(size), u(size, T(-77));
  std::vector<Plain> plain(size);
  for (unsigned t = 1; t <= 3; ++t) {
    auto g = uniform<T>(n + 8, -2, 2, 10 + t);
    for (Index i = 0; i < n; ++i)
      if (!live(mask, i)) g[static_cast<std::size_t>(i) + offset] = T(nan);
    if constexpr (requires { s.first; }) s.first = t == 1;
    run(s, g.data() + offset, m.data() + offset, v.data() + offset, w.data() + offset, static_cast<T*>(nullptr));
    run(s, g.data() + offset, m_scratch.data() + offset, v_scratch.data() + offset, w_scratch.data() + offset,
        u.data() + offset);
    for (Index i = 0; i < n; ++i)
      if (!live(mask, i)) {
        ASSERT_TRUE(positive_zero(u[static_cast<std::size_t>(i) + offset]));
      }
    step<T>().sgd({.lr = -1, .keep = s.keep}, u.data() + offset, nullptr, w_scratch.data() + offset, nullptr, mask, n);
    for (std::size_t j = 0; j < size; ++j) {
      const auto i = static_cast<Index>(j) - static_cast<Index>(offset);
      ASSERT_TRUE(same_bits(w[j], w_scratch[j]) && same_bits(m[j], m_scratch[j]) && same_bits(v[j], v_scratch[j]));
      if (i < 0 || i >= n) {
        ASSERT_EQ(u[j], T(-77));
        ASSERT_EQ(m[j], 0);
      } else if (!live(mask, i)) {
        ASSERT_TRUE(positive_zero(w[j]) && positive_zero(m[j]) && positive_zero(v[j]));
      } else {
        w_plain[j] = s.keep * w_plain[j] + plain[j].update(s, static_cast<double>(g[j]), w_plain[j]);
        ASSERT_NEAR(w[j], w_plain[j], tolerance<T>(4)) << "n " << n << " i " << i << " t " << t;
      }
    }
  }
}

TYPED_TEST(StepKernelsTest, AdamIsTheAlgorithm) {
  using T = TypeParam;
  on_each_block([](Index n, std::size_t offset, Mask mask) {
    const auto run = [&](const AdamStep& s, const T* g, T* m, T* v, T* w, T* u) {
      step<T>().adam(s, g, m, v, w, u, mask, n);
    };
    expect_steps<T>(n, offset, mask, AdamStep{.step = 0.1, .root = 3}, PlainAdam(), run);
    expect_steps<T>(n, offset, mask, AdamStep{.step = 0.1, .root = 3, .scale = 0.5, .weight_decay = 0.1, .keep = 0.99},
                    PlainAdam(), run);
  });
}

TYPED_TEST(StepKernelsTest, SgdIsTheAlgorithm) {
  using T = TypeParam;
  on_each_block([](Index n, std::size_t offset, Mask mask) {
    const auto run = [&](const SgdStep& s, const T* g, T* m, T*, T* w, T* u) { step<T>().sgd(s, g, m, w, u, mask, n); };
    expect_steps<T>(n, offset, mask, SgdStep{.lr = 0.1}, PlainSgd(), run);
    expect_steps<T>(n, offset, mask, SgdStep{.lr = 0.1, .momentum = 0.9}, PlainSgd(), run);
    expect_steps<T>(n, offset, mask,
                    SgdStep{.lr = 0.1, .momentum = 0.9, .dampening = 0.25, .scale = 0.5, .weight_decay = 0.1},
                    PlainSgd(), run);
    expect_steps<T>(n, offset, mask, SgdStep{.lr = 0.1, .momentum = 0.9, .keep = 0.99, .nesterov = true}, PlainSgd(),
                    run);
  });
}

// The moments of a dead coordinate at eps = 0 would be 0/0.
TYPED_TEST(StepKernelsTest, AdamWithoutEpsLeavesDeadWeightsAtZero) {
  using T = TypeParam;
  on_each_target([] {
    const std::uint64_t none = 0;
    std::vector<T> g(9, T(1)), m(9), v(9), w(9), u(9, T(1));
    step<T>().adam({.eps = 0}, g.data(), m.data(), v.data(), w.data(), nullptr, &none, 9);
    step<T>().adam({.eps = 0}, g.data(), m.data(), v.data(), w.data(), u.data(), &none, 9);
    for (std::size_t i = 0; i < 9; ++i) EXPECT_TRUE(positive_zero(w[i]) && positive_zero(u[i]) && positive_zero(m[i]));
  });
}

}  // namespace
}  // namespace espalier::kernels
