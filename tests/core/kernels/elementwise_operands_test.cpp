// Kernels of two and three operands, derivatives among them.
#include <functional>

#include "espalier/core/kernels/elementwise.h"
#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

using Reference2 = std::function<long double(long double a, long double b, long double p, long double q)>;

long double sigmoid(long double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
long double phi(long double x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }
long double density(long double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0L)); }
const long double two_root = 2 * std::sqrt(2 / std::acos(-1.0L));
const long double alpha = 1.6732632423543772848170429916717L, lambda = 1.0507009873554804934193349852946L;

struct BinaryCase {
  const char* name;
  const BinaryKernel& (*kernel)();  // asked anew for each SIMD target
  Reference2 exact;
  double ulp;
  double p = 0, q = 0;
  double b_low = -6, b_high = 6;
  double absolute = 0;  // error allowed in units of epsilon, for derivatives that pass through zero
};

#define BINARY(name) []() -> const BinaryKernel& { return binary().name; }
#define BACKWARD(name) []() -> const BinaryKernel& { return backward().name; }

std::vector<BinaryCase> binary_cases() {
  using R = long double;
  return {
      {"add", BINARY(add), [](R a, R b, R, R) { return a + b; }, 0.5},
      {"sub", BINARY(sub), [](R a, R b, R, R) { return a - b; }, 0.5},
      {"mul", BINARY(mul), [](R a, R b, R, R) { return a * b; }, 0.5},
      {"div", BINARY(div), [](R a, R b, R, R) { return a / b; }, 0.51},
      {"maximum", BINARY(maximum), [](R a, R b, R, R) { return a > b ? a : b; }, 0},
      {"minimum", BINARY(minimum), [](R a, R b, R, R) { return a < b ? a : b; }, 0},
      {"pow", BINARY(pow), [](R a, R b, R, R) { return std::pow(a, b); }, 1},
      {"atan2", BINARY(atan2), [](R a, R b, R, R) { return std::atan2(a, b); }, 2},
      {"add_scaled", BINARY(add_scaled), [](R a, R b, R p, R) { return a + p * b; }, 0.51, 0.75, 0, -6, 6, 8},
      {"blend", BINARY(blend), [](R a, R b, R p, R q) { return p * a + q * b; }, 0.51, 0.75, 0.25, -6, 6, 8},
      {"abs_backward", BACKWARD(abs), [](R g, R x, R, R) { return x > 0 ? g : -g; }, 0},
      {"relu_backward", BACKWARD(relu), [](R g, R y, R, R) { return y > 0 ? g : 0; }, 0},
      {"leaky_relu_backward", BACKWARD(leaky_relu), [](R g, R x, R p, R) { return x > 0 ? g : p * g; }, 0.5, 0.25},
      {"elu_backward", BACKWARD(elu), [](R g, R x, R p, R q) { return x > 0 ? g : g * p * q * std::exp(q * x); }, 3.5,
       1.5, 0.5},
      {"clamp_backward", BACKWARD(clamp), [](R g, R x, R p, R q) { return x < p || x > q ? 0 : g; }, 0, -1, 2},
      {"tanh_backward", BACKWARD(tanh), [](R g, R y, R, R) { return g * (1 - y * y); }, 1.5, 0, 0, -1, 1, 8},
      {"sigmoid_backward", BACKWARD(sigmoid), [](R g, R y, R, R) { return g * y * (1 - y); }, 2, 0, 0, 0, 1},
      {"softplus_backward", BACKWARD(softplus), [](R g, R x, R p, R q) { return p * x > q ? g : g * sigmoid(p * x); },
       4, 2, 10},
      {"gelu_backward", BACKWARD(gelu), [](R g, R x, R, R) { return g * (phi(x) + x * density(x)); }, 4, 0, 0, -6, 6,
       40},
      {"gelu_tanh_backward", BACKWARD(gelu_tanh),
       [](R g, R x, R, R) {
         const R s = sigmoid(two_root * (x + 0.044715L * x * x * x));
         return g * (s + x * s * (1 - s) * two_root * (1 + 3 * 0.044715L * x * x));
       },
       8, 0, 0, -6, 6, 40},
      {"mul_scaled", BINARY(mul_scaled), [](R a, R b, R p, R) { return p * a * b; }, 1.5, 0.75},
      {"div_scaled", BINARY(div_scaled), [](R a, R b, R p, R) { return p * a / b; }, 1.5, 0.75},
      {"prelu", BINARY(prelu), [](R x, R w, R, R) { return x > 0 ? x : w * x; }, 0.5},
      {"glu", BINARY(glu), [](R a, R b, R, R) { return a * sigmoid(b); }, 3.5},
      {"reciprocal_backward", BACKWARD(reciprocal), [](R g, R y, R, R) { return -g * y * y; }, 1.5},
      {"rsqrt_backward", BACKWARD(rsqrt), [](R g, R y, R, R) { return -g * y * y * y / 2; }, 3.5},
      {"expm1_backward", BACKWARD(expm1), [](R g, R y, R, R) { return g * (y + 1); }, 2, 0, 0, -0.5, 6},
      {"tan_backward", BACKWARD(tan), [](R g, R y, R, R) { return g * (1 + y * y); }, 2},
      {"log1p_backward", BACKWARD(log1p), [](R g, R x, R, R) { return g / (1 + x); }, 2, 0, 0, -0.5, 6},
      {"sin_backward", BACKWARD(sin), [](R g, R x, R, R) { return g * std::cos(x); }, 3},
      {"cos_backward", BACKWARD(cos), [](R g, R x, R, R) { return -g * std::sin(x); }, 3},
      {"asin_backward", BACKWARD(asin), [](R g, R x, R p, R) { return p * g / std::sqrt(1 - x * x); }, 3, -1, 0, -0.7,
       0.7},
      {"atan_backward", BACKWARD(atan), [](R g, R x, R p, R) { return p * g / (1 + x * x); }, 2, 1},
      {"asinh_backward", BACKWARD(asinh), [](R g, R x, R, R) { return g / std::sqrt(x * x + 1); }, 2},
      {"acosh_backward", BACKWARD(acosh), [](R g, R x, R, R) { return g / std::sqrt(x * x - 1); }, 3, 0, 0, 1.5, 6},
      {"atanh_backward", BACKWARD(atanh), [](R g, R x, R, R) { return g / (1 - x * x); }, 3, 0, 0, -0.7, 0.7},
      {"erf_backward", BACKWARD(erf),
       [](R g, R x, R p, R) { return p * g * 2 / std::sqrt(std::acos(-1.0L)) * std::exp(-x * x); }, 4, -1, 0, -4, 4},
      {"selu_backward", BACKWARD(selu), [](R g, R x, R, R) { return lambda * (x > 0 ? g : g * alpha * std::exp(x)); },
       4},
      {"hardtanh_backward", BACKWARD(hardtanh), [](R g, R x, R p, R q) { return x <= p || x >= q ? 0 : g; }, 0, -1, 2},
      {"threshold_backward", BACKWARD(threshold), [](R g, R x, R p, R) { return x <= p ? 0 : g; }, 0, 0.5},
      {"hardshrink_backward", BACKWARD(hardshrink), [](R g, R x, R p, R) { return std::abs(x) <= p ? 0 : g; }, 0, 0.5},
      {"hardsigmoid_backward", BACKWARD(hardsigmoid),
       [](R g, R x, R, R) { return std::abs(x) < 3 ? g * (1.0f / 6.0f) : 0; }, 0.5},
      {"hardswish_backward", BACKWARD(hardswish),
       [](R g, R x, R, R) { return x < -3   ? 0
                                   : x <= 3 ? g * (x / 3 + 0.5L)
                                            : g; }, 2, 0, 0, -6, 6, 8},
      {"tanhshrink_backward", BACKWARD(tanhshrink), [](R g, R x, R, R) { return g * std::tanh(x) * std::tanh(x); }, 6},
      {"softsign_backward", BACKWARD(softsign),
       [](R g, R x, R, R) { return g / ((1 + std::abs(x)) * (1 + std::abs(x))); }, 3.5},
      {"logsigmoid_backward", BACKWARD(logsigmoid), [](R g, R x, R, R) { return g * sigmoid(-x); }, 3.5},
      {"mish_backward", BACKWARD(mish),
       [](R g, R x, R, R) {
         const R t = std::tanh(std::log1p(std::exp(x)));
         return g * (t + x * (1 - t * t) * sigmoid(x));
       },
       8, 0, 0, -6, 6, 40},
      {"silu_backward", BACKWARD(silu), [](R g, R x, R, R) { return g * sigmoid(x) * (1 + x * (1 - sigmoid(x))); }, 8,
       0, 0, -6, 6, 40},
  };
}

