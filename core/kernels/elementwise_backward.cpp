// Derivatives of functions of one operand. A new one is a field of BackwardKernels, a functor here, and its row in the
// table below.
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/elementwise_backward.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/angles-inl.h"
#include "espalier/core/kernels/step_loop-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

/// PyTorch's slope of hardsigmoid is 1/6 in single precision, whatever the type.
constexpr double single_sixth = 1.0f / 6.0f;

// Vectors in, vector out: the incoming gradient g, the input x or output y, and the parameters p, q.
// clang-format off
struct ReciprocalSlope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Neg(Mul(g, Mul(y, y))); } };
struct RsqrtSlope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Mul(Mul(All<V>(-0.5), g), Mul(y, Mul(y, y))); } };
struct Expm1Slope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return MulAdd(g, y, g); } };
struct TanSlope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Mul(g, MulAdd(y, y, All<V>(1))); } };
struct TanhSlope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Mul(g, hn::NegMulAdd(y, y, All<V>(1))); } };
struct SigmoidSlope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Mul(g, Mul(y, Sub(All<V>(1), y))); } };
struct Log1pSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Div(g, Add(All<V>(1), x)); } };
struct SinSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Mul(g, Cos(x)); } };
struct CosSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Neg(Mul(g, Sin(x))); } };
struct AsinSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return Div(Mul(p, g), Sqrt(hn::NegMulAdd(x, x, All<V>(1)))); } };
struct AtanSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return Div(Mul(p, g), MulAdd(x, x, All<V>(1))); } };
struct AsinhSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Div(g, Sqrt(MulAdd(x, x, All<V>(1)))); } };
struct AcoshSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Div(g, Sqrt(hn::MulSub(x, x, All<V>(1)))); } };
struct AtanhSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Div(g, hn::NegMulAdd(x, x, All<V>(1))); } };
struct ErfSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return Mul(Mul(p, g), Mul(All<V>(1.12837916709551257390), ExpNegSquare(x, 1.0))); } };
struct ReluSlope { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return IfThenZeroElse(Le(y, All<V>(0)), g); } };
struct LeakyReluSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return IfThenElse(Gt(x, All<V>(0)), g, Mul(p, g)); } };
struct EluSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V q) const { return IfThenElse(Le(x, All<V>(0)), Mul(g, Mul(Mul(p, q), Exp(Mul(q, x)))), g); } };
struct SeluSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Mul(g, IfThenElse(Le(x, All<V>(0)), Mul(All<V>(selu_lambda * selu_alpha), Exp(x)), All<V>(selu_lambda))); } };
struct ClampSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V q) const { return IfThenElseZero(And(Ge(x, p), Le(x, q)), g); } };
struct HardtanhSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V q) const { return IfThenZeroElse(Or(Le(x, p), Ge(x, q)), g); } };
struct ThresholdSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return IfThenZeroElse(Le(x, p), g); } };
struct HardshrinkSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return IfThenZeroElse(Le(hn::Abs(x), p), g); } };
struct HardsigmoidSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return IfThenElseZero(Lt(hn::Abs(x), All<V>(3)), Mul(g, All<V>(single_sixth))); } };
struct TanhshrinkSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { const V t = Tanh(x); return Mul(g, Mul(t, t)); } };
struct SoftplusSlope { template <class V> HWY_INLINE V operator()(V g, V x, V p, V q) const { const V z = Mul(p, x); return IfThenElse(Gt(z, q), g, Mul(g, Sigmoid(z))); } };
struct LogsigmoidSlope { template <class V> HWY_INLINE V operator()(V g, V x, V, V) const { return Mul(g, Sigmoid(Neg(x))); } };
// clang-format on

