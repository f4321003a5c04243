#include "espalier/core/kernels/transforms.h"

#include <algorithm>
#include <bit>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/transforms.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/block_sum-inl.h"
#include "espalier/core/kernels/step-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

/// out[i] = f(at, i), 0 where dead.
template <class T, class F>
HWY_INLINE void StoreLive(T* out, Mask mask, Index n, const F& f) {
  const auto run = [=](auto live) ESPALIER_INLINE_LAMBDA {
    ForEachVector<T>(
        n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { at.Store(live.template Keep<T>(f(at, i), i), out + i); });
  };
  mask ? run(SomeLive(mask)) : run(AllLive(mask));
}

template <class T>
void LoadSoftened(T* out, const T* g, T scale, T s, Mask mask, Index n) {
  const Tag<T> d;
  const auto by = hn::Set(d, scale), less = hn::Set(d, s), zero = hn::Zero(d);
  StoreLive(out, mask, n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    const auto x = Mul(by, at.Load(g + i));
    const auto left = Sub(hn::Abs(x), less);
    return IfThenZeroElse(Le(left, zero), hn::CopySign(left, x));  // NaN is not <= 0
  });
}

/// Lanes i ... i + L - 1 of a mask of n bits, wherever they begin.
template <class T>
HWY_INLINE hn::Mask<Tag<T>> LiveLanesFrom(Mask mask, Index i, Index n) {
  std::uint64_t bits = mask[i >> 6] >> (i & 63);
  const Index rest = 64 - (i & 63);
  if (rest < lanes_of<T> && i + rest < n) bits |= mask[(i >> 6) + 1] << rest;
  return LiveLanes<T>(&bits, 0);
}
HWY_INLINE Index LiveBetween(Mask mask, Index begin, Index end) {
  Index live = 0;
  for (Index i = begin; i < end;) {
    const Index upto = std::min((i | 63) + 1, end), many = upto - i;
    const std::uint64_t bits = mask[i >> 6] >> (i & 63);
    live += std::popcount(many == 64 ? bits : bits & ((std::uint64_t{1} << many) - 1));
    i = upto;
  }
  return live;
}

/// use(begin, read, shifted) for each unit: read(at, i) gives a vector of it, shifted(x, i) what becomes of that.
template <class T, class Use>
HWY_INLINE void CenterUnits(const T* g, T scale, Index unit, Mask mask, Index n, const Use& use) {
  const Tag<T> d;
  const auto by = hn::Set(d, scale);
  const auto center = [=](Index begin, Index live, auto read, auto keep) ESPALIER_INLINE_LAMBDA {
    const double mean = live > 0 ? SumBlock<T>(unit, PlusValue(), read) / static_cast<double>(live) : 0;
    const auto shift = hn::Set(d, static_cast<T>(-mean * static_cast<double>(scale)));
    use(begin, read, [=](Lane<T> x, Index i) ESPALIER_INLINE_LAMBDA { return keep(MulAdd(by, x, shift), i); });
  };
  for (Index u = 0; u < n; u += unit) {
    const T* from = g + u;
    if (mask) {
      const auto keep = [=](Lane<T> x, Index i)
                            ESPALIER_INLINE_LAMBDA { return IfThenElseZero(LiveLanesFrom<T>(mask, u + i, n), x); };
      center(
          u, LiveBetween(mask, u, u + unit),
          [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { return keep(at.Load(from + i), i); }, keep);
    } else {
      center(
          u, unit, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA { return at.Load(from + i); },
          [](Lane<T> x, Index) ESPALIER_INLINE_LAMBDA { return x; });
    }
  }
}
template <class T>
void LoadCentered(T* out, const T* g, T scale, Index unit, Mask mask, Index n) {
  CenterUnits(g, scale, unit, mask, n, [=](Index begin, auto read, auto shifted) ESPALIER_INLINE_LAMBDA {
    const T* next = g + begin + unit;
    T* to = out + begin;
    ForEachVector<T>(unit, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      hwy::Prefetch(next + i);  // the next unit, while this one is in the cache
      at.Store(shifted(read(at, i), i), to + i);
    });
  });
}
template <class T>
double SumSquaresCentered(const T* g, T scale, Index unit, Mask mask, Index n) {
  double total = 0;
  CenterUnits(g, scale, unit, mask, n, [&](Index begin, auto read, auto shifted) ESPALIER_INLINE_LAMBDA {
    const T* next = g + begin + unit;
    total += SumBlock<T>(unit, PlusSquare(), [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
      hwy::Prefetch(next + i);
      return KeepPresent<T>(at, shifted(read(at, i), i));
    });
  });
  return total;
}

template <class T>
void Approach(T* y, T c, const T* x, Mask mask, Index n) {
  const auto by = hn::Set(Tag<T>(), c);
  StoreLive(y, mask, n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    const auto from = at.Load(y + i);
    return MulAdd(by, Sub(at.Load(x + i), from), from);
  });
}

template <class T>
constexpr TransformKernels<T> Table() {
  return {.load_softened = LoadSoftened<T>,
          .load_centered = LoadCentered<T>,
          .sum_squares_centered = SumSquaresCentered<T>,
          .approach = Approach<T>};
}

}  // namespace

const Both<TransformKernels>& TransformTables() {
  static constexpr Both<TransformKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(TransformTables);

template <class T>
const TransformKernels<T>& transforms() noexcept {
  return HWY_DYNAMIC_DISPATCH(TransformTables)().template get<T>();
}
template const TransformKernels<float>& transforms<float>() noexcept;
template const TransformKernels<double>& transforms<double>() noexcept;

}  // namespace espalier::kernels
#endif
