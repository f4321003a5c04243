#include "espalier/core/kernels/directions.h"

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/directions.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/step-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

// With decay or without, into the value or into scratch: one loop serves all four, so that a rule is compiled only twice
// a type, with a mask and without. An operand that is absent is read again and again from one place that changes
// nothing; in the first-level cache that costs a tenth of the loop at most, in memory nothing.

/// An array, or zeros where there is none.
template <class T>
class OrZeros {
 public:
  explicit OrZeros(const T* x) : from_(x ? x : zeros_), step_(x ? ~Index{0} : 0) {}
  template <class At>
  HWY_INLINE Lane<T> Load(At at, Index i) const {
    return at.Load(from_ + (i & step_));
  }

 private:
  HWY_ALIGN static constexpr T zeros_[lanes_of<T>] = {};
  const T* from_;
  Index step_;
};
/// rule(at, i, g, states) -> d on every vector; `states` are `count` vectors, which it changes.
template <std::size_t count, class T, class Rule>
HWY_INLINE void EachVector(const StepBlock<T>& b, const Rule& rule) {
  const Tag<T> d;
  const auto scale = hn::Set(d, b.scale), decay = hn::Set(d, b.weight_decay), keep = hn::Set(d, b.keep);
  const OrZeros<T> decayed(b.weight_decay != 0 ? b.w : nullptr), kept(b.u ? nullptr : b.w);
  const T* const from = b.g;
  const T* const ahead = b.ahead ? b.ahead : b.g;
  T* const to = b.u ? b.u : b.w;
  const std::array<T*, 3> memory = b.states;
  const auto run = [=](auto mask) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(b.n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const auto live = mask.template At<T>(i);
      hwy::Prefetch(ahead + i);
      const auto g = live.Keep(MulAdd(decay, decayed.Load(at, i), Mul(scale, at.Load(from + i))));
      Lane<T> states[count];
      for (std::size_t k = 0; k < count; ++k) states[k] = at.Load(memory[k] + i);
      const auto update = rule(at, i, g, states);
      for (std::size_t k = 0; k < count; ++k) at.Store(live.Keep(states[k]), memory[k] + i);
      at.Store(live.Keep(MulAdd(keep, kept.Load(at, i), update)), to + i);
    });
  };
  b.mask ? run(SomeLive(b.mask)) : run(AllLive(b.mask));
}

/// In all lanes.
template <class T>
HWY_INLINE Lane<T> All(double x) {
  return hn::Set(Tag<T>(), static_cast<T>(x));
}
/// beta x + (1 - beta) y
template <class T>
struct Mean {
  explicit Mean(double decay) : beta(All<T>(decay)), rest(All<T>(1 - decay)) {}
  HWY_INLINE Lane<T> operator()(Lane<T> x, Lane<T> y) const { return MulAdd(beta, x, Mul(rest, y)); }
  HWY_INLINE Lane<T> Square(Lane<T> x, Lane<T> y) const { return MulAdd(beta, x, Mul(Mul(rest, y), y)); }
  Lane<T> beta, rest;
};
/// -1, 0, 1; 0 and NaN are their own.
template <class V>
HWY_INLINE V SignOf(V x) {
  const hn::DFromV<V> d;
  return IfThenElse(Gt(hn::Abs(x), hn::Zero(d)), hn::CopySign(hn::Set(d, 1), x), x);
}

template <class T>
void Amsgrad(const AmsgradStep& s, const StepBlock<T>& b) {
  const Mean<T> first(s.beta1), second(s.beta2);
  const auto step = All<T>(-s.step), root = All<T>(s.root), eps = All<T>(s.eps);
  EachVector<3>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = first(state[0], g);
    state[1] = second.Square(state[1], g);
    state[2] = IfThenElse(Gt(state[2], state[1]), state[2], state[1]);  // NaN stays
    return Div(Mul(step, state[0]), MulAdd(root, Sqrt(state[2]), eps));
  });
}

template <class T>
void Adamax(const AdamaxStep& s, const StepBlock<T>& b) {
  const Mean<T> first(s.beta1);
  const auto beta2 = All<T>(s.beta2), step = All<T>(-s.step), eps = All<T>(s.eps);
  EachVector<2>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = first(state[0], g);
    const auto faded = Mul(beta2, state[1]), here = Add(hn::Abs(g), eps);
    state[1] = IfThenElse(Gt(faded, here), faded, here);  // NaN stays
    return Div(Mul(step, state[0]), state[1]);
  });
}

template <class T>
void Nadam(const NadamStep& s, const StepBlock<T>& b) {
  const Mean<T> first(s.beta1), second(s.beta2);
  const auto now = All<T>(-s.now), step = All<T>(-s.step), root = All<T>(s.root), eps = All<T>(s.eps);
  EachVector<2>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = first(state[0], g);
    state[1] = second.Square(state[1], g);
    return Div(MulAdd(now, g, Mul(step, state[0])), MulAdd(root, Sqrt(state[1]), eps));
  });
}