template <class T>
void expect_binary(const BinaryCase& c) {
  const T p = static_cast<T>(c.p), q = static_cast<T>(c.q);
  const auto& f = c.kernel().template get<T>();
  const auto a = uniform<T>(4200, 0.1, 5, 2), b = uniform<T>(4200, c.b_low, c.b_high, 3);
  const auto close = [&](T y, T left, T right) {
    const long double exact = c.exact(left, right, p, q);
    return ulps<T>(y, exact) <= c.ulp || std::abs(y - exact) <= c.absolute * std::numeric_limits<T>::epsilon();
  };
  for (const Index n : awkward_sizes())
    for (Index offset = 0; offset < 4; ++offset) {
      std::vector<T> vv(4200, T(-77)), vs = vv, sv = vv, left = a, right = b;
      f.vv(a.data() + offset, b.data() + 1, vv.data() + 1, n, p, q);
      f.vs(a.data() + offset, b.data() + 5, vs.data() + 1, n, p, q);
      f.sv(a.data() + offset, b.data() + 1, sv.data() + 1, n, p, q);
      f.vv(left.data(), b.data(), left.data(), n, p, q);
      f.vv(a.data(), right.data(), right.data(), n, p, q);
      for (Index k = 0; k < n; ++k) {
        const auto i = static_cast<std::size_t>(k), shifted = static_cast<std::size_t>(k + offset);
        ASSERT_TRUE(close(vv[i + 1], a[shifted], b[i + 1]))
            << c.name << "(" << a[shifted] << ", " << b[i + 1] << ") = " << vv[i + 1];
        ASSERT_TRUE(close(vs[i + 1], a[shifted], b[5])) << c.name << " vs";
        ASSERT_TRUE(close(sv[i + 1], a[static_cast<std::size_t>(offset)], b[i + 1])) << c.name << " sv";
        ASSERT_TRUE(same_bits(left[i], right[i])) << c.name << " in place";
        T alone = 0;
        f.vv(&a[shifted], &b[i + 1], &alone, 1, p, q);
        ASSERT_TRUE(same_bits(alone, vv[i + 1]))
            << c.name << " depends on its place: " << n << " " << offset << " " << k;
      }
      ASSERT_EQ(vv[static_cast<std::size_t>(n) + 1], T(-77)) << c.name << " wrote behind its end";
      ASSERT_EQ(vs[static_cast<std::size_t>(n) + 1], T(-77));
      ASSERT_EQ(sv[static_cast<std::size_t>(n) + 1], T(-77));
      ASSERT_EQ(vv[0], T(-77));
    }
}

