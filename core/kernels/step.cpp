#include "espalier/core/kernels/step.h"

#include <bit>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/step.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "espalier/core/kernels/math-inl.h"
#include "espalier/core/kernels/step-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void Load(T* out, const T* g, T scale, Mask mask, Index n) {
  const auto s = hn::Set(Tag<T>(), scale);
  const auto run = [=](auto live) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      at.Store(live.template Keep<T>(Mul(s, at.Load(g + i)), i), out + i);
    });
  };
  mask ? run(SomeLive(mask)) : run(AllLive(mask));
}

/// `lanes`, without those behind the end of a vector of ForEachVector.
template <class T>
HWY_INLINE hn::Mask<Tag<T>> OnlyPresent(Whole, hn::Mask<Tag<T>> lanes) {
  return lanes;
}
template <class T>
HWY_INLINE hn::Mask<Tag<T>> OnlyPresent(Part part, hn::Mask<Tag<T>> lanes) {
  return And(lanes, FirstN(Tag<T>(), static_cast<std::size_t>(part.count)));
}

template <class T>
Index LoadClamped(T* out, const T* g, T scale, T low, T high, Mask mask, Index n) {
  const Tag<T> d;
  const hn::RebindToSigned<Tag<T>> di;
  const auto s = hn::Set(d, scale), lo = hn::Set(d, low), hi = hn::Set(d, high);
  auto outside = hn::Zero(di);
  const auto run = [&](auto live) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const auto lives = live.template At<T>(i);
      const auto x = Mul(s, at.Load(g + i));
      const auto moved = VecFromMask(d, OnlyPresent<T>(at, Or(Lt(x, lo), Gt(x, hi))));
      outside = Sub(outside, BitCast(di, lives.Keep(moved)));  // minus one where moved
      at.Store(lives.Keep(Clamped(x, lo, hi)), out + i);
    });
  };
  mask ? run(SomeLive(mask)) : run(AllLive(mask));
  return static_cast<Index>(hn::GetLane(hn::SumOfLanes(di, outside)));
}

template <class T>
Index LoadSquashed(T* out, const T* g, T scale, T bound, Mask mask, Index n) {
  const Tag<T> d;
  const hn::RebindToSigned<Tag<T>> di;
  // Below this part of the bound x - x^3 / 3 rounds to x; and x / bound may have no digits left.
  constexpr T part = sizeof(T) == 4 ? T(1) / (1 << 13) : T(1) / (1 << 27);
  const auto s = hn::Set(d, scale), b = hn::Set(d, bound), straight = hn::Set(d, bound * part);
  auto beyond = hn::Zero(di);
  const auto run = [&](auto live) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(n, [&](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const auto lives = live.template At<T>(i);
      const auto x = Mul(s, at.Load(g + i)), size = hn::Abs(x);
      beyond = Sub(beyond, BitCast(di, lives.Keep(VecFromMask(d, OnlyPresent<T>(at, Gt(size, b))))));
      at.Store(lives.Keep(IfThenElse(Le(size, straight), x, Mul(b, Tanh(Div(x, b))))), out + i);
    });
  };
  mask ? run(SomeLive(mask)) : run(AllLive(mask));
  return static_cast<Index>(hn::GetLane(hn::SumOfLanes(di, beyond)));
}

template <class T>
void LoadShifted(T* out, const T* g, T scale, T c, Mask mask, Index n) {
  const auto s = hn::Set(Tag<T>(), scale), by = hn::Set(Tag<T>(), c);
  const auto run = [=](auto live) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      at.Store(live.template Keep<T>(MulAdd(s, at.Load(g + i), by), i), out + i);
    });
  };
  mask ? run(SomeLive(mask)) : run(AllLive(mask));
}

template <class T>
void Sign(T* x, Index n) {
  const Tag<T> d;
  const auto one = hn::Set(d, T(1)), zero = hn::Zero(d);
  ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    const auto v = at.Load(x + i);
    at.Store(IfThenElse(Gt(hn::Abs(v), zero), hn::CopySign(one, v), v), x + i);  // 0 and NaN are their own
  });
}

