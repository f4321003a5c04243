// Functions of one operand. A new one is a field of UnaryKernels, a functor here, and its row in the table below.
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/elementwise_unary.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/angles-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

// Vectors in, vector out: x and the parameters p, q. "Op" keeps the names apart from those of Highway.
// (Rounding restores the sign of x: the baseline target loses that of zeros.)
// clang-format off
struct CopyOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return x; } };
struct NegOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Neg(x); } };
struct AbsOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Abs(x); } };
struct SquareOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Mul(x, x); } };
struct CubeOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Mul(Mul(x, x), x); } };
struct SqrtOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Sqrt(x); } };
struct RsqrtOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Div(All<V>(1), Sqrt(x)); } };
struct ReciprocalOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Div(All<V>(1), x); } };
struct FloorOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return CopySign(Floor(x), x); } };
struct CeilOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return CopySign(Ceil(x), x); } };
struct TruncOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return CopySign(Trunc(x), x); } };
struct RoundOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return CopySign(Round(x), x); } };
struct AffineOp { template <class V> HWY_INLINE V operator()(V x, V p, V q) const { return MulAdd(p, x, q); } };
struct DivideOp { template <class V> HWY_INLINE V operator()(V x, V p, V) const { return Div(x, p); } };
struct ClampOp { template <class V> HWY_INLINE V operator()(V x, V p, V q) const { return Limit(x, p, q); } };
struct ExpOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Exp(x); } };
struct Expm1Op { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Expm1(x); } };
struct LogOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Log(x); } };
struct Log1pOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Log1p(x); } };
struct Log2Op { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Log2(x); } };
struct Log10Op { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Log10(x); } };
struct TanhOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Tanh(x); } };
struct SigmoidOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Sigmoid(x); } };
struct ErfOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Erf(x); } };
struct ErfcOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Erfc(x); } };
struct SinOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Sin(x); } };
struct CosOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Cos(x); } };
struct TanOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Tan(x); } };
struct AsinOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Asin(x); } };
struct AcosOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Acos(x); } };
struct AtanOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Atan(x); } };
struct SinhOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Sinh(x); } };
struct CoshOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Cosh(x); } };
struct AsinhOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Asinh(x); } };
struct AcoshOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Acosh(x); } };
struct AtanhOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Atanh(x); } };
struct GeluOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Gelu(x); } };
struct SiluOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Mul(x, Sigmoid(x)); } };
struct ReluOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return IfThenElse(Lt(x, All<V>(0)), All<V>(0), x); } };
struct LeakyReluOp { template <class V> HWY_INLINE V operator()(V x, V p, V) const { return IfThenElse(Lt(x, All<V>(0)), Mul(p, x), x); } };
struct EluOp { template <class V> HWY_INLINE V operator()(V x, V p, V q) const { return IfThenElse(Gt(x, All<V>(0)), x, Mul(p, Expm1(Mul(q, x)))); } };
struct PowOp { template <class V> HWY_INLINE V operator()(V x, V p, V) const { return Pow(x, p); } };
struct SoftsignOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Div(x, Add(All<V>(1), Abs(x))); } };
struct LogsigmoidOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Neg(LogOnePlusExp(Neg(x))); } };
struct HardsigmoidOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Div(Limit(Add(x, All<V>(3)), All<V>(0), All<V>(6)), All<V>(6)); } };
struct HardswishOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Mul(x, Div(Limit(Add(x, All<V>(3)), All<V>(0), All<V>(6)), All<V>(6))); } };
struct HardshrinkOp { template <class V> HWY_INLINE V operator()(V x, V p, V) const { return IfThenZeroElse(Le(Abs(x), p), x); } };
struct SoftshrinkOp { template <class V> HWY_INLINE V operator()(V x, V p, V) const { return IfThenZeroElse(Le(Abs(x), p), Sub(x, CopySign(p, x))); } };
struct TanhshrinkOp { template <class V> HWY_INLINE V operator()(V x, V, V) const { return Sub(x, Tanh(x)); } };
struct ThresholdOp { template <class V> HWY_INLINE V operator()(V x, V p, V q) const { return IfThenElse(Le(x, p), q, x); } };
// clang-format on
struct SignOp {
  template <class V>
  HWY_INLINE V operator()(V x, V, V) const {
    return IfThenElseZero(Gt(hn::Abs(x), All<V>(0)), WithSignOf(All<V>(1), x));
  }
};
struct RootOp {  // pow(x, 1/2), which is not sqrt at -0 and -infinity
  template <class V>
  HWY_INLINE V operator()(V x, V, V) const {
    const V infinity = All<V>(std::numeric_limits<double>::infinity());
    return IfThenElse(Eq(x, Neg(infinity)), infinity, Sqrt(Add(x, All<V>(0))));
  }
};
struct SoftplusOp {
  template <class V>
  HWY_INLINE V operator()(V x, V p, V q) const {
    const V z = Mul(p, x);
    return IfThenElse(Gt(z, q), x, Mul(LogOnePlusExp(z), Div(All<V>(1), p)));
  }
};
struct GeluTanhOp {  // (1 + tanh(u)) / 2 = sigmoid(2 u), which does not cancel below zero
  template <class V>
  HWY_INLINE V operator()(V x, V, V) const {
    const V cubic = MulAdd(Mul(x, x), All<V>(0.044715), All<V>(1.0));
    return Mul(x, Sigmoid(Mul(Mul(x, All<V>(1.59576912160573071176)), cubic)));
  }
};
struct SeluOp {
  template <class V>
  HWY_INLINE V operator()(V x, V, V) const {
    const V below = Mul(All<V>(selu_lambda * selu_alpha), Expm1(x));
    return IfThenElse(Gt(x, All<V>(0)), Mul(All<V>(selu_lambda), x), below);
  }
};
struct MishOp {  // tanh(log(1 + e)) = w / (w + 2) with w = e (e + 2)
  template <class V>
  HWY_INLINE V operator()(V x, V, V) const {
    const V w = MishTerm(x).w;
    return Mul(x, Div(w, Add(w, All<V>(2))));
  }
};
template <class Op, class T>
void Map(const T* x, T* y, Index n, T p, T q) {
  const Tag<T> d;
  const auto vp = hn::Set(d, p), vq = hn::Set(d, q);
  constexpr Index L = lanes_of<T>;
  Index i = 0;
  for (; i + L <= n; i += L) StoreU(Op()(hn::LoadU(d, x + i), vp, vq), d, y + i);
  if (i < n) StorePart(Op()(LoadPart(x + i, n - i), vp, vq), y + i, n - i);
}