TEST(BinaryKernels, AreWithinTheirBoundsAtAnySizeAndOffset) {
  on_each_target([] {
    for (const auto& c : binary_cases()) {
      expect_binary<float>(c);
      expect_binary<double>(c);
    }
  });
}

// Signs, zeros, infinities, NaN, numbers next to the ends of the range: as the standard functions.
template <class T, class F>
void expect_special_pairs(const char* name, const BinaryKernel& kernel, F exact, double bound) {
  using L = std::numeric_limits<T>;
  std::vector<T> values = {
      0,           L::denorm_min(), L::min(), T(0.25),       T(0.5),        1, T(1.5), 2, 3, 4, T(1e6), T(33),
      T(16777217), L::max() / 3,    L::max(), L::infinity(), L::quiet_NaN()};
  for (const T v : std::vector<T>(values)) values.push_back(-v);
  for (const T a : values)
    for (const T b : values) {
      T y = 0;
      kernel.template get<T>().vv(&a, &b, &y, 1, 0, 0);
      const T expected = exact(a, b);
      const bool tiny = std::abs(expected) < L::min() && std::abs(y) < L::min();
      if (std::isnan(expected))
        EXPECT_TRUE(std::isnan(y)) << name << "(" << a << ", " << b << ") = " << y;
      else if (tiny || expected == 0 || std::isinf(expected))
        EXPECT_TRUE(std::signbit(y) == std::signbit(expected) && (tiny || y == expected))
            << name << "(" << a << ", " << b << ") = " << y << ", not " << expected;
      else
        EXPECT_LE(ulps<T>(y, expected), bound) << name << "(" << a << ", " << b << ") = " << y << ", not " << expected;
    }
}

