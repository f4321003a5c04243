// Vector functions of angles and areas: sin, cos, tan, their inverses and those of the hyperbola. See math-inl.h.
#if defined(ESPALIER_CORE_KERNELS_ANGLES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_ANGLES_INL_H_
#undef ESPALIER_CORE_KERNELS_ANGLES_INL_H_
#else
#define ESPALIER_CORE_KERNELS_ANGLES_INL_H_
#endif

#include <cmath>

#include "espalier/core/kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

/// sin and cos of what is left of x behind whole quarter turns, and the number of these in the low bits.
template <class V>
struct CircleParts {
  V sine, cosine;
  hn::VFromD<hn::RebindToUnsigned<hn::DFromV<V>>> quarters;
};
/// For |x| <= circle_limit. Cody and Waite's reduction by pi/2.
template <class V>
HWY_INLINE CircleParts<V> SplitCircle(V x) {
  const hn::RebindToUnsigned<hn::DFromV<V>> du;
  const V rounder = All<V>(Tables<V>::rounder);
  const V shifted = MulAdd(x, All<V>(0.63661977236758134308), rounder);
  const V n = Sub(shifted, rounder);
  V r = x;
  for (const auto part : Tables<V>::half_pi) r = hn::NegMulAdd(n, All<V>(part), r);
  const V z = Mul(r, r);
  const V sine = MulAdd(Mul(z, r), Polynomial(z, Tables<V>::sin_rest), r);
  const V cosine = MulAdd(Mul(z, z), Polynomial(z, Tables<V>::cos_rest), hn::NegMulAdd(z, All<V>(0.5), All<V>(1.0)));
  return {IfThenElse(Eq(r, All<V>(0.0)), r, sine), cosine, BitCast(du, shifted)};  // keeps -0
}
template <class V, class U>
HWY_INLINE auto IsOdd(U quarters) {
  return hn::RebindMask(hn::DFromV<V>(), TestBit(quarters, hn::Set(hn::DFromV<U>(), hn::TFromD<hn::DFromV<U>>(1))));
}
/// sin (turns = 0) or cos (turns = 1).
template <unsigned turns, class V>
HWY_INLINE V SinNear(V x) {
  const CircleParts<V> parts = SplitCircle(x);
  const hn::RebindToUnsigned<hn::DFromV<V>> du;
  using U = hn::TFromD<decltype(du)>;
  const auto quarter = Add(parts.quarters, hn::Set(du, static_cast<U>(turns)));
  const auto sign = hn::ShiftLeft<sizeof(U) * 8 - 2>(And(quarter, hn::Set(du, U(2))));
  return Xor(IfThenElse(IsOdd<V>(quarter), parts.cosine, parts.sine), BitCast(hn::DFromV<V>(), sign));
}
template <class V>
HWY_INLINE V TanNear(V x) {
  const CircleParts<V> parts = SplitCircle(x);
  const auto odd = IsOdd<V>(parts.quarters);
  return Div(IfThenElse(odd, parts.cosine, parts.sine), IfThenElse(odd, Neg(parts.sine), parts.cosine));
}
/// near(x); lanes beyond circle_limit, each for itself, through `exact`.
template <class V, class Near, class F>
HWY_INLINE V OnCircle(V x, Near near, F exact) {
  using T = ElementOf<V>;
  const hn::DFromV<V> d;
  const auto within = Le(hn::Abs(x), All<V>(Tables<V>::circle_limit));
  const V y = near(IfThenElseZero(within, x));
  if (AllTrue(d, within)) [[likely]]
    return y;
  HWY_ALIGN T from[lanes_of<T>];
  HWY_ALIGN T to[lanes_of<T>];
  Store(x, d, from);
  Store(y, d, to);
  for (Index k = 0; k < lanes_of<T>; ++k)
    if (!(std::abs(from[k]) <= Tables<V>::circle_limit)) to[k] = exact(from[k]);
  return hn::Load(d, to);
}
template <class V>
HWY_INLINE V Sin(V x) {
  return OnCircle(
      x, [](V v) ESPALIER_INLINE_LAMBDA { return SinNear<0>(v); }, [](ElementOf<V> v) { return std::sin(v); });
}
template <class V>
HWY_INLINE V Cos(V x) {
  return OnCircle(
      x, [](V v) ESPALIER_INLINE_LAMBDA { return SinNear<1>(v); }, [](ElementOf<V> v) { return std::cos(v); });
}
template <class V>
HWY_INLINE V Tan(V x) {
  return OnCircle(
      x, [](V v) ESPALIER_INLINE_LAMBDA { return TanNear(v); }, [](ElementOf<V> v) { return std::tan(v); });
}

