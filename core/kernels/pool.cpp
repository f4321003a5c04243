#include "espalier/core/kernels/pool.h"

#include <cmath>

#include "espalier/core/kernels/both.h"
#include "espalier/core/kernels/simd_config.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "espalier/core/kernels/pool.cpp"
#include "hwy/foreach_target.h"  // comes before the headers that are compiled for each target

#include "espalier/core/kernels/simd-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace espalier::kernels::HWY_NAMESPACE {
namespace {

template <class T>
void MaxPairs(const T* top, const T* bottom, Index n, T* y, std::uint8_t* place) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Tag<T> d;
  const hn::RebindToSigned<Tag<T>> di;
  const hn::Rebind<std::uint8_t, Tag<T>> d8;
  using V = Lane<T>;
  // The last vector begins early enough to be whole: some values are found twice.
  for (Index next = 0; next < n && n >= lanes_of<T>; next += lanes_of<T>) {
    i = std::min(next, n - lanes_of<T>);
    V a, b, c, e;
    hn::LoadInterleaved2(d, top + 2 * i, a, b);
    hn::LoadInterleaved2(d, bottom + 2 * i, c, e);
    V best = a;
    auto where = hn::Zero(d);  // small numbers, exact in T
    auto take = [&](V x, T number) HWY_ATTR {
      // Greater, or the first NaN: x is NaN and the best so far is not.
      const auto wins = hn::Or(hn::Gt(x, best), hn::AndNot(hn::IsNaN(best), hn::IsNaN(x)));
      best = hn::IfThenElse(wins, x, best);
      where = hn::IfThenElse(wins, hn::Set(d, number), where);
    };
    take(b, T(1));
    take(c, T(2));
    take(e, T(3));
    StoreU(best, d, y + i);
    if constexpr (sizeof(T) == 4) {
      StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, where)), d8, place + i);
    } else {
      HWY_ALIGN T lane[lanes_of<T>];
      Store(where, d, lane);
      for (Index k = 0; k < lanes_of<T>; ++k) place[i + k] = static_cast<std::uint8_t>(lane[k]);
    }
    i += lanes_of<T>;
  }
#endif
  for (; i < n; ++i) {
    const T four[4] = {top[2 * i], top[2 * i + 1], bottom[2 * i], bottom[2 * i + 1]};
    int best = 0;
    for (int k = 1; k < 4; ++k)
      if (four[k] > four[best] || (std::isnan(four[k]) && !std::isnan(four[best]))) best = k;
    y[i] = four[best];
    place[i] = static_cast<std::uint8_t>(best);
  }
}

template <class T>
void SpreadPairs(const T* g, const std::uint8_t* place, Index n, T* top, T* bottom) {
  Index i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Tag<T> d;
  if constexpr (sizeof(T) == 4) {
    const hn::RebindToSigned<Tag<T>> di;
    const hn::Rebind<std::uint8_t, Tag<T>> d8;
    for (Index next = 0; next < n && n >= lanes_of<T>; next += lanes_of<T>) {
      i = std::min(next, n - lanes_of<T>);
      const auto v = hn::LoadU(d, g + i);
      const auto where = hn::PromoteTo(di, hn::LoadU(d8, place + i));
      auto at = [&](std::int32_t k)
                    HWY_ATTR { return hn::IfThenElseZero(hn::RebindMask(d, hn::Eq(where, hn::Set(di, k))), v); };
      hn::StoreInterleaved2(at(0), at(1), d, top + 2 * i);
      hn::StoreInterleaved2(at(2), at(3), d, bottom + 2 * i);
      i += lanes_of<T>;
    }
  }
#endif
  for (; i < n; ++i) {
    T* const rows[2] = {top + 2 * i, bottom + 2 * i};
    for (int k = 0; k < 4; ++k) rows[k / 2][k % 2] = k == place[i] ? g[i] : T(0);
  }
}

template <class T>
constexpr PoolKernels<T> Table() {
  return {.max_pairs = MaxPairs<T>, .spread_pairs = SpreadPairs<T>};
}

}  // namespace

const Both<PoolKernels>& PoolTables() {
  static constexpr Both<PoolKernels> tables{Table<float>(), Table<double>()};
  return tables;
}

}  // namespace espalier::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace espalier::kernels {

HWY_EXPORT(PoolTables);

template <class T>
const PoolKernels<T>& pool() noexcept {
  return HWY_DYNAMIC_DISPATCH(PoolTables)().template get<T>();
}
template const PoolKernels<float>& pool<float>() noexcept;
template const PoolKernels<double>& pool<double>() noexcept;

}  // namespace espalier::kernels
#endif