TEST(BinaryKernels, TreatSpecialPairsAsTheStandardFunctions) {
  on_each_target([] {
    auto angle = [](auto y, auto x) { return std::atan2(y, x); };
    auto power = [](auto x, auto y) { return std::pow(x, y); };
    expect_special_pairs<float>("atan2", binary().atan2, angle, 2);
    expect_special_pairs<double>("atan2", binary().atan2, angle, 2);
    expect_special_pairs<float>("pow", binary().pow, power, 1);
    expect_special_pairs<double>("pow", binary().pow, power, 1);
  });
}

struct TernaryCase {
  const char* name;
  TernaryKernel TernaryKernels::*kernel;
  std::function<long double(long double a, long double b, long double c, long double p)> exact;
  double ulp;
  double p = 0;
  double absolute = 0;  // as in BinaryCase
};

std::vector<TernaryCase> ternary_cases() {
  using K = TernaryKernels;
  using R = long double;
  return {
      {"addcmul", &K::addcmul, [](R a, R b, R c, R p) { return a + p * b * c; }, 2, -1.5, 40},
      {"addcdiv", &K::addcdiv, [](R a, R b, R c, R p) { return a + p * b / c; }, 2, -1.5, 100},
      {"lerp", &K::lerp, [](R a, R b, R c, R) { return a + c * (b - a); }, 2, 0, 40},
      {"larger", &K::larger, [](R g, R a, R b, R p) { return p * a > p * b ? g
                                                             : a == b      ? g / 2
                                                                           : 0; }, 0, 1},
      {"smaller", &K::larger, [](R g, R a, R b, R p) { return p * a > p * b ? g
                                                              : a == b      ? g / 2
                                                                            : 0; }, 0, -1},
      {"atan2", &K::atan2, [](R g, R a, R b, R p) { return p * g * b / (a * a + b * b); }, 3, -1},
      {"prelu", &K::prelu, [](R g, R x, R w, R) { return x > 0 ? g : g * w; }, 0.5},
      {"glu", &K::glu, [](R g, R a, R b, R) { return g * a * sigmoid(b) * sigmoid(-b); }, 6},
  };
}

// All combinations of operands that move and operands of one element, at awkward sizes; place does not matter.
template <class T>
void expect_ternary(const TernaryCase& c) {
  const T p = static_cast<T>(c.p);
  const auto f = (ternary().*c.kernel).template get<T>();
  const auto a = uniform<T>(4200, -5, 5, 2), b = uniform<T>(4200, -4, 4, 3), w = uniform<T>(4200, 0.1, 3, 4);
  for (const Index n : awkward_sizes())
    for (unsigned moving = 0; moving < 8; ++moving) {
      const std::array<Index, 3> steps{moving & 1, moving >> 1 & 1, moving >> 2 & 1};
      std::vector<T> y(4200, T(-77));
      f({a.data() + 1, b.data() + 2, w.data() + 3}, steps, y.data() + 1, n, p);
      for (Index k = 0; k < n; ++k) {
        const T x0 = a[static_cast<std::size_t>(1 + k * steps[0])], x1 = b[static_cast<std::size_t>(2 + k * steps[1])],
                x2 = w[static_cast<std::size_t>(3 + k * steps[2])], got = y[static_cast<std::size_t>(k + 1)];
        const long double exact = c.exact(x0, x1, x2, p);
        ASSERT_TRUE(ulps<T>(got, exact) <= c.ulp ||
                    std::abs(got - exact) <= c.absolute * std::numeric_limits<T>::epsilon())
            << c.name << "(" << x0 << ", " << x1 << ", " << x2 << ") = " << got << ", not " << exact;
        T alone = 0;
        f({&x0, &x1, &x2}, {1, 1, 1}, &alone, 1, p);
        ASSERT_TRUE(same_bits(alone, got)) << c.name << " depends on its place: " << n << " " << moving << " " << k;
      }
      ASSERT_EQ(y[static_cast<std::size_t>(n) + 1], T(-77)) << c.name << " wrote behind its end";
      ASSERT_EQ(y[0], T(-77));
    }
}

