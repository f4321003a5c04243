#include "espalier/core/kernels/search.h"

#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/search.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

/// The first element that is not `within`.
template <class T, class Within>
HWY_INLINE Index FirstOutside(const T* x, Index n, T bound, const Within& within) {
  const Tag<T> d;
  constexpr Index L = lanes_of<T>;
  const auto limit = hn::Set(d, bound);
  const auto found = [&](auto inside) ESPALIER_INLINE_LAMBDA {
    return static_cast<Index>(FindFirstTrue(d, Not(inside)));  // -1 if there is none
  };
  Index i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    const auto a = within(hn::LoadU(d, x + i), limit), b = within(hn::LoadU(d, x + i + L), limit);
    const auto c = within(hn::LoadU(d, x + i + 2 * L), limit), e = within(hn::LoadU(d, x + i + 3 * L), limit);
    if (!AllTrue(d, And(And(a, b), And(c, e)))) break;
  }
  for (; i + L <= n; i += L)
    if (const Index k = found(within(hn::LoadU(d, x + i), limit)); k >= 0) return i + k;
  if (i == n) return n;
  const Index k = found(within(LoadPart(x + i, n - i, bound), limit));
  return k < 0 ? n : std::min(n, i + k);  // a bound that is NaN is outside itself
}

template <class T>
Index NotBelow(const T* x, Index n, T bound) {
  return FirstOutside(x, n, bound, [](auto v, auto limit) ESPALIER_INLINE_LAMBDA { return Le(v, limit); });
}
template <class T>
Index NotAbove(const T* x, Index n, T bound) {
  return FirstOutside(x, n, bound, [](auto v, auto limit) ESPALIER_INLINE_LAMBDA { return Ge(v, limit); });
}

}  // namespace

Index NotBelow32(const float* x, Index n, float bound) { return NotBelow(x, n, bound); }
Index NotBelow64(const double* x, Index n, double bound) { return NotBelow(x, n, bound); }
Index NotAbove32(const float* x, Index n, float bound) { return NotAbove(x, n, bound); }
Index NotAbove64(const double* x, Index n, double bound) { return NotAbove(x, n, bound); }

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(NotBelow32);
HWY_EXPORT(NotBelow64);
HWY_EXPORT(NotAbove32);
HWY_EXPORT(NotAbove64);

Index first_not_below(const float* x, Index n, float bound) noexcept {
  return HWY_DYNAMIC_DISPATCH(NotBelow32)(x, n, bound);
}
Index first_not_below(const double* x, Index n, double bound) noexcept {
  return HWY_DYNAMIC_DISPATCH(NotBelow64)(x, n, bound);
}
Index first_not_above(const float* x, Index n, float bound) noexcept {
  return HWY_DYNAMIC_DISPATCH(NotAbove32)(x, n, bound);
}
Index first_not_above(const double* x, Index n, double bound) noexcept {
  return HWY_DYNAMIC_DISPATCH(NotAbove64)(x, n, bound);
}

}  // namespace espalier::kernels
#endif