template <class T>
void MaskZero(T* x, Mask mask, Index n) {
  if (!mask) return;
  const SomeLive live(mask);
  ForEachVector<T>(
      n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(live.template Keep<T>(at.Load(x + i), i), x + i); });
}

template <class T>
void Blend(T* y, T a, T b, const T* x, Index n) {
  const Tag<T> d;
  const auto va = hn::Set(d, a), vb = hn::Set(d, b);
  ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    at.Store(MulAdd(va, at.Load(y + i), Mul(vb, at.Load(x + i))), y + i);
  });
}

template <class T>
void Axpy(T* y, T c, const T* x, Index n) {
  const auto vc = hn::Set(Tag<T>(), c);
  ForEachVector<T>(
      n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(MulAdd(vc, at.Load(x + i), at.Load(y + i)), y + i); });
}

/// measure(n, read), where read(at, i) is vector i of x with its dead lanes at 0.
template <class T, class Measure>
HWY_INLINE auto OverLive(const T* x, Mask mask, Index n, const Measure& measure) {
  const auto run = [=](auto live) ESPALIER_INLINE_LAMBDA {
    return measure(n,
                   [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { return live.template Keep<T>(at.Load(x + i), i); });
  };
  return mask ? run(SomeLive(mask)) : run(AllLive(mask));
}

template <class T, class Term>
double SumOf(const T* x, Mask mask, Index n) {
  return OverLive(x, mask, n,
                  [](Index size, const auto& read) ESPALIER_INLINE_LAMBDA { return SumBlock<T>(size, Term(), read); });
}
template <class T>
double SumSquares(const T* x, Mask mask, Index n) {
  return OverLive(x, mask, n,
                  [](Index size, const auto& read) ESPALIER_INLINE_LAMBDA { return SumSquaresBlock<T>(size, read); });
}
template <class T>
double SumSquaresClamped(const T* x, T scale, T low, T high, Mask mask, Index n) {
  const Tag<T> d;
  const auto s = hn::Set(d, scale), lo = hn::Set(d, low), hi = hn::Set(d, high);
  const auto sum = [=](auto live) ESPALIER_INLINE_LAMBDA {
    return SumSquaresBlock<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      return KeepPresent<T>(at, live.template Keep<T>(Clamped(Mul(s, at.Load(x + i)), lo, hi), i));
    });
  };
  return mask ? sum(SomeLive(mask)) : sum(AllLive(mask));
}
template <class T>
bool Within(const T* x, T low, T high, Index n) {
  const Tag<T> d;
  constexpr Index L = lanes_of<T>;
  const auto lo = hn::Set(d, low), hi = hn::Set(d, high);
  auto outside = hn::Zero(d);  // all bits of a lane once it was
  Index i = 0;
  for (; i + L <= n; i += L) {
    const auto v = hn::LoadU(d, x + i);
    outside = Or(outside, VecFromMask(d, Or(Lt(v, lo), Gt(v, hi))));
  }
  bool inside = hn::AllFalse(d, hn::MaskFromVec(outside));
  for (; i < n; ++i) inside = inside && !(x[i] < low) && !(x[i] > high);
  return inside;
}
template <class T>
double AbsMax(const T* x, Mask mask, Index n) {
  return static_cast<double>(OverLive(
      x, mask, n, [](Index size, const auto& read) ESPALIER_INLINE_LAMBDA { return AbsMaxBlock<T>(size, read); }));
}

struct PlusZeroTimes {  // stays 0 until the first NaN or infinity
  template <class V>
  HWY_INLINE V operator()(V a, V x) const {
    return MulAdd(x, hn::Zero(hn::DFromV<V>()), a);
  }
};
template <class T>
Index CountNonfinite(const T* x, Mask mask, Index n) {
  if (SumOf<T, PlusZeroTimes>(x, mask, n) == 0) [[likely]]
    return 0;
  Index count = 0;
  for (Index i = 0; i < n; ++i) count += is_live(mask, i) && !std::isfinite(x[i]);
  return count;
}
template <class T>
Index FirstNonfinite(const T* x, Mask mask, Index n) {
  if (SumOf<T, PlusZeroTimes>(x, mask, n) == 0) [[likely]]
    return -1;
  for (Index i = 0; i < n; ++i)
    if (is_live(mask, i) && !std::isfinite(x[i])) return i;
  return -1;
}

