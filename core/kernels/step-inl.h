// What the kernels of the optimizer step share, compiled once per SIMD target: dead lanes, and the loop of a direction.
#if defined(ESPALIER_CORE_KERNELS_STEP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_STEP_INL_H_
#undef ESPALIER_CORE_KERNELS_STEP_INL_H_
#else
#define ESPALIER_CORE_KERNELS_STEP_INL_H_
#endif

#include "espalier/core/kernels/simd-inl.h"
#include "espalier/core/kernels/step.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

/// Keep: vector i with its dead lanes set to +0. AllLive or SomeLive is chosen once a block, not once a vector; At(i)
/// holds the lanes of vector i for several uses.
struct AllLive {
  explicit AllLive(Mask) {}
  template <class T>
  HWY_INLINE AllLive At(Index) const {
    return *this;
  }
  template <class V>
  HWY_INLINE V Keep(V x) const {
    return x;
  }
  template <class T>
  HWY_INLINE Lane<T> Keep(Lane<T> x, Index) const {
    return x;
  }
};
template <class T>
struct LiveVector {
  HWY_INLINE Lane<T> Keep(Lane<T> x) const { return IfThenElseZero(lanes, x); }
  hn::Mask<Tag<T>> lanes;
};
struct SomeLive {
  explicit SomeLive(Mask mask) : words(mask) {}
  template <class T>
  HWY_INLINE LiveVector<T> At(Index i) const {
    return {LiveLanes<T>(words, i)};
  }
  template <class T>
  HWY_INLINE Lane<T> Keep(Lane<T> x, Index i) const {
    return At<T>(i).Keep(x);
  }
  Mask words;
};

template <class V>
HWY_INLINE V Clamped(V x, V low, V high) {  // NaN stays
  x = IfThenElse(Lt(x, low), low, x);
  return IfThenElse(Gt(x, high), high, x);
}

/// 0 in the lanes behind the end of a vector, where a bound or a shift would have put itself.
template <class T>
HWY_INLINE Lane<T> KeepPresent(Whole, Lane<T> x) {
  return x;
}
template <class T>
HWY_INLINE Lane<T> KeepPresent(Part part, Lane<T> x) {
  return IfThenElseZero(FirstN(Tag<T>(), static_cast<std::size_t>(part.count)), x);
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
