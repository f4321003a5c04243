// Vector functions, f32 and f64 from one text: exp, log, pow, erf and what is built of them. Compiled once per SIMD
// target.
//
// Infinities, NaN, signed zeros and subnormal numbers give what the std:: functions give. Largest errors measured are
// asserted in the tests of elementwise.h. No function fuses a multiply with an add unless it says MulAdd.
#if defined(ESPALIER_CORE_KERNELS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_MATH_INL_H_
#undef ESPALIER_CORE_KERNELS_MATH_INL_H_
#else
#define ESPALIER_CORE_KERNELS_MATH_INL_H_
#endif

#include <bit>
#include <cmath>
#include <limits>

#include "espalier/core/kernels/math_tables.h"
#include "espalier/core/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

template <class V>
using ElementOf = hn::TFromD<hn::DFromV<V>>;
template <class V>
using Tables = MathTables<ElementOf<V>>;

/// All lanes c.
template <class V>
HWY_INLINE V All(double c) {
  return hn::Set(hn::DFromV<V>(), static_cast<ElementOf<V>>(c));
}

template <int power, class V>
HWY_INLINE V Power(V x) {
  if constexpr (power == 1)
    return x;
  else
    return Mul(Power<power / 2>(x), Power<power / 2>(x));
}

/// c[first] + c[first+1] x + ... of `terms` terms, by halves (Estrin), so that multiplications overlap.
template <int first, int terms, class V, class T, std::size_t n>
HWY_INLINE V PolynomialPart(V x, const T (&c)[n]) {
  if constexpr (terms == 1) {
    return All<V>(c[first]);
  } else {
    constexpr int half = static_cast<int>(std::bit_ceil(static_cast<unsigned>(terms)) / 2);
    return MulAdd(PolynomialPart<first + half, terms - half>(x, c), Power<half>(x), PolynomialPart<first, half>(x, c));
  }
}
template <class V, class T, std::size_t n>
HWY_INLINE V Polynomial(V x, const T (&c)[n]) {
  return PolynomialPart<0, static_cast<int>(n)>(x, c);
}

/// min(max(x, low), high), NaN stays NaN.
template <class V>
HWY_INLINE V Limit(V x, V low, V high) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  return hn::Min(high, hn::Max(low, x));  // on x86 the second operand wins if one is NaN
#else
  x = IfThenElse(Lt(x, low), low, x);
  return IfThenElse(Gt(x, high), high, x);
#endif
}

/// min(x, high), NaN stays NaN.
template <class V>
HWY_INLINE V AtMost(V x, V high) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  return hn::Min(high, x);
#else
  return IfThenElse(Gt(x, high), high, x);
#endif
}
/// max(x, low), NaN stays NaN.
template <class V>
HWY_INLINE V AtLeast(V x, V low) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  return hn::Max(low, x);
#else
  return IfThenElse(Lt(x, low), low, x);
#endif
}

/// x, with the sign of `sign` flipped into it; x >= 0.
template <class V>
HWY_INLINE V WithSignOf(V x, V sign) {
  return Or(x, And(sign, hn::SignBit(hn::DFromV<V>())));
}

/// The integer nearest to x y, as a floating-point number; |x y| below 2^22 (f32) or 2^51 (f64).
template <class V>
HWY_INLINE V RoundedProduct(V x, V y) {
  const V rounder = All<V>(Tables<V>::rounder);
  return Sub(MulAdd(x, y, rounder), rounder);
}

/// 2^n for an integer n in [-bias, bias + 1]; the ends give 0 and infinity.
template <class V>
HWY_INLINE V PowerOfTwo(V n) {
  const hn::DFromV<V> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const V shifted = Add(n, All<V>(Tables<V>::rounder + Tables<V>::exponent_bias));
  return BitCast(d, hn::ShiftLeft<Tables<V>::mantissa_bits>(BitCast(du, shifted)));
}