struct AbsSlope {  // 0 at 0, and where x is NaN
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    return Mul(g, IfThenElseZero(Gt(hn::Abs(x), All<V>(0)), WithSignOf(All<V>(1), x)));
  }
};
struct HardswishSlope {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    const V between = Mul(g, Add(Div(x, All<V>(3)), All<V>(0.5)));
    return IfThenZeroElse(Lt(x, All<V>(-3)), IfThenElse(Le(x, All<V>(3)), between, g));
  }
};
struct SoftsignSlope {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    const V below = Add(All<V>(1), hn::Abs(x));
    return Div(g, Mul(below, below));
  }
};
struct GeluSlope {  // NaN at both infinities, as PyTorch's
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    const auto normal = NormalAt(x);
    return Mul(g, MulAdd(x, normal.density, normal.distribution));
  }
};
/// Beyond +-100 the derivatives below are 0 or 1 to the last bit; x itself must not overflow them.
template <class V>
HWY_INLINE V Near(V x) {
  return Limit(x, All<V>(-100), All<V>(100));
}
struct GeluTanhSlope {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    x = Near(x);
    const V slope = All<V>(1.59576912160573071176), square = Mul(x, x);
    const auto s = SigmoidAndRest(Mul(Mul(slope, x), MulAdd(square, All<V>(0.044715), All<V>(1))));
    const V inner = Mul(slope, MulAdd(square, All<V>(3 * 0.044715), All<V>(1)));
    return Mul(g, MulAdd(Mul(Mul(x, inner), s.value), s.rest, s.value));
  }
};
struct SiluSlope {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    x = Limit(x, All<V>(-1000), All<V>(1000));
    const auto s = SigmoidAndRest(x);
    return Mul(g, Mul(s.value, MulAdd(x, s.rest, All<V>(1))));
  }
};
struct MishSlope {  // t + x dt/dx with t = w / (w + 2), dt/dx = 4 e (e + 1) / (w + 2)^2
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    const auto term = MishTerm(x);
    const V inverse = Div(All<V>(1), Add(term.w, All<V>(2)));
    const V change = Mul(Mul(All<V>(4), Mul(term.e, inverse)), Mul(Add(term.e, All<V>(1)), inverse));
    return Mul(g, MulAdd(Limit(x, All<V>(-1000), All<V>(1000)), change, Mul(term.w, inverse)));
  }
};

template <class Op, class T>
HWY_NOINLINE void Steps(const T* g, Index g_step, const T* x, Index x_step, T* y, Index n, T p, T q) {
  const Tag<T> d;
  const auto vp = hn::Set(d, p), vq = hn::Set(d, q);
  StepLoop<T, 2>({g, x}, {g_step, x_step}, y, n,
                 [&](const auto& v) ESPALIER_INLINE_LAMBDA { return Op()(v[0], v[1], vp, vq); });
}
template <class Op, class T, Index g_step, Index x_step>
void Slope(const T* g, const T* x, T* y, Index n, T p, T q) {
  Steps<Op, T>(g, g_step, x, x_step, y, n, p, q);
}
template <class Op, class T>
constexpr BinaryVariants<T> Variants() {
  return {Slope<Op, T, 1, 1>, Slope<Op, T, 1, 0>, Slope<Op, T, 0, 1>};
}
template <class Op>
constexpr BinaryKernel Row(Index cost) {
  return {Variants<Op, float>(), Variants<Op, double>(), cost};
}

}  // namespace

const BackwardKernels& BackwardTable() {
  static constexpr BackwardKernels table{
      .reciprocal = Row<ReciprocalSlope>(1),
      .rsqrt = Row<RsqrtSlope>(1),
      .expm1 = Row<Expm1Slope>(1),
      .tan = Row<TanSlope>(1),
      .tanh = Row<TanhSlope>(1),
      .log1p = Row<Log1pSlope>(2),
      .sin = Row<SinSlope>(8),
      .cos = Row<CosSlope>(8),
      .asin = Row<AsinSlope>(4),
      .atan = Row<AtanSlope>(2),
      .asinh = Row<AsinhSlope>(4),
      .acosh = Row<AcoshSlope>(4),
      .atanh = Row<AtanhSlope>(2),
      .erf = Row<ErfSlope>(8),
      .abs = Row<AbsSlope>(1),
      .relu = Row<ReluSlope>(1),
      .leaky_relu = Row<LeakyReluSlope>(1),
      .elu = Row<EluSlope>(8),
      .selu = Row<SeluSlope>(8),
      .clamp = Row<ClampSlope>(1),
      .hardtanh = Row<HardtanhSlope>(1),
      .threshold = Row<ThresholdSlope>(1),
      .hardshrink = Row<HardshrinkSlope>(1),
      .hardsigmoid = Row<HardsigmoidSlope>(2),
      .hardswish = Row<HardswishSlope>(2),
      .tanhshrink = Row<TanhshrinkSlope>(8),
      .sigmoid = Row<SigmoidSlope>(1),
      .softplus = Row<SoftplusSlope>(8),
      .softsign = Row<SoftsignSlope>(2),
      .logsigmoid = Row<LogsigmoidSlope>(8),
      .gelu = Row<GeluSlope>(12),
      .gelu_tanh = Row<GeluTanhSlope>(8),
      .silu = Row<SiluSlope>(8),
      .mish = Row<MishSlope>(8),
  };
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {
HWY_EXPORT(BackwardTable);
const BackwardKernels& backward() noexcept { return HWY_DYNAMIC_DISPATCH(BackwardTable)(); }
}  // namespace espalier::kernels
#endif
