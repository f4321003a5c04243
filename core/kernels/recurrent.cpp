#include "espalier/core/kernels/recurrent.h"

#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/recurrent.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

/// y (1 - y) and 1 - y^2: slopes of sigmoid and tanh from their values.
template <class V>
HWY_INLINE V SigmoidSlope(V y) {
  return hn::NegMulAdd(y, y, y);
}
template <class V>
HWY_INLINE V TanhSlope(V y) {
  return hn::NegMulAdd(y, y, All<V>(1.0));
}

struct TanhAct {
  template <class V>
  static HWY_INLINE V Value(V x) {
    return Tanh(x);
  }
  template <class V>
  static HWY_INLINE V Backward(V g, V y) {
    return Mul(g, TanhSlope(y));
  }
};
struct ReluAct {
  template <class V>
  static HWY_INLINE V Value(V x) {
    return IfThenElse(Lt(x, All<V>(0)), All<V>(0), x);
  }
  template <class V>
  static HWY_INLINE V Backward(V g, V y) {
    return hn::IfThenZeroElse(Le(y, All<V>(0)), g);
  }
};

/// d loss / d h': what comes from the next step plus what comes from outside.
template <class T, class At>
HWY_INLINE Lane<T> TotalGradient(const CellBackward<T>& s, At at, Index j) {
  const Lane<T> dh = at.Load(s.dh + j);
  return s.dy ? Add(dh, at.Load(s.dy + j)) : dh;
}
template <class T, class At>
HWY_INLINE void Keep(At at, Lane<T> v, T* to, Index j) {
  if (to) at.template Store<T>(v, to + j);
}

template <class Act, class T>
void RnnForward(const CellForward<T>& s) {
  ForEachVector<T>(s.hidden, [&](auto at, Index j) ESPALIER_INLINE_LAMBDA {
    Keep<T>(at, at.Load(s.h + j), s.h_before, j);
    const auto y = Act::Value(Add(at.Load(s.a + j), at.Load(s.product + j)));
    Keep<T>(at, y, s.gates, j);
    at.template Store<T>(y, s.h + j);
  });
}
template <class Act, class T>
void RnnBackward(const CellBackward<T>& s) {
  ForEachVector<T>(s.hidden, [&](auto at, Index j) ESPALIER_INLINE_LAMBDA {
    at.template Store<T>(Act::Backward(TotalGradient(s, at, j), at.Load(s.gates + j)), s.da + j);
  });
}

template <class T>
void LstmForward(const CellForward<T>& s) {
  const Index n = s.hidden;
  ForEachVector<T>(n, [&](auto at, Index j) ESPALIER_INLINE_LAMBDA {
    const auto i = Sigmoid(Add(at.Load(s.a + j), at.Load(s.product + j)));
    const auto f = Sigmoid(Add(at.Load(s.a + n + j), at.Load(s.product + n + j)));
    const auto g = Tanh(Add(at.Load(s.a + 2 * n + j), at.Load(s.product + 2 * n + j)));
    const auto o = Sigmoid(Add(at.Load(s.a + 3 * n + j), at.Load(s.product + 3 * n + j)));
    const auto before = at.Load(s.c + j);
    const auto c = MulAdd(f, before, Mul(i, g));
    const auto inner = Tanh(c);
    if (s.gates) {
      at.template Store<T>(i, s.gates + j);
      at.template Store<T>(f, s.gates + n + j);
      at.template Store<T>(g, s.gates + 2 * n + j);
      at.template Store<T>(o, s.gates + 3 * n + j);
    }
    Keep<T>(at, before, s.c_before, j);
    Keep<T>(at, at.Load(s.h + j), s.h_before, j);
    Keep<T>(at, inner, s.inner, j);
    at.template Store<T>(c, s.c + j);
    at.template Store<T>(Mul(o, inner), s.h + j);
  });
}
template <class T>
void LstmBackward(const CellBackward<T>& s) {
  const Index n = s.hidden;
  ForEachVector<T>(n, [&](auto at, Index j) ESPALIER_INLINE_LAMBDA {
    const auto i = at.Load(s.gates + j), f = at.Load(s.gates + n + j);
    const auto g = at.Load(s.gates + 2 * n + j), o = at.Load(s.gates + 3 * n + j);
    const auto inner = at.Load(s.inner + j), before = at.Load(s.c_before + j);
    const auto dh = TotalGradient(s, at, j);
    const auto dc = MulAdd(Mul(dh, o), TanhSlope(inner), at.Load(s.dc + j));
    at.template Store<T>(Mul(Mul(dc, g), SigmoidSlope(i)), s.da + j);
    at.template Store<T>(Mul(Mul(dc, before), SigmoidSlope(f)), s.da + n + j);
    at.template Store<T>(Mul(Mul(dc, i), TanhSlope(g)), s.da + 2 * n + j);
    at.template Store<T>(Mul(Mul(dh, inner), SigmoidSlope(o)), s.da + 3 * n + j);
    at.template Store<T>(Mul(dc, f), s.dc + j);
  });
}