/// x = n ln(2) + r, |r| <= ln(2)/2, and exp(r) - 1.
template <class V>
struct ExpParts {
  V n, expm1_r;
};
/// Of high + low, |low| < 1/10 or so.
template <class V>
HWY_INLINE ExpParts<V> SplitExp(V high, V low) {
  const V n = RoundedProduct(high, All<V>(1.44269504088896340736));
  V r = hn::NegMulAdd(n, All<V>(Tables<V>::exp_ln2_high), high);
  r = Add(hn::NegMulAdd(n, All<V>(Tables<V>::exp_ln2_low), r), low);
  return {n, MulAdd(Mul(r, r), Polynomial(r, Tables<V>::exp_rest), r)};
}
template <class V>
HWY_INLINE ExpParts<V> SplitExp(V x) {
  const V n = RoundedProduct(x, All<V>(1.44269504088896340736));
  V r = hn::NegMulAdd(n, All<V>(Tables<V>::exp_ln2_high), x);
  r = hn::NegMulAdd(n, All<V>(Tables<V>::exp_ln2_low), r);
  return {n, MulAdd(Mul(r, r), Polynomial(r, Tables<V>::exp_rest), r)};
}
/// exp from its parts, over the full range: 2^n is multiplied in two steps, so that subnormal results round once.
template <class V>
HWY_INLINE V JoinExp(ExpParts<V> parts) {
  const V n1 = RoundedProduct(parts.n, All<V>(0.5));
  const V scaled = Mul(Add(All<V>(1.0), parts.expm1_r), PowerOfTwo(n1));
  return Mul(scaled, PowerOfTwo(Sub(parts.n, n1)));
}

/// exp from its parts where the result is normal: 2^n is added to the exponent.
template <class V>
HWY_INLINE V JoinExpNormal(ExpParts<V> parts) {
  const hn::DFromV<V> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const V n = Add(parts.n, All<V>(Tables<V>::rounder));
  const auto shift = hn::ShiftLeft<Tables<V>::mantissa_bits>(BitCast(du, n));
  return BitCast(d, Add(BitCast(du, Add(All<V>(1.0), parts.expm1_r)), shift));
}

/// The same bits on both ways: within the normal range, nearly always, nothing needs to be limited.
template <class V>
HWY_INLINE V Exp(V x) {
  if (AllTrue(hn::DFromV<V>(), Le(hn::Abs(x), All<V>(Tables<V>::exp_normal)))) [[likely]]
    return JoinExpNormal(SplitExp(x));
  return JoinExp(SplitExp(Limit(x, All<V>(Tables<V>::exp_lowest), All<V>(Tables<V>::exp_highest))));
}

/// exp from its parts for n in [-bias, 0]; at -bias it is 0.
template <class V>
HWY_INLINE V JoinExpNegative(ExpParts<V> parts) {
  return Mul(Add(All<V>(1.0), parts.expm1_r), PowerOfTwo(parts.n));
}
/// exp(x) for x <= 0; results below the smallest normal number (or twice that) become 0.
template <class V>
HWY_INLINE V ExpNegative(V x) {
  constexpr double lowest = -(static_cast<double>(Tables<V>::exponent_bias)) * 0.6931471805599453;
  return JoinExpNegative(SplitExp(AtLeast(x, All<V>(lowest))));
}

template <class V>
HWY_INLINE V Expm1(V x) {
  const V limited = Limit(x, All<V>(Tables<V>::expm1_lowest), All<V>(Tables<V>::exp_highest));
  const auto parts = SplitExp(limited);
  const V half_scale = PowerOfTwo(Sub(parts.n, All<V>(1.0)));  // half, for exp_highest needs 2^128
  const V half = MulAdd(half_scale, parts.expm1_r, Sub(half_scale, All<V>(0.5)));
  return IfThenElse(Lt(hn::Abs(x), All<V>(1e-30)), x, Add(half, half));  // keeps -0 and subnormal numbers
}

template <class V>
HWY_INLINE V Tanh(V x) {
  const V a = AtMost(hn::Abs(x), All<V>(Tables<V>::tanh_highest));
  const auto parts = SplitExp(Add(a, a));
  const V scale = PowerOfTwo(parts.n);
  const V expm1 = MulAdd(scale, parts.expm1_r, Sub(scale, All<V>(1.0)));
  return WithSignOf(Div(expm1, Add(expm1, All<V>(2.0))), x);
}

/// Of -x.
template <class V>
HWY_INLINE ExpParts<V> SplitExpNeg(V x) {
  const V n = RoundedProduct(x, All<V>(-1.44269504088896340736));
  V r = hn::NegMulSub(n, All<V>(Tables<V>::exp_ln2_high), x);
  r = hn::NegMulAdd(n, All<V>(Tables<V>::exp_ln2_low), r);
  return {n, MulAdd(Mul(r, r), Polynomial(r, Tables<V>::exp_rest), r)};
}
/// The same bits on both ways, as in Exp; far below zero the result is exp(x).
template <class V>
HWY_INLINE V Sigmoid(V x) {
  const hn::DFromV<V> d;
  const V one = All<V>(1.0), limit = All<V>(Tables<V>::exp_normal);
  if (AllTrue(d, Le(hn::Abs(x), limit))) [[likely]]
    return Div(one, Add(one, JoinExpNormal(SplitExpNeg(x))));
  const V y = Div(one, Add(one, JoinExpNormal(SplitExpNeg(Limit(x, Neg(limit), limit)))));
  return IfThenElse(Lt(x, Neg(limit)), Exp(x), IfThenElse(IsNaN(x), x, y));
}