/// Where an update goes: straight into the value, or into u.
template <class T>
struct IntoValue {
  template <class At, class Live>
  HWY_INLINE void operator()(At at, const Live& live, Lane<T> d, Index i) const {
    at.Store(live.Keep(MulAdd(keep, at.Load(w + i), d)), w + i);
  }
  T* w;
  Lane<T> keep;
};
template <class T>
struct IntoScratch {
  template <class At, class Live>
  HWY_INLINE void operator()(At at, const Live& live, Lane<T> d, Index i) const {
    at.Store(live.Keep(d), u + i);
  }
  T* u;
};
/// The gradient a step starts from, dead lanes 0: scaled; if `general`, also clamped, the moved ones counted, and with
/// decay.
template <class T, bool general>
struct Gradient {
  template <class At, class Live>
  HWY_INLINE Lane<T> operator()(At at, const Live& live, Index i) const {
    auto x = Mul(scale, at.Load(g + i));
    hwy::Prefetch(ahead + i);
    if constexpr (general) {
      const auto moved = OnlyPresent<T>(at, Or(Lt(x, low), Gt(x, high)));
      *outside = Sub(*outside, BitCast(hn::RebindToSigned<Tag<T>>(), live.Keep(VecFromMask(Tag<T>(), moved))));
      x = Clamped(x, low, high);
      if (decays) x = MulAdd(decay, at.Load(w + i), x);
    }
    return live.Keep(x);
  }
  const T* g;
  const T* w;
  const T* ahead;
  Lane<T> scale, decay, low, high;
  bool decays;
  hn::Vec<hn::RebindToSigned<Tag<T>>>* outside;
};

/// run(gradient, live, out) with each of the three chosen once, ahead of the loop.
template <class T, class Step, class Run>
HWY_INLINE Index ChooseStep(const Step& s, const T* g, T* w, T* u, Mask mask, const Run& run) {
  const Tag<T> d;
  const hn::RebindToSigned<Tag<T>> di;
  const auto set = [](double x) ESPALIER_INLINE_LAMBDA { return hn::Set(Tag<T>(), static_cast<T>(x)); };
  const auto keep = set(s.keep);
  const auto with_gradient = [&](auto gradient) ESPALIER_INLINE_LAMBDA {
    if (mask && u)
      run(gradient, SomeLive(mask), IntoScratch<T>{u});
    else if (mask)
      run(gradient, SomeLive(mask), IntoValue<T>{w, keep});
    else if (u)
      run(gradient, AllLive(mask), IntoScratch<T>{u});
    else
      run(gradient, AllLive(mask), IntoValue<T>{w, keep});
  };
  const bool clamps =
      s.low > -std::numeric_limits<double>::infinity() || s.high < std::numeric_limits<double>::infinity();
  const auto zero = hn::Zero(d);
  const T* ahead = s.ahead ? static_cast<const T*>(s.ahead) : g;
  if (!clamps && s.weight_decay == 0) {
    with_gradient(Gradient<T, false>{g, w, ahead, set(s.scale), zero, zero, zero, false, nullptr});
    return 0;
  }
  auto outside = hn::Zero(di);
  with_gradient(Gradient<T, true>{g, w, ahead, set(s.scale), set(s.weight_decay), set(s.low), set(s.high), s.weight_decay != 0,
                                  &outside});
  return static_cast<Index>(hn::GetLane(hn::SumOfLanes(di, outside)));
}