TEST(TernaryKernels, AreWithinTheirBoundsForAllSteps) {
  on_each_target([] {
    for (const auto& c : ternary_cases()) {
      expect_ternary<float>(c);
      expect_ternary<double>(c);
    }
  });
}

TEST(BinaryKernels, KeepNaN) {
  on_each_target([] {
    const auto k = binary();
    const auto d = backward();
    const auto of = [](const BinaryKernel& kernel, double a, double b, double p = 0, double q = 0) {
      const auto a32 = static_cast<float>(a), b32 = static_cast<float>(b);
      float y32 = 0;
      kernel.f32.vv(&a32, &b32, &y32, 1, static_cast<float>(p), static_cast<float>(q));
      double y = 0;
      kernel.f64.vv(&a, &b, &y, 1, p, q);
      EXPECT_EQ(std::isnan(y), std::isnan(y32));
      return y;
    };
    EXPECT_TRUE(std::isnan(of(k.maximum, nan, 1)));
    EXPECT_TRUE(std::isnan(of(k.maximum, 1, nan)));
    EXPECT_TRUE(std::isnan(of(k.minimum, nan, 1)));
    EXPECT_TRUE(std::isnan(of(k.minimum, 1, nan)));
    EXPECT_EQ(of(d.relu, 2, nan), 2);  // PyTorch's choices at NaN
    EXPECT_EQ(of(d.abs, 2, nan), 0);
    EXPECT_EQ(of(d.clamp, 2, nan, -1, 1), 0);
    EXPECT_TRUE(std::isnan(of(d.relu, nan, 1)));
    EXPECT_TRUE(std::isnan(of(d.silu, 1, nan)));
    EXPECT_TRUE(std::isnan(of(d.gelu, 1, nan)));
    EXPECT_EQ(of(d.relu, nan, -1), 0);  // no gradient flows there, whatever it is
    EXPECT_EQ(of(d.clamp, 2, -1, -1, 1), 2);
    EXPECT_EQ(of(d.clamp, 2, 1, -1, 1), 2);
    EXPECT_EQ(of(d.clamp, 2, 1.5, -1, 1), 0);
    EXPECT_EQ(of(k.maximum, infinity, -infinity), infinity);
  });
}

TEST(BinaryKernels, DerivativesHaveTheirLimitsAtInfinity) {
  on_each_target([] {
    for (const auto kernel :
         {&BackwardKernels::gelu, &BackwardKernels::gelu_tanh, &BackwardKernels::silu, &BackwardKernels::mish})
      for (const double x : {1e4, 1e20, infinity}) {
        if (kernel == &BackwardKernels::gelu && std::isinf(x)) continue;  // NaN there, as PyTorch's
        const double g = 3, below = -x;
        double high = 0, low = 0;
        (backward().*kernel).f64.vv(&g, &x, &high, 1, 0, 0);
        (backward().*kernel).f64.vv(&g, &below, &low, 1, 0, 0);
        EXPECT_EQ(high, 3);
        EXPECT_EQ(low, 0);
      }
  });
}

}  // namespace
}  // namespace espalier::kernels