/// sigmoid(x), and 1 - sigmoid(x) without cancellation.
template <class V>
struct SigmoidPair {
  V value, rest;
};
template <class V>
HWY_INLINE SigmoidPair<V> SigmoidAndRest(V x) {
  const V one = All<V>(1.0);
  const V e = ExpNegative(Neg(hn::Abs(x)));
  const V large = Div(one, Add(one, e)), small = Mul(e, large);
  const auto below = Lt(x, hn::Zero(hn::DFromV<V>()));
  return {IfThenElse(below, small, large), IfThenElse(below, large, small)};
}

/// x = 2^k m, m in [sqrt(1/2), sqrt(2)), and log(m) = f - (half_square - tail).
template <class V>
struct LogParts {
  V k, f, half_square, tail;
};
/// Of a positive finite number.
template <class V>
HWY_INLINE LogParts<V> SplitLog(V x) {
  using T = ElementOf<V>;
  const hn::DFromV<V> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  using U = hn::TFromD<decltype(du)>;
  constexpr int bits = Tables<V>::mantissa_bits;
  constexpr U root_half = std::bit_cast<U>(static_cast<T>(0.70710678118654752440));
  constexpr U one = std::bit_cast<U>(T(1));
  constexpr U two_to_mantissa = std::bit_cast<U>(static_cast<T>(U(1) << bits));
  constexpr T lift = static_cast<T>(U(1) << (bits + 2));  // makes subnormal numbers normal

  const auto tiny = Lt(x, All<V>(Tables<V>::smallest_normal));
  x = IfThenElse(tiny, Mul(x, All<V>(lift)), x);
  const auto shifted = Add(BitCast(du, x), hn::Set(du, static_cast<U>(one - root_half)));
  const auto exponent = Or(hn::ShiftRight<bits>(shifted), hn::Set(du, two_to_mantissa));
  V k = Sub(BitCast(d, exponent), All<V>(static_cast<double>(U(1) << bits) + Tables<V>::exponent_bias));
  k = Sub(k, IfThenElseZero(tiny, All<V>(bits + 2)));
  const auto mantissa = And(shifted, hn::Set(du, static_cast<U>((U(1) << bits) - 1)));
  const V f = Sub(BitCast(d, Add(mantissa, hn::Set(du, root_half))), All<V>(1.0));

  const V s = Div(f, Add(f, All<V>(2.0)));
  const V z = Mul(s, s);
  const V half_square = Mul(Mul(All<V>(0.5), f), f);
  return {k, f, half_square, Mul(s, MulAdd(z, Polynomial(z, Tables<V>::log_series), half_square))};
}
/// `y` where x is positive and finite; -infinity, NaN, or x itself where the logarithm has no finite value.
template <class V>
HWY_INLINE V LogSpecial(V x, V y) {
  using T = ElementOf<V>;
  const V zero = hn::Zero(hn::DFromV<V>());
  y = IfThenElse(Lt(x, All<V>(std::numeric_limits<double>::infinity())), y, x);
  y = IfThenElse(Eq(x, zero), All<V>(-std::numeric_limits<T>::infinity()), y);
  return IfThenElse(Lt(x, zero), All<V>(std::numeric_limits<T>::quiet_NaN()), y);
}
template <class V>
HWY_INLINE V LogPositive(V x) {
  const auto p = SplitLog(x);
  const V low = MulAdd(p.k, All<V>(Tables<V>::log_ln2_low), p.tail);
  return MulAdd(p.k, All<V>(Tables<V>::log_ln2_high), Sub(p.f, Sub(p.half_square, low)));
}
template <class V>
HWY_INLINE V Log(V x) {
  return LogSpecial(x, LogPositive(x));
}
template <class V>
HWY_INLINE V Log2(V x) {
  const auto p = SplitLog(x);
  const V log_m = Sub(p.f, Sub(p.half_square, p.tail));
  return LogSpecial(x, MulAdd(log_m, All<V>(1.44269504088896340736), p.k));
}
template <class V>
HWY_INLINE V Log10(V x) {
  const auto p = SplitLog(x);
  const V log_m = Sub(p.f, Sub(p.half_square, p.tail));
  const V low = MulAdd(p.k, All<V>(Tables<V>::log10_2_low), Mul(log_m, All<V>(0.43429448190325182765)));
  return LogSpecial(x, MulAdd(p.k, All<V>(Tables<V>::log10_2_high), low));
}
/// log(u) + c/u with u = 1 + x rounded and c what the rounding lost. x > -1 and finite.
template <class V>
HWY_INLINE V Log1pFinite(V x) {
  const V u = Add(All<V>(1.0), x);
  const V lost = Sub(x, Sub(u, All<V>(1.0)));
  return Add(LogPositive(u), Div(lost, u));
}
template <class V>
HWY_INLINE V Log1p(V x) {
  const V y = LogSpecial(Add(All<V>(1.0), x), Log1pFinite(x));
  return IfThenElse(Lt(hn::Abs(x), All<V>(std::numeric_limits<ElementOf<V>>::epsilon() / 4)), x, y);  // and -0
}
/// log(1 + exp(x)): with e = exp(-|x|) and s = e / (e + 2), log(1 + e) = 2 atanh(s).
template <class V>
HWY_INLINE V LogOnePlusExp(V x) {
  const V above = IfThenElse(Lt(x, All<V>(0.0)), All<V>(0.0), x);
  const V e = ExpNegative(Neg(hn::Abs(x)));
  const V s = Div(e, Add(e, All<V>(2.0)));
  const V z = Mul(s, s), twice = Add(s, s);
  return Add(above, MulAdd(Mul(twice, z), Polynomial(z, Tables<V>::atanh_rest), twice));
}

