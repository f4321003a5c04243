// The loop of kernels with several operands, each of which moves or is one element: compiled once for all combinations.
#if defined(ESPALIER_CORE_KERNELS_STEP_LOOP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_STEP_LOOP_INL_H_
#undef ESPALIER_CORE_KERNELS_STEP_LOOP_INL_H_
#else
#define ESPALIER_CORE_KERNELS_STEP_LOOP_INL_H_
#endif

#include <array>

#include "espalier/core/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

/// y[i] = f({operands[0][i], ...}); step 0: operands[k][0] for every i. y may be one of the operands that move.
template <class T, std::size_t N, class F>
HWY_INLINE void StepLoop(const std::array<const T*, N>& operands, const std::array<Index, N>& steps, T* y, Index n,
                         const F& f) {
  if (n <= 0) return;
  const Tag<T> d;
  constexpr Index L = lanes_of<T>;
  HWY_ALIGN T copies[N][lanes_of<T>];  // an operand of one element is read from here again and again
  const T* from[N];
  Index stride[N];
  for (std::size_t k = 0; k < N; ++k) {
    from[k] = steps[k] ? operands[k] : copies[k];
    stride[k] = steps[k] * L;
    if (!steps[k]) Store(hn::Set(d, *operands[k]), d, copies[k]);
  }
  Lane<T> v[N];
  Index i = 0;
  for (; i + L <= n; i += L) {
    for (std::size_t k = 0; k < N; ++k, from[k - 1] += stride[k - 1]) v[k] = hn::LoadU(d, from[k]);
    StoreU(f(v), d, y + i);
  }
  if (i == n) return;
  for (std::size_t k = 0; k < N; ++k) v[k] = LoadPart(from[k], n - i);
  StorePart(f(v), y + i, n - i);
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
