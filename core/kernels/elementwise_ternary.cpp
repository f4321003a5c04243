// Functions of three operands. A new one is a field of TernaryKernels, a functor here, and its row in the table below.
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/elementwise_ternary.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/math-inl.h"
#include "espalier/core/kernels/step_loop-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

// clang-format off
struct AddcmulOp { template <class V> HWY_INLINE V operator()(V a, V b, V c, V p) const { return MulAdd(Mul(p, b), c, a); } };
struct AddcdivOp { template <class V> HWY_INLINE V operator()(V a, V b, V c, V p) const { return Add(a, Div(Mul(p, b), c)); } };
struct Atan2Slope { template <class V> HWY_INLINE V operator()(V g, V a, V b, V p) const { return Div(Mul(Mul(p, g), b), MulAdd(a, a, Mul(b, b))); } };
struct PreluSlope { template <class V> HWY_INLINE V operator()(V g, V x, V w, V) const { return IfThenElse(Gt(x, All<V>(0)), g, Mul(g, w)); } };
// clang-format on

struct LerpOp {  // from the nearer end, as PyTorch does
  template <class V>
  HWY_INLINE V operator()(V a, V b, V c, V) const {
    const V way = Sub(b, a);
    return IfThenElse(Lt(c, All<V>(0.5)), MulAdd(c, way, a), hn::NegMulAdd(way, Sub(All<V>(1), c), b));
  }
};
struct LargerSlope {
  template <class V>
  HWY_INLINE V operator()(V g, V a, V b, V p) const {
    const V left = Mul(p, a), right = Mul(p, b);
    return IfThenZeroElse(Lt(left, right), IfThenElse(Eq(left, right), Mul(All<V>(0.5), g), g));
  }
};
struct GluSlope {
  template <class V>
  HWY_INLINE V operator()(V g, V a, V b, V) const {
    const auto s = SigmoidAndRest(b);
    return Mul(Mul(Mul(s.value, s.rest), g), a);  // a slope of 0 first: g a may overflow
  }
};

template <class Op, class T>
void Zip(const std::array<const T*, 3>& operands, const std::array<Index, 3>& steps, T* y, Index n, T p) {
  const auto vp = hn::Set(Tag<T>(), p);
  StepLoop<T, 3>(operands, steps, y, n,
                 [&](const auto& v) ESPALIER_INLINE_LAMBDA { return Op()(v[0], v[1], v[2], vp); });
}
template <class Op>
constexpr TernaryKernel Row(Index cost) {
  return {Zip<Op, float>, Zip<Op, double>, cost};
}

}  // namespace

const TernaryKernels& TernaryTable() {
  static constexpr TernaryKernels table{
      .addcmul = Row<AddcmulOp>(1),
      .addcdiv = Row<AddcdivOp>(2),
      .lerp = Row<LerpOp>(1),
      .larger = Row<LargerSlope>(1),
      .atan2 = Row<Atan2Slope>(2),
      .prelu = Row<PreluSlope>(1),
      .glu = Row<GluSlope>(8),
  };
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {
HWY_EXPORT(TernaryTable);
const TernaryKernels& ternary() noexcept { return HWY_DYNAMIC_DISPATCH(TernaryTable)(); }
}  // namespace espalier::kernels
#endif