#if HWY_TARGET != HWY_SCALAR
/// |x|^y for f32, by way of f64, whose logarithm is exact enough for any exponent; rounded once.
template <class V>
HWY_INLINE V PowerOfAbs(V x, V y) {
  const hn::Half<hn::DFromV<V>> half;
  const hn::Rebind<double, decltype(half)> d;
  auto power = [&](auto base, auto exponent) ESPALIER_INLINE_LAMBDA {
    const auto log = Log(PromoteTo(d, base));
    const auto product = IfThenZeroElse(Eq(log, hn::Zero(d)), Mul(PromoteTo(d, exponent), log));  // 1^infinity is 1
    return DemoteTo(half, Exp(product));
  };
  x = hn::Abs(x);
  return Combine(hn::DFromV<V>(), power(UpperHalf(half, x), UpperHalf(half, y)),
                 power(LowerHalf(half, x), LowerHalf(half, y)));
}
#endif
/// As std::pow, which f64 goes through.
template <class V>
HWY_INLINE V Pow(V x, V y) {
  using T = ElementOf<V>;
  const hn::DFromV<V> d;
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(T) == sizeof(float)) {
    const V zero = hn::Zero(d), one = All<V>(1.0), half = Mul(y, All<V>(0.5));
    const auto whole = Eq(Floor(y), y);
    const V sign = IfThenElseZero(And(whole, Ne(Floor(half), half)), And(x, hn::SignBit(d)));  // odd powers keep it
    const auto root = And(Lt(x, zero), Gt(x, All<V>(-std::numeric_limits<double>::infinity())));
    V power = Xor(PowerOfAbs(x, y), sign);
    power = IfThenElse(AndNot(whole, root), All<V>(std::numeric_limits<double>::quiet_NaN()), power);
    return IfThenElse(Or(Eq(y, zero), Eq(x, one)), one, power);
  }
#endif
  HWY_ALIGN T base[lanes_of<T>];
  HWY_ALIGN T exponent[lanes_of<T>];
  Store(x, d, base);
  Store(y, d, exponent);
  for (Index k = 0; k < lanes_of<T>; ++k) base[k] = std::pow(base[k], exponent[k]);
  return hn::Load(d, base);
}

/// e = exp(x), limited so that its square is finite, and w = e (e + 2): tanh(log(1 + e)) = w / (w + 2).
template <class V>
struct MishParts {
  V e, w;
};
template <class V>
HWY_INLINE MishParts<V> MishTerm(V x) {
  const V e = Exp(Limit(x, All<V>(Tables<V>::exp_lowest), All<V>(2 * Tables<V>::tanh_highest)));
  return {e, Mul(e, Add(e, All<V>(2.0)))};
}

