// Vectors of f64 from and to numbers of either type, compiled once per SIMD target.
#if defined(ESPALIER_CORE_KERNELS_WIDE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_WIDE_INL_H_
#undef ESPALIER_CORE_KERNELS_WIDE_INL_H_
#else
#define ESPALIER_CORE_KERNELS_WIDE_INL_H_
#endif

#include "espalier/core/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

/// As many values as fit doubles.
template <class T>
HWY_INLINE Lane<double> LoadWide(const T* x) {
  const Tag<double> d;
  if constexpr (sizeof(T) == 8)
    return hn::LoadU(d, x);
  else
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, Tag<double>>(), x));
}
template <class T>
HWY_INLINE void StoreNarrow(Lane<double> v, T* y) {
#if HWY_TARGET == HWY_SCALAR  // where DemoteTo makes large numbers of infinities
  *y = static_cast<T>(hn::GetLane(v));
#else
  const hn::Rebind<T, Tag<double>> d;
  if constexpr (sizeof(T) == 8)
    StoreU(v, d, y);
  else
    StoreU(hn::DemoteTo(d, v), d, y);
#endif
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
