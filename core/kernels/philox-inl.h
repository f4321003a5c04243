// Philox 4x32-10 on vectors, compiled once per SIMD target.
#if defined(ESPALIER_CORE_KERNELS_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ESPALIER_CORE_KERNELS_PHILOX_INL_H_
#undef ESPALIER_CORE_KERNELS_PHILOX_INL_H_
#else
#define ESPALIER_CORE_KERNELS_PHILOX_INL_H_
#endif

#include "espalier/core/kernels/random_place.h"
#include "espalier/core/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {

/// Product of the low halves of all lanes.
template <class V>
HWY_INLINE V WideProduct(V a, V b) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(hn::DFromV<V>(), GetLane(a) * GetLane(b));
#else
  const hn::Repartition<std::uint32_t, hn::DFromV<V> > half;
  return MulEven(BitCast(half, a), BitCast(half, b));
#endif
}

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011) on as many counters as there are 64-bit lanes, the counter of lane i
/// being first + i; each lane of a word holds one 32-bit number. The same function as in core/rng.cpp, which tests
/// compare, on every SIMD target.
struct PhiloxWords {
  explicit HWY_INLINE PhiloxWords(const RandomPlace& place, std::uint64_t first) {
    const Tag<std::uint64_t> d;
    const auto low = hn::Set(d, 0xffffffffu);
    const auto m0 = hn::Set(d, 0xD2511F53u), m1 = hn::Set(d, 0xCD9E8D57u);
    const auto counter = Add(hn::Set(d, place.counter + first), hn::Iota(d, std::uint64_t{0}));
    c0 = And(counter, low);
    c1 = hn::ShiftRight<32>(counter);
    c2 = hn::Set(d, place.stream & 0xffffffffu);
    c3 = hn::Set(d, place.stream >> 32);
    auto k0 = static_cast<std::uint32_t>(place.key), k1 = static_cast<std::uint32_t>(place.key >> 32);
    for (int round = 0; round < 10; ++round) {
      const auto p0 = WideProduct(c0, m0), p1 = WideProduct(c2, m1);
      c0 = Xor(Xor(hn::ShiftRight<32>(p1), c1), hn::Set(d, std::uint64_t{k0}));
      c2 = Xor(Xor(hn::ShiftRight<32>(p0), c3), hn::Set(d, std::uint64_t{k1}));
      c1 = And(p1, low);
      c3 = And(p0, low);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
  }
  static constexpr auto lanes = static_cast<std::uint64_t>(lanes_of<std::uint64_t>);
  Lane<std::uint64_t> c0, c1, c2, c3;
};

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
