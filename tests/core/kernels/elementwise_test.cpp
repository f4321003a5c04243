#include "espalier/core/kernels/elementwise.h"

#include <cstdio>
#include <functional>

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

using Reference = std::function<long double(long double x, long double p, long double q)>;
using Reference2 = std::function<long double(long double a, long double b, long double p, long double q)>;

/// A kernel, what it should compute, where it is tried, and the largest error allowed.
struct UnaryCase {
  const char* name;
  UnaryKernel UnaryKernels::*kernel;
  Reference exact;
  double low, high;         // arguments are spread evenly here ...
  bool logarithmic;         // ... or evenly in their exponents, both signs
  double ulp_f32, ulp_f64;  // measured on AVX2 and on the targets without fused multiply-add, rounded up
  double p = 0, q = 0;
  double special_limit = std::numeric_limits<double>::infinity();  // special values beyond it are left out
};

long double sigmoid(long double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
long double phi(long double x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }
long double density(long double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0L)); }
const long double two_root = 2 * std::sqrt(2 / std::acos(-1.0L));

std::vector<UnaryCase> unary_cases() {
  using K = UnaryKernels;
  using R = long double;
  const double tiny = 1e-30, huge = 1e30;
  return {
      {"copy", &K::copy, [](R x, R, R) { return x; }, -9, 9, false, 0, 0},
      {"neg", &K::neg, [](R x, R, R) { return -x; }, -9, 9, false, 0, 0},
      {"abs", &K::abs, [](R x, R, R) { return std::abs(x); }, -9, 9, false, 0, 0},
      {"sign", &K::sign, [](R x, R, R) { return x > 0   ? 1
                                                : x < 0 ? -1
                                                        : x; }, -9, 9, false, 0, 0},
      {"square", &K::square, [](R x, R, R) { return x * x; }, -9, 9, false, 0.5, 0.5},
      {"sqrt", &K::sqrt, [](R x, R, R) { return std::sqrt(x); }, 0, 9, false, 0.5, 0.5},
      {"rsqrt", &K::rsqrt, [](R x, R, R) { return 1 / std::sqrt(x); }, 0, 9, false, 1.5, 1.5},
      {"reciprocal", &K::reciprocal, [](R x, R, R) { return 1 / x; }, tiny, huge, true, 0.5, 0.5},
      {"floor", &K::floor, [](R x, R, R) { return std::floor(x); }, -9, 9, false, 0, 0},
      {"ceil", &K::ceil, [](R x, R, R) { return std::ceil(x); }, -9, 9, false, 0, 0},
      {"trunc", &K::trunc, [](R x, R, R) { return std::trunc(x); }, -9, 9, false, 0, 0},
      {"round", &K::round, [](R x, R, R) { return std::nearbyint(x); }, -9, 9, false, 0, 0},
      {"affine", &K::affine, [](R x, R p, R q) { return p * x + q; }, 1, 9, false, 1.0, 1.0, 2, 3},
      {"clamp", &K::clamp, [](R x, R p, R q) { return x < p   ? p
                                                      : x > q ? q
                                                              : x; }, -9, 9, false, 0, 0, -1, 3},
      {"exp", &K::exp, [](R x, R, R) { return std::exp(x); }, -100, 88.7, false, 1.5, 1.5},
      {"exp", &K::exp, [](R x, R, R) { return std::exp(x); }, 1e-9, 80, true, 1.5, 1.5},
      {"expm1", &K::expm1, [](R x, R, R) { return std::expm1(x); }, -20, 88.7, false, 2, 2},
      {"expm1", &K::expm1, [](R x, R, R) { return std::expm1(x); }, tiny, 80, true, 2, 2},
      {"log", &K::log, [](R x, R, R) { return std::log(x); }, 0, 4, false, 1.5, 1.5},
      {"log", &K::log, [](R x, R, R) { return std::log(x); }, 1e-44, 1e38, true, 1.5, 1.5},
      {"log2", &K::log2, [](R x, R, R) { return std::log2(x); }, 0, 4, false, 2.5, 2.5},
      {"log2", &K::log2, [](R x, R, R) { return std::log2(x); }, 1e-44, 1e38, true, 2.5, 2.5},
      {"log10", &K::log10, [](R x, R, R) { return std::log10(x); }, 0, 4, false, 2.5, 2.5},
      {"log10", &K::log10, [](R x, R, R) { return std::log10(x); }, 1e-44, 1e38, true, 2.5, 2.5},
      {"log1p", &K::log1p, [](R x, R, R) { return std::log1p(x); }, -0.999, 4, false, 2, 2},
      {"log1p", &K::log1p, [](R x, R, R) { return std::log1p(x); }, tiny, 1e38, true, 2, 2},
      {"pow 0.5", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, 0, 9, false, 1, 1, 0.5},
      {"pow 2", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, -9, 9, false, 1, 1, 2},
      {"pow 3", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, -9, 9, false, 1.5, 1.5, 3},
      {"pow -1", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, -9, 9, false, 1, 1, -1},
      {"pow 1.75", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, -1, 9, false, 1, 1, 1.75},
      {"sin", &K::sin, [](R x, R, R) { return std::sin(x); }, -20, 20, false, 2, 2},
      {"sin", &K::sin, [](R x, R, R) { return std::sin(x); }, tiny, 7999, true, 2, 2},
      {"sin", &K::sin, [](R x, R, R) { return std::sin(x); }, -9000, 9000, false, 2, 2},
      {"cos", &K::cos, [](R x, R, R) { return std::cos(x); }, -20, 20, false, 2, 2},
      {"cos", &K::cos, [](R x, R, R) { return std::cos(x); }, -9000, 9000, false, 2, 2},
      {"tan", &K::tan, [](R x, R, R) { return std::tan(x); }, -9, 9, false, 1, 1},
      {"asin", &K::asin, [](R x, R, R) { return std::asin(x); }, -1, 1, false, 1, 1},
      {"acos", &K::acos, [](R x, R, R) { return std::acos(x); }, -1, 1, false, 1, 1},
      {"atan", &K::atan, [](R x, R, R) { return std::atan(x); }, -9, 9, false, 1, 1},
      {"sinh", &K::sinh, [](R x, R, R) { return std::sinh(x); }, -9, 9, false, 2, 2},
      {"cosh", &K::cosh, [](R x, R, R) { return std::cosh(x); }, -9, 9, false, 2, 2},
      {"asinh", &K::asinh, [](R x, R, R) { return std::asinh(x); }, -9, 9, false, 2, 2},
      {"acosh", &K::acosh, [](R x, R, R) { return std::acosh(x); }, 1, 9, false, 2, 2},
      {"atanh", &K::atanh, [](R x, R, R) { return std::atanh(x); }, -1, 1, false, 2, 2},
      {"tanh", &K::tanh, [](R x, R, R) { return std::tanh(x); }, -20, 20, false, 2.5, 2.5},
      {"tanh", &K::tanh, [](R x, R, R) { return std::tanh(x); }, tiny, 10, true, 2.5, 2.5},
      {"erf", &K::erf, [](R x, R, R) { return std::erf(x); }, -5, 5, false, 2, 2},
      {"erf", &K::erf, [](R x, R, R) { return std::erf(x); }, tiny, 10, true, 2, 2},
      {"erfc", &K::erfc, [](R x, R, R) { return std::erfc(x); }, -5, 9, false, 6, 6},
      {"sigmoid", &K::sigmoid, [](R x, R, R) { return sigmoid(x); }, -100, 100, false, 2.5, 2.5},
      {"sigmoid", &K::sigmoid, [](R x, R, R) { return sigmoid(x); }, tiny, 80, true, 2.5, 2.5},
      {"softplus", &K::softplus, [](R x, R p, R q) { return p * x > q ? x : std::log1p(std::exp(p * x)) / p; }, -80, 30,
       false, 3, 3, 1, 20},
      {"softplus", &K::softplus, [](R x, R p, R q) { return p * x > q ? x : std::log1p(std::exp(p * x)) / p; }, -20, 20,
       false, 3, 3, 2, 20},
      {"relu", &K::relu, [](R x, R, R) { return x < 0 ? 0 : x; }, -9, 9, false, 0, 0},
      {"leaky_relu", &K::leaky_relu, [](R x, R p, R) { return x < 0 ? p * x : x; }, -9, 9, false, 0.5, 0.5, 0.25},
      {"elu", &K::elu, [](R x, R p, R) { return x > 0 ? x : p * std::expm1(x); }, -9, 9, false, 2.5, 2.5, 1.5},
      {"gelu", &K::gelu, [](R x, R, R) { return x * phi(x); }, -12, 12, false, 7, 7},
      {"gelu", &K::gelu, [](R x, R, R) { return x * phi(x); }, tiny, 5, true, 7, 7},
      {"gelu_tanh", &K::gelu_tanh, [](R x, R, R) { return x * sigmoid(two_root * (x + 0.044715L * x * x * x)); }, -3, 9,
       false, 16, 16},
      {"silu", &K::silu, [](R x, R, R) { return x * sigmoid(x); }, -80, 80, false, 3, 3},
  };
}

