#include "espalier/core/kernels/dropout.h"

#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/dropout.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/philox-inl.h"
#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

void KeepBits(const RandomPlace& place, std::uint64_t threshold, std::uint64_t* out, Index words) {
  const hn::ScalableTag<std::int64_t> ds;
  const auto limit = hn::Set(ds, static_cast<std::int64_t>(threshold));
  for (Index k = 0; k < words; ++k) {
    std::uint64_t bits = 0;
    for (std::uint64_t b = 0; b < blocks_per_word; b += PhiloxWords::lanes) {
      const PhiloxWords draw(place, static_cast<std::uint64_t>(k) * blocks_per_word + b);
      auto collect = [&](auto draws, std::uint64_t word) ESPALIER_INLINE_LAMBDA {
        std::uint8_t byte[8] = {};
        StoreMaskBits(ds, Not(Lt(BitCast(ds, draws), limit)), byte);
        bits |= std::uint64_t{byte[0]} << (16 * word + b);
      };
      collect(draw.c0, 0);
      collect(draw.c1, 1);
      collect(draw.c2, 2);
      collect(draw.c3, 3);
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