template <class T>
void Radam(const RadamStep& s, const StepBlock<T>& b) {
  const Mean<T> first(s.beta1), second(s.beta2);
  const auto step = All<T>(-s.step), eps = All<T>(s.eps), one = All<T>(1);
  const auto rectified = Gt(All<T>(s.rectified ? 1 : 0), hn::Zero(Tag<T>()));
  EachVector<2>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = first(state[0], g);
    state[1] = second.Square(state[1], g);
    return Div(Mul(step, state[0]), IfThenElse(rectified, Add(Sqrt(state[1]), eps), one));
  });
}

template <class T, bool centred, bool momentum>
void Rmsprop(const RmspropStep& s, const StepBlock<T>& b) {
  const Mean<T> mean(s.alpha);
  const auto lr = All<T>(-s.lr), eps = All<T>(s.eps), old = All<T>(s.momentum), zero = hn::Zero(Tag<T>());
  constexpr std::size_t last = centred ? 2 : 1;
  EachVector<last + momentum>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = mean.Square(state[0], g);
    auto variance = state[0];
    if constexpr (centred) {
      state[1] = mean(state[1], g);
      variance = NegMulAdd(state[1], state[1], variance);
      variance = IfThenElse(Lt(variance, zero), zero, variance);  // rounding must not make a root of it NaN
    }
    auto step = Div(g, Add(Sqrt(variance), eps));
    if constexpr (momentum) step = state[last] = MulAdd(old, state[last], step);
    return Mul(lr, step);
  });
}

template <class T>
void Adagrad(const AdagradStep& s, const StepBlock<T>& b) {
  const auto lr = All<T>(-s.lr), eps = All<T>(s.eps), initial = All<T>(s.initial), zero = hn::Zero(Tag<T>());
  EachVector<1>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = MulAdd(g, g, IfThenElse(Eq(state[0], zero), initial, state[0]));
    return Div(Mul(lr, g), Add(Sqrt(state[0]), eps));
  });
}

template <class T>
void Adadelta(const AdadeltaStep& s, const StepBlock<T>& b) {
  const Mean<T> mean(s.rho);
  const auto lr = All<T>(-s.lr), eps = All<T>(s.eps);
  EachVector<2>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    state[0] = mean.Square(state[0], g);
    const auto step = Mul(Div(Sqrt(Add(state[1], eps)), Sqrt(Add(state[0], eps))), g);
    state[1] = mean.Square(state[1], step);
    return Mul(lr, step);
  });
}

template <class T>
void Asgd(const AsgdStep& s, const StepBlock<T>& b) {
  const auto eta = All<T>(-s.eta), mu = All<T>(s.mu), keep = hn::Set(Tag<T>(), b.keep);
  const T* const w = b.w;
  const auto copies = Eq(mu, All<T>(1));
  EachVector<1>(b, [=](auto at, Index i, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    const auto step = Mul(eta, g), next = MulAdd(keep, at.Load(w + i), step);
    state[0] = IfThenElse(copies, next, MulAdd(mu, Sub(next, state[0]), state[0]));
    return step;
  });
}

template <class T>
void Rprop(const RpropStep& s, const StepBlock<T>& b) {
  const auto initial = All<T>(s.initial), minus = All<T>(s.minus), plus = All<T>(s.plus), one = All<T>(1);
  const auto smallest = All<T>(s.smallest), largest = All<T>(s.largest), zero = hn::Zero(Tag<T>());
  EachVector<2>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    const auto both = Mul(SignOf(g), SignOf(state[0]));  // signs: a product of gradients may underflow
    const auto turned = Lt(both, zero);
    const auto factor = IfThenElse(turned, minus, IfThenElse(Gt(both, zero), plus, one));
    const auto size = Mul(IfThenElse(Eq(state[1], zero), initial, state[1]), factor);
    state[0] = IfThenElse(turned, zero, g);
    state[1] = Clamped(size, smallest, largest);
    return hn::Neg(Mul(state[1], SignOf(state[0])));
  });
}

template <class T>
void Lion(const LionStep& s, const StepBlock<T>& b) {
  const Mean<T> first(s.beta1), second(s.beta2);
  const auto lr = All<T>(-s.lr);
  EachVector<1>(b, [=](auto, Index, Lane<T> g, Lane<T>* state) ESPALIER_INLINE_LAMBDA {
    const auto step = Mul(lr, SignOf(first(state[0], g)));
    state[0] = second(state[0], g);
    return step;
  });
}

template <class T>
constexpr DirectionKernels<T> Table() {
  return {
      .amsgrad = Amsgrad<T>,
      .adamax = Adamax<T>,
      .nadam = Nadam<T>,
      .radam = Radam<T>,
      .rmsprop = {{Rmsprop<T, false, false>, Rmsprop<T, false, true>},
                  {Rmsprop<T, true, false>, Rmsprop<T, true, true>}},
      .adagrad = Adagrad<T>,
      .adadelta = Adadelta<T>,
      .asgd = Asgd<T>,
      .rprop = Rprop<T>,
      .lion = Lion<T>,
  };
}

}  // namespace

const Both<DirectionKernels>& DirectionTables() {
  static constexpr Both<DirectionKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(DirectionTables);

template <class T>
const DirectionKernels<T>& directions() noexcept {
  return HWY_DYNAMIC_DISPATCH(DirectionTables)().template get<T>();
}
template const DirectionKernels<float>& directions<float>() noexcept;
template const DirectionKernels<double>& directions<double>() noexcept;

}  // namespace espalier::kernels
#endif