template <class T>
std::vector<T> arguments(const UnaryCase& c, Index n) {
  if (!c.logarithmic) return uniform<T>(n, c.low, c.high);
  auto x = uniform<T>(n, std::log(c.low), std::log(c.high));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = std::exp(static_cast<double>(x[i]));
    x[i] = static_cast<T>(i % 2 ? -v : v);
  }
  return x;
}

template <class T>
void expect_close(const UnaryCase& c, double bound) {
  const T p = static_cast<T>(c.p), q = static_cast<T>(c.q);
  const auto x = arguments<T>(c, 20001);
  std::vector<T> y(x.size());
  (unary().*c.kernel).template get<T>()(x.data(), y.data(), static_cast<Index>(x.size()), p, q);
  double worst = 0;
  T at = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double distance = ulps<T>(y[i], c.exact(x[i], p, q));
    if (distance > worst) worst = distance, at = x[i];
  }
  EXPECT_LE(worst, bound) << c.name << " at " << at;
  if (std::getenv("ESPALIER_PRINT_ULPS"))
    std::printf("%-8s f%zu %-12s [%g, %g]%s %.2f ulp at %g\n", simd_target().c_str(), 8 * sizeof(T), c.name, c.low,
                c.high, c.logarithmic ? " log" : "", worst, static_cast<double>(at));
}