/// The angle in [0, pi] of the point (|x|, y), y >= 0, mirrored where the sign bit of `x_sign` is set. Not both
/// coordinates infinite, their sum finite or one of them infinite, and no NaN. From the nearer axis or, beyond pi/8,
/// from the diagonal, there is less than pi/8 to go; so the angle is a number of pi/4 plus or minus atan(r).
template <class V>
HWY_INLINE V AngleOf(V y, V x, V x_sign) {
  const hn::DFromV<V> d;
  const V zero = hn::Zero(d), small = hn::Min(x, y), large = hn::Max(x, y);
  const auto diagonal = Gt(small, Mul(large, All<V>(0.41421356237309504880)));
  const V below = IfThenElse(diagonal, Add(small, large), large);
  const V r = Div(IfThenElse(diagonal, Sub(small, large), small), IfThenElse(Eq(below, zero), All<V>(1.0), below));
  const V z = Mul(r, r);
  const auto steep = Gt(y, x);
  const V flip = Xor(IfThenElseZero(steep, hn::SignBit(d)), And(x_sign, hn::SignBit(d)));
  V quarters = IfThenElse(diagonal, All<V>(1.0), IfThenElseZero(steep, All<V>(2.0)));
  const V side = WithSignOf(All<V>(1.0), x_sign);  // the baseline target does not see the sign of zero
  quarters = IfNegativeThenElse(side, Sub(All<V>(4.0), quarters), quarters);
  const V rest = Xor(Mul(Mul(z, r), Polynomial(z, Tables<V>::atan_rest)), flip);
  const V low = MulAdd(quarters, All<V>(Tables<V>::quarter_pi_low), rest);
  return MulAdd(quarters, All<V>(Tables<V>::quarter_pi_high), Add(Xor(r, flip), low));
}
template <class V>
HWY_INLINE V Atan(V x) {
  const V angle = AngleOf(hn::Abs(x), All<V>(1.0), hn::Zero(hn::DFromV<V>()));
  return IfThenElse(IsNaN(x), x, WithSignOf(angle, x));
}
template <class V>
HWY_INLINE V Atan2(V y, V x) {
  V a = hn::Abs(y), b = hn::Abs(x);
  const V infinity = All<V>(std::numeric_limits<double>::infinity()), one = All<V>(1.0);
  const auto endless = And(Eq(a, infinity), Eq(b, infinity));
  a = IfThenElse(endless, one, a);
  b = IfThenElse(endless, one, b);
  const V scale = IfThenElse(Gt(hn::Max(a, b), All<V>(Tables<V>::angle_largest)), All<V>(0.25), one);
  const V angle = WithSignOf(AngleOf(Mul(a, scale), Mul(b, scale), x), y);
  return IfThenElse(Or(IsNaN(x), IsNaN(y)), Add(x, y), angle);
}
/// sqrt(1 - x^2), NaN beyond 1.
template <class V>
HWY_INLINE V OtherSide(V x) {
  return Sqrt(Mul(Sub(All<V>(1.0), x), Add(All<V>(1.0), x)));
}
template <class V>
HWY_INLINE V Asin(V x) {
  const V side = OtherSide(x);
  return IfThenElse(IsNaN(side), side, WithSignOf(AngleOf(hn::Abs(x), side, hn::Zero(hn::DFromV<V>())), x));
}
template <class V>
HWY_INLINE V Acos(V x) {
  const V side = OtherSide(x);
  return IfThenElse(IsNaN(side), side, AngleOf(side, hn::Abs(x), x));
}

/// exp(a)/2 where the other half of sinh and cosh is nothing, without overflow before theirs.
template <class V>
HWY_INLINE V HalfExp(V a) {
  const V root = Exp(Mul(a, All<V>(0.5)));
  return Mul(Mul(All<V>(0.5), root), root);
}
template <class V, class F>
HWY_INLINE V Hyperbolic(V x, F within) {
  const V a = hn::Abs(x), limit = All<V>(Tables<V>::exp_normal);
  const V y = within(AtMost(a, limit));
  if (AllTrue(hn::DFromV<V>(), Le(a, limit))) [[likely]]
    return y;
  return IfThenElse(Gt(a, limit), HalfExp(a), y);
}
template <class V>
HWY_INLINE V Sinh(V x) {
  const V y = Hyperbolic(x, [](V a) ESPALIER_INLINE_LAMBDA {
    const V e = Expm1(a);
    return Mul(All<V>(0.5), Add(e, Div(e, Add(e, All<V>(1.0)))));
  });
  return WithSignOf(y, x);
}
template <class V>
HWY_INLINE V Cosh(V x) {
  return Hyperbolic(x, [](V a) ESPALIER_INLINE_LAMBDA {
    const V half = Mul(All<V>(0.5), Exp(a));
    return Add(half, Div(All<V>(0.25), half));
  });
}
/// log(1 + above), or log(2 x) where x is beyond area_largest; x >= 0.
template <class V>
HWY_INLINE V AreaOf(V x, V above) {
  const auto large = Gt(x, All<V>(Tables<V>::area_largest));
  const V y = Log1p(IfThenElse(large, Sub(x, All<V>(1.0)), above));
  return Add(y, IfThenElseZero(large, All<V>(0.69314718055994530942)));
}
template <class V>
HWY_INLINE V Asinh(V x) {
  const V a = hn::Abs(x), square = Mul(a, a), one = All<V>(1.0);
  return WithSignOf(AreaOf(a, Add(a, Div(square, Add(one, Sqrt(Add(one, square)))))), x);
}
template <class V>
HWY_INLINE V Acosh(V x) {
  const V above = Sub(x, All<V>(1.0));
  const V y = AreaOf(x, Add(above, Sqrt(Mul(above, Add(above, All<V>(2.0))))));
  return IfThenElse(Lt(x, All<V>(1.0)), All<V>(std::numeric_limits<double>::quiet_NaN()), y);
}
template <class V>
HWY_INLINE V Atanh(V x) {
  const V a = hn::Abs(x);
  return WithSignOf(Mul(All<V>(0.5), Log1p(Div(Add(a, a), Sub(All<V>(1.0), a)))), x);
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
