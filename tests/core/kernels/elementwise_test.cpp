#include "espalier/core/kernels/elementwise.h"

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <functional>

#include "tests/core/kernels/kernel_test.h"

namespace espalier::kernels {
namespace {

using Reference = std::function<long double(long double x, long double p, long double q)>;

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
long double limit(long double x, long double low, long double high) { return x < low ? low : x > high ? high : x; }
const long double alpha = 1.6732632423543772848170429916717L, lambda = 1.0507009873554804934193349852946L;
long double phi(long double x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }
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
                                                        : 0; }, -9, 9, false, 0, 0},
      {"square", &K::square, [](R x, R, R) { return x * x; }, -9, 9, false, 0.5, 0.5},
      {"sqrt", &K::sqrt, [](R x, R, R) { return std::sqrt(x); }, 0, 9, false, 0.5, 0.5},
      {"rsqrt", &K::rsqrt, [](R x, R, R) { return 1 / std::sqrt(x); }, 0, 9, false, 1.5, 1.5},
      {"reciprocal", &K::reciprocal, [](R x, R, R) { return 1 / x; }, tiny, huge, true, 0.5, 0.5},
      {"floor", &K::floor, [](R x, R, R) { return std::floor(x); }, -9, 9, false, 0, 0},
      {"ceil", &K::ceil, [](R x, R, R) { return std::ceil(x); }, -9, 9, false, 0, 0},
      {"trunc", &K::trunc, [](R x, R, R) { return std::trunc(x); }, -9, 9, false, 0, 0},
      {"round", &K::round, [](R x, R, R) { return std::nearbyint(x); }, -9, 9, false, 0, 0},
      {"affine", &K::affine, [](R x, R p, R q) { return p * x + q; }, 1, 9, false, 1.0, 1.0, 2, 3},
      {"divide", &K::divide, [](R x, R p, R) { return x / p; }, -9, 9, false, 0.5, 0.5, 49},
      {"divide", &K::divide, [](R x, R p, R) { return x / p; }, tiny, huge, true, 0.5, 0.5, -3},
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
      {"pow 0.7", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, 1e-44, 1e38, true, 1, 1, 0.7},
      {"pow -2.5", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, 1e-12, 1e12, true, 1, 1, -2.5},
      {"pow 5", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, -9, 9, false, 1, 1, 5},
      {"pow -4", &K::pow_scalar, [](R x, R p, R) { return std::pow(x, p); }, -9, 9, false, 1, 1, -4},
      {"sin", &K::sin, [](R x, R, R) { return std::sin(x); }, -20, 20, false, 2, 2},
      {"sin", &K::sin, [](R x, R, R) { return std::sin(x); }, tiny, 7999, true, 2, 2},
      {"sin", &K::sin, [](R x, R, R) { return std::sin(x); }, -9000, 9000, false, 2, 2},
      {"cos", &K::cos, [](R x, R, R) { return std::cos(x); }, -20, 20, false, 2, 2},
      {"cos", &K::cos, [](R x, R, R) { return std::cos(x); }, -9000, 9000, false, 2, 2},
      {"tan", &K::tan, [](R x, R, R) { return std::tan(x); }, -9, 9, false, 3.5, 3.5},
      {"tan", &K::tan, [](R x, R, R) { return std::tan(x); }, tiny, 7999, true, 3.5, 3.5},
      {"tan", &K::tan, [](R x, R, R) { return std::tan(x); }, -9000, 9000, false, 3.5, 3.5},
      {"asin", &K::asin, [](R x, R, R) { return std::asin(x); }, -1, 1, false, 2.5, 2.5},
      {"asin", &K::asin, [](R x, R, R) { return std::asin(x); }, tiny, 1, true, 2.5, 2.5},
      {"acos", &K::acos, [](R x, R, R) { return std::acos(x); }, -1, 1, false, 2.5, 2.5},
      {"acos", &K::acos, [](R x, R, R) { return std::acos(x); }, 0.9999, 1, false, 2.5, 2.5},
      {"atan", &K::atan, [](R x, R, R) { return std::atan(x); }, -9, 9, false, 2, 2},
      {"atan", &K::atan, [](R x, R, R) { return std::atan(x); }, tiny, huge, true, 2, 2},
      {"sinh", &K::sinh, [](R x, R, R) { return std::sinh(x); }, -9, 9, false, 2, 2},
      {"sinh", &K::sinh, [](R x, R, R) { return std::sinh(x); }, tiny, 89, true, 3, 3},
      {"cosh", &K::cosh, [](R x, R, R) { return std::cosh(x); }, -9, 9, false, 2, 2},
      {"cosh", &K::cosh, [](R x, R, R) { return std::cosh(x); }, tiny, 89, true, 3, 3},
      {"asinh", &K::asinh, [](R x, R, R) { return std::asinh(x); }, -9, 9, false, 2, 2},
      {"asinh", &K::asinh, [](R x, R, R) { return std::asinh(x); }, tiny, huge, true, 2.5, 2.5},
      {"acosh", &K::acosh, [](R x, R, R) { return std::acosh(x); }, 1, 9, false, 2, 2},
      {"acosh", &K::acosh, [](R x, R, R) { return std::acosh(x); }, 1, 1.001, false, 3, 3},
      {"acosh", &K::acosh, [](R x, R, R) { return std::acosh(x); }, 1, huge, true, 2.5, 2.5},
      {"atanh", &K::atanh, [](R x, R, R) { return std::atanh(x); }, -1, 1, false, 2.5, 2.5},
      {"atanh", &K::atanh, [](R x, R, R) { return std::atanh(x); }, tiny, 1, true, 2.5, 2.5},
      {"tanh", &K::tanh, [](R x, R, R) { return std::tanh(x); }, -20, 20, false, 2.5, 2.5},
      {"tanh", &K::tanh, [](R x, R, R) { return std::tanh(x); }, tiny, 10, true, 2.5, 2.5},
      {"erf", &K::erf, [](R x, R, R) { return std::erf(x); }, -5, 5, false, 2.4, 2},
      {"erf", &K::erf, [](R x, R, R) { return std::erf(x); }, tiny, 10, true, 2.4, 2},
      {"erfc", &K::erfc, [](R x, R, R) { return std::erfc(x); }, -5, 9, false, 6, 6},
      {"sigmoid", &K::sigmoid, [](R x, R, R) { return sigmoid(x); }, -100, 100, false, 2.5, 2.5},
      {"sigmoid", &K::sigmoid, [](R x, R, R) { return sigmoid(x); }, tiny, 80, true, 2.5, 2.5},
      {"softplus", &K::softplus, [](R x, R p, R q) { return p * x > q ? x : std::log1p(std::exp(p * x)) / p; }, -80, 30,
       false, 3, 3, 1, 20},
      {"softplus", &K::softplus, [](R x, R p, R q) { return p * x > q ? x : std::log1p(std::exp(p * x)) / p; }, -20, 20,
       false, 3, 3, 2, 20},
      {"relu", &K::relu, [](R x, R, R) { return x < 0 ? 0 : x; }, -9, 9, false, 0, 0},
      {"leaky_relu", &K::leaky_relu, [](R x, R p, R) { return x < 0 ? p * x : x; }, -9, 9, false, 0.5, 0.5, 0.25},
      {"elu", &K::elu, [](R x, R p, R q) { return x > 0 ? x : p * std::expm1(q * x); }, -9, 9, false, 3, 3, 1.5, 0.5},
      {"gelu", &K::gelu, [](R x, R, R) { return x * phi(x); }, -1, 12, false, 5, 8},
      {"gelu", &K::gelu, [](R x, R, R) { return x * phi(x); }, -3, -1, false, 20, 7},
      {"gelu", &K::gelu, [](R x, R, R) { return x * phi(x); }, -6.99, -3, false, 250, 7},  // of 1e-2 ... 1e-11
      {"gelu", &K::gelu, [](R x, R, R) { return x * phi(x); }, tiny, 1, true, 5, 8},
      {"gelu_tanh", &K::gelu_tanh, [](R x, R, R) { return x * sigmoid(two_root * (x + 0.044715L * x * x * x)); }, -3, 9,
       false, 16, 16},
      {"silu", &K::silu, [](R x, R, R) { return x * sigmoid(x); }, -80, 80, false, 3, 3},
      {"selu", &K::selu, [](R x, R, R) { return lambda * (x > 0 ? x : alpha * std::expm1(x)); }, -9, 9, false, 3, 3},
      {"mish", &K::mish, [](R x, R, R) { return x * std::tanh(std::log1p(std::exp(x))); }, -80, 80, false, 4, 4},
      {"softsign", &K::softsign, [](R x, R, R) { return x / (1 + std::abs(x)); }, -9, 9, false, 1.5, 1.5},
      {"logsigmoid", &K::logsigmoid,
       [](R x, R, R) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); }, -80, 30, false, 3, 3},
      {"hardsigmoid", &K::hardsigmoid, [](R x, R, R) { return limit(x + 3, 0, 6) / 6; }, -2, 9, false, 1.5, 1.5},
      {"hardswish", &K::hardswish, [](R x, R, R) { return x * limit(x + 3, 0, 6) / 6; }, -2, 9, false, 2, 2},
      {"hardshrink", &K::hardshrink, [](R x, R p, R) { return std::abs(x) <= p ? 0 : x; }, -9, 9, false, 0, 0, 0.5},
      {"softshrink", &K::softshrink, [](R x, R p, R) { return std::abs(x) <= p ? 0 : x - std::copysign(p, x); }, -9, 9,
       false, 0.5, 0.5, 0.5},
      {"tanhshrink", &K::tanhshrink, [](R x, R, R) { return x - std::tanh(x); }, 1, 20, false, 8, 8},
      {"threshold", &K::threshold, [](R x, R p, R q) { return x <= p ? q : x; }, -9, 9, false, 0, 0, 0.5, -2},
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

// A dense sample of every exponent, for the one function that has no peer in Highway. (Every third float from 1e-4 to
// 4: 1.84 ulp with fused multiply-add.)
TEST(UnaryKernels, ErfIsWithinItsBoundOverAllFloats) {
  on_each_target([] {
    constexpr std::uint32_t step = 4099, chunk = 1 << 12;
    std::vector<float> x(chunk), y(chunk);
    double worst = 0;
    std::uint32_t bits = 0;
    while (bits < 0x7f800000u) {
      for (float& v : x) v = std::bit_cast<float>(bits = std::min(bits + step, 0x7f800000u));
      unary().erf.f32(x.data(), y.data(), chunk, 0, 0);
      for (std::size_t i = 0; i < x.size(); ++i)
        worst = std::max(worst, ulps<float>(y[i], std::erf(static_cast<double>(x[i]))));
    }
    EXPECT_LE(worst, 2.4);
    if (std::getenv("ESPALIER_PRINT_ULPS")) std::printf("%-8s erf f32 %.3f ulp\n", simd_target().c_str(), worst);
  });
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