TEST(UnaryKernels, AreWithinTheirBounds) {
  on_each_target([] {
    for (const auto& c : unary_cases()) {
      expect_close<float>(c, c.ulp_f32);
      expect_close<double>(c, c.ulp_f64);
    }
  });
}

// Infinities, NaN, zeros, subnormal and huge numbers: as the exact function rounded to T, signs of zeros included.
template <class T>
void expect_special(const UnaryCase& c) {
  using L = std::numeric_limits<T>;
  const T p = static_cast<T>(c.p), q = static_cast<T>(c.q);
  const std::vector<T> x{
      0,         -T(0),    L::infinity(), -L::infinity(), L::quiet_NaN(), L::denorm_min(), -L::denorm_min(), L::min(),
      -L::min(), L::max(), L::lowest(),   T(1),           T(-1),          T(0.5),          T(2.5),           T(1e30),
      T(-1e30),  T(90),    T(-90),        T(-110),        T(720),         T(-800)};
  std::vector<T> y(x.size());
  (unary().*c.kernel).template get<T>()(x.data(), y.data(), static_cast<Index>(x.size()), p, q);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto exact = static_cast<T>(c.exact(x[i], p, q));
    const bool vanishing = std::abs(exact) < L::min() && std::abs(y[i]) < L::min();
    if (std::isnan(exact) || std::isinf(exact) || (exact == 0 && !vanishing))
      EXPECT_TRUE(same_bits(y[i], exact)) << c.name << "(" << x[i] << ") = " << y[i] << ", not " << exact;
    else if (vanishing)
      EXPECT_EQ(std::signbit(y[i]), std::signbit(exact))
          << c.name << "(" << x[i] << ") = " << y[i] << ", not " << exact;
    else
      EXPECT_LE(ulps<T>(y[i], c.exact(x[i], p, q)), 8) << c.name << "(" << x[i] << ") = " << y[i] << ", not " << exact;
  }
}

TEST(UnaryKernels, TreatSpecialValuesAsTheStandardFunctions) {
  on_each_target([] {
    for (const auto& c : unary_cases()) {
      // log of a negative number etc.: NaN. The exact functions of x sigmoid(x) kind give NaN at -infinity, as ours do.
      expect_special<float>(c);
      expect_special<double>(c);
    }
  });
}