/// -c x^2, c = 1 or 1/2, x >= 0, as a sum: the rounding of the square must not grow into its exponential.
template <class V>
HWY_INLINE ExpParts<V> SplitExpNegSquare(V x, double c) {
#if HWY_NATIVE_FMA
  const V scaled = Mul(All<V>(-c), x);
  const V high = Mul(scaled, x);
  return SplitExp(high, hn::MulSub(scaled, x, high));
#else
  const hn::DFromV<V> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  using U = hn::TFromD<decltype(du)>;
  constexpr U upper = static_cast<U>(~U(0) << (Tables<V>::mantissa_bits / 2 + 1));
  const V head = BitCast(d, And(BitCast(du, x), hn::Set(du, upper)));
  const V high = Mul(Mul(All<V>(-c), head), head);  // exact
  return SplitExp(high, Mul(Mul(All<V>(-c), Sub(x, head)), Add(x, head)));
#endif
}
/// exp(-c x^2).
template <class V>
HWY_INLINE V ExpNegSquare(V x, double c) {
  return JoinExp(SplitExpNegSquare(
      Limit(hn::Abs(x), All<V>(0.0), All<V>(c == 1 ? Tables<V>::erfc_highest : Tables<V>::normal_highest)), c));
}
/// exp(z^2) erfc(z) for z >= 0, up to erfc_highest. Shepherd and Laframboise 1981.
template <class V>
HWY_INLINE V ScaledErfc(V z) {
  const V three = All<V>(3.0);
  const V plus = Add(z, three);
  const V slope = MulAdd(z, All<V>(2.0), All<V>(1.0));
  const V inverse = Div(All<V>(1.0), Mul(plus, slope));
  return Mul(Polynomial(Mul(Mul(Sub(z, three), slope), inverse), Tables<V>::erfcx), Mul(plus, inverse));
}
/// erfc(|x|).
template <class V>
HWY_INLINE V ErfcAbs(V x) {
  const V z = Limit(hn::Abs(x), All<V>(0.0), All<V>(Tables<V>::erfc_highest));
  return Mul(JoinExp(SplitExpNegSquare(z, 1.0)), ScaledErfc(z));
}
/// In f32, |erf(x)| = -expm1(log(erfc(|x|))), the logarithm being -|x| (1 + a polynomial): rounded once where it is small.
template <class V>
HWY_INLINE V ErfSingle(V x) {
  const V a = AtMost(hn::Abs(x), All<V>(Tables<V>::erf_highest));
  const auto parts = SplitExp(hn::NegMulSub(a, Polynomial(a, Tables<V>::log_erfc), a));
  const V scale = PowerOfTwo(parts.n);
  return WithSignOf(hn::NegMulAdd(scale, parts.expm1_r, Sub(All<V>(1.0), scale)), x);
}
template <class V>
HWY_INLINE V Erf(V x) {
  if constexpr (sizeof(ElementOf<V>) == sizeof(float)) {
    return ErfSingle(x);
  } else {
    const V small = MulAdd(x, Polynomial(Mul(x, x), Tables<V>::erf_rest), x);
    const V large = WithSignOf(Sub(All<V>(1.0), ErfcAbs(x)), x);
    return IfThenElse(Lt(hn::Abs(x), All<V>(1.0)), small, large);
  }
}
template <class V>
HWY_INLINE V Erfc(V x) {
  const V tail = ErfcAbs(x);
  return IfThenElse(Lt(x, All<V>(0.0)), Sub(All<V>(2.0), tail), tail);
}

/// Density and distribution of the standard normal distribution.
template <class V>
struct Normal {
  V density, distribution;
};
template <class V>
HWY_INLINE Normal<V> NormalAt(V x) {
  const V a = Limit(hn::Abs(x), All<V>(0.0), All<V>(Tables<V>::normal_highest));
  const V e = JoinExpNegative(SplitExpNegSquare(a, 0.5));
  const V below = Mul(Mul(All<V>(0.5), e), ScaledErfc(Mul(a, All<V>(0.70710678118654752440))));  // of -|x|
  return {Mul(e, All<V>(0.39894228040143267794)), IfThenElse(Lt(x, All<V>(0.0)), below, Sub(All<V>(1.0), below))};
}

/// x times the normal distribution at x. In f32, the logarithm of the distribution at -|x| is a polynomial: below -1 the
/// error grows to about log(distribution) ulp, and from -gelu_highest on the result is 0.
template <class V>
HWY_INLINE V Gelu(V x) {
  if constexpr (sizeof(ElementOf<V>) == sizeof(float)) {
    const V a = hn::Abs(x);
    const V e = JoinExpNormal(SplitExp(Neg(Polynomial(a, Tables<V>::log_normal))));
    const V below = IfThenElseZero(Le(a, All<V>(Tables<V>::gelu_highest)), e);
    return Mul(x, IfThenElse(Lt(x, All<V>(0.0)), below, Sub(All<V>(1.0), below)));
  } else {
    return Mul(x, NormalAt(x).distribution);
  }
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
