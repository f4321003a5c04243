// Functions of two operands. A new one is a field of BinaryKernels, a functor here, and its row in the table below.
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/simd_config.h"
#include "espalier/core/kernels/std_loops.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/elementwise_binary.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

// clang-format off
struct AddOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return Add(a, b); } };
struct SubOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return Sub(a, b); } };
struct MulOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return Mul(a, b); } };
struct DivOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return Div(a, b); } };
struct MaximumOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return IfThenElse(Or(Gt(a, b), IsNaN(a)), a, b); } };
struct MinimumOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return IfThenElse(Or(Lt(a, b), IsNaN(a)), a, b); } };
struct AddScaledOp { template <class V> HWY_INLINE V operator()(V a, V b, V p, V) const { return MulAdd(p, b, a); } };
struct BlendOp { template <class V> HWY_INLINE V operator()(V a, V b, V p, V q) const { return MulAdd(p, a, Mul(q, b)); } };
struct TanhBackwardOp { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Mul(g, hn::NegMulAdd(y, y, All<V>(1))); } };
struct SigmoidBackwardOp { template <class V> HWY_INLINE V operator()(V g, V y, V, V) const { return Mul(g, Mul(y, Sub(All<V>(1), y))); } };
struct LeakyReluBackwardOp { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return IfThenElse(Gt(x, All<V>(0)), g, Mul(p, g)); } };
struct EluBackwardOp { template <class V> HWY_INLINE V operator()(V g, V x, V p, V) const { return IfThenElse(Gt(x, All<V>(0)), g, Mul(g, Mul(p, Exp(x)))); } };
// clang-format on

struct AbsBackwardOp {  // slope 0 at 0, and where x is NaN
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    return Mul(g, IfThenElseZero(Gt(hn::Abs(x), All<V>(0)), WithSignOf(All<V>(1), x)));
  }
};
struct ReluBackwardOp {  // where y is NaN the gradient passes: relu is the identity there
  template <class V>
  HWY_INLINE V operator()(V g, V y, V, V) const {
    return IfThenZeroElse(hn::Le(y, All<V>(0)), g);
  }
};
struct ClampBackwardOp {  // at a bound the gradient passes; where x is NaN it does not
  template <class V>
  HWY_INLINE V operator()(V g, V x, V p, V q) const {
    return IfThenElseZero(And(hn::Ge(x, p), hn::Le(x, q)), g);
  }
};
struct SoftplusBackwardOp {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V p, V q) const {
    const V z = Mul(p, x);
    return IfThenElse(Gt(z, q), g, Mul(g, Sigmoid(z)));
  }
};
/// Beyond +-100 the derivatives below are 0 or 1 to the last bit; x itself must not overflow them.
template <class V>
HWY_INLINE V Near(V x) {
  return Limit(x, All<V>(-100), All<V>(100));
}
struct GeluBackwardOp {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    const auto normal = NormalAt(x);
    return Mul(g, MulAdd(Near(x), normal.density, normal.distribution));
  }
};
struct GeluTanhBackwardOp {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    x = Near(x);
    const V slope = All<V>(1.59576912160573071176), square = Mul(x, x);
    const auto s = SigmoidAndRest(Mul(Mul(slope, x), MulAdd(square, All<V>(0.044715), All<V>(1))));
    const V inner = Mul(slope, MulAdd(square, All<V>(3 * 0.044715), All<V>(1)));
    return Mul(g, MulAdd(Mul(Mul(x, inner), s.value), s.rest, s.value));
  }
};
struct SiluBackwardOp {
  template <class V>
  HWY_INLINE V operator()(V g, V x, V, V) const {
    x = Limit(x, All<V>(-1000), All<V>(1000));
    const auto s = SigmoidAndRest(x);
    return Mul(g, Mul(s.value, MulAdd(x, s.rest, All<V>(1))));
  }
};

template <class Op, class T, bool a_moves, bool b_moves>
void Zip(const T* a, const T* b, T* y, Index n, T p, T q) {
  if (n <= 0) return;
  const Tag<T> d;
  const auto vp = hn::Set(d, p), vq = hn::Set(d, q);
  const auto a0 = hn::Set(d, *a), b0 = hn::Set(d, *b);
  constexpr Index L = lanes_of<T>;
  Index i = 0;
  for (; i + L <= n; i += L) {
    auto va = a0, vb = b0;
    if constexpr (a_moves) va = hn::LoadU(d, a + i);
    if constexpr (b_moves) vb = hn::LoadU(d, b + i);
    StoreU(Op()(va, vb, vp, vq), d, y + i);
  }
  if (i == n) return;
  auto va = a0, vb = b0;
  if constexpr (a_moves) va = LoadPart(a + i, n - i);
  if constexpr (b_moves) vb = LoadPart(b + i, n - i);
  StorePart(Op()(va, vb, vp, vq), y + i, n - i);
}

template <class Op, class T>
constexpr BinaryVariants<T> Variants() {
  return {Zip<Op, T, true, true>, Zip<Op, T, true, false>, Zip<Op, T, false, true>};
}
template <class Op>
constexpr BinaryKernel Row(Index cost) {
  return {Variants<Op, float>(), Variants<Op, double>(), cost};
}
template <class F, class T>
constexpr BinaryVariants<T> StdVariants() {
  return {std_binary<F, T, true, true>, std_binary<F, T, true, false>, std_binary<F, T, false, true>};
}
template <class F>
constexpr BinaryKernel StdRow() {
  return {StdVariants<F, float>(), StdVariants<F, double>(), 30};
}

}  // namespace

const BinaryKernels& BinaryTable() {
  static constexpr BinaryKernels table{
      .add = Row<AddOp>(1),
      .sub = Row<SubOp>(1),
      .mul = Row<MulOp>(1),
      .div = Row<DivOp>(2),
      .maximum = Row<MaximumOp>(1),
      .minimum = Row<MinimumOp>(1),
      .pow = StdRow<StdPow>(),
      .atan2 = StdRow<StdAtan2>(),
      .add_scaled = Row<AddScaledOp>(1),
      .blend = Row<BlendOp>(1),
      .abs_backward = Row<AbsBackwardOp>(1),
      .relu_backward = Row<ReluBackwardOp>(1),
      .leaky_relu_backward = Row<LeakyReluBackwardOp>(1),
      .elu_backward = Row<EluBackwardOp>(8),
      .clamp_backward = Row<ClampBackwardOp>(1),
      .tanh_backward = Row<TanhBackwardOp>(1),
      .sigmoid_backward = Row<SigmoidBackwardOp>(1),
      .softplus_backward = Row<SoftplusBackwardOp>(8),
      .gelu_backward = Row<GeluBackwardOp>(12),
      .gelu_tanh_backward = Row<GeluTanhBackwardOp>(8),
      .silu_backward = Row<SiluBackwardOp>(8),
  };
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {
HWY_EXPORT(BinaryTable);
const BinaryKernels& binary() noexcept { return HWY_DYNAMIC_DISPATCH(BinaryTable)(); }
}  // namespace espalier::kernels
#endif