// The bits of an element do not depend on where it stands, how many follow it, or whether y is x.
template <class T>
void expect_same_bits_anywhere(const UnaryCase& c) {
  const T p = static_cast<T>(c.p), q = static_cast<T>(c.q);
  const auto f = (unary().*c.kernel).template get<T>();
  const Index length = 4200;
  const auto x = arguments<T>(c, length);
  std::vector<T> one_by_one(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) f(&x[i], &one_by_one[i], 1, p, q);
  for (const Index n : awkward_sizes())
    for (Index offset = 0; offset < 4; ++offset) {
      std::vector<T> y(x.size(), T(-77)), in_place = x;
      f(x.data() + offset, y.data() + offset, n, p, q);
      f(in_place.data() + offset, in_place.data() + offset, n, p, q);
      for (Index i = 0; i < length; ++i) {
        const auto k = static_cast<std::size_t>(i);
        const bool inside = i >= offset && i < offset + n;
        ASSERT_TRUE(same_bits(y[k], inside ? one_by_one[k] : T(-77)))
            << c.name << " n " << n << " offset " << offset << " i " << i;
        ASSERT_TRUE(same_bits(in_place[k], inside ? one_by_one[k] : x[k]))
            << c.name << " in place, n " << n << " i " << i;
      }
    }
}

TEST(UnaryKernels, GiveTheSameBitsWhereverTheChunkIsCut) {
  on_each_target([] {
    const char* done = "";
    for (const auto& c : unary_cases()) {
      if (std::string(done) == c.name) continue;
      done = c.name;
      expect_same_bits_anywhere<float>(c);
      expect_same_bits_anywhere<double>(c);
    }
  });
}

TEST(UnaryKernels, RoundHalvesToEven) {
  on_each_target([] {
    const std::vector<float> x{0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 8388609.0f, 3e38f};
    std::vector<float> y(x.size());
    unary().round.f32(x.data(), y.data(), static_cast<Index>(x.size()), 0, 0);
    EXPECT_EQ(y, (std::vector<float>{0, 2, 2, 0, -2, -2, 8388609.0f, 3e38f}));
  });
}

TEST(UnaryKernels, PowersOfTwoHaveExactLogarithms) {
  on_each_target([] {
    for (int k = -149; k < 128; ++k) {
      const float x = std::scalbn(1.0f, k);
      float y = 0;
      unary().log2.f32(&x, &y, 1, 0, 0);
      EXPECT_EQ(y, static_cast<float>(k));
    }
  });
}

struct BinaryCase {
  const char* name;
  BinaryKernel BinaryKernels::*kernel;
  Reference2 exact;
  double ulp;
  double p = 0, q = 0;
  double b_low = -6, b_high = 6;
  double absolute = 0;  // error allowed in units of epsilon, for derivatives that pass through zero
};

