#include "espalier/core/kernels/dropout.h"

#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/dropout.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

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

/// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011) on as many counters as there are 64-bit lanes; each lane holds one
/// 32-bit number. The same function as in core/rng.cpp, which a test compares.
void KeepBits(const RandomPlace& place, std::uint64_t threshold, std::uint64_t* out, Index words) {
  const hn::ScalableTag<std::uint64_t> d;
  const hn::ScalableTag<std::int64_t> ds;
  constexpr auto L = static_cast<std::uint64_t>(hn::MaxLanes(hn::ScalableTag<std::uint64_t>()));
  const auto low = hn::Set(d, 0xffffffffu);
  const auto m0 = hn::Set(d, 0xD2511F53u), m1 = hn::Set(d, 0xCD9E8D57u);
  const auto limit = hn::Set(ds, static_cast<std::int64_t>(threshold));
  const auto s0 = hn::Set(d, place.stream & 0xffffffffu), s1 = hn::Set(d, place.stream >> 32);
  const auto lane = hn::Iota(d, std::uint64_t{0});
  for (Index k = 0; k < words; ++k) {
    std::uint64_t bits = 0;
    for (std::uint64_t b = 0; b < blocks_per_word; b += L) {
      const auto counter = Add(hn::Set(d, place.counter + static_cast<std::uint64_t>(k) * blocks_per_word + b), lane);
      auto c0 = And(counter, low), c1 = hn::ShiftRight<32>(counter), c2 = s0, c3 = s1;
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
      auto collect = [&](auto draws, std::uint64_t word) ESPALIER_INLINE_LAMBDA {
        std::uint8_t byte[8] = {};
        StoreMaskBits(ds, Not(Lt(BitCast(ds, draws), limit)), byte);
        bits |= std::uint64_t{byte[0]} << (16 * word + b);
      };
      collect(c0, 0);
      collect(c1, 1);
      collect(c2, 2);
      collect(c3, 3);
    }
    out[k] = bits;
  }
}

template <class T>
void KeepWhere(const T* x, const std::uint64_t* bits, T factor, T* y, Index n) {
  const auto by = hn::Set(Tag<T>(), factor);
  ForEachVector<T>(n, [=](auto at, Index i) ESPALIER_INLINE_LAMBDA {
    at.Store(IfThenElseZero(LiveLanes<T>(bits, i), Mul(at.Load(x + i), by)), y + i);
  });
}

}  // namespace

const DropoutKernels& DropoutTable() {
  static constexpr DropoutKernels table{KeepBits, KeepWhere<float>, KeepWhere<double>};
  return table;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(DropoutTable);

const DropoutKernels& dropout() noexcept { return HWY_DYNAMIC_DISPATCH(DropoutTable)(); }

}  // namespace espalier::kernels
#endif