template <class T>
Index Adam(const AdamStep& s, const T* g, T* m, T* v, T* w, T* u, Mask mask, Index n) {
  const Tag<T> d;
  const auto b1 = hn::Set(d, static_cast<T>(s.beta1)), c1 = hn::Set(d, static_cast<T>(1 - s.beta1));
  const auto b2 = hn::Set(d, static_cast<T>(s.beta2)), c2 = hn::Set(d, static_cast<T>(1 - s.beta2));
  const auto step = hn::Set(d, static_cast<T>(-s.step)), root = hn::Set(d, static_cast<T>(s.root));
  const auto eps = hn::Set(d, static_cast<T>(s.eps));
  return ChooseStep(s, g, w, u, mask, [=](auto gradient, auto live, auto out) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      const auto lives = live.template At<T>(i);
      const auto x = gradient(at, lives, i);
      const auto mean = MulAdd(b1, at.Load(m + i), Mul(c1, x));
      const auto square = MulAdd(b2, at.Load(v + i), Mul(Mul(c2, x), x));
      at.Store(mean, m + i);
      at.Store(square, v + i);
      out(at, lives, Div(Mul(step, mean), MulAdd(Sqrt(square), root, eps)), i);
    });
  });
}

template <class T>
Index Sgd(const SgdStep& s, const T* g, T* m, T* w, T* u, Mask mask, Index n) {
  const Tag<T> d;
  const auto lr = hn::Set(d, static_cast<T>(-s.lr)), momentum = hn::Set(d, static_cast<T>(s.momentum));
  const auto fresh = hn::Set(d, static_cast<T>(s.first ? 1 : 1 - s.dampening));
  const auto old = hn::Set(d, static_cast<T>(s.first ? 0 : s.momentum));
  return ChooseStep(s, g, w, u, mask, [=](auto gradient, auto live, auto out) ESPALIER_INLINE_LAMBDA {
    const auto with_momentum = [=](auto at, Index i, Lane<T> x) ESPALIER_INLINE_LAMBDA {
      const auto mean = MulAdd(old, at.Load(m + i), Mul(fresh, x));
      at.Store(mean, m + i);
      return mean;
    };
    if (s.momentum == 0) {
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
        const auto lives = live.template At<T>(i);
        out(at, lives, Mul(lr, gradient(at, lives, i)), i);
      });
    } else if (s.nesterov) {
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
        const auto lives = live.template At<T>(i);
        const auto x = gradient(at, lives, i);
        out(at, lives, Mul(lr, MulAdd(momentum, with_momentum(at, i, x), x)), i);
      });
    } else {
      ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
        const auto lives = live.template At<T>(i);
        out(at, lives, Mul(lr, with_momentum(at, i, gradient(at, lives, i))), i);
      });
    }
  });
}

template <class T>
constexpr StepKernels<T> Table() {
  return {
      .load = Load<T>,
      .load_clamped = LoadClamped<T>,
      .load_squashed = LoadSquashed<T>,
      .load_shifted = LoadShifted<T>,
      .sign = Sign<T>,
      .mask_zero = MaskZero<T>,
      .axpy = Axpy<T>,
      .blend = Blend<T>,
      .sum = SumOf<T, PlusValue>,
      .sum_squares = SumSquares<T>,
      .sum_squares_clamped = SumSquaresClamped<T>,
      .within = Within<T>,
      .abs_sum = SumOf<T, PlusAbs>,
      .abs_max = AbsMax<T>,
      .count_nonfinite = CountNonfinite<T>,
      .first_nonfinite = FirstNonfinite<T>,
      .adam = Adam<T>,
      .sgd = Sgd<T>,
  };
}

}  // namespace

const Both<StepKernels>& StepTables() {
  static constexpr Both<StepKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(StepTables);

template <class T>
const StepKernels<T>& step() noexcept {
  return HWY_DYNAMIC_DISPATCH(StepTables)().template get<T>();
}
template const StepKernels<float>& step<float>() noexcept;
template const StepKernels<double>& step<double>() noexcept;

Index count_live(Mask mask, Index n) noexcept {
  if (!mask) return n;
  Index live = 0;
  for (Index i = 0; i + 64 <= n; i += 64) live += std::popcount(mask[i / 64]);
  if (n % 64 != 0) live += std::popcount(mask[n / 64] & ((std::uint64_t{1} << (n % 64)) - 1));
  return live;
}

}  // namespace espalier::kernels
#endif