template <class T>
void GruForward(const CellForward<T>& s) {
  const Index n = s.hidden;
  ForEachVector<T>(n, [&](auto at, Index j) ESPALIER_INLINE_LAMBDA {
    const auto r = Sigmoid(Add(at.Load(s.a + j), at.Load(s.product + j)));
    const auto z = Sigmoid(Add(at.Load(s.a + n + j), at.Load(s.product + n + j)));
    auto inner = at.Load(s.product + 2 * n + j);
    if (s.bias) inner = Add(inner, at.Load(s.bias + j));
    const auto candidate = Tanh(MulAdd(r, inner, at.Load(s.a + 2 * n + j)));
    const auto h = at.Load(s.h + j);
    if (s.gates) {
      at.template Store<T>(r, s.gates + j);
      at.template Store<T>(z, s.gates + n + j);
      at.template Store<T>(candidate, s.gates + 2 * n + j);
    }
    Keep<T>(at, h, s.h_before, j);
    Keep<T>(at, inner, s.inner, j);
    at.template Store<T>(MulAdd(z, Sub(h, candidate), candidate), s.h + j);
  });
}
template <class T>
void GruBackward(const CellBackward<T>& s) {
  const Index n = s.hidden;
  ForEachVector<T>(n, [&](auto at, Index j) ESPALIER_INLINE_LAMBDA {
    const auto r = at.Load(s.gates + j), z = at.Load(s.gates + n + j), candidate = at.Load(s.gates + 2 * n + j);
    const auto h = at.Load(s.h_before + j), inner = at.Load(s.inner + j);
    const auto dh = TotalGradient(s, at, j);
    const auto through = Mul(dh, z);
    const auto dn = Mul(Sub(dh, through), TanhSlope(candidate));
    const auto dr = Mul(Mul(dn, inner), SigmoidSlope(r));
    const auto dz = Mul(Mul(dh, Sub(h, candidate)), SigmoidSlope(z));
    at.template Store<T>(dr, s.da + j);
    at.template Store<T>(dz, s.da + n + j);
    at.template Store<T>(dn, s.da + 2 * n + j);
    at.template Store<T>(dr, s.dproduct + j);
    at.template Store<T>(dz, s.dproduct + n + j);
    at.template Store<T>(Mul(dn, r), s.dproduct + 2 * n + j);
    at.template Store<T>(through, s.dh + j);
  });
}

}  // namespace

const CellKernels& CellTable() {
  static constexpr CellKernels table{
      .rnn_tanh = {{RnnForward<TanhAct, float>, RnnBackward<TanhAct, float>},
                   {RnnForward<TanhAct, double>, RnnBackward<TanhAct, double>}},
      .rnn_relu = {{RnnForward<ReluAct, float>, RnnBackward<ReluAct, float>},
                   {RnnForward<ReluAct, double>, RnnBackward<ReluAct, double>}},
      .lstm = {{LstmForward<float>, LstmBackward<float>}, {LstmForward<double>, LstmBackward<double>}},
      .gru = {{GruForward<float>, GruBackward<float>}, {GruForward<double>, GruBackward<double>}},
  };
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {
HWY_EXPORT(CellTable);
const CellKernels& cells() noexcept { return HWY_DYNAMIC_DISPATCH(CellTable)(); }
}  // namespace espalier::kernels
#endif
