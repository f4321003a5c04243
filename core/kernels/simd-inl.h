// What the kernel sources share, compiled once per SIMD target: element loops with tails, and lanes from mask words.
// (Included again for every target, hence the toggle instead of #pragma once.)
#if defined(ESPALIER_CORE_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_SIMD_INL_H_
#undef ESPALIER_CORE_KERNELS_SIMD_INL_H_
#else
#define ESPALIER_CORE_KERNELS_SIMD_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "espalier/core/error.h"
#include "hwy/highway.h"

/// Behind the parameters of a lambda that is the body of a loop over vectors.
#ifndef ESPALIER_INLINE_LAMBDA
#define ESPALIER_INLINE_LAMBDA __attribute__((always_inline))
#endif

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Lane = hn::Vec<Tag<T>>;
template <class T>
constexpr Index lanes_of = static_cast<Index>(hn::MaxLanes(Tag<T>()));

/// The first `count` lanes from x, the others `fill`. Nothing behind them is read.
template <class T>
HWY_INLINE Lane<T> LoadPart(const T* x, Index count, T fill = T(0)) {
  const Tag<T> d;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3  // whose masked loads touch no more than they load
  const auto first = FirstN(d, static_cast<std::size_t>(count));
  return IfThenElse(first, MaskedLoad(first, d, x), hn::Set(d, fill));
#else
  HWY_ALIGN T buffer[lanes_of<T>];
  Store(hn::Set(d, fill), d, buffer);
  for (Index i = 0; i < count; ++i) buffer[i] = x[i];
  return hn::Load(d, buffer);
#endif
}
/// Stores the first `count` lanes.
template <class T>
HWY_INLINE void StorePart(Lane<T> v, T* y, Index count) {
  const Tag<T> d;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  BlendedStore(v, FirstN(d, static_cast<std::size_t>(count)), d, y);
#else
  HWY_ALIGN T buffer[lanes_of<T>];
  Store(v, d, buffer);
  for (Index i = 0; i < count; ++i) y[i] = buffer[i];
#endif
}

/// Where a loop over vectors stands: all lanes are there (Whole), or only `count` of them (Part). Loads and stores go
/// through it, so that the last elements run through the very same vector code as all others, and get the same bits.
struct Whole {
  template <class T>
  HWY_INLINE Lane<T> Load(const T* x, T = T(0)) const {
    return hn::LoadU(Tag<T>(), x);
  }
  template <class T>
  HWY_INLINE void Store(Lane<T> v, T* y) const {
    StoreU(v, Tag<T>(), y);
  }
};
struct Part {
  template <class T>
  HWY_INLINE Lane<T> Load(const T* x, T fill = T(0)) const {  // `fill` in the lanes behind the end
    return LoadPart(x, count, fill);
  }
  template <class T>
  HWY_INLINE void Store(Lane<T> v, T* y) const {
    StorePart(v, y, count);
  }
  Index count;
};

/// Calls body(at, i) for i = 0, L, 2L, ... below n, L the lanes of T; `at` is Whole, at the end possibly Part.
template <class T, class Body>
HWY_INLINE void ForEachVector(Index n, const Body& body) {
  constexpr Index L = lanes_of<T>;
  Index i = 0;
  for (; i + L <= n; i += L) body(Whole(), i);
  if (i < n) body(Part{n - i}, i);
}

/// Lanes i ... i + L - 1 of a bit mask as a SIMD mask. i is a multiple of L, so words do not split.
template <class T>
HWY_INLINE hn::Mask<Tag<T>> LiveLanes(const std::uint64_t* words, Index i) {
  const Tag<T> d;
  const hn::RebindToUnsigned<Tag<T>> du;
  using U = hn::TFromD<decltype(du)>;
  const auto bits = hn::Set(du, static_cast<U>(words[i >> 6] >> (i & 63)));
  HWY_ALIGN static constexpr U pick[16] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
  return hn::RebindMask(d, TestBit(bits, hn::Load(du, pick)));
}

/// Sum of the lanes, by halves: lane k + lane k + L/2, and so on.
template <class T>
HWY_INLINE double SumLanes(Lane<T> v) {
  HWY_ALIGN T lane[lanes_of<T>];
  Store(v, Tag<T>(), lane);
  double sum[lanes_of<T>];
  for (Index k = 0; k < lanes_of<T>; ++k) sum[k] = static_cast<double>(lane[k]);
  for (Index width = lanes_of<T> / 2; width > 0; width /= 2)
    for (Index k = 0; k < width; ++k) sum[k] += sum[k + width];
  return sum[0];
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