std::vector<BinaryCase> binary_cases() {
  using K = BinaryKernels;
  using R = long double;
  return {
      {"add", &K::add, [](R a, R b, R, R) { return a + b; }, 0.5},
      {"sub", &K::sub, [](R a, R b, R, R) { return a - b; }, 0.5},
      {"mul", &K::mul, [](R a, R b, R, R) { return a * b; }, 0.5},
      {"div", &K::div, [](R a, R b, R, R) { return a / b; }, 0.51},
      {"maximum", &K::maximum, [](R a, R b, R, R) { return a > b ? a : b; }, 0},
      {"minimum", &K::minimum, [](R a, R b, R, R) { return a < b ? a : b; }, 0},
      {"pow", &K::pow, [](R a, R b, R, R) { return std::pow(a, b); }, 1},
      {"atan2", &K::atan2, [](R a, R b, R, R) { return std::atan2(a, b); }, 2},
      {"add_scaled", &K::add_scaled, [](R a, R b, R p, R) { return a + p * b; }, 0.51, 0.75, 0, -6, 6, 8},
      {"blend", &K::blend, [](R a, R b, R p, R q) { return p * a + q * b; }, 0.51, 0.75, 0.25, -6, 6, 8},
      {"abs_backward", &K::abs_backward, [](R g, R x, R, R) { return x > 0 ? g : -g; }, 0},
      {"relu_backward", &K::relu_backward, [](R g, R y, R, R) { return y > 0 ? g : 0; }, 0},
      {"leaky_relu_backward", &K::leaky_relu_backward, [](R g, R x, R p, R) { return x > 0 ? g : p * g; }, 0.5, 0.25},
      {"elu_backward", &K::elu_backward, [](R g, R x, R p, R) { return x > 0 ? g : g * p * std::exp(x); }, 2.5, 1.5},
      {"clamp_backward", &K::clamp_backward, [](R g, R x, R p, R q) { return x < p || x > q ? 0 : g; }, 0, -1, 2},
      {"tanh_backward", &K::tanh_backward, [](R g, R y, R, R) { return g * (1 - y * y); }, 1.5, 0, 0, -1, 1, 8},
      {"sigmoid_backward", &K::sigmoid_backward, [](R g, R y, R, R) { return g * y * (1 - y); }, 2, 0, 0, 0, 1},
      {"softplus_backward", &K::softplus_backward,
       [](R g, R x, R p, R q) { return p * x > q ? g : g * sigmoid(p * x); }, 4, 2, 10},
      {"gelu_backward", &K::gelu_backward, [](R g, R x, R, R) { return g * (phi(x) + x * density(x)); }, 4, 0, 0, -6, 6,
       40},
      {"gelu_tanh_backward", &K::gelu_tanh_backward,
       [](R g, R x, R, R) {
         const R s = sigmoid(two_root * (x + 0.044715L * x * x * x));
         return g * (s + x * s * (1 - s) * two_root * (1 + 3 * 0.044715L * x * x));
       },
       8, 0, 0, -6, 6, 40},
      {"silu_backward", &K::silu_backward, [](R g, R x, R, R) { return g * sigmoid(x) * (1 + x * (1 - sigmoid(x))); },
       8, 0, 0, -6, 6, 40},
  };
}

template <class T>
void expect_binary(const BinaryCase& c) {
  const T p = static_cast<T>(c.p), q = static_cast<T>(c.q);
  const auto& f = (binary().*c.kernel).template get<T>();
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

TEST(BinaryKernels, KeepNaN) {
  on_each_target([] {
    const auto k = binary();
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
    EXPECT_EQ(of(k.relu_backward, 2, nan), 2);  // PyTorch's choices at NaN
    EXPECT_EQ(of(k.abs_backward, 2, nan), 0);
    EXPECT_EQ(of(k.clamp_backward, 2, nan, -1, 1), 0);
    EXPECT_TRUE(std::isnan(of(k.relu_backward, nan, 1)));
    EXPECT_TRUE(std::isnan(of(k.silu_backward, 1, nan)));
    EXPECT_TRUE(std::isnan(of(k.gelu_backward, 1, nan)));
    EXPECT_EQ(of(k.relu_backward, nan, -1), 0);  // no gradient flows there, whatever it is
    EXPECT_EQ(of(k.clamp_backward, 2, -1, -1, 1), 2);
    EXPECT_EQ(of(k.clamp_backward, 2, 1, -1, 1), 2);
    EXPECT_EQ(of(k.clamp_backward, 2, 1.5, -1, 1), 0);
    EXPECT_EQ(of(k.maximum, infinity, -infinity), infinity);
  });
}

TEST(BinaryKernels, DerivativesHaveTheirLimitsAtInfinity) {
  on_each_target([] {
    for (const auto kernel :
         {&BinaryKernels::gelu_backward, &BinaryKernels::gelu_tanh_backward, &BinaryKernels::silu_backward})
      for (const double x : {1e4, 1e20, infinity}) {
        const double g = 3, below = -x;
        double high = 0, low = 0;
        (binary().*kernel).f64.vv(&g, &x, &high, 1, 0, 0);
        (binary().*kernel).f64.vv(&g, &below, &low, 1, 0, 0);
        EXPECT_EQ(high, 3);
        EXPECT_EQ(low, 0);
      }
  });
}

TEST(SimdTarget, NamesThoseItHas) {
  const auto targets = simd_targets();
  ASSERT_FALSE(targets.empty());
  EXPECT_EQ(simd_target(), targets.front());
  for (const auto& name : targets) {
    set_simd_target(name);
    EXPECT_EQ(simd_target(), name);
  }
  set_simd_target("");
  EXPECT_EQ(simd_target(), targets.front());
  EXPECT_THROW(set_simd_target("AVX9"), ConfigError);
}

}  // namespace
}  // namespace espalier::kernels