/// x^p; the powers that models use are a few multiplications.
template <class T>
void PowScalar(const T* x, T* y, Index n, T p, T q) {
  if (p == T(1)) return Map<CopyOp>(x, y, n, p, q);
  if (p == T(2)) return Map<SquareOp>(x, y, n, p, q);
  if (p == T(3)) return Map<CubeOp>(x, y, n, p, q);
  if (p == T(-1)) return Map<ReciprocalOp>(x, y, n, p, q);
  if (p == T(0.5)) return Map<RootOp>(x, y, n, p, q);
  Map<PowOp>(x, y, n, p, q);
}

template <class Op>
constexpr UnaryKernel Row(Index cost) {
  return {Map<Op, float>, Map<Op, double>, cost};
}

}  // namespace

const UnaryKernels& UnaryTable() {
  static constexpr UnaryKernels table{
      .sign = Row<SignOp>(1),
      .copy = Row<CopyOp>(1),
      .neg = Row<NegOp>(1),
      .abs = Row<AbsOp>(1),
      .square = Row<SquareOp>(1),
      .sqrt = Row<SqrtOp>(3),
      .rsqrt = Row<RsqrtOp>(4),
      .reciprocal = Row<ReciprocalOp>(2),
      .floor = Row<FloorOp>(1),
      .ceil = Row<CeilOp>(1),
      .trunc = Row<TruncOp>(1),
      .round = Row<RoundOp>(1),
      .affine = Row<AffineOp>(1),
      .divide = Row<DivideOp>(2),
      .clamp = Row<ClampOp>(1),
      .exp = Row<ExpOp>(8),
      .expm1 = Row<Expm1Op>(8),
      .log = Row<LogOp>(8),
      .log1p = Row<Log1pOp>(12),
      .log2 = Row<Log2Op>(8),
      .log10 = Row<Log10Op>(8),
      .pow_scalar = {PowScalar<float>, PowScalar<double>, 30},
      .sin = Row<SinOp>(8),
      .cos = Row<CosOp>(8),
      .tan = Row<TanOp>(10),
      .asin = Row<AsinOp>(10),
      .acos = Row<AcosOp>(10),
      .atan = Row<AtanOp>(10),
      .sinh = Row<SinhOp>(10),
      .cosh = Row<CoshOp>(10),
      .tanh = Row<TanhOp>(8),
      .asinh = Row<AsinhOp>(12),
      .acosh = Row<AcoshOp>(12),
      .atanh = Row<AtanhOp>(12),
      .erf = Row<ErfOp>(12),
      .erfc = Row<ErfcOp>(12),
      .sigmoid = Row<SigmoidOp>(8),
      .softplus = Row<SoftplusOp>(16),
      .relu = Row<ReluOp>(1),
      .leaky_relu = Row<LeakyReluOp>(1),
      .elu = Row<EluOp>(8),
      .selu = Row<SeluOp>(8),
      .gelu = Row<GeluOp>(12),
      .gelu_tanh = Row<GeluTanhOp>(8),
      .silu = Row<SiluOp>(8),
      .mish = Row<MishOp>(8),
      .softsign = Row<SoftsignOp>(2),
      .logsigmoid = Row<LogsigmoidOp>(16),
      .hardsigmoid = Row<HardsigmoidOp>(2),
      .hardswish = Row<HardswishOp>(2),
      .hardshrink = Row<HardshrinkOp>(1),
      .softshrink = Row<SoftshrinkOp>(1),
      .tanhshrink = Row<TanhshrinkOp>(8),
      .threshold = Row<ThresholdOp>(1),
  };
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {
HWY_EXPORT(UnaryTable);
const UnaryKernels& unary() noexcept { return HWY_DYNAMIC_DISPATCH(UnaryTable)(); }
}  // namespace espalier::kernels
#endif
