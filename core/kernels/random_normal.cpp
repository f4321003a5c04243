#include "espalier/core/kernels/random_normal.h"

#include <cstring>
#include <numbers>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/random_normal.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/math-inl.h"
#include "espalier/core/kernels/philox-inl.h"
#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

// A group is 64 draws from 16 counters: pair k < 32 takes its radius from word k % 2, its angle from word 2 + k % 2 of
// counter k / 2, and gives draws k (its cosine) and k + 32 (its sine).
constexpr Index group_size = 64, pairs = 32;
constexpr std::uint64_t counters = 16;

struct GroupBits {
  HWY_ALIGN std::uint32_t radius[pairs];
  HWY_ALIGN std::uint32_t angle[pairs];
};
HWY_INLINE void DrawBits(const RandomPlace& place, std::uint64_t group, GroupBits& bits) {
  const Tag<std::uint64_t> d;
  HWY_ALIGN std::uint64_t radius[counters];
  HWY_ALIGN std::uint64_t angle[counters];
  for (std::uint64_t c = 0; c < counters; c += PhiloxWords::lanes) {
    const PhiloxWords draw(place, group * counters + c);
    Store(Or(draw.c0, hn::ShiftLeft<32>(draw.c1)), d, radius + c);
    Store(Or(draw.c2, hn::ShiftLeft<32>(draw.c3)), d, angle + c);
  }
  std::memcpy(bits.radius, radius, sizeof(radius));
  std::memcpy(bits.angle, angle, sizeof(angle));
}

template <class T>
using Unsigned = hn::TFromD<hn::RebindToUnsigned<Tag<T>>>;
/// Numbers of 32 bits, one to a lane of T's width.
HWY_INLINE Lane<std::uint32_t> BitsFor(float, const std::uint32_t* bits) {
  return hn::Load(Tag<std::uint32_t>(), bits);
}
HWY_INLINE Lane<std::uint64_t> BitsFor(double, const std::uint32_t* bits) {
  return PromoteTo(Tag<std::uint64_t>(), hn::Load(hn::Rebind<std::uint32_t, Tag<std::uint64_t>>(), bits));
}
/// As a number in [-2^31, 2^31) of 32 bits, and in [0, 2^32) of 64.
HWY_INLINE Lane<float> ToNumber(Lane<std::uint32_t> x) {
  return ConvertTo(Tag<float>(), BitCast(Tag<std::int32_t>(), x));
}
HWY_INLINE Lane<double> ToNumber(Lane<std::uint64_t> x) {
  const Tag<double> d;
  const auto lifted = BitCast(d, Or(x, hn::Set(Tag<std::uint64_t>(), 0x4330000000000000u)));
  return Sub(lifted, hn::Set(d, 0x1p52));
}
/// (bits + 1/2) / 2^32 in (0, 1], with all its digits where it is small.
template <class V, class Bits>
HWY_INLINE V UnitOf(Bits bits) {
  using U = hn::TFromD<hn::DFromV<Bits>>;
  const V high = ToNumber(hn::ShiftRight<16>(bits));
  const V low = ToNumber(And(bits, hn::Set(hn::DFromV<Bits>(), U(0xffff))));
  return MulAdd(high, All<V>(0x1p-16), MulAdd(low, All<V>(0x1p-32), All<V>(0x1p-33)));
}

template <class T>
HWY_INLINE void FillGroup(const GroupBits& bits, T* out) {
  using V = Lane<T>;
  using U = Unsigned<T>;
  const Tag<T> d;
  const Tag<U> du;
  for (Index k = 0; k < pairs; k += lanes_of<T>) {
    const V radius = Sqrt(Mul(All<V>(-2.0), LogPositive(UnitOf<V>(BitsFor(T(), bits.radius + k)))));
    // The nearest of four quarters, and what is left of the circle, within an eighth.
    const auto turn = BitsFor(T(), bits.angle + k);
    const auto half = hn::Set(du, U(1) << 29);
    const auto lifted = Add(turn, half);
    const auto quarter = hn::ShiftRight<30>(lifted);
    const auto within = And(lifted, hn::Set(du, (U(1) << 30) - 1));
    const V x = Mul(Sub(ToNumber(within), All<V>(0x1p29)), All<V>(2 * std::numbers::pi * 0x1p-32));
    const V z = Mul(x, x);
    const V sine = MulAdd(Mul(z, x), Polynomial(z, MathTables<T>::sin_rest), x);
    const V cosine =
        MulAdd(Mul(z, z), Polynomial(z, MathTables<T>::cos_rest), hn::NegMulAdd(z, All<V>(0.5), All<V>(1.0)));
    const auto one = hn::Set(du, U(1)), two = hn::Set(du, U(2));
    const auto odd = hn::RebindMask(d, TestBit(quarter, one));
    const V cos_sign = BitCast(d, hn::ShiftLeft<sizeof(U) * 8 - 2>(And(Add(quarter, one), two)));
    const V sin_sign = BitCast(d, hn::ShiftLeft<sizeof(U) * 8 - 2>(And(quarter, two)));
    StoreU(Mul(radius, Xor(IfThenElse(odd, sine, cosine), cos_sign)), d, out + k);
    StoreU(Mul(radius, Xor(IfThenElse(odd, cosine, sine), sin_sign)), d, out + pairs + k);
  }
}

template <class T>
void Fill(const RandomPlace& place, std::uint64_t first, T* out, Index n) {
  GroupBits bits;
  for (Index i = 0; i < n;) {
    const std::uint64_t number = first + static_cast<std::uint64_t>(i);
    const auto skipped = static_cast<Index>(number % group_size);
    const Index count = std::min(group_size - skipped, n - i);
    DrawBits(place, number / group_size, bits);
    if (count == group_size) {
      FillGroup(bits, out + i);
    } else {
      HWY_ALIGN T whole[group_size];
      FillGroup(bits, whole);
      std::copy_n(whole + skipped, count, out + i);
    }
    i += count;
  }
}

}  // namespace

const Both<NormalKernels>& NormalTables() {
  static constexpr Both<NormalKernels> tables{{Fill<float>}, {Fill<double>}};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(NormalTables);

template <class T>
const NormalKernels<T>& random_normal() noexcept {
  return HWY_DYNAMIC_DISPATCH(NormalTables)().template get<T>();
}
template const NormalKernels<float>& random_normal<float>() noexcept;
template const NormalKernels<double>& random_normal<double>() noexcept;

}  // namespace espalier::kernels
#endif
