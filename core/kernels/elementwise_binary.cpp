// Functions of two operands. A new one is a field of BinaryKernels, a functor here, and its row in the table below.
#include "espalier/core/kernels/elementwise.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/elementwise_binary.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/angles-inl.h"
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
struct PowOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return Pow(a, b); } };
struct Atan2Op { template <class V> HWY_INLINE V operator()(V y, V x, V, V) const { return Atan2(y, x); } };
struct AddScaledOp { template <class V> HWY_INLINE V operator()(V a, V b, V p, V) const { return MulAdd(p, b, a); } };
struct BlendOp { template <class V> HWY_INLINE V operator()(V a, V b, V p, V q) const { return MulAdd(p, a, Mul(q, b)); } };
struct MulScaledOp { template <class V> HWY_INLINE V operator()(V a, V b, V p, V) const { return Mul(Mul(p, a), b); } };
struct DivScaledOp { template <class V> HWY_INLINE V operator()(V a, V b, V p, V) const { return Div(Mul(p, a), b); } };
struct PreluOp { template <class V> HWY_INLINE V operator()(V x, V w, V, V) const { return IfThenElse(Gt(x, All<V>(0)), x, Mul(w, x)); } };
struct GluOp { template <class V> HWY_INLINE V operator()(V a, V b, V, V) const { return Mul(a, Sigmoid(b)); } };
// clang-format on

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

}  // namespace

const BinaryKernels& BinaryTable() {
  static constexpr BinaryKernels table{
      .add = Row<AddOp>(1),
      .sub = Row<SubOp>(1),
      .mul = Row<MulOp>(1),
      .div = Row<DivOp>(2),
      .maximum = Row<MaximumOp>(1),
      .minimum = Row<MinimumOp>(1),
      .pow = Row<PowOp>(16),
      .atan2 = Row<Atan2Op>(10),
      .add_scaled = Row<AddScaledOp>(1),
      .blend = Row<BlendOp>(1),
      .mul_scaled = Row<MulScaledOp>(1),
      .div_scaled = Row<DivScaledOp>(2),
      .prelu = Row<PreluOp>(1),
      .glu = Row<GluOp>(8),
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
